"""The objectives of many logistic regressions, evaluated together on an accelerator.

The solver walks on the CPU, in float64. An accelerator computes all that is as long as the rows;
what it gets and gives for a fold is as large as the parameters of the fold's models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sknets._core import numpy_dtype
from sknets._engine._logistic_loss import encode_target
from sknets._engine._logistic_stack import Array, LogisticStack
from sknets._engine._logistic_sums import losses_gradients, on_host, split
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
        both = torch.from_numpy(weights).to(self.blocks.device)
        coef, bias = split(both, self.blocks.n_features)
        n_models = len(weights) // self.n_outputs
        values, grads, *rest = losses_gradients(
            self.blocks, self._target, coef, bias, share, n_models=n_models
        )
        flat = on_host(values, grads, rest[0] if rest else None).numpy()
        if share is None:
            flat /= self.n
        return flat[:n_models], flat[n_models:].reshape(weights.shape)


class DeviceLogisticStack(LogisticStack):
    """Values and gradients of many logistic objectives, over folds on an accelerator.

    The folds are `DeviceFold`. Only "lbfgs" asks for no more than values and gradients.
    """

    is_on_device = True

    def _shares_of_all(self, fold: int) -> tuple[Any, Array] | None:
        known = super()._shares_of_all(fold)
        if known is None:
            return None
        shares, places = known
        return torch.from_numpy(shares).to(self.folds[fold].blocks.device), places

    def _in_fold(
        self, number: int, params: Array, models: Array, *, shifted: bool
    ) -> tuple[Array, Array]:
        fold, share = self.folds[number], self.shares(number, models)
        values, grads = fold.losses_gradients(self.by_class(params), share)
        return values, self.by_model(grads)
