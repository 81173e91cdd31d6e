"""scikit-learn's search over fits that are made together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sknets._core._sklearn import BaseSearchCV
from sknets._engine import say
from sknets.model_selection._progress import SearchProgress
from sknets.model_selection._stand_in import StandIn


class PlannedSearch(BaseSearchCV):
    """scikit-learn's own search over the candidates of a plan, whose fits it makes first."""

    verbose: int

    def __init__(self, estimator: StandIn, max_bytes: int | None, **settings: Any) -> None:
        # What is looked up is looked up here.
        super().__init__(estimator=estimator, n_jobs=1, **settings)
        self.max_bytes = max_bytes

    def _run_search(self, evaluate_candidates: Callable, *, callback_ctx: Any = None) -> None:
        plan = self.estimator.plan
        n_fits = len(plan.candidates) * self.n_splits_
        verbose = self.verbose
        if verbose > 0:
            say(
                f"Fitting {self.n_splits_} folds for each of {len(plan.candidates)} candidates, "
                f"totalling {n_fits} fits"
            )
            # Said before the fits are made, it is not to be said when they are scored.
            self.verbose = 0
        has_callbacks = bool(getattr(self, "_skl_callbacks", None))
        progress = SearchProgress(callback_ctx if has_callbacks else None, self, verbose)
        with plan.workers.as_registered():
            plan.run(progress, max_bytes=self.max_bytes)
        context = progress.begin("scoring", n_fits)
        evaluate_candidates(plan.candidates, callback_ctx=context)
        progress.end(context)
        progress.end(progress.context)
