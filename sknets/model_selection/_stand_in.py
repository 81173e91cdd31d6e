"""The estimator that scikit-learn's search sees: it answers with fits that are already made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.utils.metaestimators import available_if

from sknets._core._sklearn import safe_indexing
from sknets.model_selection._accuracies import accuracy, holds_labels, is_accuracy
from sknets.model_selection._plan import Plan


def _fitted_has(name: str) -> Any:
    def check(stand_in: Any) -> bool:
        getattr(stand_in.fitted_ or stand_in.plan.estimator, name)
        return True

    return check


class StandIn(CallbackSupportMixin, BaseEstimator):
    """Looks up the fit of a candidate and a fold instead of making it.

    Its X are row numbers (n, 1) of the plan's X, which tell the folds apart.

    Parameters
    ----------
    plan : Plan
        With its fits made.
    """

    fitted_: Any = None

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._settings: dict[str, Any] = {}

    def __sklearn_clone__(self) -> StandIn:
        """Return a copy over the same plan, which is large."""
        copy = type(self)(self.plan)
        copy._settings = dict(self._settings)
        return copy

    def set_params(self, **settings: Any) -> StandIn:
        """Take a candidate's settings."""
        self._settings = settings
        return self

    def fit(self, rows: np.ndarray, y: Any = None, **fit_params: Any) -> StandIn:
        """Take the fit of these settings on these rows; once all are taken, fit anew."""
        plan = self.plan
        if not plan.is_serving:
            settings = clone(self._settings, safe=False)
            self.fitted_ = clone(plan.estimator).set_params(**settings)
            with plan.workers.as_registered(), self._callbacks_passed_on(self.fitted_):
                self.fitted_.fit(plan.X, plan.y, **fit_params)
            return self
        made = plan.made(self._settings, rows[:, 0])
        if made.error is not None:
            raise made.error
        self.fitted_ = made.estimator
        # A callback that the search passed on expects to hear of the end from here.
        for callback in getattr(self, "_skl_callbacks", []):
            callback.on_fit_task_end(self, self._parent_callback_ctx)
        return self

    @contextmanager
    def _callbacks_passed_on(self, estimator: Any) -> Iterator[None]:
        """Let an estimator have the callbacks that this one got from the search."""
        context = getattr(self, "_parent_callback_ctx", None)
        if context is None:
            yield
            return
        with context.propagate_callback_context(estimator):
            yield

    def _ask(self, method: str, rows: np.ndarray, *args: Any, **params: Any) -> Any:
        X = safe_indexing(self.plan.X, rows[:, 0])
        return getattr(self.fitted_, method)(X, *args, **params)

    def score(
        self, rows: np.ndarray, y: Any = None, sample_weight: Any = None, **params: Any
    ) -> float:
        """Score with the fitted estimator's own method."""
        if not params and holds_labels(y) and is_accuracy(self.fitted_, sample_weight):
            return accuracy(self.predict(rows), y, sample_weight)
        if sample_weight is not None:
            params["sample_weight"] = sample_weight
        return self._ask("score", rows, y, **params)

    def predict(self, rows: np.ndarray, **params: Any) -> Any:
        """Predict with the fitted estimator."""
        return self._ask("predict", rows, **params)

    @available_if(_fitted_has("predict_proba"))
    def predict_proba(self, rows: np.ndarray, **params: Any) -> Any:
        """Return the fitted estimator's probabilities."""
        return self._ask("predict_proba", rows, **params)

    @available_if(_fitted_has("predict_log_proba"))
    def predict_log_proba(self, rows: np.ndarray, **params: Any) -> Any:
        """Return the fitted estimator's log-probabilities."""
        return self._ask("predict_log_proba", rows, **params)

    @available_if(_fitted_has("decision_function"))
    def decision_function(self, rows: np.ndarray, **params: Any) -> Any:
        """Return the fitted estimator's decision function."""
        return self._ask("decision_function", rows, **params)

    @property
    def classes_(self) -> Any:
        """The fitted estimator's labels."""
        return self.fitted_.classes_

    def get_metadata_routing(self) -> Any:
        """Return the routing of the estimator that this one stands in for."""
        return self.plan.estimator.get_metadata_routing()

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a fit to answer with."""
        return self.fitted_ is not None

    def __sklearn_tags__(self) -> Any:
        """Return the tags of the estimator that this one stands in for."""
        return self.plan.estimator.__sklearn_tags__()


def make_stand_in(plan: Plan) -> StandIn:
    """Return a stand-in that scikit-learn's messages call by the name of the estimator's class."""
    return type(type(plan.estimator).__name__, (StandIn,), {})(plan)
