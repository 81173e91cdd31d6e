"""From the fits of a search to `StackedFit`s over shared data.

Without transformers all folds are rows of one X. With them, each distinct setting of the
transformers is fitted once a fold, by scikit-learn, and the transformed folds are laid one after
another into one X.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from sknets._base import StackedFit, TrainingData, stacker_of
from sknets._core import PLAIN_TYPES
from sknets._core._sklearn import feature_names, safe_indexing
from sknets._data import LabelCodec
from sknets.model_selection._last_step import has_transformers, last_step

if TYPE_CHECKING:
    from sknets.model_selection._plan import Plan

Key = tuple[int, int]  # number of the candidate, number of the fold


def prepare_stacks(
    plan: Plan, keys: Sequence[Key], device: torch.device | None = None
) -> list[Key]:
    """Set ``fit.stacked`` of the fits; return the keys of those that cannot have one.

    With `device`, the data goes there and not where the estimators say.
    """
    groups: dict[tuple, list[Key]] = {}
    for key in keys:
        estimator = plan.fits[key].estimator
        last = last_step(estimator)
        setting = None
        if has_transformers(estimator):
            setting = _setting_of_transformers(plan.candidates[key[0]], estimator.steps[-1][0])
        place = (str(last.device), repr(last.precision), id(plan.fits[key].weight))
        groups.setdefault((type(last), setting, *place), []).append(key)
    return [left for group in groups.values() for left in _Group(plan, group, device).prepare()]


def _setting_of_transformers(candidate: dict[str, Any], last: str) -> tuple:
    """Return what is equal for candidates that differ in the last step alone.

    The objects of a grid are the same ones in all of its candidates.
    """
    return tuple(
        (name, type(value), repr(value) if isinstance(value, PLAIN_TYPES) else id(value))
        for name, value in sorted(candidate.items())
        if name != last and not name.startswith(f"{last}__")
    )


@dataclass
class _Parts:
    """The transformed rows of some folds, and where they lie once they are joined."""

    X: list[Any] = field(default_factory=list)
    y: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    rows: dict[int, np.ndarray] = field(default_factory=dict)
    n: int = 0

    def add(self, fold: int, X: Any, y: Any, weight: Any) -> None:
        """Lay a fold after the others."""
        n = X.shape[0]
        self.X.append(X)
        self.y.append(y)
        self.weights.append(weight)
        self.rows[fold] = np.arange(self.n, self.n + n)
        self.n += n


class _Group:
    """Fits whose data are the same but for the fold."""

    def __init__(self, plan: Plan, keys: list[Key], device: torch.device | None) -> None:
        self.plan = plan
        self.device = device
        self.keys = keys
        self.first = plan.fits[keys[0]].estimator
        self.left_out: list[Key] = []
        self._seconds: dict[int, float] = {}
        self._names: dict[int, Any] = {}  # of the transformed features of each fold, if any

    def prepare(self) -> list[Key]:
        """Set ``fit.stacked`` where possible; return the other keys."""
        plan = self.plan
        weight = plan.fits[self.keys[0]].weight
        if has_transformers(self.first):
            self._transform(weight)
        else:
            self._share(plan.X, plan.y, weight, dict(enumerate(t for t, _ in plan.splits)))
        return self.left_out

    def _transform(self, weight: Any) -> None:
        """Fit the transformers on each fold and lay outputs of one kind one after another."""
        plan = self.plan
        kinds: dict[tuple, _Parts] = {}
        # Of steps that are not fitted: `first` itself gets what the first fold has fitted.
        pristine = clone(Pipeline(self.first.steps[:-1], memory=self.first.memory))
        for fold in sorted({fold for _, fold in self.keys}):
            started = perf_counter()
            train = plan.splits[fold][0]
            head = clone(pristine)
            y = safe_indexing(plan.y, train)
            try:
                part = head.fit_transform(safe_indexing(plan.X, train), y)
                self._names[fold] = feature_names(part)
                if isinstance(part, list):  # nothing has made an array of it
                    part = np.asarray(part)
                # How many features transformers give may depend on the rows that they have seen.
                kind = (sparse.issparse(part), part.shape[1:], getattr(part, "dtype", None))
            except Exception as error:  # the candidates of this fold fail, as they would alone
                self._fail(fold, error)
                continue
            parts = kinds.setdefault(kind, _Parts())
            parts.add(fold, part, y, None if weight is None else safe_indexing(weight, train))
            self._seconds[fold] = perf_counter() - started
            for key in self.keys:
                if key[1] == fold:
                    pipeline = plan.fits[key].estimator
                    pipeline.steps = [*head.steps, pipeline.steps[-1]]
        for parts in kinds.values():
            weights = _join(parts.weights) if weight is not None else None
            self._share(_join(parts.X), _join(parts.y), weights, parts.rows)

    def _fail(self, fold: int, error: Exception) -> None:
        for key in self.keys:
            if key[1] == fold:
                self.plan.fits[key].error = error
                self.plan.fits[key].where = "its transformers failed"
        self.keys = [key for key in self.keys if key[1] != fold]

    def _share(self, X: Any, y: Any, weight: Any, rows: dict[int, np.ndarray]) -> None:
        """Check and encode the data of some folds at once, and hand it to their fits."""
        keys = [key for key in self.keys if key[1] in rows]
        probe = clone(last_step(self.first))
        before = set(vars(probe))
        if self.device is not None:
            probe.device = self.device
        stacker = stacker_of(probe)
        assert stacker is not None
        try:
            data = stacker.check_data(probe, X, y, weight)
        except Exception:  # each fit then says for itself what is wrong
            for key in keys:
                fit = self.plan.fits[key]
                fit.estimator = self.plan.candidate(key[0])  # without the fitted transformers
                fit.where = "the data as a whole is not valid"
            self.left_out += keys
            return
        learned = {name: value for name, value in vars(probe).items() if name not in before}
        shown = _data_by_fold(data, rows)
        for key in keys:
            fit, fold = self.plan.fits[key], key[1]
            last = last_step(fit.estimator)
            vars(last).update(learned)
            if self._names.get(fold) is not None:
                last.feature_names_in_ = self._names[fold]
            fit.seconds = self._seconds.get(fold, 0.0)
            fit.stacked = StackedFit(last, rows[fold], shown[fold])


def _join(parts: list[Any]) -> Any:
    """Lay arrays, sparse matrices or frames one after another."""
    if sparse.issparse(parts[0]):
        return sparse.vstack(parts, format="csr")
    return np.concatenate([np.asarray(part) for part in parts])


def _data_by_fold(data: TrainingData, rows: dict[int, np.ndarray]) -> dict[int, TrainingData]:
    """Return the data as each fold knows it: of the classes that its rows show, and no other."""
    if data.codec.kind == "multilabel":
        return dict.fromkeys(rows, data)
    target = data.target.cpu().numpy()
    by_classes: dict[bytes, TrainingData] = {}
    shown = {}
    for fold, where in rows.items():
        classes = np.unique(target[where])
        key = classes.tobytes()
        if len(classes) == len(data.codec.classes):
            by_classes[key] = data
        elif key not in by_classes:
            codec = LabelCodec(data.codec.classes[classes], multilabel=False, sparse_output=False)
            # Rows of other classes are no rows of such folds; they get any number.
            number = np.searchsorted(classes, target).clip(max=len(classes) - 1)
            encoded = torch.from_numpy(number.astype(np.int64)).to(data.device)
            by_classes[key] = replace(data, codec=codec, target=encoded)
        shown[fold] = by_classes[key]
    return shown
