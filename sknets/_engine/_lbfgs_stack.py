"""L-BFGS for a stack of logistic regressions: the steps that scipy takes for each, all at once.

Every model has its own memory, step length and stop; a pass over X serves all of them. The rules
(first step, line search, when the memory is refused or forgotten, when to stop) are those of scipy's
L-BFGS-B without bounds, so that a model in a stack visits the points that it visits alone.

Source: R. H. Byrd, J. Nocedal, R. B. Schnabel, "Representations of quasi-Newton matrices and their
use in limited memory methods", Math. Program. 63 (1994), theorem 2.2, for the steps; R. H. Byrd,
P. Lu, J. Nocedal, C. Zhu, "A limited memory algorithm for bound constrained optimization", SIAM J.
Sci. Comput. 16 (1995), for the rules.

Shapes: A models that still learn, P parameters, m pairs of memory.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from sknets._engine._line_search import DECREASE, FLATNESS, LineSearch
from sknets._engine._logistic_stack import Array, LogisticStack, not_finite

_PAIRS = 10
_TRIALS = 50
_EPS = float(np.finfo(np.float64).eps)

# Models that have stopped are dropped from the arrays when they are this share of them.
_SHARE_TO_DROP = 0.25


def stacked_lbfgs(stack: LogisticStack) -> None:
    """Minimise the objectives of all models, which must have no L1 term; fills in the models."""
    numbers = np.array([i for i, model in enumerate(stack.models) if model.max_iter > 0], np.intp)
    if len(numbers):
        walk = _Walk(stack, numbers)
        while walk.live.any():
            walk.tick()


class _Memory:
    """The last pairs of steps s and changes y of the gradient, of each of A models."""

    def __init__(self, n_models: int, size: int) -> None:
        self.pairs = np.zeros((n_models, 2 * _PAIRS, size))  # s in the first half, y in the second
        self.sy = np.zeros((n_models, _PAIRS, _PAIRS))
        self.yy = np.zeros((n_models, _PAIRS, _PAIRS))
        self.age = np.zeros((n_models, _PAIRS), np.int64)  # number of the update; 0 is empty
        self.scale = np.ones(n_models)

    def keep(self, rows: Array) -> None:
        """Drop the models that are not among `rows`."""
        for name in ("pairs", "sy", "yy", "age", "scale"):
            setattr(self, name, getattr(self, name)[rows])

    def forget(self, row: int) -> None:
        """Empty the memory of one model."""
        self.age[row] = 0
        self.scale[row] = 1.0

    def is_empty(self, row: int) -> bool:
        """Whether a model has no pairs."""
        return not self.age[row].any()

    def directions(
        self, rows: Array, grads: Array, steps: Array, changes: Array, sy: Array, kept: Array
    ) -> Array:
        """Take in the last pairs (unless refused) and return the directions of descent, (A, P).

        Parameters
        ----------
        rows : ndarray of shape (A,)
            Which models; the other arrays are theirs.
        grads, steps, changes : ndarray of shape (A, P)
            Gradients, last steps and changes of the gradients.
        sy : ndarray of shape (A,)
            Inner products of steps and changes.
        kept : ndarray of shape (A,)
            Whether a pair is kept.
        """
        both = np.stack([grads, changes], axis=2)
        products = self._times(rows, both)
        new, at = rows[kept], self.age[rows[kept]].argmin(axis=1)
        self._remember(new, at, steps[kept], changes[kept], sy[kept], products[kept, :, 1])
        old = products[:, :, 0]
        old[kept, at] = np.einsum("ap,ap->a", steps[kept], grads[kept])
        old[kept, _PAIRS + at] = np.einsum("ap,ap->a", changes[kept], grads[kept])
        weights = self._weights(rows, old)
        return -(self._combined(rows, weights) + self.scale[rows, None] * grads)

    def _remember(
        self, rows: Array, at: Array, steps: Array, changes: Array, sy: Array, products: Array
    ) -> None:
        """Write pairs into the places `at`; `products` (A, 2 m) are old pairs times the changes."""
        age = self.age[rows].max(axis=1, initial=0) + 1
        self.pairs[rows, at], self.pairs[rows, _PAIRS + at] = steps, changes
        yy = np.einsum("ap,ap->a", changes, changes)
        self.age[rows, at] = age
        self.sy[rows, :, at] = products[:, :_PAIRS]
        self.sy[rows, at, at] = sy
        self.yy[rows, :, at] = self.yy[rows, at, :] = products[:, _PAIRS:]
        self.yy[rows, at, at] = yy
        self.scale[rows] = sy / yy

    def _weights(self, rows: Array, products: Array) -> Array:
        """Return the multiples (A, 2 m) of the pairs in the inverse Hessian times the gradient."""
        age, scale = self.age[rows], self.scale[rows, None]
        full = age > 0
        products = products * np.concatenate([full, full], axis=1)
        s_grad, y_grad = products[:, :_PAIRS], products[:, _PAIRS:]
        in_order = (age[:, :, None] <= age[:, None, :]) & full[:, :, None] & full[:, None, :]
        upper = self.sy[rows] * in_order
        diagonal = np.einsum("amm->am", upper).copy()
        np.einsum("amm->am", upper)[~full] = 1.0
        yy = self.yy[rows] * (full[:, :, None] & full[:, None, :])
        inner = np.linalg.solve(upper, s_grad[:, :, None])
        right = diagonal * inner[:, :, 0] + scale * ((yy @ inner)[:, :, 0] - y_grad)
        outer = np.linalg.solve(upper.transpose(0, 2, 1), right[:, :, None])
        return np.concatenate([outer[:, :, 0], -scale * inner[:, :, 0]], axis=1)

    def _times(self, rows: Array, vectors: Array) -> Array:
        """Multiply the pairs by vectors (A, P, r)."""
        if 2 * len(rows) < len(self.pairs):
            return self.pairs[rows] @ vectors
        if len(rows) == len(self.pairs):
            return self.pairs @ vectors
        spread = np.zeros((len(self.pairs), *vectors.shape[1:]))  # cheaper than a copy of the pairs
        spread[rows] = vectors
        return (self.pairs @ spread)[rows]

    def _combined(self, rows: Array, weights: Array) -> Array:
        """Add up the pairs times weights (A, 2 m)."""
        if 2 * len(rows) < len(self.pairs):
            return (weights[:, None] @ self.pairs[rows])[:, 0]
        if len(rows) == len(self.pairs):
            return (weights[:, None] @ self.pairs)[:, 0]
        spread = np.zeros((len(self.pairs), weights.shape[1]))
        spread[rows] = weights
        return (spread[:, None] @ self.pairs)[rows, 0]


class _Walk:
    """Where the models stand, and their next trials."""

    def __init__(self, stack: LogisticStack, numbers: Array) -> None:
        self.stack = stack
        self.numbers = numbers
        models = [stack.models[i] for i in numbers]
        self.tol = np.array([model.tol for model in models])
        self.live = np.ones(len(numbers), bool)
        self.points = np.stack([model.params for model in models])
        started = perf_counter()
        self.values, self.grads = stack.loss_gradient(self.points, numbers)
        self.seconds = np.full(len(numbers), (perf_counter() - started) / len(numbers))
        self.memory = _Memory(len(numbers), stack.size)
        self.evaluations = np.ones(len(numbers), np.int64)
        self.iterations = np.zeros(len(numbers), np.int64)
        self.trials = np.zeros(len(numbers), np.int64)
        self.searches: dict[int, LineSearch] = {}
        self._drop_failures(self.values, self.grads)
        for row in np.flatnonzero(self.live & (np.abs(self.grads).max(axis=1) <= self.tol)):
            self._stop(row, True, "the gradient is within tol")
        self.directions = -self.grads
        self.slopes = -np.einsum("ap,ap->a", self.grads, self.grads)
        self.steps = 1 / np.sqrt(np.maximum(-self.slopes, np.finfo(np.float64).tiny))

    def tick(self) -> None:
        """Evaluate the trial of every model, then move or go on searching."""
        self._drop_dead()
        started = perf_counter()
        rows = np.flatnonzero(self.live)
        trials = self.points[rows] + self.steps[rows, None] * self.directions[rows]
        values, grads = self.stack.loss_gradient(trials, self.numbers[rows])
        self.evaluations[rows] += 1
        self.trials[rows] += 1
        fine = self._drop_failures(values, grads, rows)
        if not fine.all():
            rows, trials, values, grads = rows[fine], trials[fine], values[fine], grads[fine]
        slopes = np.einsum("ap,ap->a", grads, self.directions[rows])
        ends = self._search(rows, values, slopes)
        self._move(rows[ends], trials[ends], values[ends], grads[ends], slopes[ends])
        if len(rows):
            self.seconds[rows] += (perf_counter() - started) / len(rows)

    def _search(self, rows: Array, values: Array, slopes: Array) -> Array:
        """Say which trials end their line searches; the others get their next step."""
        enough = values <= self.values[rows] + DECREASE * self.steps[rows] * self.slopes[rows]
        ends = enough & (np.abs(slopes) <= -FLATNESS * self.slopes[rows])
        for i in np.flatnonzero(~ends):
            row = int(rows[i])
            number = int(self.numbers[row])
            search = self.searches.get(number)
            if search is None:
                start = float(self.values[row]), float(self.slopes[row]), float(self.steps[row])
                search = self.searches[number] = LineSearch(*start)
            if search.tell(float(values[i]), float(slopes[i])):
                ends[i] = True
            elif self.trials[row] >= _TRIALS:
                self._give_up(row)
            else:
                self.steps[row] = search.step
        return ends

    def _give_up(self, row: int) -> None:
        """Start again from steepest descent; without a memory to blame, stop."""
        self.searches.pop(int(self.numbers[row]), None)
        if self.memory.is_empty(row):
            self._stop(row, False, "the line search found no lower value")
            return
        self.memory.forget(row)
        self.directions[row] = -self.grads[row]
        self.slopes[row] = -(self.grads[row] @ self.grads[row])
        self.steps[row], self.trials[row] = 1.0, 0

    def _move(
        self, rows: Array, points: Array, values: Array, grads: Array, slopes: Array
    ) -> None:
        """Go to the trials that ended their searches, and choose the next directions."""
        if not len(rows):
            return
        before, old_slopes, steps = self.values[rows], self.slopes[rows], self.steps[rows]
        changes = grads - self.grads[rows]
        moved = steps[:, None] * self.directions[rows]
        self.points[rows], self.values[rows], self.grads[rows] = points, values, grads
        self.iterations[rows] += 1
        self.trials[rows] = 0
        self._record(rows, values)
        goes_on = self._judge(rows, before)
        if not goes_on.any():
            return
        rows, sy = rows[goes_on], ((slopes - old_slopes) * steps)[goes_on]
        kept = sy > _EPS * (-old_slopes * steps)[goes_on]
        directions = self.memory.directions(
            rows, grads[goes_on], moved[goes_on], changes[goes_on], sy, kept
        )
        self.directions[rows] = directions
        self.slopes[rows] = np.einsum("ap,ap->a", grads[goes_on], directions)
        self.steps[rows] = 1.0
        for row in rows[~(self.slopes[rows] < 0)]:
            self._give_up(int(row))

    def _record(self, rows: Array, values: Array) -> None:
        for row, value in zip(rows.tolist(), values.tolist(), strict=True):
            number = int(self.numbers[row])
            self.searches.pop(number, None)
            model = self.stack.models[number]
            model.losses.append(value)
            model.seconds.append(float(self.seconds[row]))
            self.seconds[row] = 0.0

    def _judge(self, rows: Array, before: Array) -> Array:
        """Stop models that are done, and say which go on."""
        largest = np.abs(self.grads[rows]).max(axis=1)
        size = np.maximum(np.maximum(np.abs(before), np.abs(self.values[rows])), 1.0)
        flat = before - self.values[rows] <= _EPS * size
        goes_on = np.ones(len(rows), bool)
        for i, row in enumerate(rows.tolist()):
            allowed = self.stack.models[int(self.numbers[row])].max_iter
            if self.iterations[row] >= allowed:
                self._stop(row, False, "max_iter is reached")
            elif self.evaluations[row] > 50 * allowed:
                self._stop(row, False, "too many evaluations")
            elif largest[i] <= self.tol[row]:
                self._stop(row, True, "the gradient is within tol")
            elif flat[i]:
                self._stop(row, True, "the objective no longer falls")
            else:
                continue
            goes_on[i] = False
        return goes_on

    def _stop(self, row: int, converged: bool, message: str) -> None:
        model = self.stack.models[int(self.numbers[row])]
        model.params = self.points[row].copy()
        model.converged, model.message = converged, message
        self.live[row] = False

    def _drop_failures(self, values: Array, grads: Array, rows: Array | None = None) -> Array:
        """Stop the models whose loss or gradient is not finite; return which are fine."""
        rows = np.arange(len(values)) if rows is None else rows
        fine = np.isfinite(values) & np.isfinite(grads).all(axis=1)
        for i in np.flatnonzero(~fine):
            model = self.stack.models[int(self.numbers[rows[i]])]
            model.error = not_finite(float(values[i]))
            self.live[rows[i]] = False
        return fine

    def _drop_dead(self) -> None:
        """Shrink the arrays when enough models have stopped."""
        if self.live.sum() > (1 - _SHARE_TO_DROP) * len(self.live):
            return
        rows = np.flatnonzero(self.live)
        self.memory.keep(rows)
        for name in (
            *("numbers", "tol", "points", "values", "grads", "directions", "slopes", "steps"),
            *("seconds", "evaluations", "iterations", "trials", "live"),
        ):
            setattr(self, name, getattr(self, name)[rows])
