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


def rare_columns(n_classes, n=20_000):
    """Rows of which one in ten has a number other than zero in one of the even columns."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((n, 120))
    rare = np.zeros((n, 60))
    some = rng.permutation(n)[: n // 10]
    rare[some, rng.randint(0, 60, len(some))] = rng.standard_normal(len(some))
    X[:, ::2] = rare
    logits = X @ rng.standard_normal((120, n_classes)) / 4 + rng.gumbel(size=(n, n_classes))
    return X, logits.argmax(axis=1)
