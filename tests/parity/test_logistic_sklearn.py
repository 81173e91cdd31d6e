"""LogisticRegression reaches scikit-learn's solution in float64 at a tight tol: a table."""

import functools
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.preprocessing import StandardScaler

from sknets.linear_model import LogisticRegression

LOADERS = {
    "breast_cancer": load_breast_cancer,
    "wine": load_wine,
    "iris": load_iris,
    "digits": load_digits,
}
EXACT_SOLVERS = ("lbfgs", "newton-cg", "newton-cholesky", "proximal-newton")


@functools.cache
def load(name, weighted):
    X, y = LOADERS[name](return_X_y=True)
    if name == "digits":
        X, y = X[:500], y[:500]
    X = StandardScaler().fit_transform(X)
    weight = np.random.RandomState(0).uniform(0.5, 2.0, len(y)) if weighted else None
    return X, y, weight


@functools.cache
def load_overlapping(name, weighted):
    """Three features and some labels at random, so that the unpenalised solution is finite."""
    X, y, weight = load(name, weighted)
    X, y = X[:, X.std(axis=0) > 0][:, [2, 9, 20]] if X.shape[1] > 20 else X[:, :3], y.copy()
    rng = np.random.RandomState(0)
    noisy = rng.permutation(len(y))[: len(y) // 4]
    y[noisy] = rng.permutation(y[noisy])
    return X, y, weight


@functools.cache
def reference(name, weighted, **options):
    """Fit scikit-learn's estimator until it has converged."""
    return fit_reference(load(name, weighted), **options)


def fit_reference(data, **options):
    X, y, weight = data
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        return Reference(**{"tol": 1e-9, "max_iter": 20_000, "random_state": 0, **options}).fit(
            X, y, weight
        )


def assert_same_solution(ours, theirs, rtol=1e-5):
    """Compare as vectors, relative to the largest coefficient."""
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=0, atol=rtol * scale)
    # Adding one number to every class's intercept changes no probability; scikit-learn's saga
    # leaves that number where it fell.
    shift = theirs.intercept_.mean() if len(theirs.intercept_) > 1 else 0.0
    scale = max(scale, np.abs(theirs.intercept_).max())
    np.testing.assert_allclose(
        ours.intercept_, theirs.intercept_ - shift, rtol=0, atol=rtol * scale
    )


@pytest.mark.parametrize("solver", EXACT_SOLVERS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOADERS)
def test_l2(name, weighted, solver):
    ours = LogisticRegression(solver=solver, tol=1e-9, max_iter=2000).fit(*load(name, weighted))
    assert_same_solution(ours, reference(name, weighted, solver="newton-cholesky"))


@pytest.mark.parametrize("l1_ratio", [1.0, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOADERS)
def test_l1_and_elastic_net(name, weighted, l1_ratio):
    options = {"C": 0.1, "l1_ratio": l1_ratio}
    data = load(name, weighted)
    if name == "digits":  # scikit-learn's saga needs minutes for all of it
        data = tuple(None if part is None else part[:100] for part in data)
    ours = LogisticRegression(solver="proximal-newton", tol=1e-10, **options).fit(*data)
    theirs = fit_reference(data, solver="saga", **{"tol": 1e-8, **options})
    assert_same_solution(ours, theirs)
    np.testing.assert_array_equal(ours.coef_ == 0, theirs.coef_ == 0)
    assert l1_ratio < 1 or (ours.coef_ == 0).any()


@pytest.mark.parametrize("solver", EXACT_SOLVERS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOADERS)
def test_unpenalised(name, weighted, solver):
    data = load_overlapping(name, weighted)
    ours = LogisticRegression(C=np.inf, solver=solver, tol=1e-10, max_iter=2000).fit(*data)
    assert_same_solution(ours, fit_reference(data, C=np.inf, solver="newton-cholesky"))


@pytest.mark.parametrize(
    "options",
    [
        {"fit_intercept": False},
        {"C": 0.01},
        {"C": 50.0},
        {"class_weight": "balanced"},
        {"class_weight": {0: 3.0, 1: 0.5, 2: 1.5}},
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_other_parameters(options, weighted):
    data = load("wine", weighted)
    ours = LogisticRegression(tol=1e-9, max_iter=2000, **options).fit(*data)
    assert_same_solution(ours, fit_reference(data, solver="newton-cholesky", **options))


@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_csr(solver):
    X, y, _ = load("digits", False)
    X, y = np.where(np.abs(X) < 0.7, 0.0, X)[:200], y[:200]
    ours = LogisticRegression(solver=solver, tol=1e-9, max_iter=2000)
    ours.fit(sparse.csr_array(X), y)
    assert_same_solution(ours, fit_reference((X, y, None), solver="newton-cholesky"))


def test_lbfgs_takes_the_same_iterations():
    X, y, _ = load("digits", False)
    ours, theirs = LogisticRegression().fit(X, y), Reference().fit(X, y)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("name", ["breast_cancer", "iris"])
def test_predictions_have_the_same_shapes_and_dtypes(name):
    X, y, _ = load(name, False)
    for dtype in (np.float64, np.float32):
        options = {"tol": 1e-5, "max_iter": 2000}
        ours = LogisticRegression(**options).fit(X.astype(dtype), y)
        theirs = Reference(solver="newton-cholesky", **options).fit(X.astype(dtype), y)
        for attribute in ("coef_", "intercept_", "n_iter_", "classes_"):
            a, b = getattr(ours, attribute), getattr(theirs, attribute)
            assert (a.shape, a.dtype) == (b.shape, b.dtype), attribute
        for method in ("decision_function", "predict_proba", "predict_log_proba", "predict"):
            # Of few rows: for far ones scikit-learn takes the logarithm of a probability of zero.
            a, b = (getattr(clf, method)(X[5:15].astype(dtype)) for clf in (ours, theirs))
            assert (a.shape, a.dtype) == (b.shape, b.dtype), method
            np.testing.assert_allclose(a, b, rtol=0.01, atol=0.01)
