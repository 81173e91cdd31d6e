"""Full-batch solvers: each finds the minimum, and says how it went."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.preprocessing import StandardScaler

from sknets._engine._full_batch import SOLVERS, minimise
from sknets._engine._logistic_objective import LogisticObjective
from sknets._engine._row_blocks import blocks_of_csr, blocks_of_tensor

LOADERS = {"binary": load_breast_cancer, "multinomial": load_iris}
SMOOTH = sorted(SOLVERS)


def make_objective(name="multinomial", dtype=torch.float64, **options):
    X, y = LOADERS[name](return_X_y=True)
    X = torch.from_numpy(StandardScaler().fit_transform(X)).to(dtype)
    return LogisticObjective(
        blocks_of_tensor(X), torch.from_numpy(y).long(), n_classes=len(set(y)), **options
    )


def smallest_subgradient(objective, params):
    """Return the largest component of the smallest subgradient of F."""
    flat = params.ravel()
    grad = objective.loss_gradient(flat)[1]
    strength = objective.l1 * objective.penalised
    at_zero = np.maximum(np.abs(grad) - strength, 0)
    return np.where(flat == 0, at_zero, np.abs(grad + strength * np.sign(flat))).max()


@pytest.mark.parametrize("solver", SMOOTH)
@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_gradient_vanishes(solver, name, fit_intercept):
    objective = make_objective(name, l2=0.01, fit_intercept=fit_intercept)
    result = minimise(objective, solver, tol=1e-8, max_iter=500)
    assert result.converged
    assert smallest_subgradient(objective, result.params) <= 1e-8
    assert result.n_iter == len(result.losses) == len(result.seconds)
    assert result.losses[-1] == pytest.approx(objective.loss(result.params.ravel()), rel=1e-9)


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(("l1", "l2"), [(0.05, 0.0), (0.02, 0.02), (0.3, 0.0), (10.0, 0.0)])
def test_proximal_newton_reaches_the_optimality_conditions(name, l1, l2):
    objective = make_objective(name, l1=l1, l2=l2)
    result = minimise(objective, "proximal-newton", tol=1e-10)
    assert result.converged
    assert smallest_subgradient(objective, result.params) <= 1e-10
    if l1 == 10.0:
        assert not result.params[:, :-1].any()


@pytest.mark.parametrize("solver", ["newton-cg", "newton-cholesky", "proximal-newton"])
def test_loss_never_rises(solver):
    objective = make_objective("binary", l2=1e-4)
    losses = minimise(objective, solver, tol=1e-8).losses
    assert np.all(np.diff(losses) <= 1e-14)


@pytest.mark.parametrize("solver", SMOOTH)
def test_start_at_the_minimum_takes_no_iteration(solver):
    objective = make_objective(l2=0.1)
    first = minimise(objective, "newton-cholesky", tol=1e-10)
    again = minimise(objective, solver, start=first.params, tol=1e-6)
    assert again.n_iter == 0
    assert again.converged
    np.testing.assert_allclose(again.params, first.params, atol=1e-12)


@pytest.mark.parametrize("solver", SMOOTH)
@pytest.mark.parametrize("max_iter", [0, 1, 3])
def test_max_iter_is_a_limit(solver, max_iter):
    result = minimise(make_objective(l2=1e-3), solver, tol=1e-12, max_iter=max_iter)
    assert result.n_iter == max_iter
    assert not result.converged


@pytest.mark.parametrize("solver", SMOOTH)
def test_separable_classes_stop_at_a_small_gradient(solver):
    X = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]], dtype=torch.float64)
    target = torch.tensor([0, 0, 1, 1])
    objective = LogisticObjective(blocks_of_tensor(X), target, n_classes=2)
    result = minimise(objective, solver, tol=1e-6, max_iter=1000)
    assert result.converged
    assert np.isfinite(result.params).all()
    assert ((X.numpy() @ result.params[:, :1].T + result.params[:, 1] > 0).ravel() == target).all()


@pytest.mark.parametrize("solver", SMOOTH)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_collinear_columns_give_the_shortest_solution(solver, n_classes):
    """Without a penalty the minimum of a repeated column is a line; its shortest point shares."""
    rng = np.random.RandomState(0)
    x = rng.standard_normal((60, 2))
    target = torch.from_numpy(rng.randint(n_classes, size=60))
    twice = torch.from_numpy(np.column_stack([x, x[:, 0]]))
    once = LogisticObjective(blocks_of_tensor(torch.from_numpy(x)), target, n_classes=n_classes)
    both = LogisticObjective(blocks_of_tensor(twice), target, n_classes=n_classes)
    single = minimise(once, solver, tol=1e-9, max_iter=500).params
    double = minimise(both, solver, tol=1e-9, max_iter=500).params
    np.testing.assert_allclose(double[:, 0], double[:, 2], rtol=1e-5)
    np.testing.assert_allclose(double[:, 0] + double[:, 2], single[:, 0], rtol=1e-5)
    np.testing.assert_allclose(double[:, [1, 3]], single[:, 1:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("solver", ["newton-cg", "newton-cholesky", "proximal-newton"])
def test_scales_far_apart_cost_little(solver):
    X, y = load_breast_cancer(return_X_y=True)
    objective = LogisticObjective(
        blocks_of_tensor(torch.from_numpy(X)), torch.from_numpy(y), n_classes=2, l2=1 / len(y)
    )
    result = minimise(objective, solver, tol=1e-6)
    assert result.converged
    assert result.n_iter < 30


@pytest.mark.parametrize("solver", SMOOTH)
def test_float32_reaches_the_float64_minimum(solver):
    exact = minimise(make_objective(l2=0.01), "newton-cholesky", tol=1e-12).params
    objective = make_objective(l2=0.01, dtype=torch.float32)
    result = minimise(objective, solver, tol=1e-5)
    assert result.converged
    np.testing.assert_allclose(result.params, exact, atol=2e-3 * np.abs(exact).max())


@pytest.mark.parametrize("solver", SMOOTH)
def test_sparse_rows_give_the_dense_solution(solver):
    X, y = load_digits(n_class=3, return_X_y=True)
    X, target = X[:150] / 16.0, torch.from_numpy(y[:150]).long()
    thin = blocks_of_csr(sparse.csr_array(X), torch.float64, torch.device("cpu"))
    dense = blocks_of_tensor(torch.from_numpy(X))
    params = [
        minimise(
            LogisticObjective(blocks, target, n_classes=3, l2=0.01), solver, tol=1e-8, max_iter=500
        ).params
        for blocks in (thin, dense)
    ]
    np.testing.assert_allclose(*params, atol=1e-5)


@pytest.mark.parametrize("solver", SMOOTH)
def test_interrupt_keeps_the_last_whole_iteration(solver):
    seen = []

    def interrupt(params, loss):
        seen.append(params.copy())
        if len(seen) == 2:
            raise KeyboardInterrupt

    objective = make_objective("binary", l2=1e-3)
    result = minimise(objective, solver, tol=1e-10, on_iteration=interrupt)
    assert result.interrupted
    assert not result.converged
    assert result.n_iter == 2
    np.testing.assert_array_equal(result.params.ravel(), seen[-1])


@pytest.mark.parametrize("solver", SMOOTH)
def test_not_finite_raises(solver):
    X = torch.tensor([[1e200], [-1e200], [3e200]], dtype=torch.float64)
    objective = LogisticObjective(
        blocks_of_tensor(X), torch.tensor([0, 1, 1]), torch.full((3,), np.nan), n_classes=2
    )
    with pytest.raises(ValueError, match="must stay finite"):
        minimise(objective, solver)


def test_interrupt_before_an_iteration_is_whole_is_raised():
    objective = make_objective("binary")

    class Interrupted:
        def __getattr__(self, name):
            if name == "loss_gradient":
                raise KeyboardInterrupt
            return getattr(objective, name)

    with pytest.raises(KeyboardInterrupt):
        minimise(Interrupted(), "newton-cg")


@pytest.mark.parametrize("solver", SMOOTH)
def test_stops_when_asked(solver):
    objective = make_objective("binary", l2=1e-3)
    result = minimise(objective, solver, tol=1e-10, on_iteration=lambda params, loss: True)
    assert result.stopped
    assert result.n_iter == 1
