"""MLPClassifier and NetClassifier against a plain torch loop with torch.optim, weight by weight."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.utils import gen_batches, shuffle
from torch import nn

from sknets.neural_network import MLPClassifier, NetClassifier

# Few epochs on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_EPOCHS, BATCH, SEED, RATE = 4, 32, 0, 0.01

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:150] / 16.0, y[:150]


def draw_(net, rng, factor):
    """scikit-learn's initial weights, in its order."""
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                bound = np.sqrt(factor / (layer.in_features + layer.out_features))
                shape = (layer.in_features, layer.out_features)
                layer.weight.copy_(torch.from_numpy(rng.uniform(-bound, bound, shape).T))
                layer.bias.copy_(torch.from_numpy(rng.uniform(-bound, bound, shape[1])))


def make_torch_optimiser(name, net):
    if name == "sgd":
        return torch.optim.SGD(net.parameters(), RATE, momentum=0.9, nesterov=True)
    # So small that it does not matter whether it is corrected for the bias.
    return torch.optim.Adam(net.parameters(), RATE, eps=1e-30)


def torch_loop(net, X, y, solver, *, rng, weight=None, alpha=0.0, loss_of=None):
    """Train `net` as anyone would write it, on rows shuffled by `rng`; return the loss curve."""
    X, y, order, curve = torch.from_numpy(X), torch.from_numpy(y), np.arange(len(X)), []
    weight = torch.ones(len(X)) if weight is None else torch.from_numpy(weight)
    weight = weight.to(X.dtype)
    loss_of = loss_of or nn.CrossEntropyLoss(reduction="none")
    optimiser = make_torch_optimiser(solver, net)
    for _ in range(N_EPOCHS):
        order, total = shuffle(order, random_state=rng), 0.0
        for part in gen_batches(len(X), BATCH):
            batch = torch.from_numpy(order[part])
            optimiser.zero_grad()
            losses = loss_of(net(X[batch]), y[batch])
            penalty = sum(p.square().sum() for p in net.parameters() if p.ndim == 2)
            sum_of_weights = weight[batch].sum()
            loss = ((losses * weight[batch]).sum() + 0.5 * alpha * penalty) / sum_of_weights
            loss.backward()
            optimiser.step()
            total += loss.item() * len(batch)
        curve.append(total / len(X))
    return curve


def assert_equal_nets(clf, net, curve, rtol=1e-9):
    np.testing.assert_allclose(clf.loss_curve_, curve, rtol=rtol)
    for actual, expected in zip(clf.module_.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol)


SETTINGS = {
    "batch_size": BATCH,
    "max_iter": N_EPOCHS,
    "random_state": SEED,
    "learning_rate_init": RATE,
    "epsilon": 1e-30,
    "tol": 0.0,
    "device": "cpu",
}


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp(digits, activation, solver):
    X, y = digits
    make = ACTIVATIONS[activation]
    net = nn.Sequential(nn.Linear(64, 12), make(), nn.Linear(12, 9), make(), nn.Linear(9, 10))
    net.double()
    rng = np.random.RandomState(SEED)
    draw_(net, rng, 2.0 if activation == "logistic" else 6.0)
    curve = torch_loop(net, X, y, solver, rng=rng, alpha=0.5)
    clf = MLPClassifier((12, 9), activation, solver=solver, alpha=0.5, **SETTINGS).fit(X, y)
    assert clf.engine_ == "closed form"
    assert_equal_nets(clf, net, curve)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_mlp_with_sample_weights_and_class_weights(digits, solver):
    X, y = digits
    sample_weight = np.random.RandomState(1).uniform(size=len(X))
    class_weight = {3: 5.0, 8: 0.1}
    weight = sample_weight * np.vectorize(lambda label: class_weight.get(label, 1.0))(y)
    net = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)).double()
    rng = np.random.RandomState(SEED)
    draw_(net, rng, 6.0)
    curve = torch_loop(net, X, y, solver, rng=rng, alpha=0.5, weight=weight)
    clf = MLPClassifier(12, solver=solver, alpha=0.5, class_weight=class_weight, **SETTINGS)
    assert_equal_nets(clf.fit(X, y, sample_weight), net, curve)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_mlp_with_two_classes_and_one_logit(digits, solver):
    X, y = digits[0], digits[1] % 2
    net = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 1)).double()
    rng = np.random.RandomState(SEED)
    draw_(net, rng, 6.0)

    def loss_of(logits, target):
        return nn.functional.binary_cross_entropy_with_logits(
            logits[:, 0], target.double(), reduction="none"
        )

    curve = torch_loop(net, X, y, solver, rng=rng, loss_of=loss_of)
    clf = MLPClassifier(12, solver=solver, alpha=0.0, **SETTINGS).fit(X, y)
    assert_equal_nets(clf, net, curve)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_mlp_with_label_smoothing(digits, solver):
    X, y = digits
    net = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)).double()
    rng = np.random.RandomState(SEED)
    draw_(net, rng, 6.0)
    loss_of = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.2)
    curve = torch_loop(net, X, y, solver, rng=rng, alpha=0.5, loss_of=loss_of)
    clf = MLPClassifier(12, solver=solver, alpha=0.5, label_smoothing=0.2, **SETTINGS).fit(X, y)
    assert clf.engine_ == "closed form"
    assert_equal_nets(clf, net, curve)


