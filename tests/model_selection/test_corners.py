"""Corners of a search in which it has to be GridSearchCV all the same."""

import pickle
import warnings

import joblib
import numpy as np
import pytest
from scipy import sparse
from scipy.stats import uniform
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.feature_selection import SelectKBest
from sklearn.metrics import accuracy_score, check_scoring, f1_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    StandardScaler,
    scale,
)
from sklearn.random_projection import GaussianRandomProjection

from sknets.linear_model import LogisticRegression, Perceptron
from sknets.model_selection import VectorizedGridSearchCV, VectorizedRandomizedSearchCV
from sknets.neural_network import MLPClassifier
from tests.model_selection._pairs import both, mlp

# Few epochs on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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


def test_routed_weights_of_a_pipeline(data):
    X, y = data
    weight = np.random.RandomState(0).uniform(size=len(y))
    with config_context(enable_metadata_routing=True):
        net = mlp().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), net)
        grid = {"mlpclassifier__alpha": [1e-4, 1.0]}
        search = both(pipeline, grid, X, y, {"sample_weight": weight}, cv=3)
        assert all(place.startswith("stack ") for row in search.vectorization_ for place in row)
        plain = both(pipeline, grid, X, y, cv=3)
        assert (search.cv_results_["mean_test_score"] != plain.cv_results_["mean_test_score"]).any()
        pipeline[0].set_fit_request(sample_weight=True)
        search = both(pipeline, grid, X, y, {"sample_weight": weight}, cv=3)
        assert "fit is given ['sample_weight']" in search.vectorization_[0][0]


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


# -- what is left of a search --------------------------------------------------------------------


def mean_square(estimator, X, y):
    return float(np.mean(estimator.decision_function(X) ** 2))


@pytest.mark.parametrize("kind", [GridSearchCV, VectorizedGridSearchCV])
def test_an_error_names_the_scorer_of_the_user(data, kind):
    with pytest.raises(ValueError, match=r"scorer=<function text_score at"):
        kind(mlp(), {"alpha": [1.0]}, cv=2, scoring=text_score).fit(*data)


def text_score(estimator, X, y):
    return "good"


@pytest.mark.parametrize("kind", [GridSearchCV, VectorizedGridSearchCV])
def test_a_search_of_the_users_own(data, kind):
    class Halves(kind):
        def _run_search(self, evaluate_candidates):
            evaluate_candidates([{"alpha": value / 2} for value in self.param_grid["alpha"]])

    search = Halves(mlp(), {"alpha": [1e-4, 1.0]}, cv=2).fit(*data)
    assert search.cv_results_["params"] == [{"alpha": 5e-5}, {"alpha": 0.5}]


@pytest.mark.parametrize("kind", [GridSearchCV, VectorizedGridSearchCV])
def test_a_pipeline_that_tells_of_its_steps(data, kind, capsys):
    pipeline = make_pipeline(StandardScaler(), mlp(), verbose=True)
    kind(pipeline, {"mlpclassifier__alpha": [1e-4, 1.0]}, cv=2, refit=False).fit(*data)
    assert capsys.readouterr().out.count("(step 2 of 2) Processing mlpclassifier") == 4


@pytest.mark.parametrize("scoring", [mean_square, {"one": mean_square, "two": "accuracy"}])
def test_scores_after_a_search_with_a_function(data, scoring):
    X, y = data
    refit = "one" if isinstance(scoring, dict) else True
    searches = [
        kind(mlp(), {"alpha": [1e-4, 1.0]}, cv=2, scoring=scoring, refit=refit)
        for kind in (GridSearchCV, VectorizedGridSearchCV)
    ]
    nested = [cross_val_score(search, X, y, cv=2) for search in searches]
    np.testing.assert_allclose(nested[1], nested[0], atol=1e-9)
    theirs, ours = (search.fit(X, y).score(X, y) for search in searches)
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_fitted_search_does_not_keep_the_data(data):
    X, y = (np.tile(part, (40, *([1] * (part.ndim - 1)))) for part in data)
    for backend in ("sequential", "threading"):
        with joblib.parallel_config(backend=backend, n_jobs=2):
            search = VectorizedGridSearchCV(mlp(max_iter=1), {"alpha": [1e-4]}, cv=2).fit(X, y)
        assert len(pickle.dumps(search)) < X.nbytes / 4
        assert pickle.loads(pickle.dumps(search)).score(X, y) == search.score(X, y)


def test_the_refit_may_choose_by_times(data):
    def fastest(results):
        return int(np.argmin(results["mean_fit_time"]))

    grid = {"max_iter": [300, 1]}
    net = mlp(tol=0.0, n_iter_no_change=300)
    search = VectorizedGridSearchCV(net, grid, cv=2, refit=fastest).fit(*data)
    assert search.best_index_ == 1
    times = search.cv_results_["mean_fit_time"]
    assert times[0] > 3 * times[1] > 0


def test_the_last_fit_is_a_fit_where_a_fold_has_all_rows(data):
    X, y = data
    everything = [(np.arange(len(y)), np.arange(len(y)))]
    searches = [
        kind(mlp(), {"alpha": [1e-4]}, cv=everything).fit(X, y)
        for kind in (GridSearchCV, VectorizedGridSearchCV)
    ]
    theirs, ours = (search.best_estimator_.partial_fit(X, y) for search in searches)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=1e-9)


