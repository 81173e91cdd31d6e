"""The perceptron's rule in scikit-learn's compiled loop against the rule in blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from sknets._data import make_rows
from sknets._engine import _perceptron_compiled, _perceptron_padded
from sknets._engine._perceptron import PerceptronLoop
from sknets._engine._perceptron_compiled import compiled_rule
from sknets._engine._perceptron_task import PerceptronResult, PerceptronSettings, PerceptronTask

BLOCK = 32  # naming a block's rows asks for blocks


def _task(X, y: np.ndarray) -> PerceptronTask:
    positive = np.array([1]) if y.max() == 1 else np.arange(y.max() + 1)
    dtype = torch.float32 if X.dtype == np.float32 else torch.float64
    return PerceptronTask(make_rows(X, dtype=dtype, device=torch.device("cpu")), y, None, positive)


def _settings(task: PerceptronTask, *, step: float = 1.0, **changes) -> PerceptronSettings:
    own = task.positive[:, None] == np.arange(task.target.max() + 1)
    steps = step * np.where(own, 1.0, -1.0)
    return PerceptronSettings(
        class_steps=steps, step_size=step, **{"tol": None, "max_epochs": 4, **changes}
    )


def _run(task: PerceptronTask, settings: PerceptronSettings) -> PerceptronResult:
    shape = (len(task.positive), task.rows.n_features)
    start = PerceptronResult(torch.zeros(shape, dtype=task.rows.dtype), np.zeros(shape[0]))
    return PerceptronLoop(task, settings, start, np.random.RandomState(0)).run()


def _noise(n: int, n_features: int, n_classes: int, *, zeros: float = 0.0) -> tuple:
    """Return rows and labels that have nothing to do with each other: many mistakes."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((n, n_features)) * (rng.uniform(size=(n, n_features)) >= zeros)
    return X, rng.randint(n_classes, size=n)


def _assert_equal_to_blocks(task: PerceptronTask, *, rtol: float = 1e-10, **changes) -> None:
    assert compiled_rule(task, _settings(task, **changes)) is not None

    result = _run(task, _settings(task, **changes))

    blocks = _run(task, _settings(task, block_rows=BLOCK, **changes))
    scale = blocks.coef.abs().max().item()
    np.testing.assert_allclose(result.coef, blocks.coef, rtol=rtol, atol=rtol * scale)
    np.testing.assert_allclose(result.intercept, blocks.intercept, rtol=rtol, atol=rtol)
    assert result.history["n_mistakes"] == blocks.history["n_mistakes"]
    np.testing.assert_allclose(
        result.history["train_loss"], blocks.history["train_loss"], rtol=10 * rtol
    )


@pytest.mark.parametrize("piece", [1, 500, 10**6])
@pytest.mark.parametrize("zeros", [0.0, 0.8])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_pieces_of_any_size_equal_blocks(n_classes, zeros, piece, monkeypatch):
    monkeypatch.setattr(_perceptron_padded, "_PIECE", piece)
    monkeypatch.setattr(_perceptron_padded, "_SAVED_A_PASS", 0)
    _assert_equal_to_blocks(_task(*_noise(300, 20, n_classes, zeros=zeros)))


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("zeros", [0.0, 0.8])
def test_threads_equal_one_another(n_classes, zeros, monkeypatch):
    task = _task(*_noise(300, 20, n_classes, zeros=zeros))
    alone = _run(task, _settings(task))
    monkeypatch.setattr(_perceptron_compiled, "_WORTH_THREADS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    together = _run(task, _settings(task))
    np.testing.assert_array_equal(alone.coef, together.coef)
    np.testing.assert_array_equal(alone.intercept, together.intercept)
    assert alone.history["train_loss"] == together.history["train_loss"]


def test_sparse_rows_with_numbers_stored_twice():
    X, y = _noise(200, 30, 3, zeros=0.8)
    csr = sparse.csr_array(X)
    rows = np.repeat(np.arange(200), np.diff(csr.indptr))
    halves = np.concatenate([csr.data / 2, csr.data / 2])
    where = (np.tile(rows, 2), np.tile(csr.indices, 2))
    order = np.argsort(where[0], kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(where[0], minlength=200))])
    twice = sparse.csr_array((halves[order], where[1][order], indptr), shape=X.shape)
    assert twice.nnz == 2 * csr.nnz
    first, second = _task(csr, y), _task(twice, y)
    _assert_equal_to_blocks(second, intercept_step=0.01)
    np.testing.assert_array_equal(
        _run(first, _settings(first)).coef, _run(second, _settings(second)).coef
    )


@pytest.mark.parametrize("changes", [{"shuffle": False}, {"intercept_step": 0.0}, {"step": 0.3}])
def test_settings_mean_the_same_as_in_blocks(changes):
    _assert_equal_to_blocks(_task(*_noise(300, 20, 3)), **changes)


@pytest.mark.parametrize("intercept_step", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("zeros", [0.0, 0.8])
def test_small_integers_have_many_scores_of_zero(zeros, dtype, intercept_step, monkeypatch):
    """Sums are exact, so equality is, and each row on the plane has to count as a mistake."""
    monkeypatch.setattr(_perceptron_padded, "_SAVED_A_PASS", 0)
    X, y = _noise(400, 12, 3, zeros=zeros)
    task = _task(np.round(X).astype(dtype), y)
    _assert_equal_to_blocks(task, rtol=1e-6, intercept_step=intercept_step)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_any_length(dtype, scale):
    """The added features are small beside the rows, whatever these are measured in."""
    X, y = _noise(300, 8, 3)
    X = np.round(8 * X) * 2.0 ** np.round(np.log2(scale))
    X[::3] /= 2.0**10
    _assert_equal_to_blocks(_task(X.astype(dtype), y), rtol=1e-5, intercept_step=0.0)


def test_a_row_of_zeros():
    X, y = _noise(60, 5, 2)
    X[::4] = 0.0
    _assert_equal_to_blocks(_task(X, y))
    _assert_equal_to_blocks(_task(np.zeros_like(X), y), intercept_step=0.0)


def test_long_rows_weights_and_penalties_are_for_blocks():
    long, short = _task(*_noise(30, 900, 10)), _task(*_noise(30, 20, 3))
    assert compiled_rule(long, _settings(long)) is None
    assert compiled_rule(short, _settings(short)) is not None
    assert compiled_rule(short, _settings(short, alpha=0.1)) is None
    weighted = PerceptronTask(short.rows, short.target, np.ones(30), short.positive)
    assert compiled_rule(weighted, _settings(short)) is None
