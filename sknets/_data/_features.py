"""Checks X: shapes, numbers, finiteness, feature names; copies nothing that need not be."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn import config_context, get_config
from sklearn.utils.validation import validate_data

from sknets._data._namespace import as_numpy

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# For which to silence NumPy takes longer than to sum.
_FEW_NUMBERS = 2**12


def check_features(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Return X as a 2-D ndarray, CSR matrix or tensor of real, finite numbers.

    Numeric dtypes are kept, so that a memory map is never copied whole. `reset` records
    ``n_features_in_`` and ``feature_names_in_`` on `estimator`; otherwise X has to fit them.

    Raises
    ------
    ValueError
        If X is not 2-D, is empty, has NaN, infinite or complex values, or features that differ
        from those of ``fit``.
    """
    if _is_plain(X):
        if reset or not _has_features_of_fit(estimator, X):
            validate_data(estimator, X, reset=reset, skip_check_array=True)
        return X
    if isinstance(X, torch.Tensor):
        _check_tensor(estimator, X)
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        return X.detach()
    if sparse.issparse(X):
        X = _with_floats_of_torchs(X)
    rules: dict[str, Any] = {"accept_sparse": "csr", "dtype": "numeric", "reset": reset}
    if get_config()["array_api_dispatch"]:
        X = as_numpy(X)
        with config_context(array_api_dispatch=False):
            X = validate_data(estimator, X, **rules)
    else:
        X = validate_data(estimator, X, **rules)
    if X.dtype.kind not in "biuf":
        raise ValueError(f"X must hold real numbers, got an array of dtype {X.dtype}.")
    return X


def _is_plain(X: Any) -> bool:
    """Whether X is so evidently right that there is nothing to say about its numbers.

    scikit-learn's check of one row costs as much as the prediction of a hundred.
    """
    if type(X) is not np.ndarray or X.ndim != 2 or X.dtype not in _FLOATS or not X.size:
        return False
    config = get_config()
    if config["array_api_dispatch"]:
        return False
    if config["assume_finite"]:
        return True
    if X.size <= _FEW_NUMBERS:
        return math.isfinite(np.vdot(X, X))
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(X.sum())  # else somebody has to look at every number


def _has_features_of_fit(estimator: Any, X: np.ndarray) -> bool:
    """Whether X has as many features as that of ``fit``, and both have no names."""
    n_features = getattr(estimator, "n_features_in_", None)  # None where weights were set by hand
    return X.shape[1] == n_features and not hasattr(estimator, "feature_names_in_")


def _with_floats_of_torchs(X: Any) -> Any:
    """Return sparse X in float64 where torch has no such dtype, or not in this byte order."""
    if X.format in ("lil", "dok"):  # which hold no array of numbers
        X = X.tocsr()
    data = getattr(X, "data", None)
    if isinstance(data, np.ndarray) and data.dtype.kind == "f" and data.dtype not in _FLOATS:
        X = copy.copy(X)  # with the same indices
        X.data = data.astype(np.float64)
    return X


def _check_tensor(estimator: Any, X: torch.Tensor) -> None:
    name = type(estimator).__name__
    if X.layout != torch.strided:
        raise TypeError(
            f"{name} takes sparse data as scipy.sparse CSR arrays or matrices, "
            f"got a torch tensor of layout {X.layout}."
        )
    if X.ndim != 2:
        raise ValueError(
            f"Expected a 2-dimensional X of shape (n_samples, n_features), got a tensor of shape "
            f"{tuple(X.shape)}. Reshape your data."
        )
    for count, what in zip(X.shape, ("sample", "feature"), strict=True):
        if count == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={tuple(X.shape)}) while a minimum of 1 is "
                f"required by {name}."
            )
    if X.is_complex():
        raise ValueError(f"Complex data not supported, got a tensor of dtype {X.dtype}.")
    if X.is_floating_point() and not bool(torch.isfinite(X).all()):
        value = "NaN" if bool(torch.isnan(X).any()) else "infinity"
        raise ValueError(f"Input X contains {value}; {name} takes finite numbers only.")


def input_dtype(X: Any) -> torch.dtype:
    """Return the torch dtype that stands for the dtype of a checked X."""
    if isinstance(X, torch.Tensor):
        return X.dtype
    return torch.float32 if X.dtype == np.float32 else torch.float64
