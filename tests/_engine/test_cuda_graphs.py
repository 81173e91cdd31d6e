"""Steps of training as graphs: as without, whatever stands in for CUDA."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sknets._engine import BlockGraphs, make_block_graphs
from sknets._engine._products import CudaProducts, TorchProducts
from sknets._nn import MLP
from sknets.model_selection import VectorizedGridSearchCV
from sknets.neural_network import CNNClassifier, MLPClassifier
from tests._engine._recorded_graph import RecordedGraph

# A few epochs are not to converge, one batch of all is meant, and a net may fail.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*not converged",
    "ignore:batch_size must be",
    "ignore::sklearn.exceptions.FitFailedWarning",
    "ignore:One or more of the test scores are non-finite",
)

SETTINGS = {
    "adam": {},
    "no penalty": {"alpha": 0.0},
    "sgd": {"solver": "sgd"},
    "no momentum": {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "layers": {"hidden_layer_sizes": (9, 8), "activation": "tanh"},
    "gelu": {"activation": "gelu"},
    "no layers": {"hidden_layer_sizes": ()},
    "dropout": {"dropout": 0.3},
    "smoothing": {"label_smoothing": 0.1},
    "classes": {"class_weight": "balanced"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2},
    "in order": {"shuffle": False},
    "one batch": {"batch_size": 1000},
    "batch norm": {"normalization": "batch"},
    "batch norm, dropout": {"normalization": "batch", "dropout": 0.2},
    "focal": {"loss": "focal_loss"},
}


@pytest.fixture
def data():
    random_state = np.random.RandomState(0)
    X = random_state.randn(110, 6)
    return X, random_state.randint(3, size=110) + (X[:, 0] > 0)


@pytest.fixture
def graphs(monkeypatch):
    """Have networks on this device train by recorded graphs, of three batches at most."""
    made = []

    def make(module, device, generator=None):
        made.append(BlockGraphs(RecordedGraph))
        return made[-1]

    def turn_on():
        for where in ("sknets._base._training", "sknets._engine._stack"):
            monkeypatch.setattr(f"{where}.make_block_graphs", make)
            monkeypatch.setattr(f"{where}.MOST_BATCHES", 3)
        return made

    # Kernels that NumPy runs are none of torch's.
    monkeypatch.setattr(
        "sknets._engine._dense.make_products",
        lambda like, stacked: TorchProducts(stacked=True) if stacked else CudaProducts(),
    )
    monkeypatch.setattr(
        "sknets._engine._dense.softplus", lambda x: torch.nn.functional.softplus(x, threshold=37)
    )
    monkeypatch.setattr("sknets._base._training.make_conv_step", lambda *args, **options: None)
    return turn_on


def mlp(**settings):
    defaults = {"hidden_layer_sizes": (10,), "batch_size": 16, "max_iter": 8, "tol": 0.0}
    return MLPClassifier(**{"random_state": 0, **defaults, **settings})


def assert_same(graphed, plain):
    assert_allclose(graphed.loss_curve_, plain.loss_curve_, rtol=1e-12)
    theirs = plain.module_.state_dict()
    for name, tensor in graphed.module_.state_dict().items():
        assert_allclose(tensor, theirs[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_net_is_the_same(data, graphs, settings):
    plain = mlp(**settings).fit(*data)
    made = graphs()
    graphed = mlp(**settings).fit(*data)
    assert_same(graphed, plain)
    assert made[0].n_launches > 0
    assert graphed.engine_ == f"{plain.engine_}, CUDA graphs"


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_targets_and_weights(data, graphs, n_classes, weighted):
    X, y = data
    weights = np.linspace(0.1, 2, len(y)) if weighted else None
    plain = mlp(max_iter=4).fit(X, y % n_classes, sample_weight=weights)
    graphs()
    assert_same(mlp(max_iter=4).fit(X, y % n_classes, sample_weight=weights), plain)


def test_many_labels(data, graphs):
    X, y = data
    labels = np.c_[y > 0, y > 1, X[:, 1] > 0].astype(int)
    plain = mlp(max_iter=4).fit(X, labels)
    graphs()
    assert_same(mlp(max_iter=4).fit(X, labels), plain)


@pytest.mark.parametrize("settings", [{}, {"normalization": "batch"}, {"dropout": 0.2}])
def test_convolutions(data, graphs, settings):
    X, y = data[0].repeat(6, axis=1).reshape(-1, 1, 6, 6), data[1]
    clf = CNNClassifier(
        (2,), kernel_size=3, hidden_layer_sizes=(5,), batch_size=16, max_iter=4, random_state=0
    ).set_params(**settings)
    plain = CNNClassifier(**clf.get_params()).fit(X, y)
    graphs()
    assert_same(clf.fit(X, y), plain)
    assert clf.engine_ == "autograd, CUDA graphs"


def test_going_on(data, graphs):
    def fits():
        warm = mlp(max_iter=3, warm_start=True).fit(*data).fit(*data)
        return warm, mlp(batch_size=4).partial_fit(*data, classes=range(4)).partial_fit(*data)

    plain = fits()
    made = graphs()
    for graphed, wanted in zip(fits(), plain, strict=True):
        assert_same(graphed, wanted)
    assert all(each.n_launches > 0 for each in made)


def test_what_runs_once_is_not_captured(data, graphs):
    made = graphs()
    clf = mlp(max_iter=1, batch_size=50).fit(*data)
    assert made[0].n_launches == 0
    assert clf.engine_ == "closed form"


def test_what_runs_a_few_times_is_not_captured(data, graphs):
    made = graphs()
    mlp(max_iter=3, batch_size=50).fit(*data)  # one block an epoch
    assert made[0].n_launches == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.register_full_backward_hook(lambda *args: None),
        lambda net: net.layers[0].register_forward_hook(lambda *args: None),
        lambda net: next(net.parameters()).register_hook(lambda grad: grad),
        lambda net: torch.nn.utils.parametrizations.weight_norm(net.layers[0]),
        lambda net: net.layers.append(OwnLayer()),
        lambda net: setattr(net.layers[0], "forward", lambda x: x),
    ],
)
def test_what_python_may_do_anything_is_not_captured(change):
    cuda = torch.device("cuda", 0)
    net = MLP(4, (5,), 3, normalization="batch", dropout=0.1)
    assert make_block_graphs(net, cuda) is not None
    assert make_block_graphs(net, torch.device("cpu")) is None
    assert make_block_graphs(net.layers, cuda) is None
    change(net)
    assert make_block_graphs(net, cuda) is None


class OwnLayer(torch.nn.Module):
    """A layer that the library knows nothing of."""

    def forward(self, x):
        return x


def test_without_graphs_where_there_are_none(data, graphs, monkeypatch):
    plain = mlp().fit(*data)

    def fail(self, call):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(RecordedGraph, "capture", fail)
    graphs()
    with pytest.warns(RuntimeWarning, match="CUDA graph .* slower: operation not permitted"):
        clf = mlp().fit(*data)
    assert_same(clf, plain)
    assert clf.engine_ == "closed form"


def test_memory_that_runs_out_is_told_of(data, graphs, monkeypatch):
    def fail(self, call):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(RecordedGraph, "capture", fail)
    graphs()
    with pytest.raises(torch.OutOfMemoryError):
        mlp().fit(*data)


SEARCHES = {
    "rates": {"learning_rate_init": [0.001, 0.01], "alpha": [0.0, 0.1]},
    "moments": {"beta_1": [0.8, 0.9], "learning_rate_init": [0.01, 0.03]},
    "sgd": {"solver": ["sgd"], "momentum": [0.5, 0.9], "learning_rate": ["adaptive"]},
    "stops": {"early_stopping": [True], "n_iter_no_change": [1, 2], "tol": [0.1]},
    "one by one": {"max_iter": [2, 3, 4, 5, 6, 7, 8]},
    "too fast": {"learning_rate_init": [0.001, 0.002, 0.003, 0.004, 0.005, 1e200]},
    "epochs": {"max_iter": [2, 4, 6]},
    "classes": {"class_weight": [None, "balanced"]},
    "smoothing": {"label_smoothing": [0.0, 0.1]},
    "seeds": {"random_state": [0, 1, 2]},
    "many": {"alpha": list(np.logspace(-4, 0, 9)), "learning_rate_init": [0.001, 0.01]},
    "batch norm": {"normalization": ["batch"], "alpha": [0.0, 0.1]},
}


def assert_same_search(estimator, grid, data, graphs):
    """Search with graphs and without, and compare."""

    def search():
        search = VectorizedGridSearchCV(estimator, grid, cv=3, refit=False, scoring="neg_log_loss")
        return search.fit(*data)

    plain = search()
    made = graphs()
    graphed = search()
    for key, wanted in plain.cv_results_.items():
        if "test_" in key:
            assert_allclose(graphed.cv_results_[key], wanted, rtol=0, atol=1e-9, err_msg=key)
    assert sum(each.n_launches for each in made) > 0


@pytest.mark.parametrize("grid", SEARCHES.values(), ids=SEARCHES)
def test_a_stack_is_the_same(data, graphs, grid):
    assert_same_search(mlp(), grid, data, graphs)  # 110 rows: the folds differ in length


def test_blocks_of_one_kind_have_their_own_weights(data, graphs):
    # 73 rows are three blocks of three batches each, and a last one.
    assert_same_search(mlp(batch_size=8), {"class_weight": [None, "balanced"]}, data, graphs)


def test_a_stack_of_convolutions(data, graphs):
    X, y = data[0].repeat(6, axis=1).reshape(-1, 1, 6, 6), data[1]
    clf = CNNClassifier((2,), kernel_size=3, hidden_layer_sizes=(5,), batch_size=16, max_iter=4)
    clf.set_params(random_state=0)
    assert_same_search(clf, {"alpha": [0.0, 0.1]}, (X, y), graphs)
