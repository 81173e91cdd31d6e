"""Rosenblatt's rule with an L1 term: weights that shrink towards zero and stop there.

The L1 term is scikit-learn's, the cumulative penalty of Tsuruoka, Tsujii and Ananiadou
("Stochastic gradient descent training for L1-regularized log-linear models with cumulative
penalty", ACL 2009): every weight owes a debt that grows by the same amount with every row, pays as
much of it as it can without changing its sign, and remembers what it has paid.

That makes scores a function of the weights that is not linear, so a Gram matrix does not serve.
But from one mistake to the next the weights follow a formula: after a row, a weight that is not
zero has paid its whole debt, so with each further row it shrinks by the same factor and the same
amount until it is zero. The rows up to the next mistake are therefore looked at together.

scikit-learn's compiled loop is faster here, but it trains one class to its end in one call that
cannot be interrupted and tells nothing of its epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# Rows looked at together: this many after a mistake, doubling while all are right.
_FIRST_RUN, _LONGEST_RUN = 8, 64


@dataclass
class TruncatedWeights:
    """The weights of one class, with what they paid of the L1 term; arrays are never written to.

    Attributes
    ----------
    coef : ndarray of shape (F,)
        Weights.
    intercept : float
        Not penalised.
    paid : ndarray of shape (F,)
        Sum of all changes that the L1 term made to a weight; kept for weights of zero, as the
        others have paid ``-sign(coef) * debt``.
    debt : float
        Sum of the L1 term so far: the most that a weight can have paid.
    squared_norm, absolute_norm : float
        Of the weights at the last mistake, before they paid, and shrunk since by the L2 term. It is
        these that scikit-learn puts into the objective that decides when to stop.
    """

    coef: Array
    intercept: float
    paid: Array
    debt: float
    squared_norm: float
    absolute_norm: float

    @classmethod
    def start(cls, coef: Array, intercept: float) -> TruncatedWeights:
        """Return the state of weights (F,) that have not paid anything."""
        squared, absolute = float(coef @ coef), float(np.abs(coef).sum())
        return cls(coef, float(intercept), np.zeros_like(coef), 0.0, squared, absolute)

    def copy(self) -> TruncatedWeights:
        """Return a state that can go on without changing this one."""
        return replace(self)


class TruncatedRule:
    """The rule for one class at a time.

    Parameters
    ----------
    shrinkage : float
        Factor on the weights at every row, from the L2 term.
    payment : float
        What the L1 term asks of every weight at every row.
    intercept_step : float
        Part of each step that the intercept takes.
    l1_factor, l2_factor : float
        Factors of the absolute and of the squared norm in the objective.
    """

    def __init__(
        self,
        shrinkage: float,
        payment: float,
        intercept_step: float,
        l1_factor: float,
        l2_factor: float,
    ) -> None:
        self.shrinkage = shrinkage
        self.payment = payment
        self.intercept_step = intercept_step
        self.l1_factor = l1_factor
        self.l2_factor = l2_factor
        # |w| is, after m rows without a mistake, kept[m] |w| - owed[m], or zero.
        kept = shrinkage ** np.arange(_LONGEST_RUN + 1.0)
        owed = np.concatenate([[0.0], payment * np.cumsum(kept[:-1])])
        self._kept, self._owed = kept[:, None], owed[:, None]
        self._kept_sums = np.concatenate([[0.0], np.cumsum(kept[:-1])]).tolist()
        self._squared_sums = np.concatenate([[0.0], np.cumsum(kept[:-1] ** 2)]).tolist()
        self._powers = kept.tolist()

    def correct_block(
        self, state: TruncatedWeights, rows: Array, signs: Array, steps: Array
    ) -> tuple[float, float, int]:
        """Run the rule through rows (B, F); return loss, penalty and number of mistakes.

        `signs` (B,) are +1 for rows of the class and -1 for others, `steps` (B,) the signed steps
        that the rows would cause. `state` is replaced field by field.
        """
        loss, penalty, n_mistakes = 0.0, 0.0, 0
        at, run = 0, _FIRST_RUN
        while at < len(rows):
            ahead = rows[at : at + run]
            path = self._path(state.coef, len(ahead))
            margins = np.einsum("bf,bf->b", path[:-1], ahead)
            margins += state.intercept
            margins *= signs[at : at + len(ahead)]
            wrong = margins <= 0
            mistake = int(wrong.argmax())
            is_mistake = bool(wrong[mistake])
            n_right = mistake if is_mistake else len(ahead)
            penalty += self._pass_norms(state, n_right + is_mistake)
            self._advance(state, path, n_right)
            at += n_right
            run = min(2 * run, _LONGEST_RUN)
            if is_mistake:
                loss -= float(margins[mistake])
                self._step(state, rows[at], float(steps[at]))
                n_mistakes += 1
                at, run = at + 1, _FIRST_RUN
        return loss, penalty, n_mistakes

    def _path(self, coef: Array, n_rows: int) -> Array:
        """Return the weights before each of the next rows, and after the last, if all are right.

        Shape (n_rows + 1, F).
        """
        path = np.abs(coef) * self._kept[: n_rows + 1]
        path -= self._owed[: n_rows + 1]
        np.maximum(path, 0, out=path)
        path *= np.sign(coef)
        return path.astype(coef.dtype, copy=False)

    def _advance(self, state: TruncatedWeights, path: Array, n_rows: int) -> None:
        """Let the weights pass rows that are right."""
        if n_rows == 0:
            return
        before, after = state.coef, path[n_rows].copy()
        died = np.flatnonzero((after == 0) & (before != 0))
        if len(died):
            # A weight that reached zero had paid its debt up to there, and then gave what it had.
            track = path[:n_rows, died]
            last = np.count_nonzero(track, axis=0) - 1
            given = self.shrinkage * np.abs(track[last, np.arange(len(died))])
            state.paid = state.paid.copy()
            paid = state.debt + self.payment * last + given
            state.paid[died] = -np.sign(before[died]) * paid
        state.coef = after
        state.debt += self.payment * n_rows

    def _pass_norms(self, state: TruncatedWeights, n_rows: int) -> float:
        """Return what the norms add to the objective over rows, and shrink them as the rows do.

        `n_rows` is at most the longest run.
        """
        total = self.l2_factor * state.squared_norm * self._squared_sums[n_rows]
        total += self.l1_factor * state.absolute_norm * self._kept_sums[n_rows]
        state.squared_norm *= self._powers[n_rows] ** 2
        state.absolute_norm *= self._powers[n_rows]
        return total

    def _step(self, state: TruncatedWeights, row: Array, step: float) -> None:
        """Correct a mistake: shrink, add the row, collect the debt."""
        paid = np.where(state.coef == 0, state.paid, np.sign(state.coef) * -state.debt)
        coef = self.shrinkage * state.coef + step * row
        size, sign = np.abs(coef), np.sign(coef)
        if step != 0:
            state.squared_norm, state.absolute_norm = float(coef @ coef), float(size.sum())
        state.intercept += step * self.intercept_step
        state.debt += self.payment
        after = sign * np.maximum(size - (state.debt + sign * paid), 0)
        state.paid = paid + (after - coef)
        state.coef = after.astype(row.dtype, copy=False)
        if not math.isfinite(state.squared_norm):
            state.intercept = math.nan  # found at the end of the epoch
