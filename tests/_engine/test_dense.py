"""The closed-form gradients of dense nets against autograd, one net and stacks of nets."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sknets._core import SeededRandom
from sknets._engine import DenseLayer, DenseStep, FlatParameters, make_dense_step
from sknets._nn import (
    ACTIVATIONS,
    MLP,
    LogLoss,
    get_activation,
    init_glorot_uniform_,
    weighted_mean,
)

TASKS = {"multiclass": 4, "binary": 1, "multilabel": 3}  # logits
N_ROWS, N_FEATURES = 13, 6


def make_generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_net(task="multiclass", activation="tanh", sizes=(7, 5), seed=0, **options):
    net = MLP(N_FEATURES, sizes, TASKS[task], activation, **options).double()
    return init_glorot_uniform_(net, np.random.RandomState(seed), activation)


def make_batch(task, n_rows=N_ROWS, seed=0):
    generator = make_generator(seed)
    x = torch.randn(n_rows, N_FEATURES, generator=generator, dtype=torch.float64)
    if task == "multiclass":
        return x, torch.randint(TASKS[task], (n_rows,), generator=generator)
    shape = (n_rows,) if task == "binary" else (n_rows, TASKS[task])
    return x, torch.randint(2, shape, generator=generator).bool()


def make_weight(kind, seed=1):
    if kind is None:
        return None
    weight = torch.rand(N_ROWS, generator=make_generator(seed), dtype=torch.float64) + 0.1
    if kind == "some zero":
        weight[::3] = 0.0
    if kind == "all zero":
        weight.zero_()
    return weight


def objective(net, x, target, weight, alpha, task, smoothing=0.0):
    """The objective of a batch, by autograd's rules."""
    loss = weighted_mean(LogLoss(task, smoothing)(net(x), target), weight)
    total = x.shape[0] if weight is None else weight.sum()
    penalty = sum((layer.weight**2).sum() for layer in net.linears)
    if weight is not None and not total:
        return loss
    return loss + 0.5 * alpha * penalty / total


def one_step(net, x, target, weight, *, alpha, task, generator=None, smoothing=0.0):
    """Loss and gradients by name, by the closed form."""
    flat = FlatParameters(net)
    loss = LogLoss(task, smoothing)
    step = make_dense_step(net, loss, flat, alpha=alpha, generator=generator)
    step.begin_epoch([len(x)])
    step.gradient(x, step.encode(target), weight)
    return float(step.end_epoch()), {name: p.grad.clone() for name, p in net.named_parameters()}


def check(net, task, weight=None, alpha=0.0, smoothing=0.0):
    x, target = make_batch(task)
    expected = copy.deepcopy(net)
    loss = objective(expected, x, target, weight, alpha, task, smoothing)
    loss.backward()
    actual_loss, gradients = one_step(
        net, x, target, weight, alpha=alpha, task=task, smoothing=smoothing
    )
    assert actual_loss == pytest.approx(loss.item(), rel=1e-12)
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_gradients_equal_autograd(activation, task):
    check(make_net(task, activation), task)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("sizes", [(), (8,), (3, 4, 5)])
def test_gradients_of_any_depth(sizes, task):
    check(make_net(task, sizes=sizes), task, make_weight("positive"), alpha=0.3)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("weight", [None, "positive", "some zero", "all zero"])
@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_weights_and_penalty(task, weight, alpha):
    check(make_net(task), task, make_weight(weight), alpha)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("weight", [None, "some zero"])
@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_label_smoothing(task, weight, smoothing):
    check(make_net(task), task, make_weight(weight), alpha=0.7, smoothing=smoothing)


@pytest.mark.parametrize("task", TASKS)
def test_a_smoothed_loss_is_bounded_like_a_plain_one(task):
    """A probability counts as eps at least; the gradient is that of the loss without bound."""
    net, (x, target) = make_net(task, sizes=()), make_batch(task)
    with torch.no_grad():
        net.linears[-1].weight.mul_(1e4)
    largest = -np.log(np.finfo(float).eps) * (TASKS[task] if task == "multilabel" else 1)
    for smoothing in (0.0, 1e-9, 0.2):
        loss, gradients = one_step(
            copy.deepcopy(net), x, target, None, alpha=0.0, task=task, smoothing=smoothing
        )
        assert 1.0 < loss <= largest
        expected = copy.deepcopy(net)
        objective(expected, x, target, None, 0.0, task, smoothing).backward()
        for name, parameter in expected.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-10, atol=1e-14)


