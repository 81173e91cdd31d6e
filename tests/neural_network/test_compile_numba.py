"""``compile="numba"`` trains the same nets, or says what it does not cover."""

import _thread
import subprocess
import sys
import threading

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.exceptions import FitFailedWarning
from skorch.callbacks import EpochScoring
from torch import nn

from sknets import CNNClassifier, MLPClassifier, VectorizedGridSearchCV
from sknets._nn import MLP
from tests.parity._data import breast_cancer, multilabel_digits

# Few epochs on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:450] / 16, y[:450]


def pair(**settings):
    settings = {"random_state": 0, "max_iter": 5, "device": "cpu", **settings}
    return MLPClassifier(**settings), MLPClassifier(**settings, compile="numba")


def assert_same(compiled, plain, rtol):
    for name in ("coefs_", "intercepts_"):
        for ours, theirs in zip(getattr(compiled, name), getattr(plain, name), strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol, err_msg=name)
    np.testing.assert_allclose(compiled.loss_curve_, plain.loss_curve_, rtol=rtol)
    assert compiled.n_iter_ == plain.n_iter_


# Batches of products that BLAS packs its factors for, of some that it need not, and of more.
SHAPES = {
    "in parts": {"hidden_layer_sizes": (100,)},
    "in parts, deep": {"hidden_layer_sizes": (96, 80, 72)},
    "at once": {"hidden_layer_sizes": (7, 300)},
    "small batches": {"batch_size": 7},
    "one batch": {"batch_size": 450},
}


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-11), (np.float32, 1e-4)])
@pytest.mark.parametrize("activation", ["identity", "logistic", "relu", "tanh"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_weights_are_those_of_the_other_way(digits, shape, activation, dtype, rtol):
    X, y = digits
    plain, compiled = pair(activation=activation, **shape)
    assert_same(compiled.fit(X.astype(dtype), y), plain.fit(X.astype(dtype), y), rtol)
    assert (plain.engine_, compiled.engine_) == ("closed form", "closed form, numba")


@pytest.mark.parametrize("data", [breast_cancer, lambda: multilabel_digits(300)])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_two_classes_and_many_labels(data, solver):
    X, y = data()
    for extreme in (1.0, 1e3):  # with losses that are bounded
        plain, compiled = pair(solver=solver)
        assert_same(compiled.fit(extreme * X, y), plain.fit(extreme * X, y), 1e-9)


def test_a_batch_of_rows_without_weight(digits):
    X, y = digits
    weight = np.ones(len(X))
    weight[100:300] = 0.0
    plain, compiled = pair(batch_size=50, shuffle=False, class_weight="balanced")
    plain.fit(X, y, sample_weight=weight)
    assert_same(compiled.fit(X, y, sample_weight=weight), plain, 1e-11)


def test_going_on(digits):
    X, y = digits
    plain, compiled = (clf.set_params(max_iter=2) for clf in pair())
    for clf in (plain, compiled):
        clf.partial_fit(X[:200], y[:200], classes=np.arange(10)).partial_fit(X[200:], y[200:])
        clf.set_params(warm_start=True).fit(X, y)
    assert_same(compiled, plain, 1e-11)


def test_the_ways_can_take_turns(digits):
    X, y = digits
    plain, turns = pair()
    for compile in ("numba", False, "numba"):
        turns.set_params(compile=compile).partial_fit(X, y, classes=np.arange(10))
        plain.partial_fit(X, y, classes=np.arange(10))
    assert_same(turns, plain, 1e-11)


def test_validation_rows_of_the_users(digits):
    X, y = digits
    plain, compiled = pair(early_stopping=True)
    for clf in (plain, compiled):
        clf.fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:])
    assert_same(compiled, plain, 1e-11)
    np.testing.assert_allclose(compiled.validation_scores_, plain.validation_scores_)


def test_how_x_lies_in_memory_does_not_matter(digits, tmp_path):
    X, y = digits
    wanted = pair()[1].fit(X, y)
    on_disk = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", X.dtype, X.shape)
    on_disk[:] = X
    on_disk.flush()
    read_only = X.copy()
    read_only.flags.writeable = False
    layouts = (np.asfortranarray(X), X[::-1][::-1], np.load(tmp_path / "X.npy", mmap_mode="r"))
    for layout in (*layouts, read_only, np.repeat(X, 2, axis=1)[:, ::2]):
        same = pair()[1].fit(layout, y)
        for ours, theirs in zip(same.coefs_, wanted.coefs_, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_other_numbers_are_converted(digits):
    X, y = digits
    whole = np.round(16 * X).astype(np.uint8)
    plain, compiled = pair(precision="float64")
    assert_same(compiled.fit(whole, y), plain.fit(whole, y), 1e-11)
    single = whole.astype(np.float32)
    assert_same(compiled.fit(single, y), plain.fit(single, y), 1e-11)


def test_a_map_of_numbers_in_other_bytes(digits, tmp_path):
    X, y = digits
    for dtype in (">f8", ">f4"):
        on_disk = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", dtype, X.shape)
        on_disk[:] = X
        plain, compiled = pair(precision="float64")
        assert_same(compiled.fit(on_disk, y), plain.fit(on_disk, y), 1e-11)
    large = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.float64, X.shape)
    large[:] = 1e300
    for clf in pair(precision="float32"):
        with pytest.raises(ValueError, match="X must hold numbers up to"):
            clf.fit(large, y)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("rate", [np.float16(0.125), np.float32(0.125), np.longdouble(0.125), 1])
def test_rates_of_any_type(digits, solver, rate):
    plain, compiled = pair(solver=solver, learning_rate_init=rate, max_iter=2)
    assert_same(compiled.fit(*digits), plain.fit(*digits), 1e-9)


def test_gradients_whose_squares_are_beyond_float32():
    rng = np.random.RandomState(0)
    X, y = (1e20 * rng.randn(20, 4)).astype(np.float32), np.arange(20) % 3
    plain, compiled = pair(hidden_layer_sizes=(6,), activation="identity")
    assert_same(compiled.fit(X, y), plain.fit(X, y), 1e-5)


def test_a_loss_of_zero():
    X, y = np.repeat([[-1.0], [0.5], [2.0]], 10, axis=0), np.repeat([0, 1, 2], 10)
    settings = {"learning_rate_init": 1000.0, "tol": 0.0, "n_iter_no_change": 2, "alpha": 0.0}
    for clf in pair(hidden_layer_sizes=(20,), **settings, random_state=3, max_iter=20):
        assert clf.fit(X, y).loss_curve_[-5:] == [0.0] * 5
        assert clf.n_iter_ == 20  # a loss of zero that stays does not count as stale


def test_training_that_diverges_is_an_error(digits):
    X, y = digits
    for compiled in (pair(learning_rate_init=1e300)[1], pair(solver="sgd", alpha=1e300)[1]):
        with pytest.raises(ValueError, match="must stay finite"):
            compiled.fit(X, y)


def test_an_interrupt_keeps_the_last_whole_epoch(digits):
    pair()[1].fit(*digits)  # so that nothing is left to compile, which takes longer
    compiled = pair(max_iter=10**6, n_iter_no_change=np.inf, tol=0)[1]
    timer = threading.Timer(1.0, _thread.interrupt_main)
    timer.start()
    with pytest.warns(UserWarning, match="interrupted by user after epoch"):
        compiled.fit(*digits)
    timer.join()
    assert 0 < compiled.n_iter_ == len(compiled.loss_curve_)


# -- what is not covered -------------------------------------------------------------------------

REFUSED = {
    "solver": ("lbfgs", "solver must be one of"),
    "activation": ("gelu", "activation must be one of"),
    "hidden_layer_sizes": ((), "hidden_layer_sizes must be of one layer at least"),
    "dropout": (0.5, "dropout must be 0 with"),
    "normalization": ("batch", "normalization must be None with"),
    "loss": ("hinge", 'loss must be "log_loss" with'),
    "label_smoothing": (0.1, "label_smoothing must be 0 with"),
    "callbacks": ([EpochScoring("accuracy")], "callbacks must be None with"),
    "precision": ("bf16", 'precision must be "auto", "float32" or "float64" with'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_are_not_covered_are_refused(digits, name):
    value, message = REFUSED[name]
    compiled = pair()[1].set_params(**{name: value})
    with pytest.raises(ValueError, match=f'{message}.*compile="numba"'):
        compiled.fit(*digits)
    assert not hasattr(compiled, "module_")


class Changed(MLPClassifier):
    """A network whose module is another than its parameters say."""

    def __init__(self, module=None):
        super().__init__(random_state=0, max_iter=2, device="cpu", compile="numba")
        self.module = module

    def _make_module(self, n_features, codec):
        return self.module


@pytest.mark.parametrize(
    "module",
    [
        MLP(64, (), 10, "relu", 0.0, None),
        MLP(64, (5,), 10, "relu", 0.5, None),
        MLP(64, (5,), 10, "gelu", 0.0, None),
        MLP(64, (5,), 10, "relu", 0.0, "batch"),
        nn.Sequential(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 10)),
    ],
    ids=["no hidden layer", "dropout", "activation", "normalised", "no MLP"],
)
def test_modules_that_are_not_covered_are_refused(digits, module):
    with pytest.raises(ValueError, match='The module must be a plain MLP with compile="numba"'):
        Changed(module.double()).fit(*digits)


def test_a_sparse_x(digits):
    X, y = digits
    plain, compiled = pair(batch_size=100)
    assert_same(compiled.fit(sparse.csr_array(X), y), plain.fit(X, y), 1e-11)


def test_no_callbacks_are_an_empty_list_too(digits):
    plain, compiled = pair()
    assert_same(compiled.set_params(callbacks=[]).fit(*digits), plain.fit(*digits), 1e-11)


@pytest.mark.gpu
def test_a_gpu_is_refused(digits):
    with pytest.raises(ValueError, match=r'device must be "cpu" .*, got .cuda'):
        pair(device="cuda")[1].fit(*digits)


def test_other_networks_refuse_it(digits):
    with pytest.raises(ValueError, match="The 'compile' parameter of CNNClassifier must be"):
        CNNClassifier(compile="numba", input_shape=(8, 8)).fit(*digits)


def test_a_candidate_that_is_not_covered_leaves_the_others_alone(digits):
    grid = {"activation": ["relu", "gelu"]}
    search = VectorizedGridSearchCV(pair()[1], grid, cv=2, error_score=-1.0)
    with pytest.warns(FitFailedWarning, match="activation must be one of"):
        search.fit(*digits)
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] == -1 < scores[0]


def test_numba_is_not_imported_where_it_is_not_asked_for():
    code = "import sys, sknets, sknets.neural_network as n; n.MLPClassifier; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sknets._engine._numba_epochs" in done.stdout.split()
    assert "numba" not in done.stdout.split()


def test_without_numba_an_error_says_how_to_get_it(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r'compile="numba" needs numba, .*sknets\[numba\]'):
        pair()[1].fit(*digits)
