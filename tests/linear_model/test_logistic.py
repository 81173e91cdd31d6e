"""LogisticRegression: parameters, inputs, what a fit leaves, and what it recovers."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_breast_cancer, load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from sknets.datasets import make_two_gaussians
from sknets.linear_model import LogisticRegression
from sknets.model_selection import VectorizedGridSearchCV

FULL_BATCH = ["lbfgs", "newton-cg", "newton-cholesky", "proximal-newton"]
MINI_BATCH = ["adam", "sgd"]
SOLVERS = FULL_BATCH + MINI_BATCH


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def make(solver="lbfgs", **params):
    """Return an estimator that converges without a warning on small sets."""
    if solver in MINI_BATCH:
        params = {
            "tol": 1e-3,
            "max_iter": 1000,
            "learning_rate_init": 0.03,
            "random_state": 0,
            **params,
        }
    return LogisticRegression(solver=solver, device="cpu", **params)


# -- parameters ----------------------------------------------------------------------------------


def test_parameters_are_scikit_learns_and_ours_follow():
    deprecated = {"penalty", "n_jobs"}
    theirs = {k: v for k, v in Reference().get_params().items() if k not in deprecated}
    ours = LogisticRegression().get_params()
    assert {k: ours[k] for k in theirs} == theirs
    assert {"device", "precision"} <= set(ours)


@pytest.mark.parametrize(
    ("solver", "instead"),
    [("liblinear", "newton-cholesky"), ("sag", "lbfgs"), ("saga", "proximal-newton")],
)
def test_solvers_of_scikit_learn_name_the_one_to_use(iris, solver, instead):
    with pytest.raises(ValueError, match=rf'got \'{solver}\'. Use .*"{instead}"'):
        LogisticRegression(solver=solver).fit(*iris)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dual": True}, "dual must be False"),
        ({"l1_ratio": 0.5}, 'l1_ratio must be 0 .* Use solver="proximal-newton"'),
        ({"C": 0.0}, "'C' parameter"),
        ({"solver": "bfgs"}, "'solver' parameter"),
        ({"precision": "bf16"}, 'precision must not be "bf16" with a full-batch solver'),
        ({"batch_size": 10}, "batch_size must be 'auto' with solver='lbfgs'"),
        ({"shuffle": False}, "shuffle must be True"),
        ({"learning_rate_init": 0.1}, "learning_rate_init must be 0.01"),
        ({"learning_rate": "adaptive"}, "learning_rate must be 'constant'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_parameters(iris, params, message):
    clf = LogisticRegression(**params)
    with pytest.raises(ValueError, match=message):
        clf.fit(*iris)
    assert "coef_" not in vars(clf)


def test_l1_ratio_is_of_no_consequence_without_a_penalty(cancer):
    X, y = cancer[0][:, :2], cancer[1]
    plain = LogisticRegression(C=np.inf).fit(X, y)
    np.testing.assert_array_equal(
        LogisticRegression(C=np.inf, l1_ratio=1).fit(X, y).coef_, plain.coef_
    )


def test_one_class_is_an_error():
    with pytest.raises(ValueError, match="at least two classes, got one class: 3"):
        LogisticRegression().fit(np.eye(3), [3, 3, 3])


# -- what a fit leaves ---------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_fitted_attributes(iris, solver, n_classes):
    X, y = iris[0][: 50 * n_classes], iris[1][: 50 * n_classes]
    clf = make(solver).fit(X, y)
    n_rows = 1 if n_classes == 2 else 3
    assert clf.coef_.shape == (n_rows, 4)
    assert clf.intercept_.shape == (n_rows,)
    assert clf.n_iter_.shape == (1,)
    assert clf.n_iter_.dtype == np.int32
    history = pd.DataFrame(clf.history_)
    assert len(history) == clf.n_iter_[0]
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert (history["seconds"] >= 0).all()
    assert clf.score(X, y) > 0.85


@pytest.mark.parametrize("solver", SOLVERS)
def test_without_an_intercept(iris, solver):
    clf = make(solver, fit_intercept=False).fit(*iris)
    np.testing.assert_array_equal(clf.intercept_, np.zeros(3))
    logits = clf.module_(torch.from_numpy(iris[0])).detach().numpy()
    np.testing.assert_allclose(logits, clf.decision_function(iris[0]), rtol=1e-12)


@pytest.mark.parametrize("solver", ["newton-cg", "adam"])
def test_module_has_the_live_weights(iris, solver):
    X, y = iris
    clf = make(solver).fit(X, y)
    logits = clf.module_(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(logits, clf.decision_function(X), rtol=1e-12)
    with torch.no_grad():
        clf.module_.weight.mul_(2.0)
        clf.module_.bias.mul_(2.0)
    np.testing.assert_allclose(clf.decision_function(X), 2 * logits, rtol=1e-12)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.module_.weight.detach().numpy(), clf.coef_)


def test_module_is_not_there_before_a_fit():
    assert not hasattr(LogisticRegression(), "module_")
    with pytest.raises(NotFittedError):
        LogisticRegression().predict([[0.0]])


def test_module_touches_no_global_generator(iris):
    clf = make().fit(*iris)
    before = torch.get_rng_state()
    assert clf.module_.weight.shape == (3, 4)
    make("adam", max_iter=1, tol=1e3, n_iter_no_change=1).set_params(max_iter=5).fit(*iris)
    assert torch.equal(torch.get_rng_state(), before)


def test_sparsify_and_densify(cancer):
    X, y = cancer
    clf = make("proximal-newton", C=0.05, l1_ratio=1.0).fit(X, y)
    dense, scores = clf.coef_.copy(), clf.decision_function(X)
    assert 0 < np.count_nonzero(dense) < dense.size / 2
    assert clf.sparsify() is clf
    assert sparse.issparse(clf.coef_)
    np.testing.assert_allclose(clf.decision_function(X), scores, rtol=1e-12)
    np.testing.assert_allclose(clf.decision_function(sparse.csr_array(X)), scores, rtol=1e-12)
    np.testing.assert_array_equal(clf.module_.weight.detach().numpy(), dense)
    refitted = pickle.loads(pickle.dumps(clf)).set_params(warm_start=True).fit(X, y)
    np.testing.assert_allclose(refitted.coef_, dense, atol=1e-6)
    np.testing.assert_array_equal(clf.densify().coef_, dense)


# -- ways of fitting -----------------------------------------------------------------------------


@pytest.mark.parametrize("solver", MINI_BATCH)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
def test_mini_batches_come_near_the_exact_solution(cancer, solver, weighted, l1_ratio):
    X, y = cancer
    weight = np.random.RandomState(0).uniform(0, 3, len(y)) if weighted else None
    options = {"C": 0.1, "l1_ratio": l1_ratio}
    exact = make("proximal-newton", tol=1e-8, **options).fit(X, y, weight)
    clf = make(
        solver, tol=1e-5, batch_size=32, learning_rate="adaptive", max_iter=3000, **options
    ).fit(X, y, weight)
    assert clf.history_["train_loss"][-1] < exact.history_["train_loss"][-1] + 1e-3
    np.testing.assert_allclose(clf.predict_proba(X), exact.predict_proba(X), atol=0.03)


@pytest.mark.parametrize("solver", SOLVERS)
def test_warm_start_goes_on_from_the_solution(cancer, solver):
    X, y = cancer
    clf = make(solver, warm_start=True, C=0.1)
    if solver in MINI_BATCH:
        clf.set_params(learning_rate="adaptive")
    clf.fit(X, y)
    first = clf.history_["train_loss"]
    clf.fit(X, y)
    assert clf.n_iter_[0] <= 1 or clf.history_["train_loss"][0] < first[0]
    if solver in FULL_BATCH:
        assert clf.n_iter_[0] == 0


def test_warm_start_needs_the_same_classes(iris):
    X, y = iris
    clf = make(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"coef_ must have shape \(1, 4\), got \(3, 4\)"):
        clf.fit(X[:100], y[:100])
    assert clf.coef_.shape == (3, 4)
    assert list(clf.classes_) == [0, 1, 2]


@pytest.mark.parametrize("solver", SOLVERS)
def test_not_to_converge_is_a_warning(cancer, solver):
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        clf = LogisticRegression(solver=solver, tol=1e-10, max_iter=2, random_state=0).fit(*cancer)
    assert clf.n_iter_[0] == 2


# What is scaled must not warn.
@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_rounding_of_float32_that_ends_a_fit_early_is_a_warning():
    X, y = load_breast_cancer(return_X_y=True)  # features of 1e-3 to 1e3
    clf = LogisticRegression(max_iter=5000, device="cpu")
    search = VectorizedGridSearchCV(clf, {"C": [1.0, 2.0]}, cv=2, refit=False)
    for fit in (clf.fit, search.fit):
        with pytest.warns(ConvergenceWarning, match="rounding may be the limit"):
            fit(X.astype(np.float32), y)
        fit(StandardScaler().fit_transform(X).astype(np.float32), y)


@pytest.mark.parametrize("sizes", [(1e-4, 1e3), (1e4, 1e-3)])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_newton_steps_do_not_depend_on_the_units_of_features(sizes, n_classes):
    random_state = np.random.RandomState(0)
    X = random_state.randn(300, 2)
    y = np.digitize(X[:, 0] - X[:, 1] + random_state.randn(300), [0.0, 1.0][: n_classes - 1])
    clf = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, device="cpu")
    expected = clf.fit(X, y).predict_proba(X)
    n_iter = clf.n_iter_[0]
    scaled = clf.fit(X * sizes, y)
    np.testing.assert_allclose(scaled.predict_proba(X * sizes), expected, atol=1e-5)
    assert abs(scaled.n_iter_[0] - n_iter) <= 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # rounding ends it
@pytest.mark.parametrize("seed", [24, 44])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_proximal_walk_ends_where_rounding_lets_nothing_be_gained(seed, dtype):
    random_state = np.random.RandomState(seed)
    X = random_state.randn(120, 10)
    X[:, :3] += 1000
    y = X[:, 3:] @ random_state.randn(7) + random_state.randn(120) > 0
    clf = LogisticRegression(
        C=5.0, l1_ratio=1.0, solver="proximal-newton", tol=1e-7, max_iter=300, device="cpu"
    )
    found = []

    def note(fitted, X, y):
        found.append(fitted.n_iter_[0])
        return 0.0

    everything = [(np.arange(120), np.arange(120))]
    search = VectorizedGridSearchCV(clf, {"C": [5.0]}, cv=everything, scoring=note, refit=False)
    search.fit(X.astype(dtype), y)
    note(clf.fit(X.astype(dtype), y), X, y)
    assert max(found) < 60


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_array], ids=["dense", "CSR"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_features_far_from_zero_cost_an_l1_term_no_iterations(wrap, n_classes):
    random_state = np.random.RandomState(0)
    X = random_state.randn(200, 5)
    y = np.digitize(X[:, 0] - X[:, 1] + random_state.randn(200), [0.0, 1.0][: n_classes - 1])
    far = X + [100.0, 0.0, -50.0, 3.0, 0.1]
    clf = LogisticRegression(solver="proximal-newton", l1_ratio=0.9, C=0.1, tol=1e-8, device="cpu")
    near = clone(clf).fit(X, y)
    clf.fit(wrap(far), y)
    assert clf.n_iter_[0] <= near.n_iter_[0] + 3 < 20
    np.testing.assert_allclose(clf.coef_, near.coef_, atol=1e-6)
    assert ((clf.coef_ == 0) == (near.coef_ == 0)).all()
    assert (clf.coef_ == 0).any()
    search = VectorizedGridSearchCV(clf, {"C": [0.1, 1.0]}, cv=2).fit(wrap(far), y)
    theirs = GridSearchCV(clf, {"C": [0.1, 1.0]}, cv=2).fit(wrap(far), y)
    assert search.vectorization_[0][0] == "stack 1 (4 nets)"
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )


def test_balanced_classes_weigh_the_same_in_sum():
    X, y = make_classification(300, weights=[0.9], random_state=0)
    weight = np.random.RandomState(0).uniform(0.5, 2, len(y))
    totals = np.bincount(y, weight)
    by_hand = weight * weight.sum() / (2 * totals[y])
    options = {"solver": "newton-cholesky", "tol": 1e-8}
    a = LogisticRegression(class_weight="balanced", **options).fit(X, y, weight)
    b = LogisticRegression(**options).fit(X, y, by_hand)
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_weights_equal_repeated_rows(cancer, solver):
    X, y = cancer[0][:100, :5], cancer[1][:100]
    count = np.random.RandomState(0).randint(0, 4, 100)
    options = {"tol": 1e-4, "batch_size": 1000} if solver in MINI_BATCH else {"tol": 1e-10}
    a = make(solver, **options).fit(X, y, count)
    b = make(solver, **options).fit(np.repeat(X, count, axis=0), np.repeat(y, count))
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csr_matrix])
def test_csr_is_as_good_as_dense(solver, kind):
    rng = np.random.RandomState(0)
    X = rng.standard_normal((120, 10)) * (rng.uniform(size=(120, 10)) < 0.3)
    y = (X[:, 0] + 0.5 * rng.standard_normal(120) > 0).astype(int)
    dense, thin = make(solver).fit(X, y), make(solver).fit(kind(X), y)
    np.testing.assert_allclose(thin.coef_, dense.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(thin.predict_proba(kind(X)), dense.predict_proba(X), atol=1e-8)


@pytest.mark.parametrize("solver", FULL_BATCH)
def test_memory_map_of_bytes_is_taken_as_it_is(tmp_path, solver):
    rng = np.random.RandomState(0)
    X = rng.randint(0, 4, (200, 6)).astype(np.uint8)
    y = (X[:, 0] > X[:, 1]).astype(int)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_allclose(
        make(solver).fit(mapped, y).coef_, make(solver).fit(X.astype(float), y).coef_, rtol=1e-9
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_precision(cancer, solver):
    X, y = cancer
    double = make(solver).fit(X, y)
    single = make(solver, precision="float32").fit(X, y)
    assert double.coef_.dtype == np.float64
    assert single.coef_.dtype == np.float32
    assert make(solver).fit(X.astype(np.float32), y).coef_.dtype == np.float32
    np.testing.assert_allclose(single.predict_proba(X), double.predict_proba(X), atol=0.02)


def test_bf16_is_for_mini_batches(cancer):
    X, y = cancer
    clf = make("adam", precision="bf16").fit(X, y)
    assert clf.coef_.dtype == np.float32
    assert clf.score(X, y) > 0.97


def test_separable_classes_without_a_penalty():
    X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), [0, 0, 1, 1]
    for solver in FULL_BATCH:
        clf = make(solver, C=np.inf, max_iter=500).fit(X, y)
        assert np.isfinite(clf.coef_).all()
        np.testing.assert_array_equal(clf.predict(X), y)


@pytest.mark.parametrize("solver", SOLVERS)
def test_failed_fit_leaves_the_estimator_as_it_was(cancer, solver):
    X, y = cancer
    clf = make(solver, precision="float32").fit(X, y)
    before = dict(vars(clf))
    scale, message = 1e37, "must stay finite"
    if solver in ("lbfgs", "adam"):  # whose steps do not overflow from what float32 can hold
        scale, message = 1e40, r"must hold numbers up to 3.4e\+38"
    with pytest.raises(ValueError, match=message):
        clf.fit(scale * X, y)
    assert vars(clf).keys() == before.keys()
    assert all(vars(clf)[name] is before[name] for name in before)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["newton-cg", "newton-cholesky"])
def test_more_precision_is_advised_where_there_is_more(cancer, solver, precision):
    X, y = cancer
    scale = {"float32": 1e37, "float64": 1e200}[precision]
    with pytest.raises(ValueError, match="must stay finite") as raised:
        make(solver, precision=precision).fit(scale * X, y)
    assert ('use precision="float64"' in str(raised.value)) == (precision == "float32")


class InterruptsInTheThirdIteration:
    """A callback of scikit-learn during which the user presses Ctrl-C."""

    n_begun = 0

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.n_begun += context.parent is not None
        if self.n_begun == 3:
            raise KeyboardInterrupt

    def on_fit_task_end(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize("solver", SOLVERS)
def test_interrupt_keeps_the_last_whole_iteration(cancer, solver):
    X, y = cancer
    clf = LogisticRegression(solver=solver, tol=1e-10, random_state=0)
    clf.set_callbacks(InterruptsInTheThirdIteration())
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.warns(UserWarning, match="interrupted by user"):
            clf.fit(X, y)
    assert 2 <= clf.n_iter_[0] <= 3
    assert clf.score(X, y) > 0.9


@pytest.mark.parametrize("solver", ["lbfgs", "proximal-newton", "adam"])
def test_callbacks_of_scikit_learn_see_every_iteration(cancer, solver):
    X, y = cancer
    clf = make(solver)
    monitor = ScoringMonitor(scoring="accuracy")
    clf.set_callbacks(monitor).fit(X, y)
    assert len(monitor.get_logs().data_as_pandas) >= clf.n_iter_[0]


@pytest.mark.parametrize("solver", ["newton-cg", "sgd"])
def test_verbose_prints_a_line_an_iteration(cancer, capsys, solver):
    clf = make(solver, verbose=1).fit(*cancer)
    lines = capsys.readouterr().out.splitlines()
    if solver == "sgd":
        assert lines.pop().endswith("training ends.")
    assert len(lines) == clf.n_iter_[0]


# -- what it recovers ----------------------------------------------------------------------------


@pytest.mark.parametrize("solver", FULL_BATCH)
@pytest.mark.parametrize("distance", [1.0, 2.5])
def test_two_gaussians_are_recovered_within_sampling_error(solver, distance):
    """The error, in units of its covariance by the Fisher information, is chi-squared.

    For each of 20 samples (w - w*)' I(w*) (w - w*) follows a chi-squared law with 3 degrees of
    freedom, so that the sum follows one with 60; it has to lie within its central 99.9 %.
    """
    n_fits, n_samples = 20, 4000
    means = np.array([[0.5, -1.0], [0.5 + 0.6 * distance, -1.0 + 0.8 * distance]])
    total = 0.0
    for seed in range(n_fits):
        sample = make_two_gaussians(n_samples, means=means, random_state=seed)
        clf = make(solver, C=np.inf, tol=1e-7).fit(sample.X, sample.y)
        error = np.append(clf.coef_[0], clf.intercept_) - np.append(sample.coef, sample.intercept)
        rows = np.column_stack([sample.X, np.ones(n_samples)])
        proba = 1 / (1 + np.exp(-(sample.X @ sample.coef + sample.intercept)))
        information = rows.T @ (rows * (proba * (1 - proba))[:, None])
        total += error @ information @ error
    low, high = stats.chi2(3 * n_fits).ppf([0.0005, 0.9995])
    assert low < total < high


def test_two_gaussians_reach_the_bayes_accuracy():
    train = make_two_gaussians(20_000, 5, distance=2.0, random_state=0)
    test = make_two_gaussians(100_000, 5, distance=2.0, random_state=1)
    clf = LogisticRegression(C=np.inf).fit(train.X, train.y)
    assert clf.score(test.X, test.y) == pytest.approx(train.bayes_accuracy, abs=0.005)
