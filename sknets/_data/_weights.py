"""Sample weights and class weights, checked and multiplied."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn import config_context
from sklearn.utils.class_weight import compute_sample_weight

from sknets._core._sklearn import check_sample_weight_shape
from sknets._data._namespace import as_numpy


def check_sample_weight(sample_weight: Any, n_samples: int) -> np.ndarray | None:
    """Return the weights as an array (n_samples,), float32 or float64; None stays None.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, if all are zero, or if their number is not
        `n_samples`.
    """
    if sample_weight is None:
        return None
    rows = np.broadcast_to(np.float64(0), (n_samples, 1))
    given = as_numpy(sample_weight)
    with config_context(array_api_dispatch=False):
        weights = check_sample_weight_shape(given, rows)
    if (weights < 0).any():
        row = int(np.argmax(weights < 0))
        raise ValueError(
            f"sample_weight must not have negative values, got {weights[row]} for row {row}."
        )
    return weights


def check_fits_dtype(weights: np.ndarray, dtype: torch.dtype) -> None:
    """Raise a ValueError if the sum of some weights cannot be computed in `dtype`."""
    total, info = weights.sum(dtype=np.float64), torch.finfo(dtype)
    if not (total == 0 or info.tiny <= total <= info.max):
        raise ValueError(
            f"sample_weight must have a sum that {dtype} can hold, got {total:g}. Choose "
            "weights nearer to 1."
        )


def check_class_weight(class_weight: Any, classes: np.ndarray) -> None:
    """Raise a ValueError unless weights are given by classes.

    As in scikit-learn, they may name others than `classes` only if all of these are named.
    """
    if isinstance(class_weight, list):
        raise ValueError(
            "class_weight must be a list only where y has many labels, one dict for each, got "
            f"{class_weight!r} for y of one label a row. A dict has the weights of classes."
        )
    if isinstance(class_weight, dict):
        known = np.asarray(classes).tolist()
        unknown = set(class_weight) - set(known)
        if unknown and not set(known) <= set(class_weight):
            raise ValueError(
                f"class_weight must name classes of y, which are {known}, got a weight for "
                f"{sorted(unknown, key=str)}."
            )


def combine_weights(
    sample_weight: np.ndarray | None, class_weight: Any, y: Any, classes: np.ndarray
) -> np.ndarray | None:
    """Return `sample_weight` times the weight of each row's class.

    Raises
    ------
    ValueError
        If `class_weight` names a class that is not in y and not all that are, or if all products
        are zero.
    """
    if class_weight is None:
        return sample_weight
    if getattr(y, "ndim", 1) == 1:
        check_class_weight(class_weight, classes)
    by_class = compute_sample_weight(class_weight, y)
    if not (np.isfinite(by_class).all() and (by_class >= 0).all()):
        raise ValueError(
            f"class_weight must be finite and must not be negative, got {class_weight!r}."
        )
    combined = by_class if sample_weight is None else by_class * sample_weight
    if not (combined > 0).any():
        raise ValueError(
            "sample_weight times class_weight must have at least one value above zero, "
            f"got zero in all {len(combined)} rows (class_weight={class_weight!r})."
        )
    return combined
