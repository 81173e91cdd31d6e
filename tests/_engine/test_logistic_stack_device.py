"""Stacks of logistic regressions as a device computes them give what NumPy gives.

They run on the CPU, with torch's kernels in the place of NumPy's.
"""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.model_selection import GridSearchCV

from sknets._data import make_rows
from sknets._engine import (
    DeviceFold,
    DeviceLogisticStack,
    Fold,
    LogisticStack,
    StackedModel,
    blocks_of_rows,
    run_stack,
)
from sknets._engine._row_blocks import DenseBlock, SparseTensorBlock
from sknets.linear_model import LogisticRegression
from sknets.model_selection import VectorizedGridSearchCV
from tests.parity._same_results import assert_same_results, stacked_share

pytestmark = pytest.mark.usefixtures("torch_kernels")

CPU = torch.device("cpu")
N, N_FEATURES = 150, 6
C = [0.01, 0.1, 1.0, 10.0]


@pytest.fixture(params=[2, 3], ids=["two classes", "three classes"])
def data(request):
    random_state = np.random.RandomState(0)
    X = random_state.randn(N, N_FEATURES)
    y = np.sort(random_state.randint(request.param, size=N))
    X[:, 0] += y
    return X, y


@pytest.fixture
def torch_kernels(monkeypatch):
    """Compute on the CPU what rows take as on an accelerator."""
    monkeypatch.setattr("sknets._engine._logistic_loss.in_numpy", lambda tensor: False)
    monkeypatch.setattr("sknets._engine._row_blocks._dense_block", DenseBlock)
    monkeypatch.setattr(
        "sknets._engine._row_blocks.CsrBlock", lambda rows: SparseTensorBlock(rows, CPU)
    )


def device_fold(X, y, *, fit_intercept, dtype=torch.float64, width=None):
    rows = make_rows(X, dtype=dtype, device=CPU)
    return DeviceFold(
        blocks_of_rows(rows, width=width),
        torch.from_numpy(y),
        int(y.max()) + 1,
        fit_intercept=fit_intercept,
    )


def make_models(n_params, shares):
    return [
        StackedModel(0, share, l2=1 / (c * N), l1=0.0, tol=1e-6, max_iter=200, params=start)
        for c, share, start in zip(C, shares, np.zeros((len(C), n_params)), strict=True)
    ]


def both_stacks(data, *, fit_intercept=True, shares=None, **settings):
    X, y = data
    shares = shares or [None] * len(C)
    theirs = Fold(X, y, int(y.max()) + 1, fit_intercept=fit_intercept)
    ours = device_fold(X, y, fit_intercept=fit_intercept, **settings)
    assert (ours.n, ours.width, ours.n_outputs) == (theirs.n, theirs.width, theirs.n_outputs)
    n_params = ours.width * ours.n_outputs
    return tuple(
        kind([fold], make_models(n_params, shares), fit_intercept=fit_intercept)
        for kind, fold in ((DeviceLogisticStack, ours), (LogisticStack, theirs))
    )


