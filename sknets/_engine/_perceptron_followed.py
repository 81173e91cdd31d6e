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


def followed_rule(task: PerceptronTask, settings: PerceptronSettings) -> FollowedRule | None:
    """Return the rule if classes can be followed alone, and that is faster than blocks."""
    rows = task.rows
    few = rows.n <= _MOST_ROWS and rows.n_features <= _MOST_FEATURES
    if not few or settings.alpha or rows.device.type != "cpu":
        return None
    return FollowedRule(task, settings.intercept_step)


class FollowedRule:
    """The rule, class by class.

    Parameters
    ----------
    task : PerceptronTask
        What to learn from.
    intercept_step : float
        Part of each step that the intercept takes; if 0 the intercepts have to be 0.
    """

    def __init__(self, task: PerceptronTask, intercept_step: float) -> None:
        self._task = task
        self._scale = intercept_step**0.5  # of a last feature, whose weight is the intercept
        x = task.rows.slice(0, task.rows.n, aligned=False).numpy()
        self._rows = np.hstack([x, np.full((len(x), 1), self._scale, x.dtype)])

    def pass_over(
        self, order: Array | None, signs: Array, steps: Array, coef: Array, intercept: Array
    ) -> tuple[Array, Array]:
        """Pass over all rows; return sums of losses (K,) and numbers of mistakes (K,).

        `signs` (K, C) are those of rows of each label, `steps` (K, C) the signed steps that such
        rows cause. `coef` (K, F) and `intercept` (K,) are changed in place.
        """
        where: Any = slice(None) if order is None else order
        rows, label = self._rows[where], self._task.target[where]
        signs, steps = signs.take(label, axis=1), steps.take(label, axis=1)
        if self._task.sample_weight is not None:
            steps = steps * self._task.sample_weight[where]
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