def focal_loss(logits, target):
    log_proba = logits.log_softmax(1)[torch.arange(len(target)), target]
    return -((1.0 - log_proba.exp()) ** 2) * log_proba


def hinge_loss(logits, target):
    rows = torch.arange(len(target))
    others = logits.clone()
    others[rows, target] = -np.inf
    return (1.0 + others.amax(1) - logits[rows, target]).clamp(min=0.0)


def squared_error(logits, target):
    return (logits.softmax(1) - nn.functional.one_hot(target, 10)).square().sum(1)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize(
    ("loss", "loss_of"),
    [("focal_loss", focal_loss), ("hinge", hinge_loss), (squared_error, squared_error)],
)
def test_mlp_with_other_losses(digits, loss, loss_of, solver):
    X, y = digits
    weight = np.random.RandomState(1).uniform(size=len(X))
    net = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)).double()
    rng = np.random.RandomState(SEED)
    draw_(net, rng, 6.0)
    curve = torch_loop(net, X, y, solver, rng=rng, alpha=0.5, weight=weight, loss_of=loss_of)
    clf = MLPClassifier(12, solver=solver, alpha=0.5, loss=loss, **SETTINGS).fit(X, y, weight)
    assert clf.engine_ == "autograd"
    assert_equal_nets(clf, net, curve)


def test_mlp_in_float32(digits):
    X, y = digits[0].astype(np.float32), digits[1]
    net = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    rng = np.random.RandomState(SEED)
    draw_(net, rng, 6.0)
    curve = torch_loop(net, X, y, "adam", rng=rng)
    clf = MLPClassifier(12, alpha=0.0, **SETTINGS).fit(X, y)
    assert clf.module_.linears[0].weight.dtype == torch.float32
    assert_equal_nets(clf, net, curve, rtol=2e-4)


@pytest.mark.parametrize(
    # Not batch and adam: the gradient of a bias before a normalisation over the batch is rounding
    # alone, and this Adam makes whole steps of it.
    ("normalization", "solver"),
    [("batch", "sgd"), ("layer", "sgd"), ("layer", "adam")],
)
def test_mlp_with_normalization(digits, solver, normalization):
    X, y = digits
    norm = nn.BatchNorm1d(12) if normalization == "batch" else nn.LayerNorm(12)
    net = nn.Sequential(nn.Linear(64, 12), norm, nn.ReLU(), nn.Linear(12, 10)).double()
    rng = np.random.RandomState(SEED)
    draw_(net, rng, 6.0)
    curve = torch_loop(net, X, y, solver, rng=rng, alpha=0.5)
    settings = {**SETTINGS, "solver": solver, "alpha": 0.5, "normalization": normalization}
    clf = MLPClassifier(12, **settings).fit(X, y)
    assert clf.engine_ == "autograd"
    assert_equal_nets(clf, net, curve)
    for actual, expected in zip(clf.module_.buffers(), net.buffers(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


class Residual(nn.Module):
    """A net that is no chain of layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 16)
        self.second = nn.Linear(16, 16)
        self.last = nn.Linear(16, 10)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.last(h + torch.tanh(self.second(h)))


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_any_module(digits, solver):
    X, y = digits
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = Residual().double()
    given = copy.deepcopy(net)
    clf = NetClassifier(given, solver=solver, alpha=0.5, **SETTINGS).fit(X, y)
    rng = np.random.RandomState(SEED)
    rng.randint(np.iinfo(np.int32).max)  # seeds the module's own random layers
    assert_equal_nets(clf, net, torch_loop(net, X, y, solver, rng=rng, alpha=0.5))
