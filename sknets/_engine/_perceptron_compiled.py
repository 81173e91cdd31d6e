"""Rosenblatt's rule in scikit-learn's compiled loop, which looks at one row after another.

Where rows have few features this is several times faster than blocks and their inner products. The
loop gives back weights alone, though. What else a pass has to tell follows from two features that
are added to every row, very small multiples of y and of ``y |x|^2``. A mistake adds
``step * y * x`` to the weights, so the weight of the first counts mistakes and that of the second
sums |x|^2 over them. The loss is then known, because a mistake of margin m changes the squared norm
of the weights by ``2 step m + step^2 |x|^2``.

The two move no digit of a score, unless it is exactly zero. Such a row is a mistake, and remains
one: the weight of the first begins so far below zero that the two together push the margin down.

Shapes: K classes, B rows of a piece, F features.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sknets._core._sklearn import (
    ArrayDataset32,
    ArrayDataset64,
    Hinge,
    plain_sgd32,
    plain_sgd64,
)
from sknets._engine._perceptron_task import PerceptronSettings, PerceptronTask

Array = np.ndarray[Any, np.dtype[Any]]

# Multiply-adds of a row, over all classes, from which on blocks with inner products are faster.
_MOST_PRODUCTS = 2500

# Numbers of a piece of X: it stays in the cache while every class passes over it.
_PIECE = 2**17

# Multiply-adds of a piece, over all classes, below which a second thread costs more than it brings.
_WORTH_THREADS = 2**18

# By kind of number: the added features beside the others, and scikit-learn's loop with its rows.
_UNITS = {np.float32: 2.0**-45, np.float64: 2.0**-300}
_LOOPS = {
    np.float32: (plain_sgd32, ArrayDataset32),
    np.float64: (plain_sgd64, ArrayDataset64),
}

_NO_PENALTY, _CONSTANT_RATE = 0, 1


def suits_compiled(task: PerceptronTask, settings: PerceptronSettings) -> bool:
    """Whether the compiled loop can run a fit, tell its loss, and is faster than blocks.

    It needs steps of one length a class, so that the loss is not weighted.
    """
    lengths = np.abs(settings.class_steps)
    return bool(
        task.rows.device.type == "cpu"
        and settings.alpha == 0
        and task.sample_weight is None
        and (lengths == lengths[:, :1]).all()
        and (lengths > 0).all()
        and len(task.positive) * task.rows.n_features <= _MOST_PRODUCTS
    )


class CompiledRule:
    """The rule for pieces of rows, each class from a piece's first row to its last.

    Parameters
    ----------
    intercept_step : float
        Part of each step that the intercept takes; if 0 the intercepts have to be 0.
    n_rows, n_features, n_classes : int
        Size of the problem.
    dtype : numpy dtype
        Floating type of the computation.
    n_threads : int
        Threads at most, each with its share of the classes.

    Attributes
    ----------
    size : int
        Rows of a full piece.
    """

    def __init__(
        self,
        intercept_step: float,
        n_rows: int,
        n_features: int,
        n_classes: int,
        dtype: Any,
        n_threads: int,
    ) -> None:
        self.size = min(n_rows, max(1, _PIECE // n_features))
        self._intercept_step = intercept_step
        self._unit = _UNITS[dtype.type]
        worth = self.size * n_features * n_classes >= _WORTH_THREADS
        n_lanes = min(n_threads, n_classes) if worth else 1
        self._lanes = [
            _Lane(np.empty((self.size, n_features + 2), dtype), intercept_step)
            for _ in range(n_lanes)
        ]
        self._pool = ThreadPoolExecutor(n_lanes - 1) if n_lanes > 1 else None

    def correct_piece(
        self, x: Array, signs: Array, steps: Array, coef: Array, intercept: Array
    ) -> tuple[Array, Array]:
        """Run the rule through rows (B, F); return losses (K,) and numbers of mistakes (K,).

        `signs` (K, B) are +1 for rows of a class and -1 for others, `steps` (K, B) the signed steps
        that the rows would cause. `coef` (K, F) and `intercept` (K,) are changed in place, to NaN
        if they overflow.
        """
        squares = np.einsum("bf,bf->b", x, x)
        longest = float(squares.max())
        if not math.isfinite(longest):
            intercept.fill(math.nan)
            return np.zeros(len(coef)), np.zeros(len(coef))
        # All powers of two, so that they are exact: not less than rows, the longest row's length.
        n_most = 2.0 ** math.ceil(math.log2(len(x)))
        length = 2.0 ** math.ceil(math.frexp(longest)[1] / 2)
        unit = self._unit * length
        square_unit = unit / length**2 / 2.0 ** math.ceil(math.log2(n_most) / 2 + 1)
        step = np.abs(steps[:, 0]).astype(np.float64)

        weights = np.zeros((len(coef), coef.shape[1] + 2), coef.dtype)
        weights[:, :-2] = coef
        weights[:, -2] = -n_most * unit * step
        before = intercept.copy()
        squares *= square_unit
        self._walk(x, squares, unit, signs, step, weights, intercept)
        n_mistakes = np.rint(weights[:, -2] / (unit * step) + n_most)
        lengths = weights[:, -1] / (square_unit * step) + self._intercept_step * n_mistakes

        new = weights[:, :-2]
        growth = np.einsum("kf,kf->k", new - coef, new + coef, dtype=np.float64)
        if self._intercept_step:
            growth += (intercept - before) * (intercept + before) / self._intercept_step
        coef[...] = new
        return np.maximum(0.5 * (step * lengths - growth / step), 0.0), n_mistakes

    def _walk(
        self,
        x: Array,
        squares: Array,
        unit: float,
        signs: Array,
        step: Array,
        weights: Array,
        intercept: Array,
    ) -> None:
        """Let every class pass over the rows, on as many threads as there are lanes."""

        def walk(number: int) -> None:
            lane = self._lanes[number]
            lane.load(x, squares, unit)
            for k in range(number, len(weights), len(self._lanes)):
                intercept[k] = lane.pass_over(signs[k], step[k], weights[k], intercept[k])

        if self._pool is None:
            walk(0)
            return
        others = [self._pool.submit(walk, i) for i in range(1, len(self._lanes))]
        walk(0)
        for other in others:
            other.result()


class _Lane:
    """A thread's own rows, whose added features are those of the class that passes over them."""

    def __init__(self, memory: Array, intercept_step: float) -> None:
        self._memory = memory
        self._intercept_step = intercept_step
        self._loop, self._dataset = _LOOPS[memory.dtype.type]
        self._hinge = Hinge(0.0)
        n_rows = len(memory)
        self._signs, self._ones = np.empty(n_rows, memory.dtype), np.ones(n_rows, memory.dtype)
        self._held = np.zeros(n_rows, np.uint8)

    def load(self, x: Array, squares: Array, unit: float) -> None:
        """Take the rows (B, F) to pass over, their squared lengths (B,), and the unit of counts."""
        n_rows = len(x)
        self._rows, self._sign = self._memory[:n_rows], self._signs[:n_rows]
        self._rows[:, :-2] = x
        self._squares, self._unit = squares, unit
        self._data = self._dataset(self._rows, self._sign, self._ones[:n_rows])

    def pass_over(self, sign: Array, step: float, weights: Array, intercept: float) -> float:
        """Let one class pass over the rows; its weights change in place, its intercept returns."""
        self._sign[:] = sign
        np.multiply(sign, self._unit, out=self._rows[:, -2])
        np.multiply(sign, self._squares, out=self._rows[:, -1])
        try:
            return self._loop(
                weights,
                intercept,
                None,  # average weights
                0.0,  # average intercept
                self._hinge,
                _NO_PENALTY,
                1.0,  # alpha
                0.0,  # l1_ratio
                self._data,
                self._held[: len(sign)],
                False,  # early_stopping
                None,  # validation score
                1,  # n_iter_no_change
                1,  # max_iter
                -math.inf,  # tol
                self._intercept_step > 0,
                0,  # verbose
                False,  # shuffle
                0,  # seed
                1.0,  # weight of positive rows
                1.0,  # and of negative ones
                _CONSTANT_RATE,
                step,
                0.0,  # power_t
                False,  # one_class
                1.0,  # t
                self._intercept_step,
                0,  # average
            )[1]
        except ValueError:  # weights or intercept are not finite
            return math.nan
