"""The perceptron's rule in blocks against the same rule a row at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sknets._data import make_rows
from sknets._engine import Hooks
from sknets._engine._perceptron import PerceptronLoop
from sknets._engine._perceptron_task import PerceptronResult, PerceptronSettings, PerceptronTask


def _problem(n_classes: int, *, n: int = 70, n_features: int = 5, seed: int = 0) -> tuple:
    """Return rows and class numbers that have nothing to do with each other: many mistakes."""
    rng = np.random.RandomState(seed)
    return rng.standard_normal((n, n_features)), rng.randint(n_classes, size=n)


def _task(X: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> PerceptronTask:
    n_classes = y.max() + 1
    positive = np.array([1]) if n_classes == 2 else np.arange(n_classes)
    rows = make_rows(X, dtype=torch.from_numpy(X).dtype, device=torch.device("cpu"))
    return PerceptronTask(rows, y, weight, positive)


def _settings(task: PerceptronTask, *, class_weight: float = 1.0, **changes) -> PerceptronSettings:
    n_classes = int(task.target.max()) + 1
    own = task.positive[:, None] == np.arange(n_classes)
    size = changes.get("step_size", 1.0)
    steps = size * np.where(own, class_weight, -1.0)
    return PerceptronSettings(class_steps=steps, **{"shuffle": False, "tol": None, **changes})


def _start(task: PerceptronTask) -> PerceptronResult:
    shape = (len(task.positive), task.rows.n_features)
    return PerceptronResult(torch.zeros(shape, dtype=task.rows.dtype), np.zeros(shape[0]))


def _run(task: PerceptronTask, settings: PerceptronSettings, **options) -> PerceptronResult:
    return PerceptronLoop(task, settings, _start(task), np.random.RandomState(0), **options).run()


def _row_by_row(task: PerceptronTask, settings: PerceptronSettings) -> tuple:
    """Return weights, intercepts and the mean loss of the last epoch, by Rosenblatt's own loop.

    The L1 term is paid row by row out of a debt that grows; see Tsuruoka et al., ACL 2009.
    """
    X = task.rows.slice(0, task.rows.n).numpy()
    weight = np.ones(len(X)) if task.sample_weight is None else task.sample_weight
    coef, intercept = np.zeros((len(task.positive), X.shape[1])), np.zeros(len(task.positive))
    losses = np.zeros(len(task.positive))
    for k, positive in enumerate(task.positive):
        w, b, paid, debt = coef[k], 0.0, np.zeros(X.shape[1]), 0.0
        for _ in range(settings.max_epochs):
            losses[k] = 0.0
            for x, label, factor in zip(X, task.target, weight, strict=True):
                margin = (1 if label == positive else -1) * (w @ x + b)
                w = w * settings.shrinkage
                if margin <= 0:
                    losses[k] -= margin
                    step = settings.class_steps[k, label] * factor
                    w = w + step * x
                    b += step * settings.intercept_step
                if settings.payment:
                    debt += settings.payment
                    before = w
                    room = np.where(w > 0, debt + paid, debt - paid)
                    w = np.sign(w) * np.maximum(np.abs(w) - room, 0)
                    paid = paid + (w - before)
        coef[k], intercept[k] = w, b
    return coef, intercept, losses.mean() / len(X)


PENALTIES = {
    "none": {},
    "l2": {"alpha": 0.01},
    "l1": {"alpha": 0.02, "l1_ratio": 1.0},
    "elasticnet": {"alpha": 0.02, "l1_ratio": 0.4},
    "l2 that shrinks to nothing": {"alpha": 2.0},
}


@pytest.mark.parametrize("block_rows", [1, 7, 64, 200, None])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("penalty", list(PENALTIES))
def test_blocks_of_any_size_equal_row_by_row(penalty, n_classes, block_rows):
    task = _task(*_problem(n_classes))
    settings = _settings(task, max_epochs=3, block_rows=block_rows, **PENALTIES[penalty])

    result = _run(task, settings)

    coef, intercept, loss = _row_by_row(task, settings)
    np.testing.assert_allclose(result.coef.numpy(), coef, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.intercept, intercept, rtol=1e-10)
    assert result.history["train_loss"][-1] == pytest.approx(loss, rel=1e-10)


@pytest.mark.parametrize("penalty", ["none", "l2", "l1"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_weights_multiply_steps(n_classes, penalty):
    X, y = _problem(n_classes)
    weight = np.random.RandomState(1).choice([0.0, 0.5, 1.0, 4.0], size=len(y))
    task = _task(X, y, weight)
    settings = _settings(task, class_weight=2.0, max_epochs=3, **PENALTIES[penalty])

    result = _run(task, settings)

    coef, intercept, loss = _row_by_row(task, settings)
    np.testing.assert_allclose(result.coef.numpy(), coef, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.intercept, intercept, rtol=1e-10)
    assert result.history["train_loss"][-1] == pytest.approx(loss, rel=1e-10)


def test_rows_of_no_weight_change_nothing():
    X, y = _problem(3)
    keep = np.arange(len(y)) % 3 > 0
    weighted = _task(X, y, keep.astype(float))
    without = _task(X[keep], y[keep])

    first = _run(weighted, _settings(weighted, max_epochs=4))
    second = _run(without, _settings(without, max_epochs=4))

    np.testing.assert_allclose(first.coef.numpy(), second.coef.numpy(), rtol=1e-10)


@pytest.mark.parametrize("intercept_step", [0.0, 0.01])
def test_intercept_takes_its_part_of_each_step(intercept_step):
    task = _task(*_problem(2))
    settings = _settings(task, max_epochs=2, intercept_step=intercept_step)

    result = _run(task, settings)

    coef, intercept, _ = _row_by_row(task, settings)
    np.testing.assert_allclose(result.coef.numpy(), coef, rtol=1e-10)
    np.testing.assert_allclose(result.intercept, intercept, rtol=1e-10, atol=0)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_row_on_the_plane_is_a_mistake(n_classes):
    """Small integers have exact sums, and many scores of exactly zero."""
    rng = np.random.RandomState(0)
    task = _task(rng.randint(-2, 3, size=(90, 3)).astype(float), rng.randint(n_classes, size=90))
    settings = _settings(task, max_epochs=3)

    result = _run(task, settings)

    coef, intercept, _ = _row_by_row(task, settings)
    np.testing.assert_array_equal(result.coef.numpy(), coef)
    np.testing.assert_array_equal(result.intercept, intercept)


def test_float32_stays_float32():
    X, y = _problem(3)
    X = np.round(X)  # sums are exact
    task = _task(X.astype(np.float32), y)
    result = _run(task, _settings(task, max_epochs=2))
    assert result.coef.dtype == torch.float32
    np.testing.assert_array_equal(
        result.coef.numpy(), _row_by_row(task, _settings(task, max_epochs=2))[0]
    )


def test_separable_data_end_without_mistakes_and_early():
    X, _ = _problem(2, n=100)
    side = X[:, 0] + X[:, 1] - X[:, 2]
    X, y = X[abs(side) > 0.5], (side[abs(side) > 0.5] > 0).astype(int)
    task = _task(X, y)

    result = _run(task, _settings(task, tol=1e-3, max_epochs=1000, shuffle=True))

    history = result.history
    assert history["n_mistakes"][-1] == 0
    assert history["train_loss"][-1] == 0
    assert len(history["epoch"]) < 1000
    scores = X @ result.coef.numpy()[0] + result.intercept[0]
    np.testing.assert_array_equal(scores > 0, y == 1)


def test_a_class_that_has_stopped_keeps_its_weights():
    X, _ = _problem(3, n=120)
    hard = np.random.RandomState(3).randint(1, 3, size=len(X))
    y = np.where(X[:, 0] > 0, 0, hard)  # class 0 is separable, 1 and 2 are noise
    X[:, 0] += np.sign(X[:, 0])
    task = _task(X, y)
    settings = _settings(task, tol=1e-3, max_epochs=200)

    result = _run(task, settings)

    alone = _task(X, np.where(y == 0, 1, 0))
    expected = _run(alone, _settings(alone, tol=1e-3, max_epochs=200))
    learning = result.history["n_learning"]
    assert learning[0] == 3
    assert learning == sorted(learning, reverse=True)
    assert len(expected.epochs) < len(result.epochs)
    np.testing.assert_array_equal(result.coef.numpy()[0], expected.coef.numpy()[0])


def test_no_tol_trains_all_epochs():
    task = _task(*_problem(2))
    assert len(_run(task, _settings(task, max_epochs=17)).epochs) == 17


def test_validation_rows_decide_when_to_stop():
    X, y = _problem(3, n=90)
    task, held = _task(X[:60], y[:60]), _task(X[60:], y[60:])
    settings = _settings(task, tol=1.0, n_iter_no_change=4, max_epochs=50)

    result = _run(task, settings, validation=held)

    # No score rises by 1, so every class is stale from its second epoch on.
    assert len(result.epochs) == 5
    scores = X[60:] @ result.coef.numpy().T + result.intercept
    right = (scores > 0) == (y[60:, None] == np.arange(3))
    assert result.history["validation_score"][-1] == pytest.approx(right.mean())


def test_start_is_not_changed():
    task = _task(*_problem(3))
    for penalty in ("none", "l2", "l1"):
        start = _start(task)
        settings = _settings(task, max_epochs=2, **PENALTIES[penalty])
        PerceptronLoop(task, settings, start, np.random.RandomState(0)).run()
        assert not start.coef.any()
        assert not start.intercept.any()
        assert start.epochs == []


@pytest.mark.parametrize("penalty", ["none", "l1"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_overflow_is_an_error_that_names_the_epoch(n_classes, penalty):
    X, y = _problem(n_classes)
    task = _task(X * 1e300, y)
    settings = _settings(task, max_epochs=5, step_size=1e10, **PENALTIES[penalty])
    with pytest.raises(
        ValueError, match=r"stay finite.* in epoch 1 with a learning rate of 1e\+10"
    ):
        _run(task, settings)


def test_interruption_keeps_the_last_whole_epoch():
    task = _task(*_problem(3))
    settings = _settings(task, max_epochs=10)
    n_begun = 0

    def interrupt_third() -> None:
        nonlocal n_begun
        n_begun += 1
        if n_begun == 3:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user after epoch 2"):
        result = _run(task, settings, hooks=Hooks(epoch_begins=interrupt_third))

    expected = _run(task, _settings(task, max_epochs=2))
    np.testing.assert_array_equal(result.coef.numpy(), expected.coef.numpy())
    assert result.history["epoch"] == [1, 2]


def test_interruption_of_the_first_epoch_is_passed_on():
    def interrupt() -> None:
        raise KeyboardInterrupt

    task = _task(*_problem(2))
    with pytest.raises(KeyboardInterrupt):
        _run(task, _settings(task), hooks=Hooks(epoch_begins=interrupt))


def test_hooks_can_stop():
    task = _task(*_problem(2))
    ended = []
    hooks = Hooks(epoch_ends=lambda: True, fit_ends=lambda: ended.append(True))
    assert len(_run(task, _settings(task, max_epochs=9), hooks=hooks).epochs) == 1
    assert ended == [True]


@pytest.mark.gpu
@pytest.mark.parametrize("penalty", ["none", "l2", "l1"])
def test_gpu_gives_the_weights_of_the_cpu(penalty):
    X, y = _problem(3)
    task = _task(X, y)
    settings = _settings(task, max_epochs=3, **PENALTIES[penalty])
    rows = make_rows(X, dtype=torch.float64, device=torch.device("cuda"))
    start = PerceptronResult(
        torch.zeros(3, X.shape[1], dtype=torch.float64, device="cuda"), np.zeros(3)
    )
    on_gpu = PerceptronTask(rows, y, None, task.positive)

    result = PerceptronLoop(on_gpu, settings, start, np.random.RandomState(0)).run()

    assert result.coef.device.type == "cuda"
    np.testing.assert_allclose(
        result.coef.cpu().numpy(), _run(task, settings).coef.numpy(), rtol=1e-10
    )
