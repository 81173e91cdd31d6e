"""Logistic regressions in compiled code: a stack of them, or one of few rows."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from sknets._engine._lbfgs_memory import Array, Memory
from sknets._engine._logistic_stack import LogisticStack
from sknets._engine._stack_fold import Fold


class NumbaFold(Fold):
    """Dense rows as compiled code takes them.

    Parameters and attributes are those of `Fold`.
    """

    def _transpose(self) -> None:
        """Hold the transpose block by block."""
        from sknets._engine import _numba_logistic  # Numba is not everywhere, and slow to import

        self._code, size = _numba_logistic, _numba_logistic.BLOCK
        blocks = [self.X[i : i + size].T.ravel() for i in range(0, self.n, size)]
        self._blocks = np.concatenate(blocks)
        self._target = np.repeat(np.arange(len(self._bounds) - 1), np.diff(self._bounds))

    def add_losses_gradients(
        self, params: Array, where: Array, share: Array, values: Array, grads: Array
    ) -> None:
        """Add to the losses of models, and to their gradients, what the rows are of them.

        Parameters
        ----------
        params : ndarray of shape (M, K, E)
            Parameters of models; the last columns are those of the rows.
        where : ndarray of shape (A,)
            Which of the models see the rows.
        share : ndarray of shape (A, n) or (1, n)
            What each row counts, contiguous.
        values, grads : ndarray of shape (M,) and (M, K, E), float64
            Losses and gradients.
        """
        rows = self.X, self._blocks, self._target
        self._code.add_losses_gradients(*rows, share, params, where, values, grads)


class NumbaMemory(Memory):
    """Takes in pairs and gives directions in compiled code."""

    def directions(
        self, grads: Array, before: Array, last: tuple[Array, Array], sy: Array, kept: Array
    ) -> Array:
        from sknets._engine import _numba_logistic

        out = np.empty_like(grads)
        arrays = tuple(getattr(self, name) for name in self.ARRAYS)
        _numba_logistic.directions(arrays, grads, before, *last, sy, kept, out)
        return out


class NumbaLogisticStack(LogisticStack):
    """A stack of logistic regressions whose folds are of `NumbaFold`."""

    def make_memory(self, n_models: int) -> Memory:
        return NumbaMemory(n_models, self.size)

    def loss_gradient(self, params: Array, models: Array) -> tuple[Array, Array]:
        from sknets._engine import _numba_logistic

        values, grads = np.empty(len(models)), np.empty((len(models), *self.shape))
        params = params.reshape(grads.shape)
        n_penalised = self.shape[1] - int(self.fit_intercept)
        _numba_logistic.penalties(params, self.l2[models], n_penalised, values, grads)
        for number, where in self.by_fold(models):
            some = self._apart(params, where)
            if len(some) == len(where):
                self._add(number, models[where], params, where, values, grads)
            else:
                value, grad = np.zeros(1), np.zeros((1, *self.shape))
                self._add(number, models[some], params[some], np.arange(1), value, grad)
                values[where] += value
                grads[where] += grad
        return values, grads.reshape(len(models), -1)

    def _add(
        self, number: int, models: Array, params: Array, where: Array, values: Array, grads: Array
    ) -> None:
        """Add the losses and gradients of some models in their fold."""
        fold, share = self.folds[number], self.shares(number, models)
        if share is None:
            share = np.full((1, fold.n), 1 / fold.n, self.dtype)
        first = 0
        for part, _ in fold.parts:
            of_part = np.ascontiguousarray(share[:, first : first + part.n])
            part.add_losses_gradients(params, where, of_part, values, grads)
            first += part.n


class NumbaRows:
    """Loss and gradient, without the penalty, of one logistic regression.

    Parameters
    ----------
    X : Tensor of shape (n, F)
        The rows, on the CPU.
    classes : Tensor of shape (n,)
        Of the rows, encoded.
    share : Tensor of shape (n,) or ()
        Weights divided by their sum.
    shape : tuple (K, D)
        Of the parameters.
    """

    def __init__(self, X: Tensor, classes: Tensor, share: Tensor, shape: tuple[int, int]) -> None:
        target, n_outputs = classes.numpy(), shape[0]
        order = np.argsort(target, kind="stable")
        self._fold = NumbaFold(
            X.numpy()[order],
            target[order],
            2 if n_outputs == 1 else n_outputs,
            fit_intercept=shape[1] > X.shape[1],
        )
        self._share = np.broadcast_to(share.numpy(), len(order))[order][None]
        self._shape, self._first = shape, np.zeros(1, np.intp)

    def __call__(self, params: Array) -> tuple[float, Array]:
        """Return the mean loss and its gradient (K * D,) at flat `params`."""
        values, grads = np.zeros(1), np.zeros((1, *self._shape))
        weights = params.reshape(grads.shape)
        self._fold.add_losses_gradients(weights, self._first, self._share, values, grads)
        return float(values[0]), grads.ravel()
