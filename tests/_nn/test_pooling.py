import pytest
import torch
from torch import nn

from sknets._nn import POOLINGS, make_pooling


def sample(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


BY_HAND = {
    "max": (nn.MaxPool1d(2), nn.MaxPool2d((2, 3))),
    "avg": (nn.AvgPool1d(2), nn.AvgPool2d((2, 3))),
    "l2": (nn.LPPool1d(2, 2), nn.LPPool2d(2, (2, 3))),
}


@pytest.mark.parametrize("kind", sorted(POOLINGS))
def test_equals_torch(kind):
    signal, image = sample(3, 4, 7), sample(3, 4, 7, 7)
    torch.testing.assert_close(make_pooling(kind, (2,))(signal), BY_HAND[kind][0](signal))
    torch.testing.assert_close(make_pooling(kind, (2, 3))(image), BY_HAND[kind][1](image))


@pytest.mark.parametrize("kind", sorted(POOLINGS))
def test_gradient(kind):
    x = sample(2, 2, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(make_pooling(kind, (2, 3)), x)


def test_l2_of_zeros_has_no_gradient():
    x = torch.zeros(1, 1, 4, requires_grad=True)
    make_pooling("l2", (2,))(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.zeros(1, 1, 4))


def test_unknown_name():
    with pytest.raises(ValueError, match=r"pool must be None or one of .* got 'sum'"):
        make_pooling("sum", (2,))
