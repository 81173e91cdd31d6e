"""Same seed, same bits; and nothing global is touched."""

import random
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale
from skorch.callbacks import Callback

from sknets.neural_network import CNNClassifier, MLPClassifier, NetClassifier
from tests.common._estimators import each_estimator, fresh
from tests.common._training import failing_net, net_with_dropout, same_course

_DROPPING = {"max_iter": 6, "tol": 0.0, "batch_size": 32, "random_state": 3, "device": "cpu"}
each_random_net = pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(MLPClassifier((16,), dropout=0.3, **_DROPPING), id="MLPClassifier"),
        pytest.param(
            CNNClassifier(
                (4,), hidden_layer_sizes=(8,), dropout=0.3, conv_dropout=0.2, **_DROPPING
            ),
            id="CNNClassifier",
        ),
        pytest.param(NetClassifier(net_with_dropout, **_DROPPING), id="NetClassifier"),
    ],
)
not_converged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    return scale(X)[order], y[order]


# -- the same bits -------------------------------------------------------------------------------


@each_estimator()
def test_same_seed_same_bits(estimator, iris):
    X, y = iris
    first, second = (fresh(estimator).fit(X, y) for _ in range(2))
    assert_array_equal(first.decision_function(X), second.decision_function(X))
    assert_array_equal(second.fit(X, y).decision_function(X), first.decision_function(X))
    state = [np.random.RandomState(5) for _ in range(2)]
    first, second = (fresh(estimator).set_params(random_state=s).fit(X, y) for s in state)
    assert_array_equal(first.decision_function(X), second.decision_function(X))


@not_converged
@each_random_net
def test_same_seed_same_bits_with_dropout(estimator, iris):
    X, y = iris
    first, second = (fresh(estimator).fit(X, y) for _ in range(2))
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert same_course(first.history_, second.history_)
    assert_array_equal(first.predict_proba(X), first.predict_proba(X))
    other = fresh(estimator, random_state=4).fit(X, y)
    assert np.abs(other.predict_proba(X) - first.predict_proba(X)).max() > 1e-3


@not_converged
@each_random_net
def test_no_seed_gives_another_net_each_time(estimator, iris):
    X, y = iris
    first, second = (fresh(estimator, random_state=None).fit(X, y) for _ in range(2))
    assert np.abs(first.predict_proba(X) - second.predict_proba(X)).max() > 1e-3


def grid_of(estimator):
    strength = "C" if "C" in estimator.get_params() else "alpha"
    return {strength: [1e-3, 1e-2]}


@each_estimator()
def test_search_is_the_same_whatever_n_jobs(estimator, iris):
    X, y = iris
    alone, together = (
        GridSearchCV(estimator, grid_of(estimator), cv=2, n_jobs=n_jobs, error_score="raise").fit(
            X, y
        )
        for n_jobs in (1, 2)
    )
    assert alone.cv_results_.keys() == together.cv_results_.keys()
    for name, column in alone.cv_results_.items():
        if "time" not in name:
            assert_array_equal(np.asarray(column), np.asarray(together.cv_results_[name]))
    assert_array_equal(alone.decision_function(X), together.decision_function(X))


@not_converged
@each_random_net
def test_two_fits_in_two_threads_give_what_they_give_alone(estimator, iris):
    X, y = iris
    seeds = [0, 1, 2, 3]

    def fit(seed):
        # Warning filters are shared by all threads; convergence is not at stake here.
        return fresh(estimator, random_state=seed).fit(X, y).predict_proba(X)

    alone = [fit(seed) for seed in seeds]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(fit, seeds))
    for one, other in zip(alone, together, strict=True):
        assert_array_equal(one, other)


# -- nothing global ------------------------------------------------------------------------------


def global_state():
    """Everything global that a fit could disturb."""
    algorithm, keys, *rest = np.random.get_state()
    return {
        "numpy": (algorithm, keys.tobytes(), *rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "mkl threads": mkl_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "numpy errors": np.geterr(),
        "warnings": list(warnings.filters),
    }


def outputs(estimator, X):
    """Call every method that predicts."""
    for method in ("predict", "decision_function", "predict_proba", "predict_log_proba"):
        if hasattr(estimator, method):
            getattr(estimator, method)(X)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("random_state", [0, None])
@each_estimator()
def test_global_state_is_as_it_was(estimator, random_state, iris):
    X, y = iris
    before = global_state()
    fitted = fresh(estimator, random_state=random_state).fit(X, y)
    outputs(fitted, X)
    if hasattr(fitted, "partial_fit"):
        fitted.partial_fit(X, y)
    assert global_state() == before


class Threads(Callback):
    """Notes torch's and MKL's number of threads while a fit runs."""

    def on_epoch_end(self, net, **kwargs):
        self.n_torch, self.mkl = torch.get_num_threads(), mkl_threads()


def mkl_threads():
    return [line for line in torch.__config__.parallel_info().splitlines() if "mkl_get" in line]


@pytest.mark.usefixtures("two_threads")
def test_a_small_net_is_fitted_on_one_thread(iris):
    before = mkl_threads()
    threads = Threads()
    MLPClassifier((4,), max_iter=1, n_iter_no_change=1, callbacks=[threads]).partial_fit(
        *iris, classes=[0, 1, 2]
    )
    assert threads.n_torch == 1
    assert threads.mkl == [line.replace("2", "1") for line in before]
    assert mkl_threads() == before


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("random_state", [0, None])
@not_converged
@each_random_net
def test_global_state_is_as_it_was_with_dropout(estimator, random_state, iris):
    X, y = iris
    before = global_state()
    fitted = fresh(estimator, random_state=random_state).fit(X, y)
    outputs(fitted.partial_fit(X, y), X)
    assert global_state() == before


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("random_state", [0, None])
@pytest.mark.parametrize("error", [RuntimeError("broken module"), KeyboardInterrupt()])
def test_global_state_is_as_it_was_after_an_error(error, random_state, iris):
    before = global_state()
    settings = {**_DROPPING, "random_state": random_state}
    with pytest.raises(type(error)):
        NetClassifier(failing_net(error, 2), **settings).fit(*iris)
    assert global_state() == before


@pytest.mark.usefixtures("two_threads")
@each_estimator()
def test_global_state_is_as_it_was_after_wrong_input(estimator, iris):
    X, y = iris
    before = global_state()
    broken = X.copy()
    broken[3, 1] = np.nan
    failed = fresh(estimator)
    with pytest.raises(ValueError, match="NaN"):
        failed.fit(broken, y)
    with pytest.raises(ValueError, match="weight"):
        failed.fit(X, y, sample_weight=np.zeros(len(X)))
    assert global_state() == before
    assert not [name for name in vars(failed) if name.endswith("_")]


def test_a_callers_random_state_is_drawn_from_and_not_replaced(iris):
    X, y = iris
    source = np.random.RandomState(0)
    net = MLPClassifier((4,), random_state=source, max_iter=5, tol=1e3, n_iter_no_change=1)
    first = net.fit(X, y).predict_proba(X)
    assert net.random_state is source
    assert np.abs(net.fit(X, y).predict_proba(X) - first).max() > 1e-6
