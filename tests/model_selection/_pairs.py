"""A search by scikit-learn and the same by stacks, compared."""

import numpy as np
from sklearn.model_selection import GridSearchCV

from sknets.model_selection import VectorizedGridSearchCV
from sknets.neural_network import MLPClassifier


def mlp(**settings):
    quick = {"max_iter": 8, "random_state": 0, "learning_rate_init": 0.02, "device": "cpu"}
    return MLPClassifier((5,), **{**quick, **settings})


def both(estimator, grid, X, y, fit_params=None, **settings):
    searches = [
        kind(estimator, grid, **settings).fit(X, y, **(fit_params or {}))
        for kind in (GridSearchCV, VectorizedGridSearchCV)
    ]
    for key, wanted in searches[0].cv_results_.items():
        if "test_" in key and "rank" not in key:
            actual = searches[1].cv_results_[key]
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-9, err_msg=key)
    return searches[1]
