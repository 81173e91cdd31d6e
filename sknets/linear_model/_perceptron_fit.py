"""From a Perceptron's parameters to what its rule runs on: settings, rows and first weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils.class_weight import compute_class_weight

from sknets._base import TrainingData
from sknets._core import numpy_dtype
from sknets._data import SubsetRows, as_numpy, check_class_weight
from sknets._engine._perceptron_task import PerceptronResult, PerceptronSettings, PerceptronTask

# scikit-learn lets the intercept learn slowly on sparse rows, whose features are rarely seen.
_SPARSE_INTERCEPT_STEP = 0.01


def make_settings(
    estimator: Any, data: TrainingData, task: PerceptronTask, max_epochs: int
) -> PerceptronSettings:
    """Return the settings of the rule."""
    l1_ratio = {"l1": 1.0, "elasticnet": float(estimator.l1_ratio)}.get(str(estimator.penalty), 0.0)
    intercept_step = _SPARSE_INTERCEPT_STEP if data.rows.is_sparse else 1.0
    return PerceptronSettings(
        class_steps=_class_steps(estimator, data, task.positive),
        step_size=float(estimator.eta0),
        alpha=float(estimator.alpha) if estimator.penalty is not None else 0.0,
        l1_ratio=l1_ratio,
        intercept_step=intercept_step if estimator.fit_intercept else 0.0,
        max_epochs=max_epochs,
        tol=estimator.tol,
        n_iter_no_change=int(estimator.n_iter_no_change),
        shuffle=estimator.shuffle,
        verbose=bool(estimator.verbose),
    )


def _class_steps(estimator: Any, data: TrainingData, positive: np.ndarray) -> np.ndarray:
    """Return the signed step of a row of each class in each binary problem."""
    classes = data.codec.classes
    weights = np.ones(len(classes))
    if estimator.class_weight is not None:
        check_class_weight(estimator.class_weight, classes)
        labels = classes[data.target.cpu().numpy()]
        weights = compute_class_weight(estimator.class_weight, classes=classes, y=labels)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(
            f"class_weight must be finite and must not be negative, got {estimator.class_weight!r}."
        )
    own = positive[:, None] == np.arange(len(classes))
    if len(classes) == 2:
        return estimator.eta0 * np.where(own, weights, -weights)
    return estimator.eta0 * np.where(own, weights, -1.0)


def split_rows(
    estimator: Any, data: TrainingData, random_state: np.random.RandomState
) -> tuple[PerceptronTask, PerceptronTask | None]:
    """Return what to train on and, with early stopping, what to hold out."""
    target = data.target.cpu().numpy()
    weight = None if data.sample_weight is None else data.sample_weight.cpu().numpy()
    n_classes = len(data.codec.classes)
    positive = np.array([1]) if n_classes == 2 else np.arange(n_classes)
    if not estimator.early_stopping:
        return PerceptronTask(data.rows, target, weight, positive), None
    splitter = StratifiedShuffleSplit(
        test_size=estimator.validation_fraction, random_state=random_state
    )
    _, held = next(splitter.split(np.zeros((len(target), 1)), target))
    if weight is not None and not weight[held].any():
        raise ValueError(
            "sample_weight must be above zero for some of the rows held out by early_stopping, "
            f"got zero for all {len(held)} of them. Try another random_state."
        )
    is_held = np.zeros(len(target), bool)
    is_held[held] = True
    train, held = np.flatnonzero(~is_held), np.flatnonzero(is_held)

    def part(index: np.ndarray) -> PerceptronTask:
        some = None if weight is None else weight[index]
        return PerceptronTask(SubsetRows(data.rows, index), target[index], some, positive)

    return part(train), part(held)


def start_from(
    data: TrainingData, coef: Any, intercept: Any, history: dict[str, list] | None = None
) -> PerceptronResult:
    """Return the weights to start from, in the dtype and on the device of the rows."""
    shape = (data.codec.n_outputs, data.rows.n_features)
    dtype = numpy_dtype(data.rows.dtype)
    new_coef = np.zeros(shape, dtype)
    if coef is not None:
        coef = coef.toarray() if sparse.issparse(coef) else np.asarray(as_numpy(coef))
        if coef.shape != shape and not (shape[0] == 1 and coef.shape == shape[1:]):
            raise ValueError(f"coef_init must have shape {shape}, got {coef.shape}.")
        new_coef = coef.reshape(shape).astype(dtype)
    new_intercept = np.zeros(shape[0], dtype)
    if intercept is not None:
        intercept = np.asarray(as_numpy(intercept))
        if intercept.shape != shape[:1] and not (shape[0] == 1 and intercept.shape == ()):
            raise ValueError(f"intercept_init must have shape {shape[:1]}, got {intercept.shape}.")
        new_intercept = intercept.reshape(shape[0]).astype(dtype)
    rows = zip(*history.values(), strict=True) if history else ()
    epochs = [dict(zip(history or (), row, strict=True)) for row in rows]
    return PerceptronResult(torch.from_numpy(new_coef).to(data.device), new_intercept, epochs)
