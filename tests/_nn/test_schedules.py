import numpy as np
import pytest
import torch
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

from sknets._nn import SGD, make_schedule


def make(name, initial=0.3, power_t=0.5):
    optimiser = SGD([torch.nn.Parameter(torch.zeros(2))], initial)
    return make_schedule(name, optimiser, initial=initial, power_t=power_t), optimiser


def make_reference(name, initial=0.3, power_t=0.5):
    return SGDOptimizer([np.zeros(2)], initial, name, power_t=power_t)


@pytest.mark.parametrize("name", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize("power_t", [0.0, 0.5, 1.7])
def test_rates_after_epochs_equal_scikit_learns(name, power_t):
    schedule, optimiser = make(name, power_t=power_t)
    reference = make_reference(name, power_t=power_t)
    for n_seen in (0, 10, 20, 1000):
        schedule.end_epoch(n_seen)
        reference.iteration_ends(n_seen)
        assert schedule.rate == pytest.approx(reference.learning_rate, rel=1e-14)
        assert optimiser.param_groups[0]["lr"] == schedule.rate


@pytest.mark.parametrize("name", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize("initial", [1e-6, 1e-5, 0.3])
def test_plateaus_equal_scikit_learns(name, initial):
    schedule, _ = make(name, initial)
    reference = make_reference(name, initial)
    for _ in range(12):
        stops = schedule.stops_at_plateau()
        assert stops == reference.trigger_stopping("", False)
        assert schedule.rate == pytest.approx(reference.learning_rate, rel=1e-14)
        if stops:
            return
    pytest.fail("the plateaus never ended training")


def test_every_group_of_the_optimiser_follows():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimiser = torch.optim.SGD(groups, 0.4)  # groups of one's own are torch's
    schedule = make_schedule("adaptive", optimiser, initial=0.4, power_t=0.5)
    assert not schedule.stops_at_plateau()
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.08, 0.08])
