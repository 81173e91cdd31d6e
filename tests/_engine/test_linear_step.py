"""The mini-batch step of logistic regression against the objective it is a share of."""

import numpy as np
import pytest
import torch
from torch import nn

from sknets._engine._linear_step import LinearStep
from sknets._engine._logistic_objective import LogisticObjective
from sknets._engine._row_blocks import blocks_of_tensor

N, F = 24, 4


def make_case(n_classes, weighted, bias=True):
    rng = np.random.RandomState(0)
    X = torch.from_numpy(rng.standard_normal((N, F)))
    target = torch.from_numpy(rng.randint(n_classes, size=N))
    weight = torch.from_numpy(rng.uniform(0.1, 3.0, N)) if weighted else None
    module = nn.Linear(F, 1 if n_classes == 2 else n_classes, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(rng.standard_normal(parameter.shape)))
    return X, target, weight, module


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_mean_over_equal_batches_is_the_whole_gradient(n_classes, weighted, bias):
    X, target, weight, module = make_case(n_classes, weighted, bias)
    l2, l1 = 0.3, 0.1
    objective = LogisticObjective(
        blocks_of_tensor(X), target, weight, n_classes=n_classes, fit_intercept=bias, l2=l2, l1=l1
    )
    parts = [p.detach().reshape(objective.shape[0], -1) for p in module.parameters()]
    params = torch.cat(parts, dim=1).numpy().ravel()
    whole = objective.loss_gradient(params)[1] + l1 * np.sign(params) * objective.penalised

    mean_weight = 1.0 if weight is None else float(weight.mean())
    step = LinearStep(module, l2=l2, l1=l1, mean_weight=mean_weight)
    sizes = [N // 3] * 3
    step.begin_epoch(sizes)
    total = np.zeros_like(whole)
    encoded = step.encode(target)[0].split(N // 3)
    for i, (x, y) in enumerate(zip(X.split(N // 3), encoded, strict=True)):
        part = None if weight is None else weight.split(N // 3)[i]
        step.gradient(x, (y,), part)
        grads = [p.grad.reshape(objective.shape[0], -1) for p in module.parameters()]
        total += torch.cat(grads, dim=1).numpy().ravel() / 3
    np.testing.assert_allclose(total, whole, rtol=1e-10, atol=1e-14)
    assert float(step.end_epoch()) == pytest.approx(objective.loss(params), rel=1e-12)


def test_bf16_logits_are_near():
    X, target, _, module = make_case(3, False)
    grads = []
    for autocast in (None, torch.bfloat16):
        module = module.float()
        module.zero_grad()
        step = LinearStep(module, l2=0.0, l1=0.0, autocast=autocast)
        step.begin_epoch([N])
        step.gradient(X.float(), step.encode(target), None)
        grads.append(module.weight.grad.clone())
    assert not torch.equal(*grads)
    torch.testing.assert_close(*grads, rtol=0.05, atol=0.02)
