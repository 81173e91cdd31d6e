"""L-BFGS for a stack of logistic regressions: the steps that scipy takes for each, all at once.

Every model has its own memory, step length and stop; a pass over X serves all of them. The rules
(first step, line search, when the memory is refused or forgotten, when to stop) are those of
scipy's L-BFGS-B without bounds, so that a model in a stack visits the points that it visits alone.

Source: R. H. Byrd, J. Nocedal, R. B. Schnabel, "Representations of quasi-Newton matrices and their
use in limited memory methods", Math. Program. 63 (1994), theorem 2.2, for the steps; R. H. Byrd,
P. Lu, J. Nocedal, C. Zhu, "A limited memory algorithm for bound constrained optimization", SIAM J.
Sci. Comput. 16 (1995), for the rules.

Shapes: A models that still learn, P parameters, m pairs of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np

from sknets._engine._lbfgs import (
    FAR_FROM_TOL,
    MAX_ITER_REACHED,
    NOTHING_GAINED,
    NOTHING_LOWER,
    TOO_MANY_EVALUATIONS,
)
from sknets._engine._line_search import DECREASE, FLATNESS, LineSearch
from sknets._engine._logistic_stack import Array, LogisticStack, not_finite

_PAIRS = 10
_TRIALS = 50
_EPS = float(np.finfo(np.float64).eps)


def stacked_lbfgs(stack: LogisticStack, numbers: Array, after_tick: Callable[[], bool]) -> None:
    """Minimise the objectives of some models, which must have no L1 term.

    Parameters
    ----------
    stack : LogisticStack
        Whose models are filled in.
    numbers : ndarray of shape (A,)
        Which of its models.
    after_tick : callable () -> bool
        Called after every pass over X; true ends the walk.
    """
    numbers = np.array([i for i in numbers if stack.models[i].max_iter > 0], np.intp)
    if not len(numbers):
        return
    walk = _Walk(stack, numbers)
    while len(walk.numbers):
        walk.tick()
        if after_tick():
            break
    walk.tell()


class _Memory:
    """The last pairs of steps s and changes y of the gradient, of each of A models.

    The inverse of the upper triangle of S'Y, in the order of the pairs' ages, is kept and not the
    triangle: without its oldest row and column it is still the inverse of the rest, and another
    pair adds one column. So nothing is solved, and places need no order: an empty one holds zeros.
    """

    ARRAYS = ("pairs", "inverse", "yy", "sy", "n_updates", "scale")

    def __init__(self, n_models: int, size: int) -> None:
        self.pairs = np.zeros((n_models, 2 * _PAIRS, size))  # s in the first half, y in the second
        self.inverse = np.zeros((n_models, _PAIRS, _PAIRS))
        self.yy = np.zeros((n_models, _PAIRS, _PAIRS))
        self.sy = np.zeros((n_models, _PAIRS))
        self.n_updates = np.zeros(n_models, np.int64)  # since the memory was empty
        self.scale = np.ones(n_models)

    def forget(self, row: int) -> None:
        """Empty the memory of one model."""
        for array in (self.inverse, self.yy, self.sy, self.n_updates):
            array[row] = 0
        self.scale[row] = 1.0

    def is_empty(self, row: int) -> bool:
        """Whether a model has no pairs."""
        return not self.n_updates[row]

    def directions(
        self, grads: Array, steps: Array, changes: Array, sy: Array, kept: Array
    ) -> Array:
        """Take in the last pairs of some models and return directions of descent for all, (A, P).

        Parameters
        ----------
        grads, steps, changes : ndarray of shape (A, P)
            Gradients, last steps and changes of the gradients.
        sy : ndarray of shape (A,)
            Inner products of steps and changes.
        kept : ndarray of shape (A,)
            Whether a pair is kept.
        """
        products = self.pairs @ np.stack([grads, changes], axis=1).mT
        of_grads = products[:, :, 0]
        new = np.flatnonzero(kept)
        if len(new):
            grads_of_new = grads if len(new) == len(grads) else grads[new]
            at = self._remember(new, steps, changes, sy, products[new, :, 1])
            rows = self.pairs[new, at], self.pairs[new, _PAIRS + at]
            of_grads[new, at] = np.vecdot(rows[0], grads_of_new)
            of_grads[new, _PAIRS + at] = np.vecdot(rows[1], grads_of_new)
        directions = (self._weights(of_grads)[:, None] @ self.pairs)[:, 0]
        directions += self.scale[:, None] * grads
        return np.negative(directions, out=directions)

    def _remember(
        self, new: Array, steps: Array, changes: Array, sy: Array, products: Array
    ) -> Array:
        """Write the pairs of the rows `new` over their oldest ones and return their places.

        `products` (len(new), 2 m) are the old pairs times the changes.
        """
        at = self.n_updates[new] % _PAIRS
        self.n_updates[new] += 1
        sy, yy = sy[new], np.vecdot(changes, changes)[new]
        self.pairs[new, at], self.pairs[new, _PAIRS + at] = steps[new], changes[new]
        inverse = self.inverse[new]
        rows = np.arange(len(new))
        inverse[rows, at] = inverse[rows, :, at] = products[rows, at] = 0
        column = np.einsum("amn,an->am", inverse, products[:, :_PAIRS])
        column /= -sy[:, None]
        column[rows, at] = 1 / sy
        inverse[rows, :, at] = column
        self.inverse[new] = inverse
        self.yy[new, :, at] = self.yy[new, at, :] = products[:, _PAIRS:]
        self.yy[new, at, at] = yy
        self.sy[new, at] = sy
        self.scale[new] = sy / yy
        return at

    def _weights(self, products: Array) -> Array:
        """Return the multiples (A, 2 m) of the pairs in the inverse Hessian times the gradient."""
        scale = self.scale[:, None]
        s_grads, y_grads = products[:, :_PAIRS], products[:, _PAIRS:]
        inner = np.einsum("amn,an->am", self.inverse, s_grads)
        right = np.einsum("amn,an->am", self.yy, inner)
        right -= y_grads
        right *= scale
        right += self.sy * inner
        weights = np.empty_like(products)
        np.einsum("anm,an->am", self.inverse, right, out=weights[:, :_PAIRS])
        np.multiply(inner, -scale, out=weights[:, _PAIRS:])
        return weights


class _Walk:
    """Where the models that still learn stand, and their next trials.

    A model that stops leaves its place to the last one, so that all arrays hold only models that
    learn, and nothing is copied to leave the others out.
    """

    ARRAYS = (
        *("numbers", "tol", "max_iter", "points", "values", "grads", "directions", "slopes"),
        *("steps", "seconds", "evaluations", "iterations", "trials"),
    )

    def __init__(self, stack: LogisticStack, numbers: Array) -> None:
        self.stack = stack
        self.numbers = numbers.copy()
        models = [stack.models[i] for i in numbers]
        self.tol = np.array([model.tol for model in models])
        self.max_iter = np.array([model.max_iter for model in models])
        self.points = np.stack([model.params for model in models])
        started = perf_counter()
        self.values, self.grads = stack.loss_gradient(self.points, numbers)
        self.memory = _Memory(len(numbers), stack.size)
        self.directions = -self.grads
        with np.errstate(invalid="ignore", over="ignore"):
            self.slopes = -np.vecdot(self.grads, self.grads)
        self.steps = 1 / np.sqrt(np.maximum(-self.slopes, np.finfo(np.float64).tiny))
        self.evaluations = np.ones(len(numbers), np.int64)
        self.iterations = np.zeros(len(numbers), np.int64)
        self.trials = np.zeros(len(numbers), np.int64)
        self.seconds = np.full(len(numbers), (perf_counter() - started) / len(numbers))
        self.searches: dict[int, LineSearch] = {}
        self._history: list[tuple[Array, Array, Array]] = []
        self._leaving: set[int] = set()
        fine = self._note_failures(self.values, self.slopes)
        within = fine & (np.abs(self.grads).max(axis=1) <= self.tol)
        for row in np.flatnonzero(within).tolist():
            self._stop(row, True, "the gradient is within tol")
        self._let_go()

    def tick(self) -> None:
        """Evaluate the trial of every model, then move or go on searching."""
        started = perf_counter()
        trials = self.steps[:, None] * self.directions
        trials += self.points
        values, grads = self.stack.loss_gradient(trials, self.numbers)
        self.evaluations += 1
        self.trials += 1
        with np.errstate(invalid="ignore", over="ignore"):
            slopes = np.vecdot(grads, self.directions)
        fine = self._note_failures(values, slopes)
        ends = self._search(fine, values, slopes)
        if ends.any():
            self._move(ends, trials, values, grads, slopes)
        self.seconds += (perf_counter() - started) / len(self.numbers)
        self._let_go()

    def tell(self) -> None:
        """Write the models' losses and seconds of each iteration."""
        if not self._history:
            return
        columns = zip(*self._history, strict=True)
        numbers, losses, seconds = (np.concatenate(column) for column in columns)
        order = np.argsort(numbers, kind="stable")
        found, starts = np.unique(numbers[order], return_index=True)
        for number, loss, spent in zip(
            found.tolist(),
            np.split(losses[order], starts[1:]),
            np.split(seconds[order], starts[1:]),
            strict=True,
        ):
            self.stack.models[number].losses = loss.tolist()
            # The clock of an iteration is read at its start: the first has read nothing yet.
            self.stack.models[number].seconds = spent.tolist()

    def _search(self, fine: Array, values: Array, slopes: Array) -> Array:
        """Say which trials end their line searches; the others get their next step."""
        enough = values <= self.values + DECREASE * self.steps * self.slopes
        ends = enough & (np.abs(slopes) <= -FLATNESS * self.slopes) & fine
        for row in np.flatnonzero(~ends & fine).tolist():
            number = int(self.numbers[row])
            search = self.searches.get(number)
            if search is None:
                start = float(self.values[row]), float(self.slopes[row]), float(self.steps[row])
                search = self.searches[number] = LineSearch(*start)
            if search.tell(float(values[row]), float(slopes[row])):
                ends[row] = True
            elif self.trials[row] >= _TRIALS:
                self._give_up(row)
            else:
                self.steps[row] = search.step
        return ends

    def _give_up(self, row: int) -> None:
        """Start again from steepest descent; without a memory to blame, stop."""
        self.searches.pop(int(self.numbers[row]), None)
        if self.memory.is_empty(row):
            self._stop(row, False, NOTHING_LOWER)
            return
        self.memory.forget(row)
        self.directions[row] = -self.grads[row]
        self.slopes[row] = -(self.grads[row] @ self.grads[row])
        self.steps[row], self.trials[row] = 1.0, 0

    def _move(self, ends: Array, points: Array, values: Array, grads: Array, slopes: Array) -> None:
        """Go to the trials that ended their searches, and choose the next directions.

        All is computed for all models: to leave some out would copy the memory of the others.
        """
        rows, before = np.flatnonzero(ends), self.values
        with np.errstate(invalid="ignore", over="ignore"):  # of models that failed
            changes = grads - self.grads
            moved = self.steps[:, None] * self.directions
            sy = (slopes - self.slopes) * self.steps
            kept = ends & (sy > -_EPS * self.slopes * self.steps)
        self.values = np.where(ends, values, before)
        if len(rows) == len(ends):
            self.points, self.grads = points, grads
        else:
            self.points[rows], self.grads[rows] = points[rows], grads[rows]
        self.iterations[rows] += 1
        self.trials[rows] = 0
        self._history.append((self.numbers[rows], values[rows], self.seconds[rows]))
        self.seconds[rows] = 0.0
        if self.searches:
            for number in self.numbers[rows].tolist():
                self.searches.pop(number, None)
        self._judge(rows, before[rows])
        with np.errstate(invalid="ignore", over="ignore"):
            directions = self.memory.directions(self.grads, moved, changes, sy, kept)
            slopes = np.vecdot(self.grads, directions)
        if len(rows) == len(ends):
            self.directions = directions
        else:
            self.directions[rows] = directions[rows]
        self.slopes[rows] = slopes[rows]
        self.steps[rows] = 1.0
        for row in rows[~(self.slopes[rows] < 0)].tolist():
            if row not in self._leaving:
                self._give_up(row)

    def _judge(self, rows: Array, before: Array) -> None:
        """Stop the models that are done."""
        values, allowed = self.values[rows], self.max_iter[rows]
        size = np.maximum(np.maximum(np.abs(before), np.abs(values)), 1.0)
        largest = np.abs(self.grads[rows]).max(axis=1)
        nothing_gained = before - values <= _EPS * size
        rounds, far = self.stack.dtype == np.float32, largest > FAR_FROM_TOL * self.tol[rows]
        reasons = (
            (self.iterations[rows] >= allowed, False, MAX_ITER_REACHED),
            (self.evaluations[rows] > 50 * allowed, False, TOO_MANY_EVALUATIONS),
            (largest <= self.tol[rows], True, "the gradient is within tol"),
            (nothing_gained & far & rounds, False, NOTHING_GAINED),
            (nothing_gained, True, NOTHING_GAINED),
        )
        for holds, converged, message in reasons:
            for row in rows[holds].tolist():
                if row not in self._leaving:
                    self._stop(row, converged, message)

    def _stop(self, row: int, converged: bool, message: str) -> None:
        model = self.stack.models[int(self.numbers[row])]
        model.params = self.points[row].copy()
        model.converged, model.message = converged, message
        self._leaving.add(int(row))

    def _note_failures(self, values: Array, slopes: Array) -> Array:
        """Stop the models whose loss or slope is not finite; return which are fine.

        A gradient that is not finite has no finite slope.
        """
        fine = np.isfinite(values) & np.isfinite(slopes)
        for row in np.flatnonzero(~fine).tolist():
            error = not_finite(float(values[row]), self.stack.dtype)
            self.stack.models[int(self.numbers[row])].error = error
            self._leaving.add(row)
        return fine

    def _let_go(self) -> None:
        """Give the places of the models that have stopped to the last ones."""
        for row in sorted(self._leaving, reverse=True):
            for owner in (self, self.memory):
                for name in owner.ARRAYS:
                    array = getattr(owner, name)
                    array[row] = array[-1]
                    setattr(owner, name, array[:-1])
        self._leaving.clear()
