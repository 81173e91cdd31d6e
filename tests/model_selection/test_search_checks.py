"""scikit-learn's own checks of a search, over networks and linear models."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from sknets import (
    LogisticRegression,
    MLPClassifier,
    VectorizedGridSearchCV,
    VectorizedRandomizedSearchCV,
)
from tests.common.test_estimator_checks import run_check

_NET = MLPClassifier((8,), learning_rate_init=0.05, max_iter=50, random_state=0, device="cpu")
_SEARCH = {"cv": 2, "error_score": "raise"}

SEARCHES = [
    VectorizedGridSearchCV(_NET, {"alpha": [1e-4, 1e-2]}, **_SEARCH),
    VectorizedGridSearchCV(LogisticRegression(device="cpu"), {"C": [0.1, 1.0]}, **_SEARCH),
    VectorizedRandomizedSearchCV(
        _NET, {"alpha": [1e-4, 1e-3, 1e-2]}, n_iter=2, random_state=0, **_SEARCH
    ),
]


@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    # scikit-learn's check_cv, which its searches call first, casts the infinite y of a check.
    "ignore:invalid value encountered in cast:RuntimeWarning",
)
@parametrize_with_checks(SEARCHES)
def test_check_of_scikit_learn(estimator, check):
    run_check(estimator, check)
