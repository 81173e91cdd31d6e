"""When two searches have the same results."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from sknets.model_selection import VectorizedGridSearchCV

each_way = pytest.mark.parametrize("compile", [False, "numba"], ids=["not compiled", "compiled"])

SETTINGS = {"cv": 3, "return_train_score": True}


def assert_same_results(ours, theirs, atol=1e-9):
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name, expected in theirs.cv_results_.items():
        if "time" in name or "param" in name:
            continue
        np.testing.assert_allclose(ours.cv_results_[name], expected, atol=atol, err_msg=name)
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    if theirs.refit is not False:
        assert ours.best_params_ == theirs.best_params_
        assert ours.best_index_ == theirs.best_index_


def search_both_ways(estimator, grid, X, y):
    """Return a vectorised search and scikit-learn's; their results are the same."""
    theirs = GridSearchCV(estimator, grid, **SETTINGS).fit(X, y)
    ours = VectorizedGridSearchCV(estimator, grid, **SETTINGS).fit(X, y)
    assert_same_results(ours, theirs)
    return ours, theirs


def stacked_share(search):
    """The share of a search's fits that ran in a stack."""
    places = [place for row in search.vectorization_ for place in row]
    return sum(place.startswith("stack") for place in places) / len(places)


def search_estimators(search, X, y):
    """Return the fitted estimators of a search's folds, which a scorer sees."""
    seen = []

    def scorer(estimator, X, y):
        seen.append(estimator)
        return 0.0

    search.set_params(scoring=scorer).fit(X, y)
    return seen