# The budget of a block is for more rows than there are.
@pytest.mark.parametrize("width", [None, 2**12], ids=["one block", "blocks"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_gradients(data, fit_intercept, weighted, width):
    random_state = np.random.RandomState(1)
    shares = [None] * len(C)
    if weighted:
        shares = [None, *random_state.uniform(size=(len(C) - 1, N))]
        shares[1:] = [share / share.sum() for share in shares[1:]]
    ours, theirs = both_stacks(data, fit_intercept=fit_intercept, shares=shares, width=width)
    n_blocks = len(list(ours.folds[0].blocks))
    assert n_blocks == (1 if width is None else -(-N // 64))
    for models in (np.arange(len(C)), np.array([2]), np.array([3, 0])):
        params = 3 * random_state.randn(len(models), ours.size)
        for mine, wanted in zip(
            ours.loss_gradient(params, models), theirs.loss_gradient(params, models), strict=True
        ):
            assert mine.dtype == np.float64
            np.testing.assert_allclose(mine, wanted, rtol=1e-12, atol=1e-14)


def test_one_block_is_made_once(data):
    fold = device_fold(*data, fit_intercept=True)
    first, again = (next(iter(fold.blocks))[1] for _ in range(2))
    assert first is again


def test_float32(data):
    ours, theirs = both_stacks(data, dtype=torch.float32)
    assert ours.dtype == np.float32
    params = np.random.RandomState(1).randn(len(C), ours.size)
    everyone = np.arange(len(C))
    for mine, wanted in zip(
        ours.loss_gradient(params, everyone), theirs.loss_gradient(params, everyone), strict=True
    ):
        np.testing.assert_allclose(mine, wanted, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e200, np.inf])
def test_logits_that_overflow(data, scale):
    ours, _ = both_stacks(data)
    params = np.ones((len(C), ours.size))
    params[1] *= scale
    values, grads = ours.loss_gradient(params, np.arange(len(C)))
    assert not np.isfinite(values[1] + grads[1].sum())
    others = [0, 2, 3]
    assert np.isfinite(values[others]).all()
    assert np.isfinite(grads[others]).all()


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_fits(data, fit_intercept, layout):
    X, y = data
    fold = device_fold(layout(X), y, fit_intercept=fit_intercept, width=2**12)
    models = make_models(fold.width * fold.n_outputs, [None] * len(C))
    stack = DeviceLogisticStack([fold], models, fit_intercept=fit_intercept)
    run_stack(stack, "lbfgs", lambda: None)
    for c, model in zip(C, models, strict=True):
        alone = LogisticRegression(
            C=c, fit_intercept=fit_intercept, tol=1e-6, max_iter=200, device="cpu"
        ).fit(layout(X), y)
        params = stack.centred(model.params, model)
        assert model.converged
        assert len(model.losses) == alone.n_iter_[0]
        np.testing.assert_allclose(params[:, :N_FEATURES], alone.coef_, rtol=0, atol=1e-8)
        if fit_intercept:
            np.testing.assert_allclose(params[:, -1], alone.intercept_, rtol=0, atol=1e-8)


SETTINGS = {
    "plain": ({}, {"C": [0.01, 1.0]}),
    "class weights": ({}, {"C": [0.01, 1.0], "class_weight": [None, "balanced", {0: 3.0, 1: 1.0}]}),
    "without intercept": ({"fit_intercept": False}, {"C": [0.01, 1.0]}),
    "unconverged": ({"max_iter": 5}, {"C": [0.01, 1.0], "max_iter": [3, 7]}),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few iterations
@pytest.mark.parametrize("n_models", [None, 2], ids=["one stack", "stacks of two"])
@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("settings", "grid"), SETTINGS.values(), ids=SETTINGS)
def test_searches(monkeypatch, data, settings, grid, weighted, layout, n_models):
    X, y = layout(data[0]), data[1]
    weight = np.random.RandomState(2).randint(3, size=N) * 1.0 if weighted else None
    estimator = LogisticRegression(**{"tol": 1e-6, "max_iter": 500, "device": "cpu", **settings})
    search = {"cv": 3, "scoring": "neg_log_loss", "return_train_score": True}
    theirs = GridSearchCV(estimator, grid, **search).fit(X, y, sample_weight=weight)
    monkeypatch.setattr("sknets.linear_model._logistic_stacking.is_on_device", lambda data: True)
    n_bytes = None
    if n_models is not None:
        monkeypatch.setattr(LogisticRegression._stacker, "bytes_of_a_fit", lambda fit: 1)
        n_bytes = n_models
    ours = VectorizedGridSearchCV(estimator, grid, max_stack_bytes=n_bytes or "auto", **search)
    ours.fit(X, y, sample_weight=weight)
    assert_same_results(ours, theirs, atol=1e-8)
    assert stacked_share(ours) == 1


def test_other_solvers_run_one_by_one(monkeypatch, data):
    monkeypatch.setattr("sknets.linear_model._logistic_stacking.is_on_device", lambda data: True)
    estimator = LogisticRegression(solver="newton-cholesky", device="cpu")
    search = VectorizedGridSearchCV(estimator, {"C": [0.1, 1.0]}, cv=2).fit(*data)
    assert search.vectorization_[0][0] == "solver='newton-cholesky' is not stacked on cpu"
