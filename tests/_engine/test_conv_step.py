"""The closed-form gradients of convolutional nets against autograd."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sknets._engine import AutogradStep, FlatParameters, make_conv_step
from sknets._nn import ACTIVATIONS, CNN, HingeLoss, LogLoss, init_glorot_uniform_

IMAGE, SIGNAL = (2, 9, 8), (2, 30)
N_OUTPUTS = {"multiclass": 4, "binary": 1, "multilabel": 3}


def make_net(shape=IMAGE, task="multiclass", dtype=torch.float64, **settings):
    settings = {"conv_channels": (3, 5), "hidden_layer_sizes": (6,), **settings}
    net = CNN(shape, N_OUTPUTS[task], **settings).double()
    activation = settings.get("activation", "relu")
    return init_glorot_uniform_(net, np.random.RandomState(0), activation).to(dtype)


def make_batch(net, task="multiclass", n_rows=11, seed=0):
    rng = np.random.RandomState(seed)
    dtype = next(net.parameters()).dtype
    x = torch.from_numpy(rng.normal(size=(n_rows, int(np.prod(net.input_shape))))).to(dtype)
    shape = (n_rows, 3) if task == "multilabel" else (n_rows,)
    n_values = 4 if task == "multiclass" else 2
    target = torch.from_numpy(rng.randint(n_values, size=shape))
    return x, target if task == "multiclass" else target.bool()


def run(
    make_step,
    net,
    batches,
    *,
    task="multiclass",
    weight=None,
    autocast=None,
    alpha=0.3,
    smoothing=0.0,
):
    """Loss of an epoch, and the gradient of its last batch."""
    flat = FlatParameters(net)
    generator = torch.Generator().manual_seed(3)
    loss = LogLoss(task, smoothing)
    step = make_step(net, loss, flat, alpha=alpha, generator=generator, autocast=autocast)
    step.begin_epoch([len(x) for x, _ in batches])
    for x, target in batches:
        step.gradient(x, step.encode(target), None if weight is None else weight[: len(x)])
    return float(step.end_epoch()), flat.grad.clone()


def check(net, task="multiclass", weight=None, smoothing=0.0):
    # The second batch finds the memory of the first, the third is shorter.
    batches = [make_batch(net, task, n_rows, seed) for seed, n_rows in enumerate((11, 11, 7))]
    settings = {"task": task, "weight": weight, "smoothing": smoothing}
    expected_loss, expected = run(AutogradStep, copy.deepcopy(net), batches, **settings)
    loss, gradient = run(make_conv_step, net, batches, **settings)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hidden_layer_sizes": ()},
        {"conv_channels": (4,), "pool": None},
        {"conv_channels": (1, 1, 2), "pool": ("max", None, "avg")},
        {"pool": "avg", "padding": "valid"},
        {"pool_size": ((2, 3), 3)},
        {"kernel_size": (4, (1, 2)), "pool": (None, "max")},  # "same" pads one side more
        {"kernel_size": (2, 3), "stride": (1, (1, 2)), "dilation": ((2, 1), 1), "pool": None},
        {"padding": (1, 2), "stride": 2},
        {"channels": "last"},
    ],
)
@pytest.mark.parametrize("shape", [IMAGE, SIGNAL], ids=["image", "signal"])
def test_gradient_equals_autograd(shape, settings):
    if shape is SIGNAL:
        settings = {
            name: tuple(v[-1] if isinstance(v, tuple) else v for v in value)
            if isinstance(value, tuple)
            else value
            for name, value in settings.items()
        }
    if settings.get("channels") == "last":
        shape = (*shape[1:], shape[0])
        shape = (shape[-1], *shape[:-1])
    check(make_net(shape, **settings))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_gradient_with_each_activation(activation):
    check(make_net(activation=activation, pool=("max", "avg")))


@pytest.mark.parametrize("shape", [IMAGE, SIGNAL], ids=["image", "signal"])
@pytest.mark.parametrize("conv_dropout", [0.3, (0.0, 0.3), (0.3, 0.0)])
def test_dropout_draws_the_masks_of_autograd(shape, conv_dropout):
    check(make_net(shape, conv_dropout=conv_dropout, dropout=0.4, activation="tanh"))


@pytest.mark.parametrize("task", N_OUTPUTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_of_each_task(task, weighted):
    weight = None
    if weighted:
        weight = torch.linspace(0.0, 2.0, 11, dtype=torch.float64)
    check(make_net(task=task), task, weight)
    check(make_net(task=task), task, weight, smoothing=0.3)


def test_a_batch_in_parts_has_the_gradient_of_the_whole(monkeypatch):
    monkeypatch.setattr("sknets._engine._conv_step._PART_BYTES", 1)
    for n_rows in (1, 3, 8):  # in parts of 8 and 3 rows, 3 and 2, 1
        monkeypatch.setattr("sknets._engine._conv_step._PART_ROWS", n_rows)
        check(make_net(conv_dropout=0.3, pool=("max", "avg")))


def test_equal_values_in_a_window_have_the_gradient_of_autograd():
    net = make_net(conv_channels=(4,), padding="valid", pool_size=3)
    with torch.no_grad():
        net.features.conv1.bias[:2] = torch.tensor([0.5, -0.5])  # equal above 0 and below
    x, target = torch.zeros(5, 144, dtype=torch.float64), torch.arange(5) % 4
    x[2:] = 1.0
    x[4, :72] = -2.0
    batches = [(x, target)]
    expected = run(AutogradStep, copy.deepcopy(net), batches)[1]
    torch.testing.assert_close(run(make_conv_step, net, batches)[1], expected, rtol=1e-10, atol=0)


def test_the_slope_of_the_loss():
    net = make_net(activation="tanh")
    batches = [make_batch(net)]
    _, gradient = run(make_conv_step, copy.deepcopy(net), batches)
    flat = FlatParameters(net)
    weights, step = flat.vector.detach(), 1e-5
    for i in range(0, len(weights), 37):
        losses = []
        for sign in (1, -1):
            moved = copy.deepcopy(net)
            moved_flat = FlatParameters(moved)
            moved_flat.vector.detach()[i] += sign * step
            losses.append(run(make_conv_step, moved, batches)[0])
        slope = (losses[0] - losses[1]) / (2 * step)
        assert gradient[i].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_in_single_precision(channels):
    net = make_net(
        (channels, 28, 28), dtype=torch.float32, conv_channels=(1, 8), conv_dropout=(0.2, 0.3)
    )
    net.memory_format = torch.channels_last
    batches = [make_batch(net, n_rows=64)]
    expected_loss, expected = run(AutogradStep, copy.deepcopy(net), batches)
    loss, gradient = run(make_conv_step, net, batches)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    torch.testing.assert_close(
        gradient, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
    )


def test_a_large_dense_layer():
    net = make_net((1, 28, 28), dtype=torch.float32, hidden_layer_sizes=(256,))
    batches = [make_batch(net, n_rows=200)]
    expected_loss, expected = run(AutogradStep, copy.deepcopy(net), batches)
    loss, gradient = run(make_conv_step, net, batches)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    torch.testing.assert_close(
        gradient, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
    )


def test_bf16_is_as_exact_as_autocast():
    net = make_net((1, 28, 28), conv_channels=(8, 8))
    batches = [make_batch(net, n_rows=64)]
    exact_loss, exact = run(AutogradStep, copy.deepcopy(net), batches)
    net, errors = net.float(), []
    net.memory_format = torch.channels_last
    batches = [(x.float(), target) for x, target in batches]
    for make_step in (make_conv_step, AutogradStep):
        loss, gradient = run(make_step, copy.deepcopy(net), batches, autocast=torch.bfloat16)
        assert loss == pytest.approx(exact_loss, rel=0.01)
        errors.append(float((gradient - exact).norm() / exact.norm()))
    assert 1e-4 < errors[0] < max(0.05, 1.2 * errors[1])


def test_what_is_not_covered_has_no_closed_form():
    for net in (
        make_net(normalization="batch"),
        make_net(normalization="layer"),
        make_net(pool="l2"),
        make_net(conv_channels=()),
        nn.Sequential(nn.Conv2d(2, 3, 3)).double(),
    ):
        flat = FlatParameters(net)
        none = {"alpha": 0.0, "generator": None, "autocast": None}
        assert make_conv_step(net, LogLoss("multiclass"), flat, **none) is None
    net = make_net()
    net.features.append(nn.ReLU6())  # somebody has changed it
    assert make_conv_step(net, LogLoss("multiclass"), FlatParameters(net), **none) is None
    net = make_net()
    net.features.conv1.weight.requires_grad_(False)
    assert make_conv_step(net, LogLoss("multiclass"), FlatParameters(net), **none) is None
    net = make_net()
    flat = FlatParameters(net)
    for loss in (HingeLoss("multiclass"), LogLoss("multiclass", gamma=2.0)):
        assert make_conv_step(net, loss, flat, **none) is None
    assert make_conv_step(net, LogLoss("multiclass"), flat, **none) is not None
