"""Products by NumPy, in whichever parts they are cut, against torch's."""

import pytest
import torch

from sknets._engine._products import CudaProducts, NumpyProducts, TorchProducts

# (rows, inputs, outputs): one part, parts, a last axis that no number of parts divides.
SHAPES = [(37, 5, 3), (200, 64, 100), (200, 100, 10), (200, 16, 10), (211, 100, 10), (7, 600, 500)]
LEADS = [(), (1,), (3,)]


def all_products(lead):
    """Return what multiplies; CUDA's calls run anywhere."""
    products = [NumpyProducts(stacked=bool(lead)), TorchProducts(stacked=bool(lead))]
    return products if lead else [*products, CudaProducts()]


def numbers(*shape, by_input=False):
    if by_input:  # as the first layer's weights lie
        return numbers(*shape[:-2], shape[-1], shape[-2]).mT
    return torch.randn(shape, dtype=torch.float64)


def run(product, operand, out):
    out.fill_(torch.nan)
    product(operand)
    return out.clone()


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize(("n_rows", "n_inputs", "n_outputs"), SHAPES)
@pytest.mark.parametrize("by_input", [False, True])
def test_forward_products(n_rows, n_inputs, n_outputs, lead, by_input):
    x, bias = numbers(*lead, n_rows, n_inputs), numbers(*lead, n_outputs)
    weight = numbers(*lead, n_outputs, n_inputs, by_input=by_input)
    expected = x @ weight.mT + bias.unsqueeze(-2)
    rows, columns = numbers(*lead, n_rows, n_outputs), numbers(*lead, n_outputs, n_rows)
    for products in all_products(lead):
        affine = products.affine(bias, weight, rows)
        torch.testing.assert_close(run(affine, products.operand(x), rows), expected)
        logits = products.logits(bias, weight, columns)
        torch.testing.assert_close(run(logits, products.operand(x.mT), columns), expected.mT)


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize(("n_rows", "n_inputs", "n_outputs"), SHAPES)
@pytest.mark.parametrize("by_input", [False, True])
def test_gradients_of_weights(n_rows, n_inputs, n_outputs, lead, by_input):
    x, delta = numbers(*lead, n_rows, n_inputs), numbers(*lead, n_rows, n_outputs)
    gradient = numbers(*lead, n_outputs, n_inputs, by_input=by_input)
    for products in all_products(lead):
        product = products.weight_gradient(delta, gradient)
        actual = run(product, products.operand(x), gradient)
        torch.testing.assert_close(actual, delta.mT @ x)


@pytest.mark.parametrize("lead", LEADS)
def test_sums_and_scales(lead):
    delta, total, norm = numbers(*lead, 9, 4), numbers(*lead, 4), numbers(*lead)
    for products in all_products(lead):
        ones = products.operand(torch.ones(9, dtype=torch.float64))
        products.sum_rows(delta, ones, total)()
        torch.testing.assert_close(total, delta.sum(-2))
        products.squared_norm(delta.flatten(-2), norm)()
        torch.testing.assert_close(norm, (delta**2).sum((-2, -1)))
        scaled = delta.clone()
        products.scale(scaled, 0.3)()
        torch.testing.assert_close(scaled, 0.3 * delta)
