"""scikit-learn's searches with all their fits made together."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from inspect import signature
from numbers import Integral
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import is_classifier
from sklearn.model_selection import (
    check_cv,
)
from sklearn.utils import indexable

from sknets._core._sklearn import (
    BaseSearchCV,
    Interval,
    StrOptions,
    fit_context,
    num_samples,
    safe_indexing,
)
from sknets.model_selection._plan import Plan, last_step
from sknets.model_selection._stand_in import StandIn

STACK_CONSTRAINTS = {
    "max_stack_bytes": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})]
}


class _PlannedSearch(BaseSearchCV):
    """scikit-learn's own search over a given list of candidates."""

    def __init__(self, estimator: Any, candidates: list[dict], **settings: Any) -> None:
        super().__init__(estimator=estimator, **settings)
        self.candidates = candidates

    def _run_search(self, evaluate_candidates: Callable, *, callback_ctx: Any = None) -> None:
        if callback_ctx is None:
            evaluate_candidates(self.candidates)
            return
        context = callback_ctx.subcontext(
            task_name="search",
            max_subtasks=len(self.candidates) * self.n_splits_,
            sequential_subtasks=False,
        )
        evaluate_candidates(self.candidates, callback_ctx=context)


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
        if plan is None:
            self.vectorization_ = ["no candidate can be stacked"]
            return super().fit(X, y, **params)  # type: ignore[misc]
        plan.run(n_jobs=self.n_jobs, max_bytes=self._max_bytes())
        search = _PlannedSearch(
            StandIn(plan),
            plan.candidates,
            scoring=_over_rows(self.scoring, plan),
            refit=self.refit,
            cv=plan.splits,
            verbose=self.verbose,
            error_score=self.error_score,
            return_train_score=self.return_train_score,
        )
        if getattr(self, "_skl_callbacks", None):
            search.set_callbacks(*self._skl_callbacks)
        n_rows = num_samples(X)
        search.fit(np.arange(n_rows)[:, None], y, **params)
        self._take_over(search, plan)
        return self

    def _make_plan(self: Any, X: Any, y: Any, params: dict[str, Any]) -> Plan | None:
        """Return the plan of the search, or None where scikit-learn's own path is to be taken."""
        if y is None or get_config()["array_api_dispatch"]:
            return None
        if not getattr(last_step(self.estimator), "_stackable", False):
            return None
        candidates = list(self._list_candidates())
        X, y = indexable(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the search that scores says it once more
            routed = self._get_routed_params_for_fit(params)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = [
            (np.asarray(train), np.asarray(test))
            for train, test in splitter.split(X, y, **routed.splitter.split)
        ]
        if any(train.dtype == bool for train, _ in splits) or not candidates or not splits:
            return None
        return Plan(self.estimator, candidates, splits, X, y, dict(routed.estimator.fit))

    def _max_bytes(self: Any) -> int:
        if self.max_stack_bytes != "auto":
            return int(self.max_stack_bytes)
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        except (AttributeError, ValueError):  # not a POSIX system
            return 2**30

    def _take_over(self: Any, search: Any, plan: Plan) -> None:
        """Take the results of scikit-learn's search, with the fits' own times and estimators."""
        results = search.cv_results_
        seconds = np.array(
            [
                [plan.fits[c, f].seconds for f in range(len(plan.splits))]
                for c in range(len(plan.candidates))
            ]
        )
        results["mean_fit_time"], results["std_fit_time"] = seconds.mean(1), seconds.std(1)
        for name, value in vars(search).items():
            if name.endswith("_") and not name.startswith("_"):
                setattr(self, name, value)
        if hasattr(search, "best_estimator_"):
            self.best_estimator_ = search.best_estimator_.fitted_
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_
        self.vectorization_ = [
            [plan.fits[c, f].where for f in range(len(plan.splits))]
            for c in range(len(plan.candidates))
        ]


class _OverRows:
    """A scorer of the user's that gets the estimator and rows of X it expects."""

    def __init__(self, scorer: Callable, plan: Plan) -> None:
        self.scorer = scorer
        self.plan = plan

    def _accept_sample_weight(self) -> bool:
        return "sample_weight" in signature(self.scorer).parameters

    def __call__(self, stand_in: StandIn, rows: np.ndarray, *args: Any, **params: Any) -> Any:
        X = safe_indexing(self.plan.X, rows[:, 0])
        return self.scorer(stand_in.fitted_, X, *args, **params)


def _over_rows(scoring: Any, plan: Plan) -> Any:
    """Return `scoring` for a `StandIn`: plain functions are given the real estimator and X."""
    if isinstance(scoring, dict):
        return {name: _over_rows(scorer, plan) for name, scorer in scoring.items()}
    if callable(scoring) and not hasattr(scoring, "_score_func"):
        return _OverRows(scoring, plan)
    return scoring
