"""Data of several files."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.preprocessing import scale


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), y


@pytest.fixture(scope="module")
def two(iris):
    X, y = iris
    return X[:100] + np.random.RandomState(0).normal(size=(100, 4)), y[:100]


@pytest.fixture(scope="module")
def multilabel():
    X, y = make_multilabel_classification(120, 6, n_classes=3, random_state=0)
    return scale(X.astype(float)), y
