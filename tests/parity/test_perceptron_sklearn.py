"""sknets' Perceptron against scikit-learn's."""

from __future__ import annotations

import re

import numpy as np
import pytest
import sklearn.linear_model
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sknets.linear_model import Perceptron

DATA = {"iris": load_iris, "digits": load_digits, "breast cancer": load_breast_cancer}


def _load(name: str) -> tuple[np.ndarray, np.ndarray]:
    return DATA[name](return_X_y=True)


def _fit_both(X, y, *, sample_weight=None, **params) -> tuple[Perceptron, object]:
    ours = Perceptron(shuffle=False, device="cpu", **params)
    theirs = sklearn.linear_model.Perceptron(shuffle=False, **params)
    for estimator in (ours, theirs):
        estimator.fit(X, y, sample_weight=sample_weight)
    return ours, theirs


def _assert_same(ours, theirs, *, rtol: float = 1e-9) -> None:
    atol = rtol * np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=rtol, atol=atol)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=rtol, atol=rtol)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.t_ == theirs.t_


@pytest.mark.parametrize("name", list(DATA))
@pytest.mark.parametrize("penalty", [None, "l2"])
def test_same_weights_without_shuffling(name, penalty):
    _assert_same(*_fit_both(*_load(name), penalty=penalty))


def test_same_weights_on_mnist(mnist):
    X = np.asarray(mnist.data[:2000], dtype=np.float64).reshape(2000, -1)
    _assert_same(*_fit_both(X / 255, np.asarray(mnist.target[:2000])))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", list(DATA))
@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
def test_same_truncated_weights(name, penalty):
    X, y = _load(name)
    ours, theirs = _fit_both(X, y, penalty=penalty, alpha=1e-3, max_iter=4)
    _assert_same(ours, theirs)
    np.testing.assert_array_equal(ours.coef_ == 0, theirs.coef_ == 0)


@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
def test_penalty_counts_in_the_stop(penalty):
    ours, theirs = _fit_both(*_load("iris"), penalty=penalty, alpha=1e-2)
    _assert_same(ours, theirs)
    assert ours.n_iter_ < 1000


@pytest.mark.parametrize(
    "params",
    [
        {"fit_intercept": False},
        {"eta0": 0.5},
        {"class_weight": "balanced"},
        {"class_weight": {0: 3.0, 1: 0.25}},
        {"tol": 0.05, "n_iter_no_change": 2},
        {"early_stopping": True, "random_state": 3},
        {"early_stopping": True, "validation_fraction": 0.3, "tol": 0.01, "random_state": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", list(DATA))
def test_same_meaning_of_parameters(name, params):
    X, y = _load(name)
    X = StandardScaler().fit_transform(X)
    _assert_same(*_fit_both(X, y, **params))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_max_iter_without_tol():
    ours, theirs = _fit_both(*_load("digits"), max_iter=7, tol=None)
    _assert_same(ours, theirs)
    assert ours.n_iter_ == 7


@pytest.mark.parametrize("penalty", [None, "l2", "l1"])
@pytest.mark.parametrize("name", ["iris", "breast cancer"])
def test_same_sample_weights(name, penalty):
    X, y = _load(name)
    X = StandardScaler().fit_transform(X)
    weight = np.random.RandomState(0).choice([0.0, 0.5, 1.0, 3.0], size=len(y))
    _assert_same(*_fit_both(X, y, sample_weight=weight, penalty=penalty))


def test_sparse_rows_of_integers():
    X, y = _load("digits")
    _assert_same(*_fit_both(sparse.csr_array(X), y))


def test_start_and_warm_start():
    X, y = _load("digits")
    rng = np.random.RandomState(0)
    coef, intercept = rng.randint(-3, 4, (10, 64)), rng.randint(-3, 4, 10)
    ours = Perceptron(shuffle=False, warm_start=True, device="cpu")
    theirs = sklearn.linear_model.Perceptron(shuffle=False, warm_start=True)
    for estimator in (ours, theirs):
        estimator.fit(X, y, coef_init=coef, intercept_init=intercept)
    _assert_same(ours, theirs)
    for estimator in (ours, theirs):
        estimator.fit(X[:500], y[:500])
    _assert_same(ours, theirs)


@pytest.mark.parametrize("penalty", [None, "l2", "l1"])
def test_partial_fit(penalty):
    X, y = _load("digits")
    ours = Perceptron(shuffle=False, penalty=penalty, device="cpu")
    theirs = sklearn.linear_model.Perceptron(shuffle=False, penalty=penalty)
    for estimator in (ours, theirs):
        for start in range(0, 900, 300):
            part = slice(start, start + 300)
            estimator.partial_fit(X[part], y[part], classes=np.arange(10))
    _assert_same(ours, theirs)


def test_float32_computes_in_float32():
    X, y = _load("digits")
    ours, theirs = _fit_both(X.astype(np.float32), y)
    assert ours.coef_.dtype == theirs.coef_.dtype == np.float32
    _assert_same(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_shuffled_accuracy_is_not_worse(load):
    """Orders differ, so weights do; the mean accuracy over many seeds must not."""
    X, y = load(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    ours, theirs = [], []
    for seed in range(30):
        clf = Perceptron(random_state=seed, device="cpu").fit(X_train, y_train)
        ours.append(clf.score(X_test, y_test))
        model = sklearn.linear_model.Perceptron(random_state=seed).fit(X_train, y_train)
        theirs.append(model.score(X_test, y_test))
    spread = np.hypot(np.std(ours), np.std(theirs)) / np.sqrt(len(ours))
    assert np.mean(ours) > np.mean(theirs) - 3 * spread - 0.01


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*DATA, "one hot"])
@pytest.mark.parametrize("as_csr", [False, True])
def test_same_bits_without_weights_and_penalty(name, dtype, as_csr):
    """The same compiled loop sees the same rows, with two features added that move no score."""
    if name == "one hot":
        X = OneHotEncoder(sparse_output=False).fit_transform(load_digits().data[:600])
        y = load_digits().target[:600]
    else:
        X, y = _load(name)
    X = X.astype(dtype)
    ours, theirs = _fit_both(sparse.csr_array(X) if as_csr else X, y)
    np.testing.assert_array_equal(ours.coef_, theirs.coef_)
    if not as_csr:  # the intercept of sparse rows is rounded to float32 once an epoch
        np.testing.assert_array_equal(ours.intercept_, theirs.intercept_)
    assert ours.n_iter_ == theirs.n_iter_


# A fixed number of epochs does not converge.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ["iris", "breast cancer"])
def test_same_loss_of_each_epoch(name, capsys):
    X, y = _load(name)
    y = (y == 1).astype(int)
    X = StandardScaler().fit_transform(X)
    ours = Perceptron(shuffle=False, device="cpu", tol=None, max_iter=9).fit(X, y)
    capsys.readouterr()
    theirs = sklearn.linear_model.Perceptron(shuffle=False, tol=None, max_iter=9, verbose=1)
    theirs.fit(X, y)
    printed = re.findall(r"Avg\. loss: ([0-9.]+)", capsys.readouterr().out)
    np.testing.assert_allclose(ours.history_["train_loss"], np.array(printed, float), atol=6e-7)
