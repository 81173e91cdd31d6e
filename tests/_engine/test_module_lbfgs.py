import copy

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sknets._data import Batches, make_rows
from sknets._engine import (
    AutogradStep,
    FlatParameters,
    FullBatch,
    Progress,
    make_dense_step,
    train_lbfgs,
)
from sknets._nn import MLP, LogLoss, init_glorot_uniform_

N_ROWS = 50


@pytest.fixture
def data():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(N_ROWS, 4)) * (rng.uniform(size=(N_ROWS, 4)) > 0.3)
    y = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(np.int64) + (X[:, 2] > 0)
    weight = rng.uniform(size=N_ROWS)
    weight[:7] = 0.0
    return X, y, weight


def make_objective(data, *, block=N_ROWS, alpha=0.3, weighted=True, to=lambda X: X, closed=True):
    X, y, weight = data
    net = MLP(4, (5,), 3, "tanh").double()
    init_glorot_uniform_(net, np.random.RandomState(0), "tanh")
    flat, loss = FlatParameters(net), LogLoss("multiclass")
    if closed:
        step = make_dense_step(net, loss, flat, alpha=0.0, generator=None)
    else:
        step = AutogradStep(net, loss, flat, alpha=0.0, generator=None, autocast=None)
    rows = make_rows(to(X), dtype=torch.float64, device=torch.device("cpu"))
    batches = Batches(
        rows,
        torch.from_numpy(y),
        torch.from_numpy(weight) if weighted else None,
        batch_size=block,
        random_state=None,
    )
    return FullBatch(flat, step, batches, alpha), net


def start_of(objective):
    return objective.flat.vector.detach().numpy().copy()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("closed", [False, True])
def test_value_and_gradient_equal_autograds(data, weighted, closed):
    objective, net = make_objective(data, weighted=weighted, closed=closed)
    X, y, weight = (torch.from_numpy(array) for array in data)
    weight = weight if weighted else torch.ones(N_ROWS, dtype=torch.float64)
    value, gradient = objective(start_of(objective))
    expected = copy.deepcopy(net)
    expected.zero_grad()
    losses = nn.functional.cross_entropy(expected(X), y, reduction="none")
    penalty = sum(layer.weight.square().sum() for layer in expected.linears)
    total = ((losses * weight).sum() + 0.5 * 0.3 * penalty) / weight.sum()
    total.backward()
    assert value == pytest.approx(total.item(), rel=1e-12)
    for p, other in zip(net.parameters(), expected.parameters(), strict=True):
        part = objective.flat.part(torch.from_numpy(gradient), p)
        torch.testing.assert_close(part, other.grad, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("block", [1, 7, 25])
@pytest.mark.parametrize("to", [lambda X: X, sparse.csr_array], ids=["dense", "csr"])
def test_blocks_add_up_to_the_whole(data, weighted, block, to):
    whole, _ = make_objective(data, weighted=weighted)
    parts, _ = make_objective(data, weighted=weighted, block=block, to=to)
    start = start_of(whole)
    value, gradient = whole(start)
    other_value, other_gradient = parts(start)
    assert other_value == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(other_gradient, gradient, rtol=1e-9, atol=1e-14)


def run(objective, progress=None, **options):
    options = {"tol": 1e-6, "max_iter": 500, "max_fun": 15000, "verbose": False, **options}
    return train_lbfgs(objective, progress or Progress(), n_threads=1, **options)


def test_it_reaches_a_stationary_point_and_leaves_it_in_the_module(data):
    objective, _ = make_objective(data)
    progress = Progress()
    start_value, _ = objective(start_of(objective))
    n_iter, loss = run(objective, progress)
    value, gradient = objective(start_of(objective))
    assert np.abs(gradient).max() < 1e-4
    assert value == pytest.approx(loss, rel=1e-9)
    assert value < start_value
    assert n_iter == len(progress.history["epoch"])
    losses = progress.history["train_loss"]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(loss)
    flat = objective.flat
    for p in flat.parameters:
        torch.testing.assert_close(p.detach(), flat.part(flat.vector.detach(), p), rtol=0, atol=0)


@pytest.mark.parametrize("limit", [{"max_iter": 3}, {"max_fun": 3}])
def test_a_limit_that_is_reached_is_a_warning(data, limit):
    objective, _ = make_objective(data)
    with pytest.warns(ConvergenceWarning, match="max_iter or max_fun"):
        n_iter, loss = run(objective, **limit)
    assert n_iter <= 3
    assert np.isfinite(loss)


def test_nothing_to_do_keeps_the_weights_and_knows_the_loss(data):
    objective, _ = make_objective(data)
    start = start_of(objective)
    n_iter, loss = run(objective, tol=1e6)
    assert n_iter == 0
    assert loss == pytest.approx(objective(start)[0])
    np.testing.assert_array_equal(start_of(objective), start)


def test_a_loss_that_is_not_finite_stops_with_what_to_try(data):
    X, y, weight = data
    objective, _ = make_objective((np.full_like(X, np.nan), y, weight), closed=False)
    with pytest.raises(ValueError, match=r"loss must stay finite, got nan in iteration 1 of lbfgs"):
        run(objective)


def test_verbose_prints_a_line_an_iteration(data, capsys):
    objective, _ = make_objective(data)
    with pytest.warns(ConvergenceWarning):
        run(objective, max_iter=3, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["Iteration 1", "Iteration 2", "Iteration 3"]


class Interrupting(FullBatch):
    """An objective during whose n-th evaluation the user presses Ctrl-C."""

    def __call__(self, values):
        self.calls_left -= 1
        if self.calls_left < 0:
            raise KeyboardInterrupt
        return super().__call__(values)


def test_an_interrupt_keeps_the_last_whole_iteration(data):
    objective, _ = make_objective(data)
    objective = Interrupting(objective.flat, objective.step, objective.batches, objective.alpha)
    objective.calls_left = 6
    progress = Progress()
    with pytest.warns(UserWarning, match="interrupted by user after iteration"):
        n_iter, loss = run(objective, progress)
    assert n_iter >= 1
    objective.calls_left = 1
    assert objective(start_of(objective))[0] == pytest.approx(progress.history["train_loss"][-1])
    assert loss == pytest.approx(progress.history["train_loss"][-1])


def test_an_interrupt_before_the_first_iteration_is_passed_on(data):
    objective, _ = make_objective(data)
    objective = Interrupting(objective.flat, objective.step, objective.batches, objective.alpha)
    objective.calls_left = 0
    with pytest.raises(KeyboardInterrupt):
        run(objective)
