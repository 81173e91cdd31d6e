import copy

import pytest
import torch
from torch import nn

from sknets._engine import AutogradStep, FlatParameters, make_dense_step
from sknets._nn import MLP, LogLoss, weighted_mean


def make_generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_module(*extra):
    torch_state = torch.random.get_rng_state()
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), *extra, nn.Linear(6, 3)).double()
    torch.random.set_rng_state(torch_state)
    return module


@pytest.fixture
def batch():
    generator = make_generator()
    x = torch.randn(11, 4, generator=generator, dtype=torch.float64)
    target = torch.randint(3, (11,), generator=generator)
    weight = torch.rand(11, generator=generator, dtype=torch.float64)
    weight[2] = 0.0
    return x, target, weight


def make_step(module, task="multiclass", alpha=0.0, generator=None, autocast=None):
    flat = FlatParameters(module)
    loss = LogLoss(task)
    return AutogradStep(
        module, loss, flat, alpha=alpha, generator=generator, autocast=autocast
    ), flat


@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_and_loss_are_of_the_weighted_mean_and_the_penalty(batch, weighted):
    x, target, weight = batch
    weight = weight if weighted else None
    module, alpha = make_module(), 0.3
    expected = copy.deepcopy(module)
    total = weight.sum() if weighted else len(x)
    penalty = expected[0].weight.square().sum() + expected[2].weight.square().sum()
    objective = weighted_mean(LogLoss("multiclass")(expected(x), target), weight)
    objective = objective + 0.5 * alpha * penalty / total
    objective.backward()
    step, _ = make_step(module, alpha=alpha)
    step.begin_epoch([len(x)])
    step.gradient(x, step.encode(target), weight)
    assert float(step.end_epoch()) == pytest.approx(objective.item(), rel=1e-12)
    for actual, wanted in zip(module.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, wanted.grad, rtol=1e-12, atol=1e-15)


def test_gradients_do_not_add_up_over_batches(batch):
    x, target, _ = batch
    step, flat = make_step(make_module())
    step.begin_epoch([len(x)] * 2)
    step.gradient(x, step.encode(target), None)
    first = flat.vector.grad.clone()
    step.gradient(x, step.encode(target), None)
    torch.testing.assert_close(flat.vector.grad, first, rtol=0, atol=0)


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_closed_form_on_the_nets_that_it_covers(task, weighted):
    n_logits = {"multiclass": 3, "binary": 1, "multilabel": 3}[task]
    generator = make_generator()
    x = torch.randn(10, 4, generator=generator, dtype=torch.float64)
    shape = (10, 3) if task == "multilabel" else (10,)
    target = torch.randint(2, shape, generator=generator)
    target = target if task == "multiclass" else target.bool()
    weight = torch.rand(10, generator=generator, dtype=torch.float64) if weighted else None
    net = MLP(4, (5,), n_logits, "tanh").double()
    other = copy.deepcopy(net)
    step, flat = make_step(net, task, alpha=0.2)
    other_flat = FlatParameters(other)
    closed = make_dense_step(other, LogLoss(task), other_flat, alpha=0.2, generator=None)
    losses = []
    for s in (step, closed):
        s.begin_epoch([6, 4])
        encoded = s.encode(target)
        for part in (slice(0, 6), slice(6, 10)):
            batch_weight = None if weight is None else weight[part]
            s.gradient(x[part], tuple(t[..., part] for t in encoded), batch_weight)
        losses.append(float(s.end_epoch()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    torch.testing.assert_close(flat.vector.grad, other_flat.vector.grad, rtol=1e-10, atol=1e-14)


def test_a_batch_of_zero_weights_has_no_gradient(batch):
    x, target, weight = batch
    step, flat = make_step(make_module(), alpha=1.0)
    step.begin_epoch([len(x)])
    step.gradient(x, step.encode(target), torch.zeros_like(weight))
    assert float(step.end_epoch()) == 0.0
    assert (flat.vector.grad == 0).all()


def test_dropout_draws_from_the_generator_alone(batch):
    x, target, _ = batch
    module = make_module(nn.Dropout(0.5))
    module.train()
    before = torch.random.get_rng_state()
    grads = []
    for seed in (0, 0, 1):
        step, flat = make_step(copy.deepcopy(module).train(), generator=make_generator(seed))
        step.begin_epoch([len(x)])
        step.gradient(x, step.encode(target), None)
        grads.append(flat.vector.grad.clone())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(grads[0], grads[1])
    assert not torch.equal(grads[0], grads[2])


def test_bf16_gives_float32_gradients_close_to_float32s(batch):
    x, target, _ = batch
    x = x.float()
    module = make_module().float()
    grads, losses = [], []
    for autocast in (None, torch.bfloat16):
        step, flat = make_step(copy.deepcopy(module), autocast=autocast)
        step.begin_epoch([len(x)])
        step.gradient(x, step.encode(target), None)
        grads.append(flat.vector.grad.clone())
        losses.append(float(step.end_epoch()))
    assert grads[1].dtype == torch.float32
    assert not torch.equal(grads[0], grads[1])
    torch.testing.assert_close(grads[0], grads[1], rtol=0.1, atol=0.01)
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
