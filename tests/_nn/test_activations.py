"""One test per claim of the activation table, over all its records."""

import pytest
import torch

from sknets._nn import ACTIVATIONS, get_activation

X = torch.cat([torch.linspace(-6.0, 6.0, 41), torch.tensor([0.0, -30.0, 30.0])]).double()


@pytest.fixture(params=sorted(ACTIVATIONS))
def activation(request):
    return ACTIVATIONS[request.param]


def test_forward_equals_the_module(activation):
    expected = activation.module().double()(X)
    torch.testing.assert_close(activation.forward(X), expected)


def test_forward_writes_into_out(activation):
    out = torch.full_like(X, float("nan"))
    activation.forward(X, out=out)
    torch.testing.assert_close(out, activation.forward(X))


def test_forward_works_in_place(activation):
    x = X.clone()
    activation.forward(x, out=x)
    torch.testing.assert_close(x, activation.forward(X))


def test_derivative_equals_autograd_and_is_in_place(activation):
    x = X.clone().requires_grad_()
    upstream = torch.linspace(-2.0, 3.0, len(X), dtype=torch.float64)
    activation.module()(x).backward(upstream)

    grad = upstream.clone()
    kept = X if activation.needs_input else activation.forward(X)
    returned = activation.multiply_derivative_(grad, kept)

    torch.testing.assert_close(grad, x.grad, rtol=1e-12, atol=1e-12)
    assert returned.data_ptr() == grad.data_ptr()


def test_derivative_of_a_matrix_in_float32(activation):
    x = torch.linspace(-3.0, 3.0, 12).reshape(3, 4).T.requires_grad_()
    activation.module()(x).sum().backward()

    kept = x.detach() if activation.needs_input else activation.forward(x.detach())
    grad = activation.multiply_derivative_(torch.ones(4, 3), kept)

    torch.testing.assert_close(grad, x.grad)


def test_scikit_learn_names_are_there():
    assert {"identity", "logistic", "tanh", "relu"} <= set(ACTIVATIONS)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"activation must be one of \['elu'.*got 'sigmoid'"):
        get_activation("sigmoid")
