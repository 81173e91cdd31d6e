"""The two ways to fit logistic regression: all rows at once, or mini-batches."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from sknets._base import TrainingData, uses_numba
from sknets._core import SeededRandom, limit_threads, make_random_state
from sknets._data import Batches
from sknets._engine import (
    EpochLoop,
    FlatParameters,
    FullBatchResult,
    Hooks,
    LinearStep,
    LogisticObjective,
    Progress,
    Training,
    blocks_of_rows,
    minimise,
    say,
    useful_threads,
)
from sknets._nn import SGD, Adam, make_schedule

Keep = Callable[[np.ndarray], None]
"""Takes the parameters (K, D) of the last whole iteration."""


def fit_full_batch(
    estimator: Any,
    data: TrainingData,
    start: np.ndarray,
    progress: Progress,
    hooks: Hooks,
    keep: Keep,
) -> int:
    """Minimise the objective of all rows and return the number of iterations.

    Parameters
    ----------
    estimator : LogisticRegression
        Its parameters are read.
    data : TrainingData
        Rows, targets and weights, those of classes included.
    start : ndarray of shape (K, D)
        Parameters to start from.
    progress : Progress
        Its history gets a row an iteration.
    hooks : Hooks
        Called for every iteration.
    keep : callable ``(params) -> None``
        Called after every iteration and at the end.
    """
    l2, l1 = penalty_strengths(estimator, _total_weight(data))
    rows = data.rows
    n_done = 0

    def after_iteration(params: np.ndarray, loss: float) -> bool:
        nonlocal n_done
        n_done += 1
        if estimator.verbose:
            say(f"Iteration {n_done}, loss = {loss:.8f}")
        keep(params.reshape(start.shape))
        hooks.epoch_begins()
        return hooks.epoch_ends()

    n_threads = torch.get_num_threads()
    with limit_threads(1 if rows.device.type == "cpu" else None):
        objective = LogisticObjective(
            blocks_of_rows(rows, n_threads=n_threads),
            data.target,
            data.sample_weight,
            n_classes=len(data.codec.classes),
            fit_intercept=estimator.fit_intercept,
            l2=l2,
            l1=l1,
            by_numba=uses_numba(estimator),
        )
        result = minimise(
            objective,
            estimator.solver,
            start=start,
            tol=estimator.tol,
            max_iter=estimator.max_iter,
            on_iteration=after_iteration,
        )
    fill_history(progress, result)
    keep(result.params)
    hooks.fit_ends()
    warn_unless_converged(result, estimator)
    return result.n_iter


def fit_mini_batch(
    estimator: Any,
    data: TrainingData,
    start: np.ndarray,
    progress: Progress,
    hooks: Hooks,
    keep: Keep,
) -> int:
    """Train by epochs of mini-batches and return their number.

    Parameters are those of `fit_full_batch`.
    """
    rows, weight = data.rows, data.sample_weight
    module = _make_linear(start, estimator.fit_intercept).to(data.device, rows.dtype)
    flat = FlatParameters(module)
    make_optimiser = Adam if estimator.solver == "adam" else SGD
    optimiser = make_optimiser([flat.vector], lr=estimator.learning_rate_init)
    l2, l1 = penalty_strengths(estimator, _total_weight(data))
    size = 200 if estimator.batch_size == "auto" else int(estimator.batch_size)
    random_state = make_random_state(estimator.random_state) if estimator.shuffle else None
    batches = Batches(
        rows, data.target, weight, batch_size=min(size, rows.n), random_state=random_state
    )
    step = LinearStep(
        module,
        l2=l2,
        l1=l1,
        mean_weight=1.0 if weight is None else float(weight.double().mean()),
        autocast=data.precision.autocast,
    )
    training = Training(
        module=module,
        flat=flat,
        step=step,
        optimiser=optimiser,
        schedule=make_schedule(
            estimator.learning_rate, optimiser, initial=estimator.learning_rate_init, power_t=0.0
        ),
        batches=batches,
        progress=progress,
        max_epochs=estimator.max_iter,
        tol=estimator.tol,
        n_iter_no_change=estimator.n_iter_no_change,
        task=data.codec.kind,
        verbose=bool(estimator.verbose),
        n_threads=useful_threads(module, rows.n_features, batches.batch_size),
    )

    def epoch_ends() -> bool:
        keep(_parameters_of(module))
        return hooks.epoch_ends()

    loop = EpochLoop(training, dataclasses.replace(hooks, epoch_ends=epoch_ends))
    loop.run()
    keep(_parameters_of(module))
    return loop.n_epochs


def penalty_strengths(estimator: Any, total_weight: float) -> tuple[float, float]:
    """Return the strengths of the L2 and L1 penalties on the scale of the mean loss."""
    scale = 1.0 / (estimator.C * total_weight)
    return (1 - estimator.l1_ratio) * scale, estimator.l1_ratio * scale


def _total_weight(data: TrainingData) -> float:
    weight = data.sample_weight
    return float(data.rows.n) if weight is None else float(weight.double().sum())


def balanced_weights(
    weight: Tensor | None, target: Tensor, n_classes: int, dtype: torch.dtype
) -> Tensor:
    """Return weights (n,) that give every class the same total, and all the total they had."""
    if weight is None:
        weight = torch.ones(len(target), dtype=dtype, device=target.device)
    totals = torch.zeros(n_classes, dtype=weight.dtype, device=weight.device)
    totals.index_add_(0, target, weight)
    scale = torch.where(totals > 0, totals.sum() / (n_classes * totals), 0.0)
    return weight * scale[target]


def warn_unless_converged(result: FullBatchResult, estimator: Any) -> None:
    """Warn if the solver ended before it met `tol`, or was interrupted."""
    if result.interrupted:
        warnings.warn(
            f"Training interrupted by user after iteration {result.n_iter}, whose coefficients "
            "are kept.",
            stacklevel=3,
        )
    elif not (result.converged or result.stopped):
        warnings.warn(
            f'solver="{estimator.solver}" has not converged after {result.n_iter} iterations '
            f"(max_iter={estimator.max_iter}): {result.message}. Scale the features "
            "(StandardScaler), or raise max_iter or tol.",
            ConvergenceWarning,
            stacklevel=3,
        )


def _make_linear(params: np.ndarray, fit_intercept: bool) -> nn.Linear:
    """Return a float64 linear module with parameters (K, D)."""
    values = torch.from_numpy(params)
    n_features = values.shape[1] - int(fit_intercept)
    with SeededRandom(torch.Generator()):  # not torch's global one, for values soon replaced
        module = nn.Linear(n_features, len(values), bias=fit_intercept, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(values[:, :n_features])
        if fit_intercept:
            module.bias.copy_(values[:, -1])
    return module


def _parameters_of(module: nn.Linear) -> np.ndarray:
    """Return the parameters (K, D) of a linear module, float64."""
    parts = [p.detach().reshape(module.out_features, -1) for p in module.parameters()]
    return torch.cat(parts, dim=1).cpu().double().numpy()


def fill_history(progress: Progress, result: FullBatchResult) -> None:
    """Append the iterations to the history."""
    history = progress.history
    n_before, missing = len(history["epoch"]), [float("nan")] * result.n_iter
    history["epoch"] += range(n_before + 1, n_before + result.n_iter + 1)
    history["train_loss"] += result.losses
    history["seconds"] += result.seconds
    for name in ("validation_loss", "validation_score", "learning_rate"):
        history[name] += missing