class Objective(torch.autograd.Function):
    """The objective of a batch at any weights, whose gradient is that of the closed form."""

    @staticmethod
    def forward(ctx, vector, flat, step, batch):
        flat.vector.data.copy_(vector)
        step.begin_epoch([len(batch[0])])
        step.gradient(*batch)
        ctx.save_for_backward(flat.grad.clone())
        return step.end_epoch()

    @staticmethod
    def backward(ctx, by_loss):
        return by_loss * ctx.saved_tensors[0], None, None, None


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("weight", [None, "some zero"])
def test_gradcheck(task, activation, weight):
    net, (x, target) = make_net(task, activation), make_batch(task)
    flat = FlatParameters(net)
    step = make_dense_step(net, LogLoss(task), flat, alpha=0.5, generator=None)
    batch = (x, step.encode(target), make_weight(weight))
    vector = flat.vector.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: Objective.apply(v, flat, step, batch), vector)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_dropout_has_the_gradient_of_its_mask(activation):
    rate, (x, target) = 0.4, make_batch("multiclass")
    net = make_net(activation=activation, dropout=rate)
    expected = copy.deepcopy(net)
    generator, h = make_generator(5), x
    for layer in expected.linears[:-1]:
        h = get_activation(activation).module()(layer(h))
        with SeededRandom(generator):
            h = nn.functional.dropout(h, rate)
    loss = LogLoss("multiclass")(expected.linears[-1](h), target).mean()
    loss.backward()
    actual_loss, gradients = one_step(
        net, x, target, None, alpha=0.0, task="multiclass", generator=make_generator(5)
    )
    assert actual_loss == pytest.approx(loss.item(), rel=1e-12)
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-10, atol=1e-14)


