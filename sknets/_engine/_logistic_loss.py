"""Losses of the logits of linear models, and their derivatives by the logits, in closed form.

On the CPU by NumPy, whose exponentials and logarithms take half the time of torch's or less; by
torch elsewhere. Logits (K, b) have one row an output: with K = 1, the log-odds of class 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknets._core import in_numpy

Array = np.ndarray[Any, np.dtype[Any]]


def encode_target(target: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn classes 0 and 1 into signs -1 and 1."""
    return target.to(dtype, copy=True).mul_(2).sub_(1)


def logistic_loss_residual(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Give the losses (b,) and their derivative by the logits (K, b); overwrites `logits`.

    Parameters
    ----------
    logits : Tensor of shape (K, b)
        Contiguous.
    target : Tensor of shape (b,)
        Signs -1 and 1 in the dtype of `logits` with K = 1, class numbers (int64) otherwise.
    """
    n_outputs, n_rows = logits.shape
    if in_numpy(logits):
        if n_outputs == 1:
            losses, residual = binary_loss_residual(logits.numpy(), target.numpy())
        else:
            places = places_of_classes(target.numpy(), n_rows)
            losses, residual = multinomial_loss_residual(logits.numpy(), places)
        return torch.from_numpy(losses), torch.from_numpy(residual)
    if n_outputs == 1:
        margin = logits.mul_(target)
        return softplus(-margin)[0], margin.neg_().sigmoid_().mul_(-target)
    index = target.unsqueeze(0)
    logits -= logits.amax(dim=0)
    own = logits.gather(0, index)[0]
    proba = logits.exp_()
    sums = proba.sum(dim=0)
    own_loss = sums.log().sub_(own)
    proba /= sums
    return own_loss, proba.scatter_add_(0, index, proba.new_full((1, 1), -1.0).expand_as(index))


def softplus(values: Tensor) -> Tensor:
    """Return ``log(1 + exp(x))`` of every number."""
    if in_numpy(values):
        return torch.from_numpy(_softplus(values.numpy()))
    # From 37 on, it equals x in float64; torch's own threshold is 20.
    return torch.nn.functional.softplus(values, threshold=37)


def _softplus(values: Array) -> Array:
    """``max(x, 0) + log(1 + exp(-|x|))``, which does not overflow."""
    rest = np.abs(values)
    np.negative(rest, out=rest)
    np.exp(rest, out=rest)
    np.log1p(rest, out=rest)
    rest += np.maximum(values, 0.0)
    return rest


def binary_loss_residual(logits: Array, sign: Array) -> tuple[Array, Array]:
    """Give the losses (b,) and their derivative (1, b); overwrites `logits`.

    With x minus the logit of the row's own class, the loss is ``log(1 + exp(x))``, and ``exp(x -
    loss)`` the probability of the other class.
    """
    against = np.multiply(logits, -sign, out=logits)
    losses = _softplus(against)
    against -= losses
    residual = np.exp(against, out=against)
    residual *= -sign
    return losses[0], residual


def places_of_classes(target: Array, n_rows: int) -> Array:
    """Return where in logits (K, b), seen flat, those of the rows' own classes are."""
    return target * n_rows + np.arange(n_rows)


def multinomial_loss_residual(logits: Array, places: Array) -> tuple[Array, Array]:
    """Give the losses (b,) and their derivative (K, b); overwrites `logits`.

    `places` are those of the rows' own classes.
    """
    logits -= logits.max(axis=0)
    flat = logits.reshape(-1)
    own = flat[places]
    proba = np.exp(logits, out=logits)
    sums = proba.sum(axis=0)
    proba /= sums
    flat[places] -= 1.0
    losses = np.log(sums, out=sums)
    losses -= own
    return losses, proba


def against_overflow(*, is_float64: bool) -> str:
    """Return what a user whose numbers overflow can do."""
    precision = "" if is_float64 else ', or use precision="float64"'
    return f"Scale the features first (StandardScaler in a Pipeline){precision}."
