"""scikit-learn's search over fits that are made together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sknets._core._sklearn import BaseSearchCV
from sknets._engine import say
from sknets.model_selection._accuracies import accuracies, holds_labels, is_accuracy
from sknets.model_selection._progress import SearchProgress
from sknets.model_selection._stand_in import StandIn


class PlannedSearch(BaseSearchCV):
    """scikit-learn's own search over the candidates of a plan, whose fits it makes first."""

    verbose: int
    _rest: list[dict[str, Any]]
    _score_params: dict[str, Any]

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
        # Whoever wants to hear of every fit hears of it from scikit-learn.
        hears = has_callbacks or verbose > 1
        self._rest = [] if hears else self._accuracies_of_the_rest()
        first = plan.candidates[:1] if self._rest else plan.candidates
        plan.is_serving = True
        try:
            evaluate_candidates(first, callback_ctx=context)
        finally:
            plan.is_serving = False
        progress.end(context)
        progress.end(progress.context)

    # -- scoring ---------------------------------------------------------------------------------

    def _get_routed_params_for_fit(self, params: dict[str, Any]) -> Any:
        routed = super()._get_routed_params_for_fit(params)
        self._score_params = dict(routed.scorer.score)
        return routed

    def _accuracies_of_the_rest(self) -> list[dict[str, Any]]:
        """Return the notes of all candidates but the first, if they are mere accuracies.

        The first one goes the whole way of scikit-learn, which checks everything there.
        """
        plan = self.estimator.plan
        given = dict(self._score_params)
        weight = given.pop("sample_weight", None)
        if given or self.scoring not in (None, "accuracy") or not holds_labels(plan.y):
            return []
        fits = plan.fits.values()
        if any(fit.error is not None or not is_accuracy(fit.estimator, weight) for fit in fits):
            return []
        try:
            return accuracies(
                plan,
                range(1, len(plan.candidates)),
                sample_weight=weight,
                with_train=self.return_train_score,
            )
        except Exception:  # whatever it is, scikit-learn's way meets it too and reports it
            return []

    def _format_results(
        self, candidate_params: Any, n_splits: int, out: Any, more_results: Any = None
    ) -> dict[str, Any]:
        plan = self.estimator.plan
        out = [*out, *self._rest]
        for i, note in enumerate(out):  # what scikit-learn has measured is the look-up
            note["fit_time"] = plan.fits[divmod(i, n_splits)].seconds
        candidates = [dict(candidate) for candidate in plan.candidates]
        return super()._format_results(candidates, n_splits, out, more_results)
