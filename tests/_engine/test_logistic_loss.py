"""Losses of linear models against torch's own, and against autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sknets._engine._logistic_loss import encode_target, logistic_loss_residual, softplus

N = 300

# bfloat16 is not NumPy's, so that torch computes it, as on an accelerator.
TOLERANCES = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 0.04}


def make_logits(n_outputs, dtype, scale):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(scale=scale, size=(n_outputs, N))).to(dtype)
    return logits, torch.from_numpy(rng.integers(0, max(2, n_outputs), N))


def expected(logits, target):
    """Return torch's losses and autograd's derivative, in float64."""
    logits = logits.to(torch.float64, copy=True).requires_grad_()
    if len(logits) == 1:
        losses = F.binary_cross_entropy_with_logits(logits[0], target.double(), reduction="none")
    else:
        losses = F.cross_entropy(logits.T, target, reduction="none")
    losses.sum().backward()
    return losses.detach(), logits.grad


@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("n_outputs", [1, 2, 3, 10])
def test_losses_and_derivatives(n_outputs, dtype, scale):
    logits, target = make_logits(n_outputs, dtype, scale)
    losses_wanted, residual_wanted = expected(logits, target)
    if n_outputs == 1:
        target = encode_target(target, dtype)
    losses, residual = logistic_loss_residual(logits.clone(), target)
    assert losses.dtype == residual.dtype == dtype
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(losses.double(), losses_wanted, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(residual.double(), residual_wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_huge_logits(n_outputs, dtype):
    logits, target = make_logits(n_outputs, dtype, 1e4)
    wanted, _ = expected(logits, target)
    if n_outputs == 1:
        target = encode_target(target, dtype)
    losses, residual = logistic_loss_residual(logits.clone(), target)
    torch.testing.assert_close(losses.double(), wanted, rtol=1e-6, atol=1e-15)
    assert torch.isfinite(residual).all()


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_softplus(dtype):
    values = torch.tensor([-1e4, -40.0, -1.0, 0.0, 1.0, 40.0, 1e4], dtype=dtype)
    wanted = torch.logaddexp(torch.zeros(7, dtype=torch.float64), values.double())
    relative = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 0.01}[dtype]
    torch.testing.assert_close(softplus(values).double(), wanted, rtol=relative, atol=0.0)


def test_not_a_number_is_seen():
    values = torch.tensor([float("nan"), float("inf"), -float("inf")])
    assert softplus(values)[0].isnan()
    assert softplus(values)[1:].tolist() == [float("inf"), 0.0]
