"""All fits of a search, made before scikit-learn asks for them; in stacks where possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import joblib
import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.parallel import Parallel, delayed

from sknets._base import StackedFit, fit_stacks, same_classes, why_not_stacked
from sknets._core._sklearn import safe_indexing
from sknets._data import is_memory_mapped


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
    """

    estimator: Any
    candidates: list[dict]
    splits: list[tuple[np.ndarray, np.ndarray]]
    X: Any
    y: Any
    fit_params: dict[str, Any]
    fits: dict[tuple[int, int], PlannedFit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._folds = {train.tobytes(): i for i, (train, _) in enumerate(self.splits)}
        self._numbers = {joblib.hash(c): i for i, c in reversed(list(enumerate(self.candidates)))}

    def fold_of(self, rows: np.ndarray) -> int | None:
        """Return which fold trains on these rows; None for no fold: all rows."""
        return self._folds.get(np.ascontiguousarray(rows).tobytes())

    def number_of(self, candidate: dict) -> int:
        """Return the number of a candidate."""
        return self._numbers[joblib.hash(candidate)]

    def candidate(self, number: int) -> Any:
        """Return a fresh estimator with a candidate's settings."""
        settings = clone(self.candidates[number], safe=False)
        return clone(self.estimator).set_params(**settings)

    def run(self, *, n_jobs: int | None, max_bytes: int) -> None:
        """Make all fits."""
        for number in range(len(self.candidates)):
            for fold in range(len(self.splits)):
                self.fits[number, fold] = PlannedFit(self.candidate(number))
        alone = [key for key, fit in self.fits.items() if not self._may_stack(fit)]
        stacked = [key for key in self.fits if key not in set(alone)]
        alone += _Preparation(self).prepare(stacked)
        ready = [fit.stacked for fit in self.fits.values() if fit.stacked is not None]
        fit_stacks(ready, max_bytes=max_bytes)
        for fit in self.fits.values():
            if fit.stacked is not None:
                fit.where, fit.error = fit.stacked.where, fit.stacked.error
                fit.seconds += fit.stacked.seconds
        self._run_alone(alone, n_jobs)

    def _may_stack(self, fit: PlannedFit) -> bool:
        reason = why_not_stacked(last_step(fit.estimator)) or self._why_not_this_data(fit)
        fit.where = reason or ""
        return reason is None

    def _why_not_this_data(self, fit: PlannedFit) -> str | None:
        allowed = {weight_name(fit.estimator)}
        others = set(self.fit_params) - allowed
        if others:
            return f"fit is given {sorted(others)}"
        if isinstance(fit.estimator, Pipeline) and self.fit_params:
            return "a pipeline is given sample weights"
        if sparse.issparse(self.X):
            return "X is sparse"
        if is_memory_mapped(self.X):
            return "X is a memory map"
        if getattr(self.X, "ndim", 2) != 2:
            return "X has more than two axes"
        return None

    def _run_alone(self, keys: Sequence[tuple[int, int]], n_jobs: int | None) -> None:
        results = Parallel(n_jobs=n_jobs)(
            delayed(_fit_alone)(
                self.fits[key].estimator, self.X, self.y, self.splits[key[1]][0], self.fit_params
            )
            for key in keys
        )
        for key, (estimator, error, seconds) in zip(keys, results, strict=True):
            fit = self.fits[key]
            fit.estimator, fit.error, fit.seconds = estimator, error, seconds


def last_step(estimator: Any) -> Any:
    """Return the classifier at the end of a pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def weight_name(estimator: Any) -> str:
    """Return the name under which ``fit`` takes sample weights."""
    prefix = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
    return f"{prefix}sample_weight"


def _fit_alone(
    estimator: Any, X: Any, y: Any, train: np.ndarray, fit_params: dict[str, Any]
) -> tuple[Any, Exception | None, float]:
    """Fit one candidate on one fold, as scikit-learn does."""
    started = perf_counter()
    given = {
        name: safe_indexing(value, train) if _is_per_row(value, X) else value
        for name, value in fit_params.items()
    }
    try:
        estimator.fit(safe_indexing(X, train), safe_indexing(y, train), **given)
    except Exception as error:
        return estimator, error, perf_counter() - started
    return estimator, None, perf_counter() - started


def _is_per_row(value: Any, X: Any) -> bool:
    n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
    return hasattr(value, "__len__") and not isinstance(value, str | dict) and len(value) == n_rows


class _Preparation:
    """Turns fits that may stack into `StackedFit`s over shared data.

    Without transformers all folds are rows of one X. With them, each distinct setting of the
    transformers is fitted once a fold, by scikit-learn, and the transformed folds are laid one
    after another into one X.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.left_out: list[tuple[int, int]] = []

    def prepare(self, keys: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Set ``fit.stacked`` of the fits; return the keys of those that cannot have one."""
        groups: dict[tuple, list[tuple[int, int]]] = {}
        for key in keys:
            estimator = self.plan.fits[key].estimator
            last = last_step(estimator)
            setting = joblib.hash(
                estimator[:-1].get_params() if isinstance(estimator, Pipeline) else None
            )
            place = (str(last.device), last.precision)
            groups.setdefault((type(last), setting, *place), []).append(key)
        for group in groups.values():
            if isinstance(self.plan.fits[group[0]].estimator, Pipeline):
                self._prepare_pipelines(group)
            else:
                self._prepare_bare(group)
        return self.left_out

    def _leave_out(self, keys: Sequence[tuple[int, int]], reason: str) -> None:
        for key in keys:
            self.plan.fits[key].where = reason
            self.left_out.append(key)

    def _prepare_bare(self, keys: list[tuple[int, int]]) -> None:
        plan = self.plan
        probe = clone(plan.fits[keys[0]].estimator)
        try:
            data = probe._check_training_data(
                plan.X, plan.y, plan.fit_params.get("sample_weight"), multilabel=True
            )
        except Exception:  # each fit then says for itself what is wrong
            self._leave_out(keys, "the data as a whole is not valid")
            return
        rows = [train for train, _ in plan.splits]
        self._hand_out(keys, probe, data, dict(enumerate(rows)))

    def _prepare_pipelines(self, keys: list[tuple[int, int]]) -> None:
        plan = self.plan
        folds = sorted({fold for _, fold in keys})
        parts, labels, rows, start = [], [], {}, 0
        fitted, seconds = {}, {}
        for fold in folds:
            started = perf_counter()
            train = plan.splits[fold][0]
            head = clone(plan.fits[keys[0]].estimator[:-1])
            y = safe_indexing(plan.y, train)
            try:
                part = head.fit_transform(safe_indexing(plan.X, train), y)
            except Exception as error:  # the candidates of this fold fail, as they would alone
                for key in keys:
                    if key[1] == fold:
                        plan.fits[key].error = error
                        plan.fits[key].where = "its transformers failed"
                continue
            if sparse.issparse(part):
                self._leave_out(keys, "the transformers give sparse data")
                return
            fitted[fold], seconds[fold] = head, perf_counter() - started
            parts.append(np.asarray(part))
            labels.append(np.asarray(y))
            rows[fold] = np.arange(start, start + len(train))
            start += len(train)
        if len({part.shape[1] for part in parts}) != 1:
            self._leave_out(keys, "the transformers give another number of features on each fold")
            return
        probe = clone(last_step(plan.fits[keys[0]].estimator))
        try:
            data = probe._check_training_data(
                np.concatenate(parts), np.concatenate(labels), None, multilabel=True
            )
        except Exception:  # each fit then says for itself what is wrong
            self._leave_out(keys, "the data as a whole is not valid")
            return
        keys = [key for key in keys if key[1] in fitted]
        for key in keys:
            fit = plan.fits[key]
            steps = [(name, step) for name, step in fitted[key[1]].steps]
            fit.estimator.steps = [*steps, fit.estimator.steps[-1]]
            fit.seconds = seconds[key[1]]
        self._hand_out(keys, probe, data, rows)

    def _hand_out(
        self, keys: list[tuple[int, int]], probe: Any, data: Any, rows: dict[int, np.ndarray]
    ) -> None:
        names = getattr(probe, "feature_names_in_", None)
        complete = {
            fold: same_classes(data.codec, data.target.cpu().numpy()[where])
            for fold, where in rows.items()
        }
        for key in keys:
            fit = self.plan.fits[key]
            last = last_step(fit.estimator)
            if not complete[key[1]]:
                self._leave_out([key], "its fold lacks a class")
            elif last.class_weight is not None and data.codec.kind == "multilabel":
                self._leave_out([key], "class_weight of several labels")
            else:
                if names is not None:
                    last.feature_names_in_ = names
                fit.stacked = StackedFit(last, rows[key[1]], data)
