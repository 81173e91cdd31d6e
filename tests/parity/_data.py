"""Small data of several files, and what these need."""

from importlib.util import find_spec

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import StandardScaler

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")


def first_digits(n):
    X, y = load_digits(return_X_y=True)
    return X[:n] / 16, y[:n]


def breast_cancer(n=None):
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X)[:n], y[:n]


def multilabel_digits(n):
    X, y = first_digits(n)
    return X, np.stack([y % 2 == 0, y > 4, y == 3], axis=1).astype(int)
