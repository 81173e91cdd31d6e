"""A dense net's logits by NumPy are those of its module."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from sknets import MLPClassifier
from sknets._data import make_rows
from sknets._engine import logits_in_blocks
from sknets._nn import ACTIVATIONS, MLP

CPU = torch.device("cpu")


def logits_of(module, X):
    rows = make_rows(X, dtype=next(module.parameters()).dtype, device=CPU)
    return torch.cat([logits for *_, logits in logits_in_blocks(module, rows)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (30,), (30, 20), (150, 90)])  # the last in parts
def test_logits_are_the_modules(activation, hidden, dtype):
    torch.manual_seed(0)
    module = MLP(5, hidden, 4, activation=activation, dropout=0.5).to(dtype).eval()
    X = torch.randn(5000, 5, dtype=dtype)
    kept = X.clone()
    logits = logits_of(module, X.numpy())
    torch.testing.assert_close(logits, module(X).detach())
    assert torch.equal(X, kept)


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_normalised_nets(normalization):
    module = MLP(5, (30,), 4, normalization=normalization).eval()
    X = torch.randn(3000, 5)
    torch.testing.assert_close(logits_of(module, X.numpy()), module(X).detach())


def _with_another_activation(net):
    net.layers.activation1 = torch.nn.Tanh()


def _with_a_layer_more(net):
    net.layers.add_module("more", torch.nn.Tanh())


def _without_an_activation(net):
    del net.layers.activation1


def _with_an_activation_last(net):
    net.layers.add_module("activation3", torch.nn.ReLU())


@pytest.mark.parametrize(
    "change",
    [
        _with_another_activation,
        _with_a_layer_more,
        _without_an_activation,
        _with_an_activation_last,
    ],
)
def test_nets_whose_layers_somebody_changed(change):
    module = MLP(5, (30, 20), 4).eval()
    change(module)
    X = torch.randn(3000, 5)
    torch.testing.assert_close(logits_of(module, X.numpy()), module(X).detach())


def test_hooks_are_called():
    module = MLP(5, (30,), 4).eval()
    seen = []
    module.layers.dense1.register_forward_hook(lambda *args: seen.append(1))
    logits_of(module, np.zeros((3000, 5), np.float32))
    assert seen


def test_weights_that_are_changed_count_at_once():
    X = np.random.RandomState(0).randn(2000, 5).astype(np.float32)
    clf = MLPClassifier((8,), max_iter=1, device="cpu", random_state=0)
    with pytest.warns(ConvergenceWarning):
        clf.fit(X, X[:, 0] > 0)
    with torch.no_grad():
        clf.module_.layers.output.bias.fill_(50.0)
    assert clf.predict(X).all()


def test_threads_are_as_before():
    from threadpoolctl import threadpool_info

    before = [pool["num_threads"] for pool in threadpool_info()], torch.get_num_threads()
    logits_of(MLP(5, (30,), 4).eval(), np.zeros((3000, 5), np.float32))
    after = [pool["num_threads"] for pool in threadpool_info()], torch.get_num_threads()
    assert after == before
