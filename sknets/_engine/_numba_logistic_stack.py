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
        values, grads = np.zeros(len(models)), np.zeros((len(models), *self.shape))
        params = params.reshape(grads.shape)
        for number, where in self.by_fold(models):
            some = self._apart(params, where)
            share = self.shares(number, models[some])
            if share is None:
                share = self._even_share(number)[None]
            for part, rows, _ in self.folds[number].parts:
                part.add_losses_gradients(params, some, share, values, grads, rows.start)
            if len(some) < len(where):  # one for all
                values[where], grads[where] = values[some], grads[some]
        n_penalised = self.shape[1] - int(self.fit_intercept)
        self._code.add_penalties(params, self.l2[models], n_penalised, values, grads)
        return values, grads.reshape(len(models), -1)
