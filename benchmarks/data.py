"""The data of the races."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sknets.datasets import fetch_mnist


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return four fifths of scikit-learn's digits: 1437 x 64 in [0, 1], float32."""
    X, y = load_digits(return_X_y=True)
    return (X[:1437] / 16).astype(np.float32), y[:1437]


def classification(
    n: int, n_features: int, n_classes: int, dtype: Any = np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Return normal rows with the noisy labels of a random net, seeded by 0."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, n_features), dtype=np.float32).astype(dtype, copy=False)
    hidden = np.tanh(X @ (rng.standard_normal((n_features, 16)) / n_features**0.5).astype(dtype))
    scores = hidden @ rng.standard_normal((16, n_classes)).astype(dtype)
    return X, (scores + 0.5 * rng.standard_normal(scores.shape)).argmax(axis=1)


def mnist(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first n images of MNIST as (n, 784) in [0, 1], float32; skip without them."""
    images, labels = _mnist(_folder("MNIST").parent)
    return images[:n].reshape(n, -1).astype(np.float32) / np.float32(255), labels[:n]


@functools.cache
def _mnist(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the training images of MNIST, uint8, and their labels."""
    sample = fetch_mnist(data_home=root, subset="train", download_if_missing=False)
    return sample.images, sample.target


def adult(n: int | None, *, dense: bool) -> tuple[Any, np.ndarray]:
    """Return the adult table, float64: categories one-hot, numbers standardised."""
    with np.load(_folder("tabular") / "adult.npz", allow_pickle=False) as arrays:
        X, y, cat = arrays["X"], arrays["y"], arrays["cat"]
    encode = make_column_transformer(
        (OneHotEncoder(), cat),
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ~cat),
        sparse_threshold=0.0 if dense else 1.0,
    )
    X = encode.fit_transform(X.astype(np.float64))[:n]
    return (np.ascontiguousarray(X) if dense else sparse.csr_array(X)), y[:n]


def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a table of numbers, standardised, float32, and its labels; skip without it."""
    with np.load(_folder("tabular") / f"{name}.npz", allow_pickle=False) as arrays:
        X, y = arrays["X"], arrays["y"]
    return StandardScaler().fit_transform(X.astype(np.float64)).astype(np.float32), y


def _folder(name: str) -> Path:
    """Return a folder of real data, or skip."""
    root = os.environ.get("SKNETS_DATA")
    if not root:
        pytest.skip("needs real data: set SKNETS_DATA to the folder that holds it")
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"needs real data: the folder of SKNETS_DATA has no folder {name}")
    return folder
