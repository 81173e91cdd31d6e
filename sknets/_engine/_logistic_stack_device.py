"""The objectives of many logistic regressions, evaluated together on an accelerator.

The solver walks on the CPU, in float64. An accelerator has the rows and computes all that is as
long as they are; what it gets and gives for a fold is as large as the parameters of its models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sknets._core import numpy_dtype, wide_dtype
from sknets._engine._logistic_loss import encode_target, logistic_loss_residual
from sknets._engine._logistic_stack import Array, LogisticStack
from sknets._engine._row_blocks import RowBlocks


class DeviceFold:
    """Rows that the models of a fold share.

    Parameters
    ----------
    blocks : RowBlocks
        The rows (n, F), on any device.
    target : Tensor of shape (n,), int64
        Their classes, on that device.
    n_classes : int
        Two give one output, more give one a class.
    fit_intercept : bool
        Whether the last of the D columns of parameters is an intercept.

    Attributes
    ----------
    n, width, n_outputs : int
        Rows, columns of parameters, and outputs.
    dtype : np.dtype
        What is computed in.
    largest_norm : float
        Norm of the longest row; it is not looked for, as the largest logit is always taken off.
    """

    largest_norm = float("inf")

    def __init__(
        self, blocks: RowBlocks, target: Tensor, n_classes: int, *, fit_intercept: bool
    ) -> None:
        self.blocks = blocks
        self.n_outputs = 1 if n_classes == 2 else n_classes
        self._target = encode_target(target, blocks.dtype) if self.n_outputs == 1 else target
        self.n, self.width = blocks.n, blocks.n_features + int(fit_intercept)
        self.dtype = numpy_dtype(blocks.dtype)

    def losses_gradients(self, weights: Array, share: Tensor | None) -> tuple[Array, Array]:
        """Return weighted means of the losses (A,) and their gradients (K * A, D), both float64.

        Parameters
        ----------
        weights : ndarray of shape (K * A, D)
            Parameters of A models; those of a class stand together.
        share : Tensor of shape (A, n) or None
            Weights of the rows, divided by their sums; None weighs all alike.
        """
        device, n_models = self.blocks.device, len(weights) // self.n_outputs
        wide = wide_dtype(device)
        on_device = torch.from_numpy(weights).to(device)
        n_features = self.blocks.n_features
        coef, bias = on_device[:, :n_features].contiguous(), on_device[:, n_features:]
        values = torch.zeros(n_models, dtype=wide, device=device)
        grads, bias_grads = torch.zeros_like(coef), torch.zeros_like(bias)
        for rows, block in self.blocks:
            logits = block.forward(coef)
            if bias.shape[1]:
                logits += bias
            # To the loss, the rows of one model after the other are so many rows.
            target = self._target[rows].repeat(n_models)
            flat = logits.view(self.n_outputs, -1)
            losses, residual = logistic_loss_residual(flat, target)
            losses, residual = losses.view(n_models, -1), residual.view(len(coef), -1)
            if share is not None:
                part = share[:, rows]
                losses = losses * part
                residual.view(self.n_outputs, *part.shape).mul_(part)
            values += losses.sum(dim=1, dtype=wide)
            block.backward_(residual, grads)
            bias_grads += residual.sum(dim=1, keepdim=True)[:, : bias.shape[1]]
        both = torch.cat([values, torch.cat([grads, bias_grads], dim=1).flatten().to(wide)])
        if share is None:
            both /= self.n
        on_host = both.to("cpu", torch.float64).numpy()
        return on_host[:n_models], on_host[n_models:].reshape(weights.shape)


class DeviceLogisticStack(LogisticStack):
    """Values and gradients of many logistic objectives, over folds on an accelerator.

    The folds are `DeviceFold`. Only "lbfgs" asks for no more than values and gradients.
    """

    is_on_device = True

    def _take_shares(self, fold: int, models: Array) -> Any:
        shares = super()._take_shares(fold, models)
        device = self.folds[fold].blocks.device
        return None if shares is None else torch.from_numpy(shares).to(device)

    def _in_fold(
        self, number: int, params: Array, models: Array, *, shifted: bool
    ) -> tuple[Array, Array]:
        fold, share = self.folds[number], self.shares(number, models)
        values, grads = fold.losses_gradients(self.by_class(params), share)
        return values, self.by_model(grads)
