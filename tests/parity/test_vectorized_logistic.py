"""Vectorised searches of logistic regressions give what scikit-learn's give, one by one."""

from collections import Counter

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import LogisticRegression as TheirLogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, PredefinedSplit, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknets import VectorizedGridSearchCV
from sknets._engine import PartedFold
from sknets.linear_model import LogisticRegression, _logistic_stacking
from tests.parity._data import breast_cancer, first_digits, rare_columns
from tests.parity._same_results import (
    SETTINGS,
    assert_same_results,
    each_way,
    search_both_ways,
    search_estimators,
    stacked_share,
)

# Some settings are to stop early.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CS = [1e-3, 0.1, 1.0, 100.0]


@pytest.fixture
def parted(monkeypatch):
    """How many folds were made of two parts, by their rows."""
    made = Counter()

    def make(short, whole):
        fold = PartedFold(short, whole)
        made[fold.n] += 1
        return fold

    monkeypatch.setattr(_logistic_stacking, "PartedFold", make)
    return made


def digits(n=400):
    return first_digits(n)


def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def logistic(**settings):
    return LogisticRegression(**{"device": "cpu", **settings})


LOGISTIC = {
    "multiclass": (logistic(), {"C": CS}, digits),
    "binary": (logistic(), {"C": CS}, breast_cancer),
    "three classes": (logistic(), {"C": CS}, iris),
    "no penalty": (logistic(), {"C": [1.0, np.inf]}, iris),
    "no intercept": (logistic(fit_intercept=False), {"C": CS}, digits),
    "with and without": (logistic(), {"fit_intercept": [True, False], "C": [0.1, 1.0]}, iris),
    "class weights": (
        logistic(),
        {"class_weight": [None, "balanced", {0: 5.0, 1: 1.0}], "C": [0.1, 10.0]},
        breast_cancer,
    ),
    "balanced": (logistic(class_weight="balanced"), {"C": CS}, iris),
    "tol": (logistic(), {"tol": [1e-2, 1e-4, 1e-8]}, digits),
    "newton-cholesky": (
        logistic(solver="newton-cholesky"),
        {"C": [*CS, np.inf], "class_weight": [None, "balanced"]},
        iris,
    ),
    "newton-cholesky, binary": (logistic(solver="newton-cholesky"), {"C": CS}, breast_cancer),
    "newton-cg": (logistic(solver="newton-cg"), {"C": CS, "tol": [1e-2, 1e-7]}, digits),
    "newton-cg, binary": (logistic(solver="newton-cg"), {"C": CS}, breast_cancer),
    "l1_ratio": (
        logistic(solver="proximal-newton"),
        {"C": [0.01, 0.1, 1.0], "l1_ratio": [0.0, 0.5, 1.0]},
        breast_cancer,
    ),
    "l1_ratio, classes": (
        logistic(solver="proximal-newton"),
        {"C": [0.1, 1.0], "l1_ratio": [0.3, 1.0], "class_weight": [None, "balanced"]},
        iris,
    ),
    "several solvers": (logistic(), {"solver": ["lbfgs", "newton-cg", "newton-cholesky"]}, iris),
    "max_iter": (logistic(), {"max_iter": [0, 1, 5, 40], "C": [1.0, 1e4]}, digits),
}


@pytest.mark.parametrize("name", LOGISTIC)
def test_logistic_regression(name):
    estimator, grid, load = LOGISTIC[name]
    ours, _ = search_both_ways(estimator, grid, *load())
    assert stacked_share(ours) == 1


@pytest.mark.parametrize(
    "name",
    [
        n
        for n, (each, grid, _) in LOGISTIC.items()
        if "solver" not in grid and each.solver == "lbfgs"
    ],
)
def test_compiled(name):
    estimator, grid, load = LOGISTIC[name]
    X, y = load()
    compiled = clone(estimator).set_params(compile="numba")
    ours, theirs = search_both_ways(compiled, grid, X, y)
    assert stacked_share(ours) == 1
    assert_same_results(theirs, GridSearchCV(estimator, grid, **SETTINGS).fit(X, y))