def test_a_random_state_moves_on(data):
    settings = {"alpha": uniform(0, 1)}
    drawn = []
    for kind in (RandomizedSearchCV, VectorizedRandomizedSearchCV):
        state = np.random.RandomState(3)
        search = kind(mlp(), settings, n_iter=2, random_state=state, cv=2, refit=False)
        drawn.append([search.fit(*data).cv_results_["param_alpha"].tolist() for _ in range(2)])
    assert drawn[0] == drawn[1]
    assert drawn[1][0] != drawn[1][1]


# -- what fit is given ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weight", [2.0, np.ones(100), np.arange(200.0)], ids=["one", "few", "many"]
)
def test_weights_that_are_not_one_a_row(data, weight):
    pipeline = Pipeline([("scale", StandardScaler()), ("net", mlp())])
    searches = [
        kind(pipeline, {"net__alpha": [1e-4, 1.0]}, cv=2, refit=False)
        for kind in (GridSearchCV, VectorizedGridSearchCV)
    ]
    if np.ndim(weight):
        for search in searches:
            with pytest.raises(ValueError, match="All the 4 fits failed"):
                search.fit(*data, net__sample_weight=weight)
        return
    both(pipeline, {"net__alpha": [1e-4, 1.0]}, *data, {"net__sample_weight": weight}, cv=2)


def test_sparse_rows_to_validate_on(data):
    X, y = data
    both(mlp(), {"alpha": [1e-4]}, X, y, {"X_val": sparse.csr_array(X), "y_val": y}, cv=2)


def test_masks_from_a_generator(data):
    masks = [np.arange(150) % 3 == i for i in range(3)]
    results = [
        kind(mlp(), {"alpha": [1e-4, 1.0]}, cv=((~m, m) for m in masks)).fit(*data).cv_results_
        for kind in (GridSearchCV, VectorizedGridSearchCV)
    ]
    np.testing.assert_allclose(results[1]["mean_test_score"], results[0]["mean_test_score"])


def test_lists_of_rows_that_nothing_makes_an_array(data):
    X, y = data
    pipeline = Pipeline([("first", "passthrough"), ("net", mlp())])
    both(pipeline, {"net__alpha": [1e-4, 1.0]}, X.tolist(), y, cv=2)


def assert_stacks_of_folds(search, n_stacks):
    """All fits of a fold are in one stack, and there are so many."""
    places = np.array(search.vectorization_)
    assert all(place.startswith("stack ") for place in places.ravel())
    assert all(len(set(fold)) == 1 for fold in places.T)
    assert len(set(places.ravel())) == n_stacks


class CountingPCA(PCA):
    """Counts the fits of all its clones."""

    n_fits = 0

    def fit_transform(self, X, y=None):
        type(self).n_fits += 1
        return super().fit_transform(X, y)


def test_transformers_that_give_other_numbers_of_features_on_each_fold(data):
    X, y = data
    X = scale(X[np.argsort(y)])  # one kind of flower is missing in each fold
    widths = [PCA(0.95).fit(X[train]).n_components_ for train, _ in KFold(3).split(X)]
    assert len(set(widths)) == 2
    pipeline = make_pipeline(CountingPCA(0.95), mlp())
    grid = {"mlpclassifier__alpha": [1e-4, 1e-2, 1.0]}
    CountingPCA.n_fits = 0
    search = VectorizedGridSearchCV(pipeline, grid, cv=KFold(3), refit=False).fit(X, y)
    assert CountingPCA.n_fits == 3
    assert_stacks_of_folds(search, 2)
    both(pipeline, grid, X, y, cv=KFold(3))


class Odd(BaseEstimator, TransformerMixin):
    """Gives nothing, or numbers of another dtype, by the number of rows that it was fitted on."""

    def fit(self, X, y=None):
        self.n_rows_ = len(X)
        return self

    def transform(self, X):
        return None if self.n_rows_ == 61 else X.astype("f4" if self.n_rows_ == 60 else "f8")


class Named(Pipeline):
    """A pipeline with an argument of its own."""

    def __init__(self, steps, name, *, memory=None, verbose=False):
        self.name = name
        super().__init__(steps, memory=memory, verbose=verbose)


def bytes_of_a_weight(estimator, X, y):
    return estimator[-1].coefs_[0].itemsize


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")  # of 61 rows
@pytest.mark.filterwarnings("ignore:One or more of the test scores")  # and their scores
@pytest.mark.parametrize("lengths", [(75, 60), (75, 60, 61)])
def test_odd_transformers_of_an_odd_pipeline(data, lengths):
    pipeline = Named([("odd", Odd()), ("net", mlp())], "mine")
    cv = [(np.arange(n), np.arange(n, 150)) for n in lengths]
    both(
        pipeline, {"net__alpha": [1e-4, 1.0]}, *data, cv=cv, scoring=bytes_of_a_weight, refit=False
    )


