"""Accuracies of fits that are made, without what scikit-learn's search does around each.

scikit-learn copies the rows of both sides of a fold, clones the estimator and its settings and
checks labels for every fit, which takes longer than to fit a small linear model in a stack. Rows
are taken once a fold here, and the numbers are those of `sklearn.metrics.accuracy_score`.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import getattr_static
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.pipeline import Pipeline

from sknets._base import stacker_of
from sknets._core._sklearn import safe_indexing
from sknets.model_selection._last_step import last_step
from sknets.model_selection._plan import Plan

_METHODS_OF_PIPELINES = {name: getattr_static(Pipeline, name) for name in ("score", "predict")}


def is_accuracy(estimator: Any, sample_weight: Any = None) -> bool:
    """Whether ``score`` of an estimator or of a pipeline that ends with it is the accuracy."""
    if isinstance(estimator, Pipeline):
        kind = type(estimator)
        if any(getattr_static(kind, name) is not m for name, m in _METHODS_OF_PIPELINES.items()):
            return False  # a pipeline of somebody's own class
        if sample_weight is not None:
            return False  # where they go is for the pipeline to say
    return getattr(type(last_step(estimator)), "score", None) is ClassifierMixin.score


def holds_labels(y: Any) -> bool:
    """Whether y is an array of one label a row."""
    return isinstance(y, np.ndarray) and y.ndim == 1


def accuracy(labels: np.ndarray, y: np.ndarray, sample_weight: Any = None) -> float:
    """Return the accuracy of predicted labels (n,), for a y that the fit has checked."""
    if sample_weight is not None:
        return accuracy_score(y, labels, sample_weight=sample_weight)
    return float(np.mean(labels == y))


def accuracies(
    plan: Plan, numbers: Sequence[int], *, sample_weight: Any = None, with_train: bool = False
) -> list[dict[str, Any]]:
    """Score candidates on all folds.

    Parameters
    ----------
    plan : Plan
        Whose fits are made, without an error; its y holds labels.
    numbers : sequence of int
        Of the candidates.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows in the scores.
    with_train : bool, default=False
        Whether to score the training rows too.

    Returns
    -------
    list of dict
        What scikit-learn's search notes of a fit, the folds of the first candidate first.
    """
    notes: dict[tuple[int, int], dict[str, Any]] = {}
    for fold, (train, test) in enumerate(plan.splits):
        sides = {"test_scores": test}
        if with_train:
            sides["train_scores"] = train
        rows = {side: _rows_of(plan, index, sample_weight) for side, index in sides.items()}
        estimators = [plan.fits[number, fold].estimator for number in numbers]
        for number in numbers:
            notes[number, fold] = {"fit_error": None}
            notes[number, fold]["n_test_samples"] = len(rows["test_scores"][1])
        for side, (X, y, weight) in rows.items():
            started = perf_counter()
            labels = _predict_all(estimators, X)
            scores = [accuracy(predicted, y, weight) for predicted in labels]
            seconds = (perf_counter() - started) / len(numbers)
            for number, score in zip(numbers, scores, strict=True):
                notes[number, fold][side] = score
                notes[number, fold].setdefault("score_time", seconds)
    return [notes[number, fold] for number in numbers for fold in range(len(plan.splits))]


def _predict_all(estimators: list[Any], X: Any) -> list[Any]:
    """Return what each estimator predicts, by one product for all where their class knows how."""
    first = type(estimators[0])
    stacker = stacker_of(estimators[0])
    if stacker is None or any(type(estimator) is not first for estimator in estimators):
        return [estimator.predict(X) for estimator in estimators]
    return stacker.predict_all(estimators, X)


def _rows_of(plan: Plan, index: np.ndarray, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Return some rows of X, y and the weights, if any."""
    weight = None if sample_weight is None else safe_indexing(sample_weight, index)
    return safe_indexing(plan.X, index), safe_indexing(plan.y, index), weight