@pytest.mark.parametrize(
    "name", [n for n in LOGISTIC if n not in ("tol", "max_iter", "several solvers")]
)
def test_probabilities_at_a_small_tol(name):
    estimator, grid, load = LOGISTIC[name]
    # Long ways of ill-conditioned problems magnify rounding; their ends are the same.
    estimator = clone(estimator).set_params(tol=1e-9, max_iter=5000)
    grid = {**grid, "C": [0.01, 1.0]}
    settings = {"cv": 3, "scoring": "neg_log_loss"}
    X, y = load()
    theirs = GridSearchCV(estimator, grid, **settings).fit(X, y)
    ours = VectorizedGridSearchCV(estimator, grid, **settings).fit(X, y)
    assert_same_results(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("solver", "compile"),
    [
        ("lbfgs", False),
        ("lbfgs", "numba"),
        ("newton-cg", False),
        ("newton-cholesky", False),
        ("proximal-newton", False),
    ],
)
@pytest.mark.parametrize(("load", "C"), [(digits, 0.1), (breast_cancer, 0.1), (iris, 1.0)])
def test_a_stacked_fit_takes_the_steps_of_a_single_one(load, C, solver, compile):
    X, y = load()
    every = np.arange(len(y))
    estimator = logistic(C=C, solver=solver, compile=compile)
    search = VectorizedGridSearchCV(estimator, {"C": [C]}, cv=[(every, every[:9])], refit=False)
    stacked = search_estimators(search, X, y)[0]
    alone = logistic(C=C, solver=solver).fit(X, y)
    assert stacked.n_iter_ == alone.n_iter_
    assert stacked.n_iter_.dtype == alone.n_iter_.dtype
    np.testing.assert_allclose(stacked.coef_, alone.coef_, atol=1e-8)
    np.testing.assert_allclose(stacked.intercept_, alone.intercept_, atol=1e-8)
    losses = stacked.history_["train_loss"]
    np.testing.assert_allclose(losses, alone.history_["train_loss"], atol=1e-10)
    assert list(stacked.history_) == list(alone.history_)
    assert all(seconds >= 0 for seconds in stacked.history_["seconds"])


def test_figures_scores_are_scikit_learns_own_at_the_default_tol():
    grid = {"C": np.logspace(-4, 4, 20)}
    X, y = breast_cancer()
    theirs = GridSearchCV(TheirLogisticRegression(), grid, cv=10).fit(X, y)
    ours = VectorizedGridSearchCV(logistic(), grid, cv=10).fit(X, y)
    assert stacked_share(ours) == 1
    for name in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], atol=1e-9)


def test_unequal_folds():
    X, y = digits(401)
    settings = {"cv": KFold(7), "scoring": "neg_log_loss"}
    theirs = GridSearchCV(logistic(), {"C": CS}, **settings).fit(X, y)
    ours = VectorizedGridSearchCV(logistic(), {"C": CS}, **settings).fit(X, y)
    assert_same_results(ours, theirs, atol=1e-7)
    assert stacked_share(ours) == 1


def steps_of_stacked_and_single_fits(estimator, X, y, cv, sample_weight=None):
    """Fit stacked and alone on every fold, at two strengths, and assert that the steps agree."""
    given = {} if sample_weight is None else {"sample_weight": sample_weight}
    seen = []

    def scorer(fitted, X, y, sample_weight=None):
        seen.append(fitted)
        return 0.0

    grid = {"C": [0.01, 0.1]}
    search = VectorizedGridSearchCV(estimator, grid, cv=cv, refit=False, scoring=scorer)
    search.fit(X, y, **given)
    assert stacked_share(search) == 1
    folds = [(C, train) for C in grid["C"] for train, _ in cv]
    for stacked, (C, train) in zip(seen, folds, strict=True):
        weight = None if sample_weight is None else sample_weight[train]
        alone = clone(estimator).set_params(C=C).fit(X[train], y[train], weight)
        assert stacked.n_iter_ == alone.n_iter_
        np.testing.assert_allclose(stacked.coef_, alone.coef_, atol=1e-8)
        np.testing.assert_allclose(stacked.intercept_, alone.intercept_, atol=1e-8)


@each_way
@pytest.mark.parametrize("n_folds", [2, 10], ids=["folds apart", "folds joined"])
@pytest.mark.parametrize("load", [breast_cancer, iris])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_folds_that_are_multiplied_together_have_nothing_of_each_other(
    load, n_folds, is_weighted, compile
):
    X, y = load()
    weight = np.arange(len(y)) % 3 + 0.5 if is_weighted else None
    cv = list(StratifiedKFold(n_folds).split(X, y))
    steps_of_stacked_and_single_fits(logistic(compile=compile), X, y, cv, weight)


@each_way
def test_a_fold_with_rows_many_times(compile):
    X, y = iris()
    rng = np.random.RandomState(0)
    cv = [(rng.randint(0, len(y), len(y)), np.arange(20)) for _ in range(3)]
    steps_of_stacked_and_single_fits(logistic(compile=compile), X, y, cv)


@each_way
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("load", [digits, breast_cancer])
def test_columns_of_zeros_get_no_weight(load, fit_intercept, compile):
    X, y = load()
    X = np.insert(X, [0, 5, 5, X.shape[1]], 0.0, axis=1)
    cv = list(StratifiedKFold(5).split(X, y))
    steps_of_stacked_and_single_fits(
        logistic(fit_intercept=fit_intercept, compile=compile), X, y, cv
    )


