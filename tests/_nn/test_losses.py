"""One test per mathematical claim, over one table of losses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import hinge_loss

from sknets._nn import LOSSES, TASKS, make_loss, weighted_mean

OPTIONS = [
    ("log_loss", {}),
    ("log_loss", {"label_smoothing": 0.1}),
    ("focal_loss", {}),
    ("focal_loss", {"gamma": 0.5, "label_smoothing": 0.2}),
    ("hinge", {}),
]
INSTANCES = [(name, task, options) for name, options in OPTIONS for task in TASKS]
K = 4


@pytest.fixture(params=INSTANCES, ids=str)
def loss_and_task(request):
    name, task, options = request.param
    return make_loss(name, task, **options), task


def sample(task, *leading, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n_outputs = 1 if task == "binary" else K
    logits = torch.randn(*leading, n_outputs, dtype=torch.float64, generator=generator) * 2
    shape = (*leading, K) if task == "multilabel" else leading
    n_values = K if task == "multiclass" else 2
    return logits, torch.randint(n_values, shape, generator=generator)


def test_the_table_of_instances_is_complete():
    assert {name for name, _ in OPTIONS} == set(LOSSES)


def test_one_loss_a_sample_and_any_leading_axes(loss_and_task):
    loss, task = loss_and_task
    logits, target = sample(task, 3, 2, 5)
    losses = loss(logits, target)
    assert losses.shape == (3, 2, 5)
    assert (losses >= 0).all()
    torch.testing.assert_close(losses[1, 1], loss(logits[1, 1], target[1, 1]))


def test_gradient(loss_and_task):
    loss, task = loss_and_task
    logits, target = sample(task, 6)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())


def test_large_logits_stay_finite(loss_and_task):
    loss, task = loss_and_task
    logits, target = sample(task, 20)
    logits = (500 * logits.float()).requires_grad_()
    losses = loss(logits, target)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert logits.grad.isfinite().all()


def test_half_precision_is_computed_in_float32(loss_and_task):
    loss, task = loss_and_task
    logits, target = sample(task, 6)
    logits = logits.bfloat16()
    torch.testing.assert_close(loss(logits, target), loss(logits.float(), target))


def test_weights_multiply_as_repeated_samples(loss_and_task):
    loss, task = loss_and_task
    logits, target = sample(task, 5)
    times = torch.tensor([0, 1, 2, 3, 1])
    weighted = weighted_mean(loss(logits, target), times.double())
    repeated = weighted_mean(
        loss(logits.repeat_interleave(times, 0), target.repeat_interleave(times, 0))
    )
    torch.testing.assert_close(weighted, repeated)


def test_multilabel_is_the_sum_of_binary_losses():
    logits, target = sample("multilabel", 7)
    for name, options in OPTIONS:
        both = make_loss(name, "multilabel", **options), make_loss(name, "binary", **options)
        each = [both[1](logits[:, k : k + 1], target[:, k]) for k in range(K)]
        torch.testing.assert_close(both[0](logits, target), sum(each))


@pytest.mark.parametrize(("name", "options"), [pair for pair in OPTIONS if pair[0] != "hinge"])
def test_one_logit_equals_two_classes(name, options):
    logit, target = sample("binary", 7)
    two = torch.cat([torch.zeros_like(logit), logit], dim=-1)
    torch.testing.assert_close(
        make_loss(name, "binary", **options)(logit, target),
        make_loss(name, "multiclass", **options)(two, target),
    )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_log_loss_equals_torch(label_smoothing):
    logits, target = sample("multiclass", 9)
    torch.testing.assert_close(
        make_loss("log_loss", "multiclass", label_smoothing=label_smoothing)(logits, target),
        F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing),
    )
    logits, target = sample("multilabel", 9)
    smoothed = target.double() * (1 - label_smoothing) + label_smoothing / 2
    torch.testing.assert_close(
        make_loss("log_loss", "multilabel", label_smoothing=label_smoothing)(logits, target),
        F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").sum(-1),
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_equals_its_definition(gamma):
    logits, target = sample("multiclass", 9)
    proba = logits.softmax(-1).gather(-1, target[:, None])[:, 0]
    torch.testing.assert_close(
        make_loss("focal_loss", "multiclass", gamma=gamma)(logits, target),
        -((1 - proba) ** gamma) * proba.log(),
    )


def test_focal_loss_with_gamma_0_is_log_loss():
    for task in TASKS:
        logits, target = sample(task, 9)
        torch.testing.assert_close(
            make_loss("focal_loss", task, gamma=0.0)(logits, target),
            make_loss("log_loss", task)(logits, target),
        )


def test_hinge_equals_scikit_learn():
    logits, target = sample("multiclass", 30)
    ours = make_loss("hinge", "multiclass")(logits, target).mean().item()
    assert ours == pytest.approx(hinge_loss(target.numpy(), logits.numpy()))
    logits, target = sample("binary", 30)
    ours = make_loss("hinge", "binary")(logits, target).mean().item()
    assert ours == pytest.approx(hinge_loss(target.numpy(), logits.numpy()[:, 0]))


def test_weighted_mean_of_a_stack():
    rng = np.random.RandomState(0)
    losses, weights = rng.uniform(size=(3, 6)), rng.uniform(size=(3, 6))
    stacked = weighted_mean(torch.from_numpy(losses), torch.from_numpy(weights))
    np.testing.assert_allclose(
        stacked.numpy(), [np.average(a, weights=w) for a, w in zip(losses, weights, strict=True)]
    )
    shared = weighted_mean(torch.from_numpy(losses), torch.from_numpy(weights[0]))
    np.testing.assert_allclose(shared.numpy(), np.average(losses, axis=1, weights=weights[0]))


def test_weighted_mean_of_weights_that_are_all_zero_is_zero():
    losses = torch.ones(2, 3, requires_grad=True)
    mean = weighted_mean(losses, torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 3.0]]))
    mean.sum().backward()
    torch.testing.assert_close(mean.detach(), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(losses.grad, torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.25, 0.75]]))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("mse", "binary"), {}, ValueError, "loss must be one of .* got 'mse'"),
        (("hinge", "two"), {}, ValueError, "task must be one of .* got 'two'"),
        (("log_loss", "binary"), {"label_smoothing": 1.0}, ValueError, "label_smoothing .* got 1"),
        (("focal_loss", "binary"), {"gamma": -1.0}, ValueError, "gamma must be at least 0, got"),
        (("hinge", "binary"), {"gamma": 1.0}, TypeError, "gamma"),
    ],
)
def test_refuses(arguments, options, error, message):
    with pytest.raises(error, match=message):
        make_loss(*arguments, **options)
