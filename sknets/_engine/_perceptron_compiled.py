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
import torch

from sknets._core._sklearn import Hinge, plain_sgd32, plain_sgd64
from sknets._engine._perceptron_padded import (
    CompressedRows,
    DenseRows,
    Piece,
    numbers_of_a_row,
)
from sknets._engine._perceptron_task import PerceptronSettings, PerceptronTask

Array = np.ndarray[Any, np.dtype[Any]]

# Multiply-adds of a pass, over all classes, below which a second thread costs more than it brings.
_WORTH_THREADS = 2e6

# The added features beside the others.
_UNITS = {np.float32: 2.0**-45, np.float64: 2.0**-300}
_LOOPS = {np.float32: plain_sgd32, np.float64: plain_sgd64}

_NO_PENALTY, _CONSTANT_RATE = 0, 1


def compiled_rule(task: PerceptronTask, settings: PerceptronSettings) -> CompiledRule | None:
    """Return the rule if the compiled loop can run a fit, tell its loss, and is faster than blocks.

    It needs steps of one length a class, so that the loss is not weighted.
    """
    lengths = np.abs(settings.class_steps)
    can = (
        task.rows.device.type == "cpu"
        and settings.alpha == 0
        and task.sample_weight is None
        and bool((lengths == lengths[:, :1]).all() and (lengths > 0).all())
    )
    if not can:
        return None
    n_classes = len(task.positive)
    n_numbers = numbers_of_a_row(task.rows, n_classes, settings.max_epochs)
    n_products = n_classes * n_numbers
    if n_products > 1500 + 2 * task.rows.n_features:  # about what a row costs in a block
        return None
    n_threads = 1
    if task.rows.n * n_products >= _WORTH_THREADS:
        n_threads = min(torch.get_num_threads(), n_classes)
    compress = n_numbers < task.rows.n_features
    rows = CompressedRows(task.rows) if compress else DenseRows(task.rows)
    return CompiledRule(rows, task, settings.intercept_step, n_threads)


class CompiledRule:
    """The rule, each class from a piece's first row to its last.

    Parameters
    ----------
    rows : DenseRows or CompressedRows
        The rows of X.
    task : PerceptronTask
        The rest of what to learn from.
    intercept_step : float
        Part of each step that the intercept takes; if 0 the intercepts have to be 0.
    n_threads : int
        Threads, each with its share of the classes.
    """

    def __init__(
        self,
        rows: CompressedRows | DenseRows,
        task: PerceptronTask,
        intercept_step: float,
        n_threads: int,
    ) -> None:
        self._task = task
        self._size = rows.size
        self._intercept_step = intercept_step
        self._pieces = [rows.make_piece() for _ in range(n_threads)]
        self._pool = ThreadPoolExecutor(n_threads - 1) if n_threads > 1 else None
        self._hinge = Hinge(0.0)

    def pass_over(
        self, order: Array | None, signs: Array, steps: Array, coef: Array, intercept: Array
    ) -> tuple[Array, Array]:
        """Pass over all rows; return sums of losses (K,) and numbers of mistakes (K,).

        `signs` (K, C) are those of rows of each label, `steps` (K, C) the signed steps that such
        rows cause. `coef` (K, F) and `intercept` (K,) are changed in place, to NaN if they
        overflow.
        """
        loss, n_mistakes = np.zeros(len(coef)), np.zeros(len(coef))

        def walk(number: int) -> None:
            own = slice(number, None, len(self._pieces))
            step = np.abs(steps[own, 0]).astype(np.float64)
            piece, label = self._pieces[number], self._task.target
            for start in range(0, self._task.rows.n, self._size):
                part: Any = slice(start, min(start + self._size, self._task.rows.n))
                where = part if order is None else order[part]
                piece.load(where)
                sign = signs[own].take(label[where], axis=1)
                lost, n_wrong = self._correct(piece, sign, step, coef[own], intercept[own])
                loss[own] += lost
                n_mistakes[own] += n_wrong

        if self._pool is None:
            walk(0)
            return loss, n_mistakes
        others = [self._pool.submit(walk, i) for i in range(1, len(self._pieces))]
        walk(0)
        for other in others:
            other.result()
        return loss, n_mistakes

    def _correct(
        self, piece: Piece, signs: Array, step: Array, coef: Array, intercept: Array
    ) -> tuple[Array, Array]:
        """Run the rule through a piece of `signs` (K, B); otherwise like `pass_over`."""
        longest = float(piece.squares.max())
        if not math.isfinite(longest):
            intercept.fill(math.nan)
            return np.zeros(len(coef)), np.zeros(len(coef))
        # All powers of two, which multiply exactly: as many rows or more, the longest row's length.
        n_most = 2.0 ** math.ceil(math.log2(signs.shape[1]))
        length = 2.0 ** math.ceil(math.frexp(longest)[1] / 2)
        unit = _UNITS[coef.dtype.type] * length
        square_unit = unit / length**2 / 2.0 ** math.ceil(math.log2(n_most) / 2 + 1)

        weights = np.zeros((len(coef), coef.shape[1] + 2), coef.dtype)
        weights[:, :-2] = coef
        weights[:, -2] = -n_most * unit * step
        before = intercept.copy()
        squares = square_unit * piece.squares
        for k in range(len(coef)):
            piece.show(signs[k], unit, squares)
            intercept[k] = self._run_loop(piece, step[k], weights[k], intercept[k])
        n_mistakes = np.rint(weights[:, -2] / (unit * step) + n_most)
        lengths = weights[:, -1] / (square_unit * step) + self._intercept_step * n_mistakes

        new = weights[:, :-2]
        growth = ((new - coef) * (new + coef)).sum(axis=1, dtype=np.float64)
        if self._intercept_step:
            growth += (intercept - before) * (intercept + before) / self._intercept_step
        coef[...] = new
        return np.maximum(0.5 * (step * lengths - growth / step), 0.0), n_mistakes

    def _run_loop(self, piece: Piece, step: float, weights: Array, intercept: float) -> float:
        """Let scikit-learn change the weights of one class; return its intercept."""
        run = _LOOPS[weights.dtype.type]
        try:
            return run(
                weights,
                intercept,
                None,  # average weights
                0.0,  # average intercept
                self._hinge,
                _NO_PENALTY,
                1.0,  # alpha
                0.0,  # l1_ratio
                piece.dataset,
                piece.held,
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
