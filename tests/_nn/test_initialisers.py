import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import nn

from sknets._nn import CNN, MLP, init_glorot_uniform_


@pytest.mark.parametrize("activation", ["relu", "logistic"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_equals_the_weights_scikit_learn_starts_from(activation, dtype, n_classes):
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(20, 6)).astype(dtype), np.arange(20) % n_classes
    theirs = MLPClassifier(
        (5, 4),
        activation=activation,
        solver="sgd",
        learning_rate_init=1e-300 if dtype == np.float64 else 1e-30,
        max_iter=1,
        random_state=7,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(X, y)

    net = MLP(6, (5, 4), 1 if n_classes == 2 else n_classes, activation)
    net = net.to(torch.from_numpy(X).dtype)
    init_glorot_uniform_(net, np.random.RandomState(7), activation)

    for linear, coef, intercept in zip(net.linears, theirs.coefs_, theirs.intercepts_, strict=True):
        np.testing.assert_array_equal(linear.weight.detach().numpy().T, coef)
        np.testing.assert_array_equal(linear.bias.detach().numpy(), intercept)


def test_leaves_the_state_where_scikit_learn_does():
    ours, by_hand = np.random.RandomState(3), np.random.RandomState(3)
    init_glorot_uniform_(MLP(6, (5,), 2), ours)
    by_hand.uniform(size=6 * 5 + 5 + 5 * 2 + 2)
    assert ours.uniform() == by_hand.uniform()


def test_kernels_count_their_positions():
    conv = nn.Conv2d(50, 40, 3)
    init_glorot_uniform_(conv, np.random.RandomState(0), "relu")
    bound = np.sqrt(6 / (50 * 9 + 40 * 9))
    assert 0.999 * bound < conv.weight.abs().max().item() <= bound
    assert 0.9 * bound < conv.bias.abs().max().item() <= bound
    assert abs(conv.weight.mean().item()) < 0.02 * bound


def test_a_kernel_of_one_position_is_a_dense_layer():
    linear, conv = nn.Linear(5, 4), nn.Conv1d(5, 4, 1)
    init_glorot_uniform_(linear, np.random.RandomState(0))
    init_glorot_uniform_(conv, np.random.RandomState(0))
    torch.testing.assert_close(conv.weight.squeeze(-1), linear.weight, rtol=0, atol=0)


def test_one_state_one_net():
    first, second = (
        init_glorot_uniform_(CNN((1, 8), 3), np.random.RandomState(5)).state_dict()
        for _ in range(2)
    )
    for name, weight in first.items():
        assert torch.equal(weight, second[name])


def test_layers_without_bias_and_normalisation_layers():
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3))
    init_glorot_uniform_(net, np.random.RandomState(0))
    assert torch.equal(net[1].weight, torch.ones(3))
