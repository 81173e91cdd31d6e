"""A vectorised search gives the results of scikit-learn's search, one by one."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from sknets import MLPClassifier, VectorizedGridSearchCV
from tests.parity._data import breast_cancer, first_digits, multilabel_digits
from tests.parity._same_results import (
    assert_same_results,
    search_both_ways,
    search_estimators,
    stacked_share,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",  # few epochs, on purpose
    "ignore:batch_size must be at most",  # folds smaller than a batch are among the cases
)


def digits(n=240):
    return first_digits(n)


def multilabel():
    return multilabel_digits(240)


def net(*args, **settings):
    settings = {"random_state": 0, "max_iter": 6, "device": "cpu", **settings}
    return MLPClassifier(*(args or ((12,),)), **settings)


SGD = {"solver": "sgd", "learning_rate_init": 0.05}
CASES = {
    "adam": (net(), {"alpha": [1e-4, 1.0], "learning_rate_init": [1e-3, 1e-2]}, digits),
    "adam's constants": (
        net(),
        {"beta_1": [0.5, 0.9], "beta_2": [0.9, 0.999], "epsilon": [1e-8, 1e-3]},
        digits,
    ),
    "two hidden layers": (net((12, 8)), {"activation": ["relu", "tanh", "gelu"]}, digits),
    "no hidden layer": (net(()), {"alpha": [1e-4, 1.0]}, digits),
    "sgd": (net(**SGD), {"momentum": [0.0, 0.9], "learning_rate_init": [0.01, 0.1]}, digits),
    "plain momentum": (net(nesterovs_momentum=False, **SGD), {"momentum": [0.3, 0.9]}, digits),
    "schedules": (
        net(max_iter=15, tol=0.05, n_iter_no_change=1, **SGD),
        {"learning_rate": ["constant", "invscaling", "adaptive"]},
        digits,
    ),
    "stopping at different times": (
        net(max_iter=60, n_iter_no_change=2),
        {"tol": [1e-4, 1e-2, 1e-1], "max_iter": [20, 60]},
        digits,
    ),
    "early stopping": (
        net(max_iter=12, n_iter_no_change=2),
        {"early_stopping": [True, False], "learning_rate_init": [1e-3, 1e-1]},
        digits,
    ),
    "validation fraction": (
        net(early_stopping=True),
        {"validation_fraction": [0.1, 0.25]},
        breast_cancer,
    ),
    "class weights": (net(), {"class_weight": [None, "balanced", {0: 5.0, 1: 1.0}]}, breast_cancer),
    "seeds": (net(), {"random_state": [0, 1, 2]}, digits),
    "dropout": (net((12, 8)), {"dropout": [0.0, 0.2, (0.5, 0.0)]}, digits),
    "label smoothing": (net(), {"label_smoothing": [0.0, 0.1, 0.3]}, digits),
    "label smoothing, binary": (net(), {"label_smoothing": [0.0, 0.1]}, breast_cancer),
    "label smoothing, multilabel": (net(), {"label_smoothing": [0.0, 0.1]}, multilabel),
    "unshuffled": (net(shuffle=False), {"alpha": [1e-4, 1.0]}, digits),
    "batches that do not fit": (net(batch_size=48), {"alpha": [1e-4, 1.0]}, digits),
    "several stacks": (
        net(),
        {"hidden_layer_sizes": [(5,), (9,)], "batch_size": [32, "auto"], "solver": ["adam", "sgd"]},
        digits,
    ),
    "some not stacked": (net(), {"solver": ["adam", "lbfgs"]}, digits),
    "binary": (net(), {"alpha": [1e-4, 1.0]}, breast_cancer),
    "multilabel": (net(), {"alpha": [1e-4, 1.0]}, multilabel),
    "class weights of labels": (net(), {"class_weight": [None, "balanced"]}, multilabel),
    "sparse": (net(), {"alpha": [1e-4, 1.0]}, lambda: (sparse.csr_array(digits()[0]), digits()[1])),
    "lists": (net(), {"alpha": [1e-4, 1.0]}, lambda: tuple(part.tolist() for part in digits())),
    "pipeline": (
        make_pipeline(StandardScaler(), net()),
        {"standardscaler__with_std": [True, False], "mlpclassifier__alpha": [1e-4, 1.0]},
        digits,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_grid_search(name):
    estimator, grid, load = CASES[name]
    X, y = load()
    ours, theirs = search_both_ways(estimator, grid, X, y)
    in_stacks = [place.startswith("stack") for row in ours.vectorization_ for place in row]
    assert all(in_stacks) != (name == "some not stacked")
    np.testing.assert_allclose(
        ours.best_estimator_.predict_proba(X), theirs.best_estimator_.predict_proba(X), atol=1e-9
    )


NOT_COVERED = (
    *("no hidden layer", "dropout", "some not stacked"),
    *("label smoothing", "label smoothing, binary", "label smoothing, multilabel"),
    "pipeline",  # below
)
COMPILED = {name: case for name, case in CASES.items() if name not in NOT_COVERED}
COMPILED["two hidden layers"] = (net((12, 8)), {"activation": ["relu", "tanh"]}, digits)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_nets_are_the_very_same_alone(name):
    estimator, grid, load = COMPILED[name]
    X, y = load()
    ours, theirs = search_both_ways(clone(estimator).set_params(compile="numba"), grid, X, y)
    assert stacked_share(ours) == 1
    same_bits(search_estimators(ours, X, y), search_estimators(theirs, X, y))


def same_bits(stacked, alone):
    assert len(stacked) == len(alone) > 0
    for one, other in zip(stacked, alone, strict=True):
        assert one.loss_curve_ == other.loss_curve_
        for a, b in zip(
            one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("two_threads")
def test_compiled_nets_in_parts_on_threads():
    X, y = digits(401)
    grid = {"learning_rate_init": [1e-3, 1e-2, 1e300], "max_iter": [3, 6]}
    searches = []
    for kind in (GridSearchCV, VectorizedGridSearchCV):
        one = net(batch_size=50, compile="numba")
        search = kind(one, grid, cv=KFold(3), refit=False, error_score=-1.0)
        with pytest.warns(FitFailedWarning, match="must stay finite"):
            searches.append(search.fit(X, y))
    theirs, ours = searches
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 1


def test_compiled_nets_in_a_pipeline_beside_others():
    X, y = digits()
    pipeline = make_pipeline(StandardScaler(), net())
    ways = {"mlpclassifier__compile": ["numba", False], "mlpclassifier__alpha": [1e-4, 1.0]}
    ours, _ = search_both_ways(pipeline, ways, X, y)
    assert stacked_share(ours) == 1
    scores = ours.cv_results_["mean_test_score"].reshape(2, 2)  # by alpha, then by way
    np.testing.assert_allclose(scores[:, 0], scores[:, 1], atol=1e-9)


@pytest.mark.parametrize("compile", [False, "numba"])
@pytest.mark.parametrize("n", [397, 400, 401])
def test_unequal_folds(n, compile):
    X, y = digits(n)
    settings = {"cv": KFold(3), "scoring": "neg_log_loss"}
    grid = {"alpha": [1e-4, 1.0]}
    estimator = net(batch_size=50, compile=compile)
    theirs = GridSearchCV(estimator, grid, **settings).fit(X, y)
    ours = VectorizedGridSearchCV(estimator, grid, **settings).fit(X, y)
    assert_same_results(ours, theirs)


@pytest.mark.parametrize("compile", [False, "numba"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_sample_weight(scale, compile):
    X, y = digits()
    weight = scale * np.random.RandomState(0).uniform(size=len(y))
    weight[::7] = 0.0
    grid = {"alpha": [1e-4, 1.0]}
    estimator = net(compile=compile)
    theirs = GridSearchCV(estimator, grid, cv=3).fit(X, y, sample_weight=weight)
    ours = VectorizedGridSearchCV(estimator, grid, cv=3).fit(X, y, sample_weight=weight)
    assert_same_results(ours, theirs)
    assert ours.vectorization_[0][0].startswith("stack")


def test_float32_within_one_flipped_row():
    X, y = digits(600)
    X = X.astype(np.float32)
    grid = {"alpha": [1e-4, 1.0], "learning_rate_init": [1e-3, 1e-2]}
    theirs = GridSearchCV(net(), grid, cv=3).fit(X, y)
    ours = VectorizedGridSearchCV(net(), grid, cv=3).fit(X, y)
    assert_same_results(ours, theirs, atol=1 / 200)


@pytest.mark.parametrize("compile", [False, "numba"])
def test_rates_that_the_dtype_does_not_hold(compile):
    X, y = digits(60)
    one = net(solver="sgd", momentum=0.0, max_iter=1, compile=compile)
    grid = {"learning_rate_init": [1e300, 0.1]}
    X, ways = X.astype(np.float32), []
    for kind in (GridSearchCV, VectorizedGridSearchCV):
        search = kind(one, grid, cv=2, refit=False)
        ways.append(search.fit(X, y).cv_results_["mean_test_score"])
    assert np.isfinite(ways).all()
    np.testing.assert_array_equal(*ways)


def test_several_metrics_and_metrics_from_probabilities():
    X, y = breast_cancer()
    settings = {"cv": 3, "scoring": ["accuracy", "roc_auc", "neg_log_loss"], "refit": "roc_auc"}
    grid = {"alpha": [1e-4, 1.0]}
    theirs = GridSearchCV(net(), grid, **settings).fit(X, y)
    ours = VectorizedGridSearchCV(net(), grid, **settings).fit(X, y)
    assert_same_results(ours, theirs)


def test_fitted_nets_are_equal_in_all_they_tell():
    X, y = load_iris(return_X_y=True)
    grid = {"early_stopping": [True]}
    one = net(max_iter=30).set_params(early_stopping=True)
    search = VectorizedGridSearchCV(net(max_iter=30), grid, cv=[(np.arange(150), np.arange(9))])
    stacked = search.fit(X, y).best_estimator_  # a search over all rows: the fit of the fold
    one.fit(X, y)
    assert stacked.n_iter_ == one.n_iter_
    assert stacked.t_ == one.t_
    np.testing.assert_allclose(stacked.loss_curve_, one.loss_curve_, rtol=1e-12)
    np.testing.assert_allclose(stacked.validation_scores_, one.validation_scores_)
    for ours, theirs in zip(stacked.coefs_, one.coefs_, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_a_pipeline_with_weights_for_its_last_step():
    X, y = digits()
    weight = np.random.RandomState(0).uniform(size=len(y))
    pipeline = make_pipeline(MaxAbsScaler(), net())
    given = {"mlpclassifier__sample_weight": weight}
    grid = {"mlpclassifier__alpha": [1e-4, 1.0]}
    for rows in (X, sparse.csr_array(X)):
        theirs = GridSearchCV(pipeline, grid, cv=3).fit(rows, y, **given)
        ours = VectorizedGridSearchCV(pipeline, grid, cv=3).fit(rows, y, **given)
        assert_same_results(ours, theirs)
        assert stacked_share(ours) == 1.0


def test_a_memory_map(tmp_path):
    X, y = digits()
    np.save(tmp_path / "X.npy", X)
    on_disk = np.load(tmp_path / "X.npy", mmap_mode="r")
    grid = {"alpha": [1e-4, 1.0]}
    theirs = GridSearchCV(net(), grid, cv=3).fit(X, y)
    ours = VectorizedGridSearchCV(net(), grid, cv=3).fit(on_disk, y)
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 1.0


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_folds_that_lack_a_class(n_classes):
    """Without the last class two classes are left, or one."""
    X, y = digits()
    y = y % n_classes
    rows = np.arange(len(y))
    whole, rest = rows[::2], rows[1::2]
    cv = [(whole, rest), (whole[y[whole] < n_classes - 1], rest), (rest, whole)]
    grid = {"alpha": [1e-4, 1.0], "early_stopping": [True, False]}
    theirs = GridSearchCV(net(), grid, cv=cv).fit(X, y)
    ours = VectorizedGridSearchCV(net(), grid, cv=cv).fit(X, y)
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 1.0


def test_weights_that_are_all_zero_in_a_fold():
    X, y = digits()
    weight = np.ones(len(y))
    weight[:80] = 0.0
    cv = [(np.arange(80), np.arange(80, 240)), (np.arange(80, 240), np.arange(240))]
    for search in (GridSearchCV, VectorizedGridSearchCV):
        with pytest.warns(FitFailedWarning, match="zero"):
            fitted = search(net(), {"alpha": [1.0]}, cv=cv, error_score=-1.0).fit(
                X, y, sample_weight=weight
            )
        assert fitted.cv_results_["split0_test_score"] == -1.0
        assert fitted.cv_results_["split1_test_score"] > 0.0
