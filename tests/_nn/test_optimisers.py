"""The update rules against scikit-learn's own and against torch.optim, step by step."""

import copy

import numpy as np
import pytest
import torch
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from sknets._nn import OPTIMISERS, SGD, Adam, make_optimiser

N_STEPS = 40
SETTINGS = {
    "learning_rate_init": 0.02,
    "momentum": 0.8,
    "nesterovs_momentum": True,
    "beta_1": 0.7,
    "beta_2": 0.95,
    "epsilon": 1e-3,
    "power_t": 0.5,
}


def make_parameters():
    rng = np.random.RandomState(0)
    arrays = [rng.normal(size=(4, 3)), rng.normal(size=3)]
    return arrays, [torch.nn.Parameter(torch.from_numpy(a.copy())) for a in arrays]


def gradients():
    """Gradients of very different sizes, a list a step."""
    rng = np.random.RandomState(1)
    for i in range(N_STEPS):
        yield [rng.normal(size=shape) * 10.0 ** (i % 7 - 3) for shape in ((4, 3), (3,))]


def at_a_tensor(optimiser):
    (rate,) = optimiser.next_rates(1)
    optimiser.update_at(torch.tensor(rate, dtype=torch.float64))


BOTH_WAYS = pytest.mark.parametrize("update", [lambda optimiser: optimiser.update(), at_a_tensor])


def assert_same_course(optimiser, params, reference, arrays, rtol=1e-12, update=None):
    for grads in gradients():
        reference.update_params(arrays, grads)
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.from_numpy(g)
        (update or type(optimiser).update)(optimiser)
        for p, a in zip(params, arrays, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), a, rtol=rtol, atol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("nesterov", [True, False])
@BOTH_WAYS
def test_sgd_equals_scikit_learns(momentum, nesterov, update):
    arrays, params = make_parameters()
    reference = SGDOptimizer(arrays, 0.05, "constant", momentum, nesterov)
    optimiser = SGD(params, 0.05, momentum, nesterov)
    assert_same_course(optimiser, params, reference, arrays, update=update)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.999), (0.9, 0.0), (0.5, 0.5)])
@pytest.mark.parametrize("eps", [1e-8, 1e-3, 1.0])
@BOTH_WAYS
def test_adam_equals_scikit_learns(betas, eps, update):
    arrays, params = make_parameters()
    reference = AdamOptimizer(arrays, 0.01, *betas, eps)
    optimiser = Adam(params, 0.01, betas, eps)
    assert_same_course(optimiser, params, reference, arrays, update=update)


def test_a_rate_that_changes_on_the_way():
    arrays, params = make_parameters()
    reference = SGDOptimizer(arrays, 0.05, "invscaling", 0.9, True, 0.5)
    optimiser = SGD(params, 0.05)
    for i, grads in enumerate(gradients()):
        reference.update_params(arrays, grads)
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.from_numpy(g)
        optimiser.update()
        reference.iteration_ends(10 * i)
        optimiser.param_groups[0]["lr"] = reference.learning_rate
        for p, a in zip(params, arrays, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), a, rtol=1e-12, atol=1e-14)


def test_sgd_equals_torchs_while_the_rate_is_constant():
    for momentum, nesterov in ((0.0, False), (0.9, False), (0.9, True)):
        _, params = make_parameters()
        _, others = make_parameters()
        ours = SGD(params, 0.05, momentum, nesterov)
        torchs = torch.optim.SGD(others, 0.05, momentum=momentum, nesterov=nesterov)
        for grads in gradients():
            for group in (params, others):
                for p, g in zip(group, grads, strict=True):
                    p.grad = torch.from_numpy(g.copy())
            ours.update()
            torchs.step()
        for a, b in zip(params, others, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def test_adam_equals_torchs_where_epsilon_does_not_matter():
    _, params = make_parameters()
    _, others = make_parameters()
    ours, torchs = Adam(params, 0.01, eps=1e-30), torch.optim.Adam(others, 0.01, eps=1e-30)
    for grads in gradients():
        for group in (params, others):
            for p, g in zip(group, grads, strict=True):
                p.grad = torch.from_numpy(g.copy())
        ours.update()
        torchs.step()
    for a, b in zip(params, others, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def take(optimiser, params, steps):
    for grads in steps:
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.from_numpy(g)
        optimiser.update()


@pytest.mark.parametrize("solver", OPTIMISERS)
def test_a_loaded_state_goes_on_bit_for_bit(solver):
    steps = list(gradients())
    _, params = make_parameters()
    optimiser = make_optimiser(solver, params, SETTINGS)
    take(optimiser, params, steps[:10])
    state = copy.deepcopy(optimiser.state_dict())
    others = [torch.nn.Parameter(p.detach().clone()) for p in params]
    other = make_optimiser(solver, others, SETTINGS)
    other.load_state_dict(state)
    take(optimiser, params, steps[10:])
    take(other, others, steps[10:])
    for a, b in zip(params, others, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", OPTIMISERS)
def test_the_dtype_of_weights_is_kept(solver, dtype):
    p = torch.nn.Parameter(torch.ones(5, dtype=dtype))
    p.grad = torch.ones_like(p)
    make_optimiser(solver, [p], SETTINGS).update()
    assert p.dtype == dtype
    assert (p < 1).all()


def test_settings_reach_the_optimiser_they_belong_to():
    _, params = make_parameters()
    adam = make_optimiser("adam", params, SETTINGS).param_groups[0]
    assert (adam["lr"], tuple(adam["betas"]), adam["eps"]) == (0.02, (0.7, 0.95), 1e-3)
    sgd = make_optimiser("sgd", params, SETTINGS).param_groups[0]
    assert (sgd["lr"], sgd["momentum"], sgd["nesterov"]) == (0.02, 0.8, True)


def test_records_say_which_rates_are_scheduled():
    assert {name: record.scheduled for name, record in OPTIMISERS.items()} == {
        "adam": False,
        "sgd": True,
    }


def test_rates_of_the_next_updates_count_them():
    _, (param, _) = make_parameters()
    optimiser = Adam([param], 0.1, (0.9, 0.99))
    one_by_one = [rate for _ in range(5) for rate in optimiser.next_rates(1)]
    assert Adam([param], 0.1, (0.9, 0.99)).next_rates(5) == one_by_one
    corrected = [0.1 * (1 - 0.99**t) ** 0.5 / (1 - 0.9**t) for t in range(1, 6)]
    np.testing.assert_allclose(one_by_one, corrected, rtol=1e-14)