def test_dropout_of_one_layer_leaves_the_other_alone():
    x, target = make_batch("multiclass")
    one, same, other = (
        one_step(
            make_net(dropout=(0.0, 0.5)),
            x,
            target,
            None,
            alpha=0.0,
            task="multiclass",
            generator=make_generator(seed),
        )[0]
        for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


def test_an_epoch_of_unequal_batches():
    task, sizes, alpha = "multiclass", [5, 5, 3], 0.4
    x, target = make_batch(task)
    for weight in (None, make_weight("some zero")):
        net = make_net(task)
        flat = FlatParameters(net)
        step = make_dense_step(net, LogLoss(task), flat, alpha=alpha, generator=None)
        step.begin_epoch(sizes)
        expected, start = 0.0, 0
        for size in sizes:
            part = slice(start, start + size)
            batch_weight = None if weight is None else weight[part]
            step.gradient(x[part], step.encode(target[part]), batch_weight)
            batch_loss = objective(net, x[part], target[part], batch_weight, alpha, task)
            expected += batch_loss.item() * size / sum(sizes)
            start += size
        assert float(step.end_epoch()) == pytest.approx(expected, rel=1e-12)


def test_an_epoch_forgets_the_one_before():
    x, target = make_batch("binary")
    net = make_net("binary")
    step = make_dense_step(net, LogLoss("binary"), FlatParameters(net), alpha=0.1, generator=None)
    losses = []
    for weight in (None, make_weight("positive"), None):
        step.begin_epoch([len(x)])
        step.gradient(x, step.encode(target), weight)
        losses.append(float(step.end_epoch()))
    assert losses[0] == losses[2] != losses[1]


def test_huge_logits_stay_finite():
    for task in TASKS:
        net, (x, target) = make_net(task), make_batch(task)
        loss, gradients = one_step(net, x * 1e8, target, None, alpha=0.0, task=task)
        assert 0 < loss < 40 * TASKS[task]
        assert all(torch.isfinite(g).all() for g in gradients.values())


# -- stacks of nets ------------------------------------------------------------------------------


def stack(tensors):
    return torch.stack([t.detach() for t in tensors])


def make_stacked_step(nets, task, alpha, generator=None):
    """A step of M nets with leading axes, and the layers whose gradients it fills."""
    layers, depths = [], list(zip(*(net.linears for net in nets), strict=True))
    weights = [stack(layer.weight for layer in linears) for linears in depths]
    sizes = [w[0].numel() for w in weights]
    flat = torch.cat([w.flatten(1) for w in weights], 1)
    grad = torch.zeros_like(flat)
    views = [v.view_as(w) for v, w in zip(flat.split(sizes, 1), weights, strict=True)]
    grads = [v.view_as(w) for v, w in zip(grad.split(sizes, 1), weights, strict=True)]
    rates = [m.p for m in nets[0].modules() if isinstance(m, nn.Dropout)] or [0.0] * len(views)
    for i, linears in enumerate(depths):
        bias = stack(layer.bias for layer in linears)
        rate = rates[i] if i < len(rates) else 0.0
        layers.append(DenseLayer(views[i], bias, grads[i], torch.zeros_like(bias), rate))
    step = DenseStep(
        layers,
        get_activation(nets[0].activation),
        task,
        penalised=flat,
        penalised_grad=grad,
        alpha=alpha,
        generator=generator,
    )
    return step, layers


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_stack_equals_its_nets_one_by_one(task, weighted):
    n_models, alpha = 3, 0.4
    nets = [make_net(task, seed=m) for m in range(n_models)]
    data = [make_batch(task, seed=m) for m in range(n_models)]
    weight = None
    if weighted:
        weight = torch.stack([make_weight("some zero", seed=m) for m in range(n_models)])
        weight[1] = 0.0  # a model whose rows are all padding
    step, layers = make_stacked_step(nets, task, alpha)
    x = torch.stack([x for x, _ in data])
    encoded = step.encode(torch.stack([target for _, target in data]))
    for part in (slice(0, 8), slice(8, N_ROWS)):
        if part.start == 0:
            step.begin_epoch([8, N_ROWS - 8])
        batch_weight = None if weight is None else weight[:, part]
        step.gradient(x[:, part], tuple(t[..., part] for t in encoded), batch_weight)
    losses = step.end_epoch()
    assert losses.shape == (n_models,)
    for m, net in enumerate(nets):
        flat = FlatParameters(net)
        single = make_dense_step(net, LogLoss(task), flat, alpha=alpha, generator=None)
        single.begin_epoch([8, N_ROWS - 8])
        for part in (slice(0, 8), slice(8, N_ROWS)):
            batch_weight = None if weight is None else weight[m, part]
            single.gradient(data[m][0][part], single.encode(data[m][1][part]), batch_weight)
        assert losses[m].item() == pytest.approx(float(single.end_epoch()), rel=1e-12)
        for layer, linear in zip(layers, net.linears, strict=True):
            torch.testing.assert_close(layer.weight_grad[m], linear.weight.grad)
            torch.testing.assert_close(layer.bias_grad[m], linear.bias.grad)


# -- which nets are covered ----------------------------------------------------------------------


class Doubled(MLP):
    """A net that is an MLP by inheritance only."""

    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("module", "loss"),
    [
        (nn.Sequential(nn.Linear(N_FEATURES, 4)), LogLoss("multiclass")),
        (MLP(N_FEATURES, (5,), 4, normalization="batch"), LogLoss("multiclass")),
        (MLP(N_FEATURES, (5,), 4, normalization="layer"), LogLoss("multiclass")),
        (Doubled(N_FEATURES, (5,), 4), LogLoss("multiclass")),
        (MLP(N_FEATURES, (5,), 4), LogLoss("multiclass", gamma=2.0)),
    ],
    ids=["no MLP", "batch norm", "layer norm", "subclass", "focal"],
)
def test_other_nets_and_losses_are_left_to_autograd(module, loss):
    flat = FlatParameters(module)
    assert make_dense_step(module, loss, flat, alpha=0.0, generator=None) is None
