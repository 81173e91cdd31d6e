"""The logistic objective of few rows: one NumPy call a formula, where a call costs more than rows.

Conventions: as in `_logistic_objective`.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from sknets._engine._logistic_loss import (
    binary_loss_residual,
    multinomial_loss_residual,
    places_of_classes,
)

# Multiply-adds of a product up to which its rows are few: BLAS packs the factors of larger ones.
# With one output X is read faster than it can be copied, unless it stays in a core's cache.
_FEW = 1.2e6
_FEW_OF_ONE_OUTPUT = 2**18


class FewRows:
    """Loss and gradient, without the penalty, of rows that are held with a column of ones.

    Parameters
    ----------
    X : Tensor of shape (n, F)
        The rows, on the CPU.
    target : Tensor of shape (n,)
        Signs -1 and 1 with one output, class numbers otherwise.
    share : Tensor of shape (n,) or ()
        Weights divided by their sum.
    shape : tuple (K, D)
        Of the parameters.
    """

    def __init__(self, X: Tensor, target: Tensor, share: Tensor, shape: tuple[int, int]) -> None:
        n, n_features = X.shape
        self._shape = shape
        self._X = np.empty((n, shape[1]), X.numpy().dtype)
        self._X[:, :n_features] = X.numpy()
        self._X[:, n_features:] = 1.0
        self._X_t = np.ascontiguousarray(self._X.T)
        self._share = share.numpy()
        self._own = target.numpy()
        if shape[0] > 1:
            self._own = places_of_classes(self._own, n)

    def __call__(self, params: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean loss and its gradient (K * D,) at flat `params`."""
        weights = params.reshape(self._shape).astype(self._X.dtype, copy=False)
        logits = np.dot(weights, self._X_t)  # (K, n)
        of_classes = binary_loss_residual if len(logits) == 1 else multinomial_loss_residual
        losses, residual = of_classes(logits, self._own)
        residual *= self._share
        is_even = self._share.ndim == 0
        loss = losses.sum() * self._share if is_even else np.dot(losses, self._share)
        return float(loss), np.dot(residual, self._X).astype(np.float64, copy=False).ravel()


def are_few(n: int, n_features: int, n_outputs: int) -> bool:
    """Whether `n` rows with so many features and outputs are worth a call a formula."""
    most = _FEW_OF_ONE_OUTPUT if n_outputs == 1 else _FEW
    return n * n_features * n_outputs <= most
