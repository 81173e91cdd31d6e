"""What a vectorised search does around the nets it stacks."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    RandomizedSearchCV,
    cross_val_score,
)
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from sknets import (
    MLPClassifier,
    NetClassifier,
    VectorizedGridSearchCV,
    VectorizedRandomizedSearchCV,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


def net(**settings):
    settings = {"random_state": 0, "max_iter": 4, "device": "cpu", **settings}
    return MLPClassifier((8,), **settings)


GRID = {"alpha": [1e-4, 1.0]}


def test_same_constructor_as_scikit_learn():
    ours = VectorizedGridSearchCV(net(), GRID).get_params(deep=False)
    theirs = GridSearchCV(net(), GRID).get_params(deep=False)
    assert set(ours) - set(theirs) == {"max_stack_bytes", "devices"}
    assert {k: v for k, v in ours.items() if k in theirs and k != "estimator"} == {
        k: v for k, v in theirs.items() if k != "estimator"
    }
    clone(VectorizedGridSearchCV(net(), GRID, max_stack_bytes=1000))


def test_randomized_search_draws_scikit_learns_settings(data):
    settings = {"learning_rate_init": loguniform(1e-4, 1e-1)}
    given = {"n_iter": 3, "cv": 3, "random_state": 5}
    theirs = RandomizedSearchCV(net(), settings, **given).fit(*data)
    ours = VectorizedRandomizedSearchCV(net(), settings, **given).fit(*data)
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )


def test_a_random_state_object_moves_on_once(data):
    settings = {"learning_rate_init": loguniform(1e-4, 1e-1)}
    given = {"n_iter": 2, "cv": 3}
    theirs = RandomizedSearchCV(net(), settings, random_state=np.random.RandomState(3), **given)
    ours = VectorizedRandomizedSearchCV(
        net(), settings, random_state=np.random.RandomState(3), **given
    )
    assert ours.fit(*data).cv_results_["params"] == theirs.fit(*data).cv_results_["params"]


def test_a_failing_candidate_does_not_touch_its_neighbours(data):
    grid = {"learning_rate_init": [1e-3, 1e300], "solver": ["sgd"]}
    search = VectorizedGridSearchCV(net(), grid, cv=3, error_score=-1.0, refit=False)
    with pytest.warns(FitFailedWarning, match="must stay finite"):
        search.fit(*data)
    good = GridSearchCV(net(), {**grid, "learning_rate_init": [1e-3]}, cv=3).fit(*data)
    assert search.cv_results_["mean_test_score"][1] == -1.0
    assert search.cv_results_["mean_test_score"][0] == good.cv_results_["mean_test_score"][0]


def test_a_bad_value_fails_alone(data):
    grid = {"hidden_layer_sizes": [(8,), (0,)]}
    search = VectorizedGridSearchCV(net(), grid, cv=3, error_score=-1.0)
    with pytest.warns(FitFailedWarning, match="hidden_layer_sizes"):
        search.fit(*data)
    assert search.best_params_ == {"hidden_layer_sizes": (8,)}


def test_error_score_raise(data):
    grid = {"learning_rate_init": [1e300], "solver": ["sgd"]}
    with pytest.raises(ValueError, match="must stay finite"):
        VectorizedGridSearchCV(net(), grid, cv=3, error_score="raise").fit(*data)


def test_an_invalid_parameter_is_refused_as_in_scikit_learn(data):
    with pytest.raises(ValueError, match="cv"):
        VectorizedGridSearchCV(net(), GRID, cv="three").fit(*data)
    with pytest.raises(ValueError, match="max_stack_bytes"):
        VectorizedGridSearchCV(net(), GRID, max_stack_bytes=0).fit(*data)


def test_small_stacks_give_the_same(data):
    whole = VectorizedGridSearchCV(net(), GRID, cv=3).fit(*data)
    parts = VectorizedGridSearchCV(net(), GRID, cv=3, max_stack_bytes=1).fit(*data)
    assert whole.vectorization_[0][0] == "stack 1 (6 nets)"
    assert parts.vectorization_[0][0] == "stack 1 (1 net)"
    np.testing.assert_allclose(
        whole.cv_results_["mean_test_score"], parts.cv_results_["mean_test_score"]
    )


def test_other_estimators_take_scikit_learns_path(data):
    grid = {"max_depth": [2, 4]}
    tree = DecisionTreeClassifier(random_state=0)
    ours = VectorizedGridSearchCV(tree, grid, cv=3, n_jobs=2).fit(*data)
    theirs = GridSearchCV(tree, grid, cv=3).fit(*data)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )


def test_what_is_not_stacked_says_why(data):
    X, y = data
    grid = {"solver": ["adam", "lbfgs"], "normalization": [None, "layer"]}
    search = VectorizedGridSearchCV(net(), grid, cv=3).fit(X, y)
    places = {
        str(p): row[0]
        for p, row in zip(search.cv_results_["params"], search.vectorization_, strict=True)
    }
    assert sum(place.startswith("stack") for place in places.values()) == 2
    assert any("does not train by mini-batches" in place for place in places.values())
    sparse_search = VectorizedGridSearchCV(net(), GRID, cv=3).fit(sparse.csr_array(X), y)
    assert sparse_search.vectorization_[0][0].startswith("stack")
    np.testing.assert_allclose(
        sparse_search.cv_results_["mean_test_score"],
        VectorizedGridSearchCV(net(), GRID, cv=3).fit(X, y).cv_results_["mean_test_score"],
    )


def test_groups_reach_the_splitter(data):
    X, y = data
    groups = np.arange(len(y)) % 7
    settings = {"cv": GroupKFold(3)}
    ours = VectorizedGridSearchCV(net(), GRID, **settings).fit(X, y, groups=groups)
    theirs = GridSearchCV(net(), GRID, **settings).fit(X, y, groups=groups)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )


def test_a_scoring_function_gets_the_fitted_net_and_the_rows(data):
    def scorer(estimator, X, y):
        assert isinstance(estimator, MLPClassifier)
        assert X.shape[1] == 64
        return float(estimator.predict_proba(X)[np.arange(len(y)), y].mean())

    ours = VectorizedGridSearchCV(net(), GRID, cv=3, scoring=scorer).fit(*data)
    theirs = GridSearchCV(net(), GRID, cv=3, scoring=scorer).fit(*data)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )


def test_after_the_search_it_is_the_best_estimator(data):
    X, y = data
    search = VectorizedGridSearchCV(net(), GRID, cv=3).fit(X, y)
    assert isinstance(search.best_estimator_, MLPClassifier)
    np.testing.assert_array_equal(search.predict(X), search.best_estimator_.predict(X))
    assert search.score(X, y) == search.best_estimator_.score(X, y)
    assert search.n_features_in_ == 64
    assert search.refit_time_ > 0
    assert (search.cv_results_["mean_fit_time"] > 0).all()


def test_names_of_features_are_kept(data):
    pandas = pytest.importorskip("pandas")
    X, y = data
    frame = pandas.DataFrame(X, columns=[f"pixel{i}" for i in range(64)])
    search = VectorizedGridSearchCV(net(), GRID, cv=3).fit(frame, y)
    assert search.vectorization_[0][0].startswith("stack")
    assert list(search.feature_names_in_) == list(frame.columns)
    search.predict(frame)


def test_nested_in_cross_val_score(data):
    ours = cross_val_score(VectorizedGridSearchCV(net(), GRID, cv=3), *data, cv=2)
    theirs = cross_val_score(GridSearchCV(net(), GRID, cv=3), *data, cv=2)
    np.testing.assert_allclose(ours, theirs)


def test_progress_bar(data):
    search = VectorizedGridSearchCV(net(), GRID, cv=3)
    search.set_callbacks(ProgressBar())
    search.fit(*data)
    assert search.n_splits_ == 3


def test_verbose_speaks_as_scikit_learn_does(data, capsys):
    VectorizedGridSearchCV(net(), GRID, cv=3, verbose=1).fit(*data)
    assert "Fitting 3 folds for each of 2 candidates, totalling 6 fits" in capsys.readouterr().out


def test_settings_that_cannot_be_pickled(data):
    class Narrow(nn.Sequential):
        def __init__(self, n_features, n_classes):
            super().__init__(nn.Linear(n_features, 4), nn.ReLU(), nn.Linear(4, n_classes))

    class Wide(nn.Sequential):
        def __init__(self, n_features, n_classes):
            super().__init__(nn.Linear(n_features, 9), nn.ReLU(), nn.Linear(9, n_classes))

    net = NetClassifier(Narrow, random_state=0, max_iter=4, device="cpu")
    grid = {"module": [Narrow, Wide]}
    ours = VectorizedGridSearchCV(net, grid, cv=3).fit(*data)
    theirs = GridSearchCV(net, grid, cv=3).fit(*data)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )
