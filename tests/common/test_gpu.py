"""A GPU gives the numbers of the CPU, and graphs those of single kernels."""

import warnings

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from sknets._engine import CudaGraph
from sknets.linear_model import LogisticRegression, Perceptron
from sknets.model_selection import VectorizedGridSearchCV
from sknets.neural_network import CNNClassifier, MLPClassifier
from tests.common._estimators import each_estimator, fresh, runs_on_gpus

# A few epochs are not to converge; and torch says so where vmap runs a kernel a net.
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:.*not converged", "ignore:.*performance drop"),
]

NETWORKS = {
    "mlp": MLPClassifier((10,)),
    "dropout": MLPClassifier((10, 8), dropout=0.3),
    "batch norm": MLPClassifier((10,), normalization="batch"),
    "batch norm, dropout": MLPClassifier((10,), normalization="batch", dropout=0.2),
    "sgd": MLPClassifier((10,), solver="sgd", learning_rate="invscaling", nesterovs_momentum=False),
    "weights": MLPClassifier((10,), class_weight="balanced", early_stopping=True),
    "order": MLPClassifier((10,), shuffle=False),
    "smoothing": MLPClassifier((10,), label_smoothing=0.1),
    "focal": MLPClassifier((10,), loss="focal_loss", class_weight="balanced"),
    "cnn": CNNClassifier((4, 6), hidden_layer_sizes=(8,)),
    "cnn with all": CNNClassifier(
        (4,), hidden_layer_sizes=(8,), normalization="batch", dropout=0.2, conv_dropout=0.1
    ),
}


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture
def data():
    random_state = np.random.RandomState(0)
    X = random_state.randn(230, 64)
    return X, random_state.randint(3, size=230) + (X[:, 0] > 0)


def network(name, data, **settings):
    """Return a network for a few epochs of several batches, and the data in its shape."""
    clf = fresh(NETWORKS[name], batch_size=32, max_iter=8, random_state=0, precision="float64")
    X, y = data
    return clf.set_params(**settings), (X.reshape(-1, 1, 8, 8) if "cnn" in name else X), y


def assert_same(ours, theirs, rtol):
    assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=rtol)
    expected = theirs.module_.state_dict()
    for name, tensor in ours.module_.state_dict().items():
        wanted = expected[name].cpu()
        assert_allclose(tensor.cpu(), wanted, rtol=100 * rtol, atol=100 * rtol, err_msg=name)


@each_estimator(that=runs_on_gpus)
def test_the_numbers_of_the_cpu(estimator, iris):
    X, y = iris
    clf = fresh(estimator, precision="float64")
    ours, theirs = (fresh(clf, device=device).fit(X, y) for device in ("cuda", "cpu"))
    assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in NETWORKS if "dropout" not in n and "all" not in n])
def test_a_network_is_that_of_the_cpu(name, data):
    clf, X, y = network(name, data)
    assert_same(clf.set_params(device="cuda").fit(X, y), fresh(clf, device="cpu").fit(X, y), 1e-9)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", ["float32", "float64", "bf16"])
def test_graphs_give_the_numbers_of_single_kernels(name, precision, data, monkeypatch):
    clf, X, y = network(name, data, device="cuda", precision=precision)
    graphed = fresh(clf).fit(X, y)
    assert graphed.engine_.endswith(", CUDA graphs")
    monkeypatch.setattr("sknets._base._training.make_block_graphs", lambda *args: None)
    plain = fresh(clf).fit(X, y)
    assert "graphs" not in plain.engine_
    # cuDNN's sums of a convolution have no fixed order, and a bias before batch normalisation moves
    # by nothing but rounding.
    rtol = {"float32": 1e-4, "float64": 1e-9, "bf16": 1e-2}[precision]
    assert_allclose(graphed.loss_curve_, plain.loss_curve_, rtol=rtol)
    if precision == "float64" and "all" not in name:
        assert_same(graphed, plain, 1e-12)


def test_what_cannot_be_captured_runs_without(data, monkeypatch):
    clf, X, y = network("dropout", data, device="cuda")
    expected = fresh(clf).fit(X, y)
    capture = CudaGraph.capture

    def fail(self, call):
        return capture(self, lambda: call() + float(torch.ones((), device="cuda")))

    monkeypatch.setattr(CudaGraph, "capture", fail)
    stream = torch.cuda.current_stream()
    with pytest.warns(RuntimeWarning, match="CUDA graph"):
        plain = fresh(clf).fit(X, y)
    assert torch.cuda.current_stream() == stream
    assert_same(plain, expected, 1e-12)


def test_fits_at_the_same_time(data):
    clf, X, y = network("mlp", data, device="cuda")
    expected = fresh(clf).fit(X, y)
    fits = Parallel(n_jobs=3, backend="threading")(delayed(fresh(clf).fit)(X, y) for _ in range(6))
    for fitted in fits:
        assert_same(fitted, expected, 1e-12)


SEARCHES = {
    "mlp": ("mlp", {"alpha": [0.0, 0.1, 1.0], "learning_rate_init": [0.001, 0.01]}),
    "sgd": ("sgd", {"momentum": [0.5, 0.9]}),
    "stops": ("weights", {"n_iter_no_change": [1, 3]}),
    "dropout": ("dropout", {"dropout": [0.1, 0.4]}),
    "batch norm": ("batch norm", {"alpha": [0.0, 0.1]}),
    "cnn": ("cnn", {"alpha": [0.0, 0.1]}),
    "cnn with all": ("cnn with all", {"alpha": [0.0, 0.1]}),
}


def assert_same_search(estimator, grid, X, y, atol, **settings):
    settings = {"cv": 3, "refit": False, "scoring": "neg_log_loss", **settings}
    ours = VectorizedGridSearchCV(estimator, grid, **settings).fit(X, y)
    theirs = GridSearchCV(estimator, grid, **settings).fit(X, y)
    for key, wanted in theirs.cv_results_.items():
        if "_test_" in key and "rank" not in key:
            assert_allclose(ours.cv_results_[key], wanted, rtol=0, atol=atol, err_msg=key)
    return {place.split()[0] for places in ours.vectorization_ for place in places}


@pytest.mark.parametrize(("name", "grid"), SEARCHES.values(), ids=SEARCHES)
def test_a_search_is_that_of_single_fits(name, grid, data):
    clf, X, y = network(name, data, device="cuda")
    assert assert_same_search(clf, grid, X, y, 1e-8) == {"stack"}


LOGISTIC_SEARCHES = {
    "all together": ({}, {"C": [0.01, 1.0], "class_weight": [None, "balanced"]}, 1e-5),
    "without intercept": ({"fit_intercept": False}, {"C": [0.01, 1.0]}, 1e-5),
    "float32": ({"precision": "float32", "tol": 1e-4}, {"C": [1e-4, 0.01]}, 1e-3),
}


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(
    ("settings", "grid", "atol"), LOGISTIC_SEARCHES.values(), ids=LOGISTIC_SEARCHES
)
def test_a_search_of_logistic_regressions(settings, grid, atol, n_classes, layout, data):
    X, y = data
    clf = LogisticRegression(
        **{"device": "cuda", "precision": "float64", "tol": 1e-8, "max_iter": 1000, **settings}
    )
    assert assert_same_search(clf, grid, layout(X), y % n_classes, atol) == {"stack"}


def test_a_search_of_other_solvers(data):
    clf = LogisticRegression(solver="newton-cholesky", device="cuda", precision="float64", tol=1e-8)
    assert assert_same_search(clf, {"C": [0.01, 1.0]}, *data, 1e-5) == {"solver='newton-cholesky'"}


def test_a_search_of_perceptrons(data):
    clf = Perceptron(device="cuda", precision="float64", random_state=0, max_iter=5, tol=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert_same_search(clf, {"eta0": [0.1, 1.0]}, *data, 1e-9, scoring="accuracy")


def test_stacks_that_do_not_fit_in_memory(data):
    X, y = data
    clf = MLPClassifier((512, 512), batch_size=64, max_iter=3, random_state=0, device="cuda")
    grid = {"alpha": list(np.logspace(-4, 0, 40))}
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    # 120 nets of 1.2 MB have room, but not with their gradients, moments and batches.
    torch.cuda.set_per_process_memory_fraction(min(1.0, 6e8 / total))
    try:
        search = VectorizedGridSearchCV(clf, grid, cv=3, max_stack_bytes=2**40).fit(X, y)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len({place for places in search.vectorization_ for place in places}) > 1
