"""Rosenblatt's rule with an L1 term: weights that shrink towards zero and stop there.

The L1 term is scikit-learn's, the cumulative penalty of Tsuruoka, Tsujii and Ananiadou
("Stochastic gradient descent training for L1-regularized log-linear models with cumulative
penalty", ACL 2009): every weight owes a debt that grows by the same amount with every row, pays as
much of it as it can without changing its sign, and remembers what it has paid.

That debt makes scores a function of the weights that is not linear, so one Gram matrix does not
serve. But from one mistake to the next the weights follow a formula: after a row each weight that
is not zero has paid its whole debt, so it shrinks by the same factor and the same amount with each
further row until it is zero. The rows up to the next mistake are therefore looked at together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# Rows looked at together start at this many after a mistake and double while all is right.
_FIRST_RUN = 8
_RUN_NUMBERS = 2**18


@dataclass
class TruncatedWeights:
    """The weights of one class, with what they paid of the L1 term.

    Attributes
    ----------
    coef : ndarray of shape (F,)
        Weights.
    intercept : float
        Not penalised.
    paid : ndarray of shape (F,)
        Sum of all changes made to each weight by the L1 term.
    debt : float
        Sum of the L1 term so far: the most that a weight can have paid.
    squared_norm, absolute_norm : float
        Of the weights just after the last mistake's step, shrunk since, before any L1 payment:
        the penalty that scikit-learn puts into the objective that decides when to stop.
    """

    coef: Array
    intercept: float
    paid: Array
    debt: float
    squared_norm: float
    absolute_norm: float

    @classmethod
    def start(cls, coef: Array, intercept: float) -> TruncatedWeights:
        """Return the state of weights that have not been trained."""
        return cls(
            coef.copy(),
            float(intercept),
            np.zeros_like(coef),
            0.0,
            float(coef @ coef),
            float(np.abs(coef).sum()),
        )

    def copy(self) -> TruncatedWeights:
        """Return a copy that can go on without changing this one."""
        return TruncatedWeights(
            self.coef.copy(),
            self.intercept,
            self.paid.copy(),
            self.debt,
            self.squared_norm,
            self.absolute_norm,
        )


@dataclass(frozen=True)
class TruncatedRule:
    """Constants of the rule.

    Attributes
    ----------
    shrinkage : float
        Factor on the weights at every row, from the L2 term.
    payment : float
        What the L1 term asks of every weight at every row.
    intercept_step : float
        Part of each step that the intercept takes.
    l1_factor, l2_factor : float
        Factors of the norms in the objective.
    """

    shrinkage: float
    payment: float
    intercept_step: float
    l1_factor: float
    l2_factor: float

    def correct_block(
        self, state: TruncatedWeights, rows: Array, signs: Array, steps: Array
    ) -> tuple[float, float, int]:
        """Run the rule through rows (B, F); return loss, penalty and number of mistakes.

        `signs` (B,) are +1 for rows of the class and -1 for others, `steps` (B,) the signed steps
        that the rows would cause. `state` is changed in place.
        """
        loss, penalty, n_mistakes = 0.0, 0.0, 0
        at, run = 0, _FIRST_RUN
        most = max(1, _RUN_NUMBERS // rows.shape[1])
        while at < len(rows):
            ahead = rows[at : at + min(run, most)]
            path = self._path(state.coef, len(ahead))
            scores = np.einsum("bf,bf->b", path, ahead) + state.intercept
            margins = scores * signs[at : at + len(ahead)]
            wrong = margins <= 0
            mistake = int(wrong.argmax())
            n_right = mistake if wrong[mistake] else len(ahead)
            penalty += self._advance(state, path, n_right)
            at += n_right
            run *= 2
            if n_right < len(ahead):
                loss -= float(margins[mistake])
                penalty += self._penalty(state, 1)
                self._step(state, rows[at], float(steps[at]))
                n_mistakes += 1
                at, run = at + 1, _FIRST_RUN
        return loss, penalty, n_mistakes

    def _path(self, coef: Array, n_rows: int) -> Array:
        """Return the weights before each of the next rows if all are right, and after the last.

        Shape (n_rows, F); the weights after the last row are one more step of the same formula.
        """
        kept, owed = self._fading(n_rows)
        path = np.abs(coef) * kept[:n_rows, None] - owed[:n_rows, None]
        np.maximum(path, 0, out=path)
        path *= np.sign(coef)
        return path

    def _fading(self, n_rows: int) -> tuple[Array, Array]:
        """Return factors and amounts: |w| after m rows is factor[m] |w| - amount[m], or 0."""
        kept = self.shrinkage ** np.arange(n_rows + 1)
        owed = self.payment * np.concatenate([[0.0], np.cumsum(kept[:-1])])
        return kept, owed

    def _advance(self, state: TruncatedWeights, path: Array, n_rows: int) -> float:
        """Let the weights pass rows that are right; return the penalty those rows counted."""
        if n_rows == 0:
            return 0.0
        kept, owed = self._fading(n_rows)
        size = np.abs(state.coef)
        sign = np.sign(state.coef)
        after = np.maximum(size * kept[n_rows] - owed[n_rows], 0)
        # A weight that reached zero had paid all but the last payment, and then gave what it had.
        alive = np.count_nonzero(path[:n_rows], axis=0)
        last = np.maximum(alive - 1, 0)
        given = self.shrinkage * np.abs(path[last, np.arange(len(size))])
        debt_before = state.debt + self.payment * last
        state.debt += self.payment * n_rows
        paid = np.where(after > 0, state.debt, debt_before + given)
        state.paid = np.where(size > 0, -sign * paid, state.paid)
        state.coef = (sign * after).astype(state.coef.dtype)
        return self._penalty(state, n_rows)

    def _penalty(self, state: TruncatedWeights, n_rows: int) -> float:
        """Return what the norms add to the objective over rows, and shrink them as the rows do."""
        if n_rows == 0:
            return 0.0
        kept = self.shrinkage ** np.arange(n_rows + 1)
        total = self.l2_factor * state.squared_norm * float(np.sum(kept[:-1] ** 2))
        total += self.l1_factor * state.absolute_norm * float(np.sum(kept[:-1]))
        state.squared_norm *= float(kept[-1]) ** 2
        state.absolute_norm *= float(kept[-1])
        return total

    def _step(self, state: TruncatedWeights, row: Array, step: float) -> None:
        """Correct a mistake: shrink, add the row, collect the debt."""
        coef = self.shrinkage * state.coef + step * row
        if step != 0:
            state.squared_norm = float(coef @ coef)
            state.absolute_norm = float(np.abs(coef).sum())
        state.intercept += step * self.intercept_step
        state.debt += self.payment
        after = np.where(
            coef > 0,
            np.maximum(coef - (state.debt + state.paid), 0),
            np.minimum(coef + (state.debt - state.paid), 0),
        )
        after = np.where(coef == 0, 0, after)
        state.paid = state.paid + (after - coef)
        state.coef = after.astype(row.dtype)
