"""The Hessians of many logistic objectives, as operators: a product is one pass over X.

Shapes are those of `LogisticStack`: A models, K outputs, n rows of a fold, D columns, P = K * D.
"""

from __future__ import annotations

import numpy as np
import torch

from sknets._engine._centring import Centring
from sknets._engine._logistic_stack import Array, LogisticStack

# Numbers of the scaled rows that a Hessian is summed from, at once.
_SCALED = 2**20


class StackCurvature:
    """The second derivatives of the smooth objectives of some models, each at its own point.

    Parameters
    ----------
    stack : LogisticStack
        With the objectives.
    params : ndarray of shape (A, P)
        The points.
    models : ndarray of shape (A,)
        Numbers of the models.
    """

    def __init__(self, stack: LogisticStack, params: Array, models: Array) -> None:
        self.stack = stack
        self.models = models
        self.penalties = stack.l2[models, None] * stack.penalised
        # Per fold: which models, their probabilities (K, A, n), and the weights of the rows.
        self._parts: list[tuple[int, Array, Array, Array]] = []
        self._place = np.empty((len(models), 2), np.intp)
        with np.errstate(over="ignore", invalid="ignore"):
            shift = stack.needs_shift(params, models)
            for number, where in stack.by_fold(models):
                weights, shifted = stack.by_class(params[where]), bool(shift[where].any())
                logits = stack.folds[number].forward(weights)
                proba, _, _ = stack.probabilities(logits, shifted=shifted)
                share = stack.shares(number, models[where])
                if share is None:
                    share = np.array(1 / proba.shape[2], stack.dtype)
                self._place[where, 0] = len(self._parts)
                self._place[where, 1] = np.arange(len(where))
                self._parts.append((number, where, proba, share))

    def products(self, vectors: Array, places: Array) -> Array:
        """Multiply the Hessians of the models at some places by vectors (a, P)."""
        result = np.empty_like(vectors)
        parts = self._place[places, 0]
        for i in np.unique(parts):
            here = np.flatnonzero(parts == i)
            number, _, proba, share = self._parts[i]
            among = self._place[places[here], 1]
            if len(among) < proba.shape[1]:
                proba = proba[:, among]
                share = share[among] if share.ndim == 2 else share
            fold = self.stack.folds[number]
            weights = self.stack.by_class(vectors[here])
            slopes = fold.forward(weights).reshape(proba.shape)
            if len(proba) == 1:
                slopes *= proba * (1 - proba)
            else:
                slopes -= np.einsum("kan,kan->an", slopes, proba)
                slopes *= proba
            slopes *= share
            result[here] = self.stack.by_model(fold.backward(slopes.reshape(len(weights), -1)))
        return result + self.penalties[places] * vectors

    def diagonals(self, centring: Centring | None = None) -> Array:
        """Return the diagonals, (A, P); if asked for, those by centred parameters."""
        result = np.empty((len(self.models), self.stack.size))
        with np.errstate(over="ignore"):
            for number, where, proba, share in self._parts:
                weights = proba * (1 - proba) * share
                fold = self.stack.folds[number]
                rows = fold.weighted_squares(weights.reshape(-1, fold.n))
                result[where] = self.stack.by_model(rows)
                if centring is not None and centring.means is not None:
                    result[where] += self._shifts(number, weights, centring.means[where])
        return np.maximum(result, 0.0) + self.penalties

    def _shifts(self, number: int, weights: Array, means: Array) -> Array:
        """Return what centring adds to the diagonals (a, P), with weights (K, a, n) of the rows.

        The square of a column less its mean m is that of the column, less 2 m times it, plus m².
        """
        fold = self.stack.folds[number]
        signed = weights.reshape(-1, fold.n) * fold.ones
        sums = self.stack.by_model(fold.backward(signed)).reshape(len(means), *self.stack.shape)
        shifts = means * (means * sums[..., -1:] - 2 * sums)
        return shifts.reshape(len(means), -1)

    def matrix(self, place: int) -> torch.Tensor:
        """Form the Hessian of the model at a place, (P, P)."""
        number, _, proba, share = self._parts[self._place[place, 0]]
        among = self._place[place, 1]
        proba = proba[:, among]
        share = share[among] if share.ndim == 2 else share
        fold = self.stack.folds[number]
        n_outputs, width = self.stack.shape
        total = np.zeros((n_outputs, width, n_outputs, width))
        step = max(64, _SCALED // width)
        for start in range(0, fold.n, step):
            rows = slice(start, start + step)
            part, p = fold.dense(rows), proba[:, rows]
            weight = share[rows] if share.ndim else share
            for k in range(n_outputs):
                own = (weight * p[k])[:, None] * part
                for other in range(k, n_outputs):
                    factor = (1 - p[k]) if other == k else -p[other]
                    total[k, :, other] += own.T @ (factor[:, None] * part)
        for k in range(n_outputs):
            for other in range(k):
                total[k, :, other] = total[other, :, k].T
        matrix = total.reshape(self.stack.size, self.stack.size)
        np.einsum("pp->p", matrix)[:] += self.penalties[place]
        return torch.from_numpy(matrix)
