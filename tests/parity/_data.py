"""Small data of several files."""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import StandardScaler


def first_digits(n):
    X, y = load_digits(return_X_y=True)
    return X[:n] / 16, y[:n]


def breast_cancer(n=None):
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X)[:n], y[:n]


def multilabel_digits(n):
    X, y = first_digits(n)
    return X, np.stack([y % 2 == 0, y > 4, y == 3], axis=1).astype(int)