class Guessing(Pipeline):
    """Predicts one class, but is scored by its last step."""

    def predict(self, X):
        return np.zeros(len(X), int)


def test_a_pipeline_with_predictions_of_its_own(data):
    pipeline = Guessing([("scale", StandardScaler()), ("net", mlp())])
    both(pipeline, {"net__alpha": [1e-4, 1.0]}, *data, cv=2)


@pytest.mark.parametrize("kind", [GridSearchCV, VectorizedGridSearchCV])
def test_a_pipeline_without_a_request_for_weights_is_not_scored(data, kind):
    with config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, mlp().set_fit_request(sample_weight=True))
        search = kind(pipeline, {"mlpclassifier__alpha": [1.0]}, cv=2, error_score="raise")
        with pytest.raises(UnsetMetadataPassedError):
            search.fit(*data, sample_weight=np.ones(150))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")  # of 61 rows
@pytest.mark.filterwarnings("ignore:One or more of the test scores")  # and their scores
@pytest.mark.parametrize("lengths", [(75, 60), (75, 60, 61)])
def test_transformers_that_draw(data, lengths):
    """Every fit draws what the first one draws, also where they are made one by one."""
    projection = GaussianRandomProjection(2, random_state=np.random.RandomState(0))
    spoil = FunctionTransformer(lambda X: np.full_like(X, np.nan) if len(X) == 61 else X)
    pipeline = make_pipeline(projection, spoil, mlp())
    cv = [(np.arange(n), np.arange(n, 150)) for n in lengths]
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__tol": [1e-4, 1e-5]}
    search = both(pipeline, grid, *data, cv=cv, refit=False)
    assert search.vectorization_[0][0].startswith("stack ") == (61 not in lengths)


def test_transformers_that_give_sparse_rows_on_some_folds(data):
    _, y = data
    X = np.c_[(np.arange(150) >= 75) | (np.arange(150) % 9 == 0), np.arange(150.0)]
    transformer = ColumnTransformer(
        [("h", OneHotEncoder(drop="first"), [0]), ("n", StandardScaler(), [1])],
        sparse_threshold=0.75,
    )
    kinds = {sparse.issparse(clone(transformer).fit_transform(X[t])) for t, _ in KFold(3).split(X)}
    assert kinds == {True, False}
    pipeline = Pipeline([("both", transformer), ("net", mlp())])
    search = both(pipeline, {"net__alpha": [1e-4, 1.0]}, X, y, cv=KFold(3))
    assert_stacks_of_folds(search, 2)


def test_a_clipped_batch_is_told_of_in_stacks_too(data):
    search = VectorizedGridSearchCV(mlp(batch_size=500), {"alpha": [1e-4]}, cv=2, refit=False)
    with pytest.warns(UserWarning, match=r"number of training rows, 75, got 500\. It is clipped"):
        search.fit(*data)


@pytest.mark.parametrize(
    "grid",
    [
        {"net__solver": ["adam", ["sgd"]]},
        {"net__precision": ["auto", ["float32"]]},
        {"net": [mlp(), "passthrough"]},
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")  # of the bad candidate
@pytest.mark.filterwarnings("ignore:Scoring failed")  # of what is passed through
@pytest.mark.filterwarnings("ignore:One or more of the test scores")  # they are nan, as meant
def test_a_bad_value_fails_alone(data, grid):
    pipeline = Pipeline([("scale", StandardScaler()), ("net", mlp())])
    search = both(pipeline, grid, *data, cv=2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).tolist() == [True, False]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")  # of the bad candidate
@pytest.mark.filterwarnings("ignore:One or more of the test scores")  # they are nan, as meant
def test_a_bad_value_that_nobody_checks_fails_alone(data):
    with config_context(skip_parameter_validation=True):
        search = both(mlp(), {"alpha": [1.0, "much"]}, *data, cv=2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).tolist() == [True, False]
    assert "its stack failed" in search.vectorization_[0][0]


def test_messages_name_the_estimator(data):
    search = VectorizedGridSearchCV(
        Perceptron(), {"eta0": [1.0]}, scoring="neg_log_loss", error_score="raise"
    )
    with pytest.raises(AttributeError, match="Perceptron has none of"):
        search.fit(*data)


def test_weights_routed_to_several_scorers_in_one(data):
    weight = np.random.RandomState(0).uniform(size=150)
    with config_context(enable_metadata_routing=True):
        scorers = {
            "a": make_scorer(accuracy_score).set_score_request(sample_weight=True),
            "f": make_scorer(f1_score, average="macro").set_score_request(sample_weight=True),
        }
        weighted = mlp().set_fit_request(sample_weight=True)
        scoring = check_scoring(weighted, scoring=scorers)
        given = {"sample_weight": weight}
        search = both(
            weighted, {"alpha": [1e-4, 1.0]}, *data, given, scoring=scoring, refit=False, cv=2
        )
        plain = both(
            clone(weighted).set_score_request(sample_weight=False),
            *({"alpha": [1e-4, 1.0]}, *data, given),
            cv=2,
        )
    assert set(search.cv_results_["mean_test_a"]) != set(plain.cv_results_["mean_test_score"])
