"""Rosenblatt's rule inside one block of rows, for all classes at once.

A perceptron looks at one row after another and moves its weights only at a mistake. So the scores
of a whole block can be computed with the weights of the block's start, in one product, and every
mistake then shifts the scores of the rows behind it by a multiple of their inner products with the
mistaken row: one row of the block's Gram matrix. The result is that of the row-by-row loop.

Shapes: K classes (each against the rest; 1 for a binary target), B rows of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Corrections:
    """What the rule did in a block.

    Attributes
    ----------
    steps : ndarray of shape (K, B)
        The multiple of a row that went into a class's weights; 0 where the row was right.
    margins : ndarray of shape (K, B)
        ``sign * score`` of a row found wrong, when it was seen; 0 where the row was right.
    n_mistakes : ndarray of shape (K,)
        Mistakes of each class.
    """

    steps: Array
    margins: Array
    n_mistakes: Array


class Coupling:
    """How a step on one row of a block moves the scores of the rows behind it.

    Parameters
    ----------
    size : int
        Rows of a full block; shorter blocks may be passed to the methods.
    shrinkage : float
        Factor on the weights after every row; 1 without an L2 term. The intercept is not shrunk.
    intercept_step : float
        Part of each step that the intercept takes; 0 without an intercept.
    dtype : numpy dtype
        Floating type of the computation.
    """

    def __init__(self, size: int, shrinkage: float, intercept_step: float, dtype: Any) -> None:
        self.shrinkage = shrinkage
        self.intercept_step = intercept_step
        self._behind = np.triu(np.ones((size, size), dtype), 1)
        distance = np.arange(size) - np.arange(size)[:, None] - 1
        self._fade = (shrinkage ** np.maximum(distance, 0) * self._behind).astype(dtype)
        self.powers = (float(shrinkage) ** np.arange(size + 1)).astype(dtype)

    def from_gram(self, gram: Array) -> Array:
        """Return what row i's step adds to row j's score, (B, B); `gram` is overwritten.

        The diagonal is infinite, so that a corrected row can never look wrong again.
        """
        size = len(gram)
        if self.shrinkage == 1.0:
            gram += self.intercept_step
            gram *= self._behind[:size, :size]
        else:
            gram *= self._fade[:size, :size]
            gram += self.intercept_step * self._behind[:size, :size]
        gram.reshape(-1)[:: size + 1] = np.inf
        return gram

    def carried(self, steps: Array) -> Array:
        """Return how much of each step is left in the weights after the block, (K, B)."""
        if self.shrinkage == 1.0:
            return steps
        return steps * self.powers[: steps.shape[1]][::-1]

    def products(self, done: Corrections, signs: Array, intercept: Array) -> Array:
        """Return w.x, without the intercept, of the mistakes when they were seen, (K, B)."""
        before = np.cumsum(done.steps, axis=1) - done.steps
        return done.margins * signs - (intercept[:, None] + self.intercept_step * before)

    def gained_squared_norms(
        self, done: Corrections, products: Array, squared_rows: Array
    ) -> Array:
        """Return what the steps add to the sum, over the rows, of |w|^2 when a row was seen, (K,).

        `products` (K, B) are w.x at the mistakes and `squared_rows` (B,) is |x|^2. A step u at a
        row turns |w|^2 into c^2 |w|^2 + (2 c u w.x + u^2 |x|^2); the bracket then fades by c^2
        with every further row.
        """
        size = done.steps.shape[1]
        gains = 2 * self.shrinkage * done.steps * products + done.steps**2 * squared_rows
        fading = np.concatenate([[0.0], np.cumsum(self.powers[:size].astype(np.float64) ** 2)])
        return np.asarray(gains @ fading[size - 1 :: -1])


def correct_block(margins: Array, signs: Array, steps: Array, coupling: Array) -> Corrections:
    """Run the rule through a block, jumping from mistake to mistake.

    Parameters
    ----------
    margins : ndarray of shape (K, B)
        ``sign * score`` of the rows if no mistake came before them; overwritten.
    signs : ndarray of shape (K, B)
        +1 where a row is of the class, -1 elsewhere.
    steps : ndarray of shape (K, B)
        The step a row would cause, signed; zero for a row of zero weight.
    coupling : ndarray of shape (B, B)
        From `Coupling.from_gram`; overwritten.

    Returns
    -------
    Corrections
    """
    if len(margins) == 1:
        cells, seen = _follow_one(margins[0], signs[0], steps[0], coupling)
    else:
        cells, seen = _follow_all(margins, signs, steps, coupling)
    made, at_sight = np.zeros_like(steps), np.zeros_like(margins)
    made.put(cells, steps.take(cells))
    at_sight.put(cells, seen)
    n_mistakes = np.bincount(cells // steps.shape[1], minlength=len(steps))
    return Corrections(made, at_sight, n_mistakes)


def _follow_one(margins: Array, signs: Array, steps: Array, coupling: Array) -> tuple[Array, Array]:
    """Return the rows (m,) on which one class is wrong when it sees them, and their margins."""
    coupling *= steps[:, None]
    coupling *= signs
    np.fill_diagonal(coupling, np.inf)
    cells, seen = [], []
    wrong = margins <= 0
    row = int(wrong.argmax())
    while wrong[row]:
        cells.append(row)
        seen.append(margins[row])
        margins += coupling[row]
        np.less_equal(margins, 0, out=wrong)
        row = int(wrong.argmax())
    return np.array(cells, np.intp), np.array(seen, margins.dtype)


def _follow_all(margins: Array, signs: Array, steps: Array, coupling: Array) -> tuple[Array, Array]:
    """Return the flat positions (m,) in (K, B) of rows that are wrong when seen, and their margins.

    In every round each class takes its first row that is still wrong: all before it are right and
    stay so, hence it is its next mistake. There are as many rounds as the worst class has mistakes,
    and as few NumPy calls in each as can be: this is the inner loop of a perceptron.
    """
    n_rows = margins.shape[1]
    start = origin = np.arange(0, margins.size, n_rows)  # of a class, in these arrays and at first
    cells, seen, hits = [], [], []
    while True:
        wrong = margins <= 0
        first = wrong.argmax(axis=1)
        at = start + first
        hit = wrong.take(at)
        n_hits = np.count_nonzero(hit)
        if n_hits == 0:
            break
        if 2 * n_hits <= len(hit):  # go on with the classes that have mistakes left
            margins, signs, steps = margins[hit], signs[hit], steps[hit]
            origin, first, start = origin[hit], first[hit], start[:n_hits]
            at, hit = start + first, hit[hit]
        cells.append(origin + first)
        seen.append(margins.take(at))
        hits.append(hit)
        moves = steps.take(at)
        moves *= hit
        shift = coupling.take(first, axis=0)
        shift *= moves[:, None]
        shift *= signs
        margins += shift
    if not cells:
        return np.empty(0, np.intp), np.empty(0, margins.dtype)
    hit = np.concatenate(hits)
    return np.concatenate(cells)[hit], np.concatenate(seen)[hit]
