"""The logistic objective: value, gradient and curvature against other ways to get them."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.autograd.functional import hessian

from sknets._engine._logistic_objective import LogisticObjective
from sknets._engine._row_blocks import blocks_of_csr, blocks_of_tensor

N, F = 23, 4
CASES = [
    pytest.param(n_classes, fit_intercept, l2, id=f"{n_classes}classes-{fit_intercept}-{l2}")
    for n_classes in (2, 3)
    for fit_intercept in (True, False)
    for l2 in (0.0, 0.3)
]


@pytest.fixture
def data(rng):
    X = torch.from_numpy(rng.standard_normal((N, F)))
    weight = torch.from_numpy(rng.uniform(0.1, 2.0, N))
    return X, weight


@pytest.fixture
def rng():
    return np.random.RandomState(0)


def make_objective(X, weight, n_classes, seed=1, block_rows=7, **options):
    target = torch.from_numpy(np.random.RandomState(seed).randint(n_classes, size=len(X)))
    return LogisticObjective(
        blocks_of_tensor(X, block_rows=block_rows), target, weight, n_classes=n_classes, **options
    ), target


def plain_loss(flat, X, target, weight, n_classes, fit_intercept, l2):
    """Write the objective down once more, for autograd."""
    params = flat.view(1 if n_classes == 2 else n_classes, -1)
    coef, bias = (params[:, :-1], params[:, -1]) if fit_intercept else (params, 0.0)
    logits = X @ coef.T + bias
    if n_classes == 2:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    losses = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    return (weight * losses).sum() / weight.sum() + 0.5 * l2 * coef.square().sum()


@pytest.mark.parametrize(("n_classes", "fit_intercept", "l2"), CASES)
def test_value_gradient_and_hessian_are_autograds(data, rng, n_classes, fit_intercept, l2):
    X, weight = data
    objective, target = make_objective(X, weight, n_classes, fit_intercept=fit_intercept, l2=l2)
    params = rng.standard_normal(objective.size)
    flat = torch.from_numpy(params).requires_grad_()
    settings = (X, target, weight, n_classes, fit_intercept, l2)
    expected = plain_loss(flat, *settings)
    expected.backward()

    value, grad = objective.loss_gradient(params)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(grad, flat.grad.numpy(), rtol=1e-10, atol=1e-14)

    second = hessian(lambda p: plain_loss(p, *settings), flat.detach()).numpy()
    curvature = objective.curvature(params)
    np.testing.assert_allclose(curvature.matrix().numpy(), second, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(curvature.diagonal(), second.diagonal(), rtol=1e-9)
    vector = rng.standard_normal(objective.size)
    np.testing.assert_allclose(curvature.product(vector), second @ vector, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("block_rows", [1, 5, N, None])
def test_blocks_change_nothing(data, rng, n_classes, block_rows):
    X, weight = data
    whole, _ = make_objective(X, weight, n_classes, block_rows=N, l2=0.1)
    cut, _ = make_objective(X, weight, n_classes, block_rows=block_rows, l2=0.1)
    params = rng.standard_normal(whole.size)
    for a, b in zip(whole.loss_gradient(params), cut.loss_gradient(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_weights_multiply(data, rng, n_classes):
    X, _ = data
    count = torch.from_numpy(rng.randint(0, 4, N))
    weighted, target = make_objective(X, count.double(), n_classes, l2=0.1)
    repeated = LogisticObjective(
        blocks_of_tensor(X.repeat_interleave(count, dim=0)),
        target.repeat_interleave(count),
        n_classes=n_classes,
        l2=0.1,
    )
    params = rng.standard_normal(weighted.size)
    value, grad = weighted.loss_gradient(params)
    expected_value, expected_grad = repeated.loss_gradient(params)
    assert value == pytest.approx(expected_value, rel=1e-12)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-10, atol=1e-14)


def test_two_classes_are_a_softmax_of_two(data, rng):
    X, weight = data
    objective, target = make_objective(X, weight, 2)
    both = LogisticObjective(blocks_of_tensor(X), target, weight, n_classes=3)
    params = rng.standard_normal(objective.size)
    # A third class whose logit is far below the others has no part in the sum.
    rows = np.stack([np.zeros_like(params), params, np.zeros_like(params)])
    rows[2, -1] = -1000.0
    value, grad = both.loss_gradient(rows.ravel())
    expected_value, expected_grad = objective.loss_gradient(params)
    assert value == pytest.approx(expected_value, rel=1e-12)
    np.testing.assert_allclose(grad.reshape(3, -1)[1], expected_grad, rtol=1e-10)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_sparse_equals_dense(data, rng, n_classes):
    X, weight = data
    X = X * torch.from_numpy(rng.uniform(size=X.shape) < 0.4)
    dense, target = make_objective(X, weight, n_classes, l2=0.1)
    for kind in (sparse.csr_array, sparse.csr_matrix):
        blocks = blocks_of_csr(kind(X.numpy()), torch.float64, torch.device("cpu"))
        thin = LogisticObjective(blocks, target, weight, n_classes=n_classes, l2=0.1)
        params, vector = rng.standard_normal((2, dense.size))
        np.testing.assert_allclose(
            thin.loss_gradient(params)[1], dense.loss_gradient(params)[1], rtol=1e-10, atol=1e-14
        )
        a, b = thin.curvature(params), dense.curvature(params)
        np.testing.assert_allclose(a.product(vector), b.product(vector), rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(a.diagonal(), b.diagonal(), rtol=1e-10)
        np.testing.assert_allclose(a.matrix(), b.matrix(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("logit", [30.0, 200.0, 800.0])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_far_logits_are_exact(logit, n_classes):
    """One sample of class 1 and its logit: right by far, then wrong by far."""
    X = torch.ones(1, 1, dtype=torch.float64)
    objective = LogisticObjective(
        blocks_of_tensor(X), torch.tensor([1]), n_classes=n_classes, fit_intercept=False
    )
    for sign in (1.0, -1.0):
        params = np.zeros(objective.size)
        params[0 if n_classes == 2 else 1] = sign * logit
        value, grad = objective.loss_gradient(params)
        others = n_classes - 1
        expected = np.logaddexp(0.0, np.log(others) - sign * logit)
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-15)
        assert np.isfinite(grad).all()


def test_float32_is_close(data, rng):
    X, weight = data
    double, target = make_objective(X, weight, 3, l2=0.1)
    single = LogisticObjective(
        blocks_of_tensor(X.float()), target, weight.float(), n_classes=3, l2=0.1
    )
    params = rng.standard_normal(double.size)
    value, grad = single.loss_gradient(params)
    assert grad.dtype == np.float64
    assert value == pytest.approx(double.loss_gradient(params)[0], rel=1e-6)
    np.testing.assert_allclose(grad, double.loss_gradient(params)[1], rtol=1e-4, atol=1e-6)


def test_l1_penalty_spares_the_intercept(data):
    X, weight = data
    objective, _ = make_objective(X, weight, 3, l1=0.5)
    params = np.ones(objective.shape)
    params[:, -1] = 100.0
    assert objective.l1_penalty(params.ravel()) == pytest.approx(0.5 * 3 * F)
    value = objective.loss_gradient(params.ravel())[0]
    assert objective.loss(params.ravel()) == pytest.approx(value + 0.5 * 3 * F)


def test_centring_changes_no_loss(data, rng):
    X, weight = data
    for options in ({}, {"l2": 0.2}, {"l1": 0.2}):
        objective, _ = make_objective(X, weight, 3, **options)
        params = rng.standard_normal(objective.size)
        centred = objective.centred(params)
        assert objective.loss(centred) == pytest.approx(objective.loss(params), rel=1e-12)
        assert abs(centred.reshape(objective.shape)[:, -1].sum()) < 1e-12


def test_not_finite_raises():
    X = torch.full((3, 1), 1e200, dtype=torch.float64)
    objective = LogisticObjective(blocks_of_tensor(X), torch.tensor([0, 1, 0]), n_classes=2)
    with pytest.raises(ValueError, match="must stay finite"):
        objective.loss_gradient(np.array([1e200, 0.0]))
