"""A stack of logistic regressions in compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np

from sknets._engine._lbfgs_memory import Array, Memory
from sknets._engine._logistic_stack import LogisticStack


class NumbaMemory(Memory):
    """Takes in pairs and gives directions in compiled code.

    Parameters
    ----------
    code : module
        `_numba_logistic`.
    n_models, size : int
        As in `Memory`.
    """

    def __init__(self, code: Any, n_models: int, size: int) -> None:
        super().__init__(n_models, size)
        self._code = code

    def directions(
        self, grads: Array, before: Array, last: tuple[Array, Array], sy: Array, kept: Array
    ) -> Array:
        out = np.empty_like(grads)
        arrays = tuple(getattr(self, name) for name in self.ARRAYS)
        self._code.directions(arrays, grads, before, *last, sy, kept, out)
        return out


class NumbaLogisticStack(LogisticStack):
    """A stack of logistic regressions whose folds are of `NumbaFold`.

    Parameters are those of `LogisticStack`.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        from sknets._engine import _numba_logistic  # Numba is not everywhere, and slow to import

        super().__init__(*args, **settings)
        self._code = _numba_logistic

    def make_memory(self, n_models: int) -> Memory:
        return NumbaMemory(self._code, n_models, self.size)

    def loss_gradient(self, params: Array, models: Array) -> tuple[Array, Array]:
        values, grads = np.empty(len(models)), np.empty((len(models), *self.shape))
        params = params.reshape(grads.shape)
        n_penalised = self.shape[1] - int(self.fit_intercept)
        self._code.penalties(params, self.l2[models], n_penalised, values, grads)
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
        """Add the losses and gradients of some models of a fold."""
        share = self.shares(number, models)
        if share is None:
            share = self._even_share(number)[None]
        for part, rows, _ in self.folds[number].parts:
            part.add_losses_gradients(params, where, share, values, grads, rows.start)
