"""Corners of a search in which it has to be GridSearchCV all the same."""

import warnings

import numpy as np
import pytest
from sklearn import config_context
from sklearn.datasets import load_iris
from sklearn.feature_selection import SelectKBest
from sklearn.metrics import accuracy_score, check_scoring
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sknets.linear_model import LogisticRegression
from sknets.model_selection import VectorizedGridSearchCV
from sknets.neural_network import MLPClassifier

# Few epochs on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def data():
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(y))
    return X[order], y[order]


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


@pytest.mark.parametrize("scoring", ["accuracy", ["accuracy", "neg_log_loss"]])
@pytest.mark.parametrize("estimator", [mlp(), LogisticRegression()])
@pytest.mark.parametrize("kind", [np.int32, np.uint8, "from the end"])
def test_folds_of_any_row_numbers(data, estimator, kind, scoring):
    X, _ = data
    y = np.random.RandomState(1).randint(3, size=len(X))  # who has seen the fold is found out
    numbers = np.random.RandomState(0).permutation(len(y))
    if kind == "from the end":
        numbers = numbers - len(y)
    else:
        numbers = numbers.astype(kind)
    cv = [(numbers[:90], numbers[90:]), (numbers[41:], numbers[:41])]
    grid = {"alpha" if isinstance(estimator, MLPClassifier) else "C": [0.1, 1.0]}
    both(estimator, grid, X, y, cv=cv, scoring=scoring, refit=False)


@pytest.mark.parametrize("rates", [[0.0, 0.3], [0.3, 0.0]])
@pytest.mark.parametrize("loss", ["focal_loss", "hinge"])
def test_rates_of_dropout_under_another_loss(data, loss, rates):
    def size(clf, X, y):
        return float(np.mean(clf.decision_function(X) ** 2))

    search = both(mlp(loss=loss), {"dropout": rates}, *data, scoring=size, cv=3)
    assert all(place.startswith("stack ") for row in search.vectorization_ for place in row)


def test_routed_groups(data):
    X, y = data
    groups = {"groups": np.arange(len(y)) % 7}
    with config_context(enable_metadata_routing=True):
        both(LogisticRegression(), {"C": [0.1, 1.0]}, X, y, groups, cv=GroupKFold(3))


def test_a_pipeline_of_one_step(data):
    search = both(Pipeline([("last", mlp())]), {"last__alpha": [0.1, 1.0]}, *data, cv=3)
    assert all(place.startswith("stack ") for row in search.vectorization_ for place in row)


# That fits fail and scores are not finite is what is looked at.
@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.FitFailedWarning", "ignore:One or more of the test scores"
)
def test_held_out_rows_without_weight_fail_alone(data):
    X, y = data
    weight = np.zeros(len(y))
    weight[::30] = 1.0
    with pytest.raises(ValueError, match="held-out rows must not all be zero"):
        mlp(early_stopping=True).fit(X, y, weight)
    grid = {"early_stopping": [True, False]}
    search = both(mlp(), grid, X, y, {"sample_weight": weight}, cv=3, error_score=np.nan)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [True, False]


class Shifted(LogisticRegression):
    """Learns other labels than it is given."""

    def fit(self, X, y, sample_weight=None):
        """Fit to the next class."""
        return super().fit(X, (y + 1) % 3, sample_weight)


def test_a_subclass_with_a_fit_of_its_own_is_asked(data):
    search = both(Shifted(), {"C": [0.1, 1.0]}, *data, cv=3)
    assert search.best_score_ < 0.5


def test_weights_reach_several_scorers_in_one(data):
    X, y = data
    clf = LogisticRegression()
    scoring = check_scoring(clf, scoring=["accuracy", "f1_macro"])
    weight = {"sample_weight": np.random.RandomState(0).uniform(size=len(y))}
    both(clf, {"C": [0.01, 1.0]}, X, y, weight, scoring=scoring, refit="accuracy", cv=3)


def test_a_scorer_that_only_looks_like_scikit_learns_gets_rows(data):
    class Scorer:
        _score_func = staticmethod(accuracy_score)

        def __call__(self, estimator, X, y):
            return float(np.abs(X).sum())

    both(LogisticRegression(), {"C": [0.1, 1.0]}, *data, scoring=Scorer(), cv=3)


def test_any_bit_generator(data):
    state = np.random.RandomState(np.random.PCG64(1))
    grid = {"alpha": [0.1, 1.0]}
    search = VectorizedGridSearchCV(mlp(random_state=state), grid, cv=3).fit(*data)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_pipelines_that_pass_frames_on(data):
    """The names of the features are those of each fold, which may differ."""
    pytest.importorskip("pandas")
    X, y = data
    pipeline = make_pipeline(StandardScaler(), SelectKBest(k=2), mlp()).set_output(
        transform="pandas"
    )
    y = np.where(np.arange(len(y)) < 75, y, np.roll(y, 1))  # noise in a half: other features
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*feature names")
        search = both(pipeline, {"mlpclassifier__alpha": [1e-4, 1.0]}, X, y, cv=KFold(2))
    assert list(search.best_estimator_[-1].feature_names_in_) == list(
        search.best_estimator_[:-1].get_feature_names_out()
    )
