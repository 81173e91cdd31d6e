"""Rosenblatt's rule for few short rows whose steps differ, from one mistake to the next.

Shapes: K classes, n rows, F features.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sknets._engine._perceptron_task import PerceptronSettings, PerceptronTask

Array = np.ndarray[Any, np.dtype[Any]]

# More rows, and longer ones, are faster in blocks.
_MOST_ROWS, _MOST_FEATURES = 4096, 128


def suits_followed(task: PerceptronTask, settings: PerceptronSettings) -> bool:
    """Whether classes can be followed alone, and that is faster than blocks."""
    rows = task.rows
    few = rows.n <= _MOST_ROWS and rows.n_features <= _MOST_FEATURES
    return few and rows.device.type == "cpu" and settings.alpha == 0


class FollowedRule:
    """The rule for all rows, class by class.

    Parameters
    ----------
    intercept_step : float
        Part of each step that the intercept takes; if 0 the intercepts have to be 0.
    n_rows : int
        Number of rows.

    Attributes
    ----------
    size : int
        Rows to pass at once.
    """

    def __init__(self, intercept_step: float, n_rows: int) -> None:
        self.size = n_rows
        self._scale = intercept_step**0.5  # of a last feature, whose weight is the intercept

    def correct_piece(
        self, x: Array, signs: Array, steps: Array, coef: Array, intercept: Array
    ) -> tuple[Array, Array]:
        """Run the rule through rows (n, F); return losses (K,) and numbers of mistakes (K,).

        `signs` (K, n) are +1 for rows of a class and -1 for others, `steps` (K, n) the signed steps
        that the rows would cause. `coef` (K, F) and `intercept` (K,) are changed in place.
        """
        rows = np.hstack([x, np.full((len(x), 1), self._scale, x.dtype)])
        last = intercept / (self._scale or 1.0)
        weights = np.hstack([coef, last[:, None]]).astype(coef.dtype, copy=False)
        loss, n_mistakes = np.zeros(len(coef)), np.zeros(len(coef))
        for k in range(len(coef)):
            seen = _follow_rows(rows, signs[k], steps[k].tolist(), weights[k])
            loss[k], n_mistakes[k] = -sum(seen), len(seen)
        coef[...], intercept[...] = weights[:, :-1], weights[:, -1] * self._scale
        return loss, n_mistakes


def _follow_rows(
    rows: Array, signs: Array, steps: list[float], weights: Array, look_ahead: int = 100
) -> list[float]:
    """Run the rule over all rows for one class, with fresh scores after every mistake.

    Where rows have few features, a product with the next hundred rows costs less than keeping
    their inner products.

    Parameters
    ----------
    rows : ndarray of shape (n, F)
        In the order of sight.
    signs : ndarray of shape (n,)
        +1 where a row is of the class, -1 elsewhere.
    steps : list of n floats
        The step a row would cause, signed.
    weights : ndarray of shape (F,)
        Changed in place.
    look_ahead : int, default=100
        Rows scored at once.

    Returns
    -------
    list of float
        ``sign * score`` of the rows found wrong.
    """
    seen, here = [], 0
    while here < len(rows):
        margins = rows[here : here + look_ahead].dot(weights)
        margins *= signs[here : here + look_ahead]
        wrong = margins <= 0
        first = int(wrong.argmax())
        if wrong[first]:
            seen.append(margins.item(first))
            here += first
            weights += steps[here] * rows[here]
            here += 1
        else:
            here += len(wrong)
    return seen
