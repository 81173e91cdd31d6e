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
from sknets._core import PLAIN_TYPES
from sknets._core._sklearn import num_samples, safe_indexing
from sknets.model_selection._last_step import is_plain_pipeline, last_step, split_fit_params
from sknets.model_selection._preparation import prepare_stacks
from sknets.model_selection._progress import SearchProgress
from sknets.model_selection._stack_tasks import Workers, run_stacks


class Candidate(dict[str, Any]):
    """Settings whose values stay the very objects they are where scikit-learn clones them.

    To tell candidates apart by equal values is not possible: a clone of an estimator, a module or
    a function of the user's need not be equal to it.
    """

    def __sklearn_clone__(self) -> Candidate:
        """Return itself."""
        return self


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
    weight : array-like or None
        Sample weights that reach its classifier.
    """

    estimator: Any
    where: str = ""
    error: Exception | None = None
    seconds: float = 0.0
    weight: Any = None
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
    is_serving : bool
        Whether the search asks for the fits of folds, and not for the last one on all rows.
    """

    estimator: Any
    candidates: list[Any]
    splits: list[tuple[np.ndarray, np.ndarray]]
    X: Any
    y: Any
    fit_params: dict[str, Any]
    workers: Workers
    fits: dict[tuple[int, int], PlannedFit] = field(default_factory=dict)
    split_params: set[str] = field(default_factory=set)
    is_serving: bool = False

    def __post_init__(self) -> None:
        self.candidates = [Candidate(settings) for settings in self.candidates]
        self._folds = {train.tobytes(): i for i, (train, _) in enumerate(self.splits)}
        self._first = clone(self.estimator)
        self._is_plain = _has_plain_settings(self._first)
        numbered = reversed(list(enumerate(self.candidates)))
        self._numbers = {_identity(candidate): i for i, candidate in numbered}

    def made(self, settings: dict, rows: np.ndarray) -> PlannedFit:
        """Return the fit of the very objects of a candidate on the rows of a fold."""
        fold = self._folds[np.ascontiguousarray(rows).tobytes()]
        return self.fits[self._numbers[_identity(settings)], fold]

    def candidate(self, number: int) -> Any:
        """Return a fresh estimator with a candidate's settings."""
        settings = {k: clone(v, safe=False) for k, v in self.candidates[number].items()}
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
        try:
            reason = why_not_stacked(last_step(fit.estimator)) or self._why_not_this_data(fit)
        except Exception:  # a bad value, of which the fit itself tells
            reason = "its settings are not valid"
        fit.where = reason or ""
        return reason is None

    def _why_not_this_data(self, fit: PlannedFit) -> str | None:
        if not is_plain_pipeline(fit.estimator):
            return f"{type(fit.estimator).__name__} is a pipeline with a fit of its own"
        if getattr(fit.estimator, "verbose", False):
            return "verbose is set"
        fit.weight, others = split_fit_params(fit.estimator, self.fit_params)
        if others:
            return f"fit is given {others}"
        if fit.weight is not None and not _is_per_row(fit.weight, self.X):
            return "sample_weight is not one number a row"
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


def _identity(settings: dict) -> tuple:
    return tuple((name, id(value)) for name, value in sorted(settings.items()))


def _has_plain_settings(estimator: Any) -> bool:
    """Whether a shallow copy of an estimator that is not fitted is as good as a clone."""
    given = set(vars(estimator)) - set(estimator.get_params(deep=False))
    return not given and all(isinstance(value, PLAIN_TYPES) for value in vars(estimator).values())


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
    """Whether a value of ``fit`` has an entry for each row of X, which is then cut with it."""
    has_rows = hasattr(value, "__len__") or hasattr(value, "shape")
    if not has_rows or isinstance(value, str | dict) or getattr(value, "ndim", 1) == 0:
        return False
    return num_samples(value) == num_samples(X)
