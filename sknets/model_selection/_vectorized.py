"""scikit-learn's searches with all their fits made together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from inspect import getattr_static, signature
from numbers import Integral
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import is_classifier
from sklearn.callback import ProgressBar
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, check_cv
from sklearn.utils import indexable

from sknets._base import stacker_of
from sknets._core import resolve_device
from sknets._core._sklearn import (
    BaseScorer,
    Interval,
    StrOptions,
    fit_context,
    num_samples,
    safe_indexing,
)
from sknets.model_selection._last_step import last_step
from sknets.model_selection._plan import Plan
from sknets.model_selection._planned_search import PlannedSearch
from sknets.model_selection._stack_tasks import Workers
from sknets.model_selection._stand_in import StandIn, make_stand_in

STACK_CONSTRAINTS = {
    "max_stack_bytes": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "devices": ["array-like", None],
}


_RUN_SEARCH = [getattr_static(kind, "_run_search") for kind in (GridSearchCV, RandomizedSearchCV)]


class Vectorized:
    """Fits the networks of a search in stacks, then lets scikit-learn score and rank them."""

    def _list_candidates(self) -> Iterable[dict]:
        raise NotImplementedError

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self: Any, X: Any, y: Any = None, **params: Any) -> Any:
        """Run fit with all sets of parameters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            Labels.
        **params : dict
            Passed on to the estimator, the scorer and the splitter, as by scikit-learn.

        Returns
        -------
        object
            The fitted search itself.

        Raises
        ------
        ValueError
            As :class:`sklearn.model_selection.GridSearchCV`.
        """
        plan = self._make_plan(X, y, params)
        if isinstance(plan, str):
            super().fit(X, y, **params)  # type: ignore[misc]
            n_candidates = len(self.cv_results_["params"])
            self.vectorization_ = [[plan] * self.n_splits_ for _ in range(n_candidates)]
            return self
        # scikit-learn's callbacks call a search by the name of its class.
        named = type(type(self).__name__, (PlannedSearch,), {})
        search = named(
            make_stand_in(plan),
            None if self.max_stack_bytes == "auto" else self.max_stack_bytes,
            scoring=_over_rows(self.scoring, plan),
            refit=self.refit,
            cv=plan.splits,
            verbose=self.verbose,
            error_score=self.error_score,
            return_train_score=self.return_train_score,
        )
        if getattr(self, "_skl_callbacks", None):
            search.set_callbacks(*self._skl_callbacks)
        params = {k: v for k, v in params.items() if k not in plan.split_params}
        with plan.workers.none():
            search.fit(np.arange(num_samples(X))[:, None], y, **params)
        self._take_over(search, plan)
        return self

    def _workers(self: Any) -> Workers:
        if self.devices is None:
            return Workers(self.n_jobs, [])
        devices = [resolve_device(device) for device in self.devices]
        if not devices or len({device.type for device in devices}) > 1:
            raise ValueError(
                "devices must be one or more devices of one type, for which the same precision "
                f"is used, got {self.devices!r}."
            )
        if Workers(self.n_jobs, []).n_stacks > 1:
            raise ValueError(
                "devices must be None where a joblib backend has the stacks as its tasks, got "
                f"{self.devices!r}. Let each worker see its own device instead, for example by "
                "CUDA_VISIBLE_DEVICES."
            )
        return Workers(self.n_jobs, devices)

    def _make_plan(self: Any, X: Any, y: Any, params: dict[str, Any]) -> Plan | str:
        """Return the plan of the search, or why scikit-learn's own path is to be taken."""
        last = last_step(self.estimator)
        if stacker_of(last) is None:
            return f"{type(last).__name__} is not fitted in stacks"
        if getattr_static(type(self), "_run_search") not in _RUN_SEARCH:
            return f"{type(self).__name__} chooses its candidates in a way of its own"
        if y is None:
            return "there is no y"
        if get_config()["array_api_dispatch"]:
            return "X may be an array of another library"
        callbacks = getattr(self, "_skl_callbacks", None) or []
        if any(not isinstance(callback, ProgressBar) for callback in callbacks):
            return "the search has callbacks that want to hear of every fit"
        candidates = list(self._list_candidates())
        values = {id(value): value for settings in candidates for value in settings.values()}
        if any(_has_callbacks(part) for part in (self.estimator, *values.values())):
            return "the estimator has callbacks"
        X, y = indexable(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the search that scores says it once more
            routed = self._get_routed_params_for_fit(params)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = [
            (np.asarray(train), np.asarray(test))
            for train, test in splitter.split(X, y, **routed.splitter.split)
        ]
        # Row numbers of one kind, none of them counted from the end or in a mask: they name the
        # fold later.
        numbers = np.arange(num_samples(X))
        splits = [(numbers[train], numbers[test]) for train, test in splits]
        if not candidates or not splits:
            return "there is nothing to fit"
        fit_params = dict(routed.estimator.fit)
        return Plan(
            *(self.estimator, candidates, splits, X, y, fit_params, self._workers()),
            split_params=set(routed.splitter.split) - {*fit_params, *routed.scorer.score},
        )

    def _take_over(self: Any, search: Any, plan: Plan) -> None:
        """Take the results of scikit-learn's search, with the real estimator and scorers."""
        for name, value in vars(search).items():
            if name.endswith("_") and not name.startswith("_"):
                setattr(self, name, value)
        scorers, _ = self._get_scorers()
        self.scorer_ = getattr(scorers, "_scorers", scorers)  # of several scorers in one
        if hasattr(search, "best_estimator_"):
            self.best_estimator_ = search.best_estimator_.fitted_
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_
        self.vectorization_ = [
            [plan.fits[c, f].where for f in range(len(plan.splits))]
            for c in range(len(plan.candidates))
        ]


def _has_callbacks(value: Any) -> bool:
    """Whether an estimator has callbacks of scikit-learn's, or one that is a parameter of it."""
    if not callable(getattr(value, "get_params", None)) or isinstance(value, type):
        return False
    parts = [value, *value.get_params().values()]
    return any(getattr(part, "_skl_callbacks", None) for part in parts)


class _OverRows:
    """A scorer of the user's that gets the estimator and rows of X it expects."""

    def __init__(self, scorer: Callable, plan: Plan) -> None:
        self.scorer = scorer
        self.plan = plan

    def __repr__(self) -> str:
        """Return the user's scorer's own, for messages."""
        return repr(self.scorer)

    def __getattr__(self, name: str) -> Any:
        if name != "get_metadata_routing":  # scikit-learn asks whether there is one
            raise AttributeError(name)
        return getattr(self.scorer, name)

    def _accept_sample_weight(self) -> bool:
        accepts = getattr(self.scorer, "_accept_sample_weight", None)  # several scorers in one
        if accepts is not None:
            return accepts()
        return "sample_weight" in signature(self.scorer).parameters

    def __call__(self, stand_in: StandIn, rows: np.ndarray, *args: Any, **params: Any) -> Any:
        X = safe_indexing(self.plan.X, rows[:, 0])
        return self.scorer(stand_in.fitted_, X, *args, **params)


def _over_rows(scoring: Any, plan: Plan) -> Any:
    """Return `scoring` for a `StandIn`: plain functions are given the real estimator and X."""
    if isinstance(scoring, dict):
        return {name: _over_rows(scorer, plan) for name, scorer in scoring.items()}
    if callable(scoring) and not isinstance(scoring, BaseScorer):
        return _OverRows(scoring, plan)
    return scoring
