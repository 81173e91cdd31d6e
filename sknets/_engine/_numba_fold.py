"""Rows as the compiled code of logistic regressions takes them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from sknets._engine._stack_fold import Array, Fold


class NumbaFold(Fold):
    """Dense rows, in any order.

    Parameters and attributes are those of `Fold`.
    """

    def _keep_classes(self, target: Array, n_classes: int) -> None:
        self._target = target.astype(np.int64, copy=False)

    def _transpose(self) -> None:
        """Hold the transpose block by block."""
        from sknets._engine import _numba_logistic  # Numba is not everywhere, and slow to import

        self._code = _numba_logistic
        size = _numba_logistic.block_rows(self.n_outputs, self.width, self.X.itemsize)
        self._block = size
        self._X_t = np.empty(self.X.size, self.X.dtype)
        for start in range(0, self.n, size):
            rows = self.X[start : start + size]
            here = slice(start * self.width, start * self.width + rows.size)
            np.copyto(self._X_t[here].reshape(rows.shape[::-1]), rows.T)

    def add_losses_gradients(
        self,
        params: Array,
        where: Array,
        share: Array,
        values: Array,
        grads: Array,
        first_row: int = 0,
    ) -> None:
        """Add to the losses of models, and to their gradients, what the rows are of them.

        Parameters
        ----------
        params : ndarray of shape (M, K, E)
            Parameters of models; the last columns are those of the rows.
        where : ndarray of shape (A,)
            Which of the models see the rows.
        share : ndarray of shape (A, N) or (1, N)
            What rows count, contiguous.
        values, grads : ndarray of shape (M,) and (M, K, E), float64
            Losses and gradients.
        first_row : int, default=0
            The first of these rows in `share`.
        """
        rows = self.X, self._X_t, self._target
        sums = values, grads
        self._code.add_losses_gradients(rows, self._block, share, first_row, params, where, *sums)


class NumbaRows:
    """Loss and gradient, without the penalty, of one logistic regression of three classes or more.

    Parameters
    ----------
    X : Tensor of shape (n, F)
        The rows, on the CPU.
    target : Tensor of shape (n,)
        Their classes, encoded.
    share : Tensor of shape (n,) or ()
        Weights divided by their sum.
    shape : tuple (K, D)
        Of the parameters.
    """

    def __init__(self, X: Tensor, target: Tensor, share: Tensor, shape: tuple[int, int]) -> None:
        has_intercept = shape[1] > X.shape[1]
        self._fold = NumbaFold(X.numpy(), target.numpy(), shape[0], fit_intercept=has_intercept)
        self._share = np.ascontiguousarray(np.broadcast_to(share.numpy(), (1, len(X))))
        self._shape, self._where = shape, np.zeros(1, np.intp)

    def __call__(self, params: Array) -> tuple[float, Array]:
        """Return the mean loss and its gradient (K * D,) at flat `params`."""
        values, grads = np.zeros(1), np.zeros((1, *self._shape))
        weights = params.reshape(grads.shape)
        self._fold.add_losses_gradients(weights, self._where, self._share, values, grads)
        return float(values[0]), grads.ravel()
