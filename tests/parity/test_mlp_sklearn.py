"""MLPClassifier against scikit-learn's: same random_state, same numbers after every kind of fit."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as Reference
from sklearn.preprocessing import scale

from sknets.neural_network import MLPClassifier
from tests.parity._same_results import each_way

# Few epochs on purpose; both classes say so.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


CURVES = ("loss_curve_", "validation_scores_")
NUMBERS = ("loss_", "best_loss_", "best_validation_score_", "n_iter_", "t_")
PLAIN = ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_")


def make_data(name):
    if name == "multilabel":
        X, y = make_multilabel_classification(150, 10, n_classes=4, random_state=0)
        return scale(X.astype(float)), y
    X, y = {"iris": load_iris, "cancer": load_breast_cancer}[name](return_X_y=True)
    return scale(X), y


def pair(**settings):
    settings = {"hidden_layer_sizes": (9, 5), "max_iter": 12, "random_state": 0, **settings}
    return Reference(**settings), MLPClassifier(**settings, device="cpu")


def assert_close(actual, expected, rtol, what):
    if expected is None:
        assert actual is None, what
    else:
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol, err_msg=what)


def assert_same(ours, reference, X, rtol=1e-9):
    """Weights, curves, numbers and predictions of two fitted classifiers are the same."""
    for name in PLAIN:
        assert getattr(ours, name) == getattr(reference, name), name
    for name in ("coefs_", "intercepts_"):
        actual, expected = getattr(ours, name), getattr(reference, name)
        assert len(actual) == len(expected)
        for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
            assert a.dtype == b.dtype
            assert_close(a, b, rtol, f"{name}[{i}]")
    for name in CURVES + NUMBERS:
        assert hasattr(ours, name) == hasattr(reference, name), name
        if hasattr(reference, name):
            assert_close(getattr(ours, name), getattr(reference, name), rtol, name)
    np.testing.assert_array_equal(ours.classes_, reference.classes_)
    assert_close(ours.predict_proba(X), reference.predict_proba(X), rtol, "predict_proba")
    np.testing.assert_array_equal(ours.predict(X), reference.predict(X))


SETTINGS = {
    "default": {},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "one number of units": {"hidden_layer_sizes": 7},
    "adam with a large epsilon": {"epsilon": 0.1, "beta_1": 0.5, "beta_2": 0.9},
    "adam, fast": {"learning_rate_init": 0.05},
    "ordered": {"shuffle": False},
    "ordered, small batches": {"shuffle": False, "batch_size": 16},
    "batch of one row": {"batch_size": 1, "max_iter": 2},
    "last batch smaller": {"batch_size": 32},
    "last batch of one row": {"batch_size": 149},
    "strong penalty": {"alpha": 10.0},
    "no penalty": {"alpha": 0.0},
    "identity": {"activation": "identity"},
    "logistic": {"activation": "logistic"},
    "tanh": {"activation": "tanh"},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.2},
    "early stopping, best is not the last": {
        "early_stopping": True,
        "learning_rate_init": 0.15,
        "max_iter": 30,
        "n_iter_no_change": 5,
    },
    "ordered early stopping": {"early_stopping": True, "shuffle": False},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.1},
    "sgd without momentum": {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False},
    "sgd, plain momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "sgd, momentum 1": {"solver": "sgd", "momentum": 1.0},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5},
    "invscaling, power 0.1": {
        "solver": "sgd",
        "learning_rate": "invscaling",
        "power_t": 0.1,
        "learning_rate_init": 0.2,
        "batch_size": 20,
    },
    "adaptive": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "learning_rate_init": 0.5,
        "n_iter_no_change": 2,
        "tol": 0.05,
        "max_iter": 200,
    },
    "adaptive with early stopping": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "learning_rate_init": 0.2,
        "early_stopping": True,
        "n_iter_no_change": 2,
        "max_iter": 60,
    },
    "a schedule that adam ignores": {"learning_rate": "adaptive", "power_t": 3.0},
    "converges by tol": {"tol": 0.02, "n_iter_no_change": 3, "max_iter": 300},
    "never stops": {"tol": 1.0, "n_iter_no_change": np.inf},
    "stops at once": {"tol": 1e3, "n_iter_no_change": 1},
}


@each_way
@pytest.mark.parametrize("data", ["iris", "cancer", "multilabel"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_fit(data, settings, compile):
    if compile and settings.get("hidden_layer_sizes") == ():
        pytest.skip("compiled code is for nets with hidden layers")
    X, y = make_data(data)
    reference, ours = pair(**settings)
    ours.set_params(compile=compile)
    assert_same(ours.fit(X, y), reference.fit(X, y), X)


def test_stopping_was_put_to_the_test():
    X, y = make_data("iris")
    stops = {name: pair(**SETTINGS[name])[1].fit(X, y) for name in SETTINGS if "stop" in name}
    assert stops["stops at once"].n_iter_ < 12
    best = stops["early stopping, best is not the last"]
    assert best.validation_scores_[-1] < best.best_validation_score_
    slowed = pair(**SETTINGS["adaptive"])[1].fit(X, y)
    assert slowed.history_["learning_rate"][-1] < slowed.history_["learning_rate"][0]
    assert slowed.n_iter_ < 200


@pytest.mark.parametrize("data", ["iris", "cancer", "multilabel"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_lbfgs(data, activation, alpha):
    X, y = make_data(data)
    reference, ours = pair(solver="lbfgs", activation=activation, alpha=alpha, max_iter=8)
    # A line search makes rounding grow.
    assert_same(ours.fit(X, y), reference.fit(X, y), X, rtol=1e-7)


def test_lbfgs_until_it_converges():
    X, y = make_data("iris")
    reference, ours = pair(solver="lbfgs", activation="tanh", alpha=1.0, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        ours.fit(X, y)
        reference.fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), reference.predict_proba(X), atol=1e-3)
    np.testing.assert_allclose(ours.loss_, reference.loss_, rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"max_fun": 5}], ids=["few iterations", "max_fun"])
def test_lbfgs_that_is_cut_short_warns_as_the_reference_does(settings):
    X, y = make_data("cancer")
    reference, ours = pair(solver="lbfgs", **{"max_iter": 4, **settings})
    for estimator in (reference, ours):
        with pytest.warns(ConvergenceWarning, match="lbfgs"):
            estimator.fit(X, y)
    assert ours.n_iter_ == reference.n_iter_


def test_lbfgs_that_has_nothing_to_do():
    X, y = make_data("iris")
    reference, ours = pair(solver="lbfgs", tol=1e3)
    assert_same(ours.fit(X, y), reference.fit(X, y), X)


@pytest.mark.parametrize("data", ["iris", "cancer", "multilabel"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 16},
        {"solver": "sgd", "learning_rate_init": 0.1},
        {"early_stopping": True},
        {"alpha": 1.0, "shuffle": False},
        {"solver": "lbfgs", "max_iter": 5},
    ],
    ids=str,
)
@each_way
def test_sample_weight(data, settings, compile):
    if compile and settings.get("solver") == "lbfgs":
        pytest.skip("compiled code trains by epochs")
    X, y = make_data(data)
    weight = np.random.RandomState(0).uniform(0.0, 3.0, len(X))
    weight[::7] = 0.0
    reference, ours = pair(**settings)
    rtol = 1e-7 if settings.get("solver") == "lbfgs" else 1e-9
    ours.set_params(compile=compile).fit(X, y, sample_weight=weight)
    assert_same(ours, reference.fit(X, y, sample_weight=weight), X, rtol=rtol)


@pytest.mark.parametrize("weighs", ["rows", "classes"])
def test_losses_of_weights_on_more_rows_than_a_block_of_batches_holds(weighs):
    random_state = np.random.RandomState(0)
    X = random_state.randn(2000, 200)
    y = (X[:, 0] + random_state.randn(2000) > 0).astype(int)
    reference, ours = pair(max_iter=200, tol=1e-3, n_iter_no_change=3, learning_rate_init=0.01)
    weight = np.where(y == 1, 10.0, random_state.uniform(size=2000) if weighs == "rows" else 1.0)
    if weighs == "rows":
        ours.fit(X, y, sample_weight=weight)
    else:
        ours.set_params(class_weight={1: 10.0}).fit(X, y)
    assert_same(ours, reference.fit(X, y, sample_weight=weight), X)


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csr_matrix, sparse.csc_array])
@pytest.mark.parametrize(
    "settings",
    [{}, {"solver": "sgd"}, {"early_stopping": True}, {"solver": "lbfgs", "max_iter": 5}],
    ids=str,
)
def test_sparse(make, settings):
    X, y = make_data("cancer")
    X = np.where(np.abs(X) > 0.8, X, 0.0)
    reference, ours = pair(**settings)
    rtol = 1e-7 if settings.get("solver") == "lbfgs" else 1e-9
    assert_same(ours.fit(make(X), y), reference.fit(make(X), y), make(X), rtol=rtol)


@pytest.mark.parametrize("data", ["iris", "cancer", "multilabel"])
@pytest.mark.parametrize("settings", [{}, {"solver": "sgd"}, {"early_stopping": True}], ids=str)
def test_float32(data, settings):
    X, y = make_data(data)
    X = X.astype(np.float32)
    reference, ours = pair(**settings)
    assert_same(ours.fit(X, y), reference.fit(X, y), X, rtol=2e-4)
    assert ours.predict_proba(X).dtype == np.float32


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.3},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 3},
        {"early_stopping": True},
        {"early_stopping": True, "learning_rate_init": 0.1, "n_iter_no_change": 20},
        {"solver": "lbfgs", "max_iter": 3},
        {"max_iter": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("data", ["iris", "cancer"])
def test_warm_start(data, settings):
    X, y = make_data(data)
    reference, ours = pair(warm_start=True, **settings)
    rtol = 1e-6 if settings.get("solver") == "lbfgs" else 1e-9
    for _ in range(4):
        assert_same(ours.fit(X, y), reference.fit(X, y), X, rtol=rtol)


def test_warm_start_after_early_stopping_with_steps_that_spoil_the_weights():
    X, y = make_data("iris")
    reference, ours = pair(
        warm_start=True, early_stopping=True, learning_rate_init=0.05, max_iter=60, tol=0.0
    )
    for estimator in (reference, ours):
        estimator.fit(X, y).set_params(learning_rate_init=50.0, max_iter=5).fit(X, y)
    assert max(ours.validation_scores_[-5:]) < ours.best_validation_score_
    assert_same(ours, reference, X, rtol=1e-7)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": "sgd", "learning_rate_init": 0.1, "batch_size": 30},
        {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.3},
        {
            "solver": "sgd",
            "learning_rate": "adaptive",
            "learning_rate_init": 0.2,
            "tol": 0.2,
            "n_iter_no_change": 1,
        },
        {"n_iter_no_change": 1, "tol": 10.0},
        {"shuffle": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("data", ["iris", "cancer", "multilabel"])
def test_partial_fit(data, settings):
    X, y = make_data(data)
    classes = np.arange(4) if data == "multilabel" else np.unique(y)
    reference, ours = pair(**settings)
    for i in range(9):
        part = slice(i % 3, None, 3)
        reference.partial_fit(X[part], y[part], classes=classes)
        ours.partial_fit(X[part], y[part], classes=classes)
        assert_same(ours, reference, X)


def test_partial_fit_of_a_part_of_the_classes():
    X, y = make_data("iris")
    reference, ours = pair()
    for part in (slice(0, 50), slice(50, 100), slice(100, 150), slice(0, 150)):
        reference.partial_fit(X[part], y[part], classes=[0, 1, 2])
        ours.partial_fit(X[part], y[part], classes=[0, 1, 2])
        assert_same(ours, reference, X)


def test_partial_fit_with_weights():
    X, y = make_data("iris")
    weight = np.random.RandomState(1).uniform(0.1, 2.0, len(X))
    reference, ours = pair()
    for _ in range(3):
        reference.partial_fit(X, y, classes=[0, 1, 2], sample_weight=weight)
        ours.partial_fit(X, y, classes=[0, 1, 2], sample_weight=weight)
        assert_same(ours, reference, X)


def test_partial_fit_goes_on_from_fit_and_fit_starts_anew():
    X, y = make_data("iris")
    for settings in ({}, {"solver": "sgd", "learning_rate": "invscaling"}):
        reference, ours = pair(**settings)
        assert_same(ours.fit(X, y), reference.fit(X, y), X)
        assert_same(ours.partial_fit(X, y), reference.partial_fit(X, y), X)
        assert_same(ours.fit(X, y), reference.fit(X, y), X)


def test_a_random_state_instance_is_drawn_from_alike():
    X, y = make_data("cancer")
    reference, ours = pair(early_stopping=True)
    reference.set_params(random_state=np.random.RandomState(3))
    ours.set_params(random_state=np.random.RandomState(3))
    for _ in range(2):
        assert_same(ours.fit(X, y), reference.fit(X, y), X)
    assert ours.random_state.randint(1000) == reference.random_state.randint(1000)


@pytest.mark.parametrize(
    "y", [["b", "a"], [True, False], [-3, 7], [2.0, 5.0], ["x", "y", "z"], [10, -1, 3]], ids=str
)
def test_labels_of_any_kind(y):
    X, target = make_data("iris")
    y = np.asarray(y)[target % len(y)]
    reference, ours = pair()
    assert_same(ours.fit(X, y), reference.fit(X, y), X)
    assert ours.predict(X).dtype == reference.predict(X).dtype


def test_large_logits_cost_as_much_as_in_the_reference():
    # With more than two classes: for two, the reference's 1 - p rounds before its logarithm.
    X, y = make_data("iris")
    X = X * 1e3
    for solver in ("adam", "sgd"):
        reference, ours = pair(solver=solver, activation="tanh", hidden_layer_sizes=(), max_iter=4)
        reference.fit(X, y)
        ours.fit(X, y)
        np.testing.assert_allclose(ours.loss_curve_, reference.loss_curve_, rtol=1e-9)


def test_errors_of_the_reference():
    X, y = make_data("iris")
    for estimator in pair():
        with pytest.raises(ValueError, match="classes must be passed on the first call"):
            estimator.partial_fit(X, y)
        with pytest.raises(ValueError, match="has classes not in"):
            estimator.partial_fit(X[:60], y[:60], classes=[0, 1]).partial_fit(X, y)
    for estimator in pair(warm_start=True):
        estimator.fit(X, y)
        with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same"):
            estimator.fit(X, np.minimum(y, 1))
    for estimator in pair(early_stopping=True):
        with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
            estimator.partial_fit(X, y, classes=[0, 1, 2])
        with pytest.raises(ValueError, match=r"alidation set .*Increase"):
            estimator.set_params(validation_fraction=0.005).fit(X, y)
    for estimator in pair(solver="lbfgs"):
        assert not hasattr(estimator, "partial_fit")
