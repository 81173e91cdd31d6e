"""L-BFGS for a stack of logistic regressions: the steps that scipy takes for each, all at once.

Every model has its own memory, step length and stop; a pass over X serves all of them. The rules
(first step, line search, when the memory is refused or forgotten, when to stop) are those of
scipy's L-BFGS-B without bounds, so that a model in a stack visits the points that it visits alone.

Source: R. H. Byrd, P. Lu, J. Nocedal, C. Zhu, "A limited memory algorithm for bound constrained
optimization", SIAM J. Sci. Comput. 16 (1995).

Shapes: A models that still learn, P parameters.
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
        self.memory = stack.make_memory(len(numbers))
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
        rows, before, old_grads = np.flatnonzero(ends), self.values, self.grads
        with np.errstate(invalid="ignore", over="ignore"):  # of models that failed
            sy = (slopes - self.slopes) * self.steps
            kept = ends & (sy > -_EPS * self.slopes * self.steps)
        self.values = np.where(ends, values, before)
        if len(rows) == len(ends):
            self.points, self.grads = points, grads
        else:
            self.points[rows] = points[rows]
            self.grads = np.where(ends[:, None], grads, old_grads)
        self.iterations[rows] += 1
        self.trials[rows] = 0
        self._history.append((self.numbers[rows], values[rows], self.seconds[rows]))
        self.seconds[rows] = 0.0
        if self.searches:
            for number in self.numbers[rows].tolist():
                self.searches.pop(number, None)
        self._judge(rows, before[rows])
        with np.errstate(invalid="ignore", over="ignore"):
            last = self.steps, self.directions
            directions = self.memory.directions(self.grads, old_grads, last, sy, kept)
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
        grads = self.grads if len(rows) == len(self.grads) else self.grads[rows]
        largest = np.maximum(grads.max(axis=1), -grads.min(axis=1))
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
