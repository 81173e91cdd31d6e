"""Vectorised searches of perceptrons give what scikit-learn's give, one by one."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV

from sknets import VectorizedGridSearchCV
from sknets.linear_model import LogisticRegression, Perceptron
from tests.parity._data import first_digits
from tests.parity._same_results import (
    assert_same_results,
    search_both_ways,
    search_estimators,
    stacked_share,
)

# Some settings are to stop early.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def digits(n=400):
    return first_digits(n)


def wide(n=400, n_features=150):
    """Rows with so many features that a perceptron takes them in blocks."""
    X, y = load_digits(return_X_y=True)
    projection = np.random.RandomState(0).uniform(-1, 1, (64, n_features))
    return X[:n] @ projection / 64, y[:n]


def wide_binary():
    X, y = wide()
    return X, np.where(y % 2, "odd", "even")


def perceptron(**settings):
    return Perceptron(**{"device": "cpu", "max_iter": 30, **settings})


PERCEPTRON = {
    "rates": (perceptron(), {"eta0": [0.1, 1.0, 3.0]}, wide),
    "binary": (perceptron(), {"eta0": [0.1, 1.0], "tol": [1e-3, None]}, wide_binary),
    "stops": (
        perceptron(),
        {"tol": [1e-3, 1e-1, None], "n_iter_no_change": [1, 5], "max_iter": [3, 20]},
        wide,
    ),
    "class weights": (
        perceptron(),
        {"class_weight": [None, "balanced", {0: 3.0}], "eta0": [0.5, 1.0]},
        wide,
    ),
    "penalty": (perceptron(penalty="l2"), {"alpha": [1e-5, 1e-3], "tol": [1e-3, 1e-1]}, wide),
    "seeds": (perceptron(), {"random_state": [0, 1], "eta0": [0.5, 1.0]}, wide),
    "unshuffled": (perceptron(shuffle=False, random_state=None), {"eta0": [0.5, 1.0]}, wide),
    "early stopping": (
        perceptron(early_stopping=True),
        {"validation_fraction": [0.1, 0.3], "tol": [1e-3, 1e-2], "eta0": [0.5, 1.0]},
        wide,
    ),
    "no intercept": (perceptron(fit_intercept=False), {"eta0": [0.5, 1.0]}, wide),
    "short rows, penalised": (perceptron(penalty="l2"), {"tol": [1e-3, 1e-1]}, digits),
}


@pytest.mark.parametrize("name", PERCEPTRON)
def test_perceptron(name):
    estimator, grid, load = PERCEPTRON[name]
    ours, _ = search_both_ways(estimator, grid, *load())
    assert stacked_share(ours) == 1


def test_a_stacked_perceptron_tells_what_a_single_one_tells():
    X, y = wide()
    every = np.arange(len(y))
    grid = {"tol": [1e-3, None], "eta0": [0.5, 2.0], "early_stopping": [True, False]}
    search = VectorizedGridSearchCV(perceptron(), grid, cv=[(every, every[:9])], refit=False)
    for stacked in search_estimators(search, X, y):
        alone = clone(stacked).fit(X, y)
        assert stacked.n_iter_ == alone.n_iter_
        assert stacked.t_ == alone.t_
        np.testing.assert_allclose(stacked.coef_, alone.coef_, atol=1e-9)
        np.testing.assert_allclose(stacked.intercept_, alone.intercept_, atol=1e-9)
        assert list(stacked.history_) == list(alone.history_)
        for name in set(alone.history_) - {"seconds"}:
            np.testing.assert_allclose(
                stacked.history_[name], alone.history_[name], atol=1e-9, err_msg=name
            )


def test_perceptron_with_sample_weight_and_sparse_rows():
    X, y = wide()
    X = sparse.csr_array(np.where(np.abs(X) < 0.5, 0.0, X))
    weight = np.random.RandomState(0).uniform(size=len(y))
    grid = {"eta0": [0.5, 1.0], "class_weight": [None, "balanced"]}
    theirs = GridSearchCV(perceptron(), grid, cv=3).fit(X, y, sample_weight=weight)
    ours = VectorizedGridSearchCV(perceptron(), grid, cv=3).fit(X, y, sample_weight=weight)
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 1


def score_without_weights(estimator, X, y, sample_weight=None):
    return estimator.score(X, y)


@pytest.mark.filterwarnings("ignore:One or more of the test scores")  # of the fold that fails
@pytest.mark.parametrize("value", [0.0, 1e-42])
@pytest.mark.parametrize("estimator", [perceptron(), LogisticRegression(device="cpu")])
def test_a_fold_whose_weights_are_too_small_fails_as_alone(estimator, value):
    X, y = wide(60)
    weight = np.r_[np.full(30, value), np.ones(30)]
    cv = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]
    results = []
    for kind in (GridSearchCV, VectorizedGridSearchCV):
        grid = {"class_weight": [None, {0: 2.0}]}
        search = kind(estimator, grid, cv=cv, scoring=score_without_weights, refit=False)
        with pytest.warns(FitFailedWarning, match=r"non-zero number|can hold, got"):
            results.append(search.fit(X.astype(np.float32), y, sample_weight=weight))
    np.testing.assert_array_equal(
        results[1].cv_results_["split0_test_score"], results[0].cv_results_["split0_test_score"]
    )
    assert np.isfinite(results[1].cv_results_["split1_test_score"]).all()


def test_a_diverging_perceptron_fails_alone():
    X, y = wide()
    grid = {"eta0": [1.0, 1e308]}
    settings = {"cv": 3, "error_score": -1.0}
    with pytest.warns(FitFailedWarning, match="must stay finite"):
        ours = VectorizedGridSearchCV(perceptron(), grid, **settings).fit(X, y)
    with pytest.warns(FitFailedWarning, match="must stay finite"):
        theirs = GridSearchCV(perceptron(), grid, **settings).fit(X, y)
    assert_same_results(ours, theirs)


@pytest.mark.parametrize(
    ("settings", "load", "reason"),
    [
        ({"penalty": "l1"}, wide, "shares nothing"),
        ({"random_state": None}, wide, "not an integer"),
    ],
)
def test_a_perceptron_that_shares_nothing_says_so(settings, load, reason):
    X, y = load()
    estimator = perceptron(max_iter=3, **settings)
    search = VectorizedGridSearchCV(estimator, {"eta0": [0.5, 1.0]}, cv=2).fit(X, y)
    assert reason in search.vectorization_[0][0]
