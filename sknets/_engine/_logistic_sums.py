"""Sums over rows of logistic losses and of their gradients, for one model or for many.

Shapes: K outputs, A models, n samples, b rows of a block, F features. What has K * A rows has those
of a class together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sknets._core import wide_dtype
from sknets._engine._logistic_loss import logistic_loss_residual
from sknets._engine._row_blocks import Blocks, RowBlock


def split(both: Tensor, n_features: int) -> tuple[Tensor, Tensor | None]:
    """Return the weights (r, F), contiguous, and the intercepts (r, 1), if any, of parameters."""
    if both.shape[1] == n_features:
        return both, None
    return both[:, :n_features].contiguous(), both[:, n_features:]


def affine(block: RowBlock, weights: Tensor, bias: Tensor | None) -> Tensor:
    """Return the weights (r, F) times the rows of a block, plus the intercepts (r, 1): (r, b)."""
    product = block.forward(weights)
    return product if bias is None else product.add_(bias)


def losses_gradients(
    blocks: Blocks,
    target: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    shares: Tensor | None,
    *,
    n_models: int = 1,
) -> tuple[Tensor, ...]:
    """Return the losses (A,) of rows and their gradients by weights and, if there is one, bias.

    Losses are summed in float64 where the device has it.

    Parameters
    ----------
    blocks : iterable of (slice, RowBlock)
        The rows.
    target : Tensor of shape (n,)
        As `logistic_loss_residual` takes it.
    weights : Tensor of shape (K * A, F)
        Contiguous.
    bias : Tensor of shape (K * A, 1) or None
        Intercepts.
    shares : Tensor of shape (A, n) or None
        Weights of the samples; with None, all weigh one.
    n_models : int, default=1
        A.
    """
    n_outputs = len(weights) // n_models
    values = torch.zeros(n_models, dtype=wide_dtype(weights.device), device=weights.device)
    grad_weights = torch.zeros_like(weights)
    grad_bias = None if bias is None else torch.zeros_like(bias)
    for rows, block in blocks:
        logits = affine(block, weights, bias)
        own = target[rows]
        if n_models > 1:  # to the loss, the rows of one model after the other are so many rows
            logits, own = logits.view(n_outputs, -1), own.repeat(n_models)
        losses, residual = logistic_loss_residual(logits, own)
        losses = losses.view(n_models, -1)
        if shares is not None:
            part = shares[:, rows]
            losses *= part
            residual.view(n_outputs, *part.shape).mul_(part)
        values += losses.sum(dim=1, dtype=values.dtype)
        residual = residual.view(len(weights), -1)
        block.backward_(residual, grad_weights)
        if grad_bias is not None:
            grad_bias += residual.sum(dim=1, keepdim=True)
    return (values, grad_weights) if grad_bias is None else (values, grad_weights, grad_bias)


def on_host(values: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """Bring numbers (A,) and parameters (K * A, F), (K * A, 1) to the host, float64, in a row.

    It is one transfer.
    """
    parts = weights if bias is None else torch.cat([weights, bias], dim=1)
    return torch.cat([values, parts.flatten().to(values.dtype)]).to("cpu", torch.float64)