@each_way
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize(
    ("n_classes", "fit_intercept"), [(2, True), (2, False), (3, True), (3, False)]
)
def test_columns_that_few_rows_have(n_classes, fit_intercept, is_weighted, compile, parted):
    X, y = rare_columns(n_classes)
    weight = np.arange(len(y)) % 3 / 2 if is_weighted else None
    cv = list(StratifiedKFold(3).split(X, y))
    estimator = logistic(fit_intercept=fit_intercept, max_iter=6, compile=compile)
    steps_of_stacked_and_single_fits(estimator, X, y, cv, weight)
    assert sum(parted.values()) == 3


@each_way
@pytest.mark.parametrize("of_all", [False, True])
def test_a_fold_of_rows_with_rare_columns_or_of_rows_without(of_all, compile, parted):
    X, y = rare_columns(3)
    rows = np.flatnonzero(X[:, ::2].any(axis=1) == of_all)
    cv = [(rows, rows[:9]), *StratifiedKFold(3).split(X, y)]
    steps_of_stacked_and_single_fits(logistic(max_iter=6, compile=compile), X, y, cv)
    assert sum(parted.values()) == 3  # of four folds


@each_way
def test_nothing_but_zeros(compile):
    X, y = iris()
    cv = list(StratifiedKFold(5).split(X, y))
    steps_of_stacked_and_single_fits(logistic(compile=compile), 0 * X, y, cv)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("solver", "compile"), [("lbfgs", False), ("lbfgs", "numba"), ("proximal-newton", False)]
)
def test_folds_on_threads(solver, compile):
    X, y = digits(1797)
    grid = {"C": np.logspace(-4, 4, 15 if solver == "lbfgs" else 10)}
    estimator = logistic(max_iter=3 if solver == "lbfgs" else 1, solver=solver, compile=compile)
    settings = {"cv": 5, "scoring": "neg_log_loss"}
    ours = VectorizedGridSearchCV(estimator, grid, **settings).fit(X, y)
    assert stacked_share(ours) == 1
    theirs = GridSearchCV(estimator, grid, **settings).fit(X, y)
    assert_same_results(ours, theirs, atol=1e-7)


def test_small_stacks():
    X, y = iris()
    whole = VectorizedGridSearchCV(logistic(), {"C": CS}, cv=3).fit(X, y)
    parts = VectorizedGridSearchCV(logistic(), {"C": CS}, cv=3, max_stack_bytes=1).fit(X, y)
    assert_same_results(parts, whole)
    assert whole.vectorization_[0][0] != parts.vectorization_[0][0]


def test_every_fit_that_has_not_converged_warns():
    X, y = iris()
    settings = {"cv": 3, "refit": False}
    with pytest.warns(ConvergenceWarning, match="has not converged after 2 iterations") as ours:
        VectorizedGridSearchCV(logistic(), {"max_iter": [2, 1000]}, **settings).fit(X, y)
    with pytest.warns(ConvergenceWarning) as theirs:
        GridSearchCV(logistic(), {"max_iter": [2, 1000]}, **settings).fit(X, y)
    assert len(ours) == len(theirs) == 3


def test_a_warning_of_max_iter_is_the_same_alone():
    X, y = digits()
    with pytest.warns(ConvergenceWarning, match=r"max_iter=3\): max_iter is reached") as caught:
        VectorizedGridSearchCV(logistic(max_iter=3), {"C": CS[:1]}, cv=2).fit(X, y)
    assert len({str(w.message) for w in caught}) == 1  # of the folds, and of the last fit
    assert len(caught) == 3


@each_way
def test_weights_of_more_models_than_are_multiplied_at_once(compile):
    X, y = digits()
    weight = np.arange(len(y)) % 3 / 2
    grid = {"class_weight": [None, "balanced", {3: 4.0}], "C": np.logspace(-3, 0, 6)}
    settings = {"cv": 2, "scoring": "neg_log_loss"}
    ours = VectorizedGridSearchCV(logistic(compile=compile), grid, **settings)
    theirs = GridSearchCV(logistic(), grid, **settings).fit(X, y, sample_weight=weight)
    assert_same_results(ours.fit(X, y, sample_weight=weight), theirs, atol=1e-7)
    assert stacked_share(ours) == 1


