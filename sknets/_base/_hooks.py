"""scikit-learn's callbacks, told of every epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from sknets._engine import Hooks


def fit_hooks(
    estimator: Any, X: Any, y: Any, sample_weight: Any, fitted_state: Callable[[], dict[str, Any]]
) -> Hooks:
    """Return hooks that call the estimator's scikit-learn callbacks for each epoch.

    Parameters
    ----------
    estimator : BaseClassifier
        Whose ``set_callbacks`` was called, by the user or by a search around it.
    X, y, sample_weight : object
        What ``fit`` was given.
    fitted_state : callable () -> dict
        The attributes that make a copy of the estimator able to predict; a callback that asks for
        a fitted estimator gets copies of them.
    """
    context = estimator._init_callback_context(max_subtasks=estimator.max_iter)
    if not getattr(estimator, "_skl_callbacks", None):
        return Hooks()
    given = {
        "estimator": estimator,
        "X": X,
        "y": y,
        "metadata": {} if sample_weight is None else {"sample_weight": sample_weight},
    }
    context.call_on_fit_task_begin(**given)
    epochs: list[Any] = []

    def epoch_begins() -> None:
        epochs.append(context.subcontext(task_name="epoch"))
        epochs[-1].call_on_fit_task_begin(**given)

    def epoch_ends() -> bool:
        return bool(
            epochs[-1].call_on_fit_task_end(
                **given, reconstruction_attributes=lambda: copy.deepcopy(fitted_state())
            )
        )

    def fit_ends() -> None:
        context.call_on_fit_task_end(
            **given, reconstruction_attributes=lambda: copy.deepcopy(fitted_state())
        )

    return Hooks(epoch_begins, epoch_ends, fit_ends)
