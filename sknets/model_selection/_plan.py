"""All fits of a search, made before scikit-learn asks for them; in stacks where possible."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed

from sknets._base import StackedFit, why_not_stacked
from sknets._core import value_key
from sknets._core._sklearn import safe_indexing
from sknets.model_selection._last_step import last_step, weight_name
from sknets.model_selection._preparation import prepare_stacks
from sknets.model_selection._progress import SearchProgress
from sknets.model_selection._stack_tasks import Workers, run_stacks

# Settings of these types cannot change.
_PLAIN = (str, bytes, bool, int, float, np.number, np.bool_, type(None))


@dataclass
class PlannedFit:
    """One candidate on one fold.

    Attributes
    ----------
    estimator : estimator
        The candidate, not fitted; then fitted.
    where : str
        Which stack it ran in, or why in none.
    error : Exception or None
        What its fit raised.
    seconds : float
        Its fit's time, or its share of its stack's.
    """

    estimator: Any
    where: str = ""
    error: Exception | None = None
    seconds: float = 0.0
    stacked: StackedFit | None = None


@dataclass
class Plan:
    """The candidates and folds of a search, and their fits.

    Attributes
    ----------
    estimator : estimator
        What is searched over.
    candidates : list of dict
        Its settings.
    splits : list of (train, test) arrays
        The folds.
    X, y, fit_params : object
        What ``fit`` was given; `fit_params` are those of the estimator's ``fit``.
    workers : Workers
        Where the fits run.
    fits : dict
        The fits, by numbers of candidate and fold.
    split_params : set of str
        What the search's ``fit`` was given for the splitter alone.
    """

    estimator: Any
    candidates: list[dict]
    splits: list[tuple[np.ndarray, np.ndarray]]
    X: Any
    y: Any
    fit_params: dict[str, Any]
    workers: Workers
    fits: dict[tuple[int, int], PlannedFit] = field(default_factory=dict)
    split_params: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._folds = {train.tobytes(): i for i, (train, _) in enumerate(self.splits)}
        self._first = clone(self.estimator)
        self._is_plain = _has_plain_settings(self._first)
        self._numbers = {_key(c): i for i, c in reversed(list(enumerate(self.candidates)))}

    def fold_of(self, rows: np.ndarray) -> int | None:
        """Return which fold trains on these rows; None for no fold: all rows."""
        return self._folds.get(np.ascontiguousarray(rows).tobytes())

    def number_of(self, candidate: dict) -> int:
        """Return the number of a candidate."""
        return self._numbers[_key(candidate)]

    def candidate(self, number: int) -> Any:
        """Return a fresh estimator with a candidate's settings."""
        settings = clone(self.candidates[number], safe=False)
        fresh = copy.copy(self._first) if self._is_plain else clone(self.estimator)
        return fresh.set_params(**settings)

    def run(self, progress: SearchProgress, *, max_bytes: int | None = None) -> None:
        """Make all fits, no stack taking more than `max_bytes` of memory."""
        devices = self.workers.devices
        for number in range(len(self.candidates)):
            first = self.candidate(number)
            is_plain = _has_plain_settings(first)
            for fold in range(len(self.splits)):
                # To clone an estimator takes longer than to fit one of a stack.
                candidate = copy.copy(first) if is_plain else self.candidate(number)
                self.fits[number, fold] = PlannedFit(candidate)
        alone = [key for key, fit in self.fits.items() if not self._may_stack(fit)]
        stacked = [key for key in self.fits if key not in set(alone)]
        alone += prepare_stacks(self, stacked, devices[0] if devices else None)
        run_stacks(
            [fit.stacked for fit in self.fits.values() if fit.stacked is not None],
            max_bytes=max_bytes,
            workers=self.workers,
            progress=progress,
        )
        for key, fit in self.fits.items():
            if fit.stacked is None:
                continue
            fit.where, fit.error = fit.stacked.where, fit.stacked.error
            fit.seconds += fit.stacked.seconds
            if not fit.stacked.is_done:
                fit.estimator = self.candidate(key[0])
                alone.append(key)
            fit.stacked = None  # the data may be large
        self._run_alone(alone, progress)

    def _may_stack(self, fit: PlannedFit) -> bool:
        reason = why_not_stacked(last_step(fit.estimator)) or self._why_not_this_data(fit)
        fit.where = reason or ""
        return reason is None

    def _why_not_this_data(self, fit: PlannedFit) -> str | None:
        others = set(self.fit_params) - {weight_name(fit.estimator)}
        if others:
            return f"fit is given {sorted(others)}"
        return None

    def _run_alone(self, keys: Sequence[tuple[int, int]], progress: SearchProgress) -> None:
        """Make fits one by one, as scikit-learn does."""
        context = progress.begin("one by one", len(keys))
        parts = [
            None if context is None else context.subcontext("candidate-split-fit", task_id=i)
            for i in range(len(keys))
        ]
        results = Parallel(n_jobs=self.workers.n_jobs)(
            delayed(_fit_alone)(
                self.fits[key].estimator,
                self.X,
                self.y,
                self.splits[key[1]][0],
                self.fit_params,
                part,
            )
            for key, part in zip(keys, parts, strict=True)
        )
        progress.end(context)
        for key, (estimator, error, seconds) in zip(keys, results, strict=True):
            fit = self.fits[key]
            fit.estimator, fit.error, fit.seconds = estimator, error, seconds


def _key(candidate: dict) -> Any:
    """Return what tells a candidate from the others."""
    key = tuple((name, type(value), value) for name, value in sorted(candidate.items()))
    if all(isinstance(value, _PLAIN) and value == value for _, _, value in key):
        return key
    return tuple((name, value_key(value)) for name, _, value in key)


def _has_plain_settings(estimator: Any) -> bool:
    """Whether a shallow copy of an estimator that is not fitted is as good as a clone."""
    given = set(vars(estimator)) - set(estimator.get_params(deep=False))
    return not given and all(isinstance(value, _PLAIN) for value in vars(estimator).values())


def _fit_alone(
    estimator: Any,
    X: Any,
    y: Any,
    train: np.ndarray,
    fit_params: dict[str, Any],
    context: Any,
) -> tuple[Any, Exception | None, float]:
    """Fit one candidate on one fold."""
    started = perf_counter()
    given = {
        name: safe_indexing(value, train) if _is_per_row(value, X) else value
        for name, value in fit_params.items()
    }
    X, y = safe_indexing(X, train), safe_indexing(y, train)
    error = None
    with nullcontext() if context is None else context.propagate_callback_context(estimator):
        if context is not None:
            context.call_on_fit_task_begin(estimator=estimator)
        try:
            estimator.fit(X, y, **given)
        except Exception as raised:  # becomes error_score, or is raised, as scikit-learn does
            error = raised
    if context is not None:
        context.call_on_fit_task_end(estimator=estimator)
    return estimator, error, perf_counter() - started


def _is_per_row(value: Any, X: Any) -> bool:
    n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
    return hasattr(value, "__len__") and not isinstance(value, str | dict) and len(value) == n_rows