@each_way
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0}])
def test_sample_weight(class_weight, compile):
    X, y = iris()
    weight = np.random.RandomState(0).uniform(size=len(y))
    weight[::7] = 0.0
    estimator = logistic(class_weight=class_weight, compile=compile)
    theirs = GridSearchCV(estimator, {"C": CS}, cv=3).fit(X, y, sample_weight=weight)
    ours = VectorizedGridSearchCV(estimator, {"C": CS}, cv=3).fit(X, y, sample_weight=weight)
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 1


def test_pipeline():
    X, y = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), PCA(), logistic())
    grid = {"logisticregression__C": CS, "pca__n_components": [3, 10]}
    theirs = GridSearchCV(pipeline, grid, cv=4).fit(X, y)
    ours = VectorizedGridSearchCV(pipeline, grid, cv=4).fit(X, y)
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 1


@each_way
def test_float32(compile):
    X, y = digits()
    X = X.astype(np.float32)
    theirs = GridSearchCV(logistic(compile=compile), {"C": CS}, cv=3).fit(X, y)
    ours = VectorizedGridSearchCV(logistic(compile=compile), {"C": CS}, cv=3).fit(X, y)
    assert_same_results(ours, theirs, atol=1 / 130)
    assert stacked_share(ours) == 1
    assert ours.best_estimator_.coef_.dtype == np.float32


@each_way
@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
def test_float32_loses_no_more_than_a_single_fit(C, compile):
    X, y = load_iris(return_X_y=True)
    X, every = X.astype(np.float32), np.arange(len(y))
    estimator = logistic(tol=1e-7, max_iter=1000, C=C, compile=compile)
    search = VectorizedGridSearchCV(estimator, {"C": [C]}, cv=[(every, every[:9])], refit=False)
    stacked = search_estimators(search, X, y)[0].history_["train_loss"]
    alone = clone(estimator).fit(X, y).history_["train_loss"]
    assert stacked[-1] < alone[-1] + 1e-5


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cholesky", "proximal-newton"])
@pytest.mark.parametrize("load", [iris, breast_cancer])
def test_sparse_rows(load, solver):
    X, y = load()
    X = sparse.csr_array(np.where(X < 0.5, 0.0, X))
    estimator = logistic(solver=solver)
    theirs = GridSearchCV(estimator, {"C": CS[:3]}, cv=3).fit(X, y)
    ours = VectorizedGridSearchCV(estimator, {"C": CS[:3]}, cv=3).fit(X, y)
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 1


@each_way
def test_a_fold_without_a_class(compile):
    X, y = iris()
    folds = PredefinedSplit(np.where(y == 2, 0, np.arange(len(y)) % 2 + 1))  # fold 0 is class 2
    settings = {"cv": folds, "return_train_score": True}
    theirs = GridSearchCV(logistic(compile=compile), {"C": CS}, **settings).fit(X, y)
    ours = VectorizedGridSearchCV(logistic(compile=compile), {"C": CS}, **settings).fit(X, y)
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 1


@each_way
def test_logits_beyond_exp(compile):
    X, y = breast_cancer()
    X = 1e4 * X
    theirs = GridSearchCV(logistic(max_iter=20, compile=compile), {"C": [1.0, np.inf]}, cv=3).fit(
        X, y
    )
    ours = VectorizedGridSearchCV(
        logistic(max_iter=20, compile=compile), {"C": [1.0, np.inf]}, cv=3
    ).fit(X, y)
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"class_weight": {0: 0.0, 1: 0.0}}, "at least one value above zero"),
        ({"class_weight": {7: 1.0}}, "must name classes of y"),
        ({"l1_ratio": 0.5}, "must be 0 with solver"),
        ({"solver": "saga"}, "proximal-newton"),
        ({"C": -1.0}, "C"),
        ({"batch_size": 10}, "no mini-batches"),
    ],
)
def test_a_bad_candidate_fails_alone(bad, message):
    X, y = breast_cancer()
    grid = [{"C": [0.1]}, {name: [value] for name, value in bad.items()}]
    settings = {"cv": 3, "error_score": -1.0}
    with pytest.warns(FitFailedWarning, match=message):
        ours = VectorizedGridSearchCV(logistic(), grid, **settings).fit(X, y)
    with pytest.warns(FitFailedWarning, match=message):
        theirs = GridSearchCV(logistic(), grid, **settings).fit(X, y)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )


@each_way
def test_values_that_overflow_fail_as_they_do_alone(compile):
    X, y = breast_cancer()
    X = X * 1e200
    with pytest.raises(ValueError, match="must stay finite") as alone:
        logistic(compile=compile).fit(X, y)
    with pytest.raises(ValueError, match="must stay finite") as stacked:
        VectorizedGridSearchCV(
            logistic(compile=compile), {"C": [1.0]}, cv=3, error_score="raise"
        ).fit(X, y)
    assert str(stacked.value).startswith(str(alone.value)[:40])
