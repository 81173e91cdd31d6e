"""From an estimator's parameters to a trained module."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import nn

from sknets._base._classifier import TrainingData
from sknets._base._numba_rules import check_numba_fit, uses_numba
from sknets._core import make_generator
from sknets._data import Batches, LabelCodec, Rows, SubsetRows
from sknets._engine import (
    MOST_BATCHES,
    AutogradStep,
    BlockGraphs,
    EpochLoop,
    FlatParameters,
    FullBatch,
    Hooks,
    Progress,
    Step,
    Training,
    Validation,
    compiled,
    make_block_graphs,
    make_conv_step,
    make_dense_step,
    make_numba_epoch,
    train_lbfgs,
    useful_threads,
)
from sknets._nn import (
    OPTIMISERS,
    Loss,
    Schedule,
    Task,
    TaskLoss,
    make_loss,
    make_optimiser,
    make_schedule,
)

# Rows, targets and weights.
Labelled = tuple[Rows, torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True)
class Trained:
    """How training went.

    Attributes
    ----------
    n_iter : int
        Whole epochs, or iterations.
    loss : float
        Training loss of the last one.
    engine : str
        Which way of computing gradients ran.
    optimiser_state : dict or None
        To go on with, on the CPU; None where there is no going on.
    """

    n_iter: int
    loss: float
    engine: str
    optimiser_state: dict | None


def train_by_epochs(
    estimator: Any,
    module: nn.Module,
    data: TrainingData,
    progress: Progress,
    random_state: np.random.RandomState,
    *,
    held_out: Labelled | None,
    hooks: Hooks,
    incremental: bool,
    optimiser_state: dict | None,
) -> Trained:
    """Train `module` in place by mini-batches.

    Parameters
    ----------
    estimator : BaseNetwork
        Whose training parameters are used.
    progress : Progress
        Continued in place.
    random_state : RandomState
        Draws the validation split, then the shuffles, in scikit-learn's order.
    held_out : tuple or None
        The user's validation set; with ``early_stopping`` and none, a share of `data`.
    incremental : bool
        Whether to stop after one epoch, as ``partial_fit`` does.
    optimiser_state : dict or None
        Of the epochs before.
    """
    check_numba_fit(estimator, module, data.device)
    flat = FlatParameters(module)
    optimiser = make_optimiser(estimator.solver, [flat.vector], vars(estimator))
    if optimiser_state is not None and optimiser_state["solver"] == estimator.solver:
        optimiser.load_state_dict(copy.deepcopy(optimiser_state["state"]))
    labelled: Labelled = (data.rows, data.target, data.sample_weight)
    if held_out is None and estimator.early_stopping:
        train, rest = split_rows(estimator, data.target, data.codec, random_state)
        labelled, held_out = _subset(data, train), _subset(data, rest)
    generator = None
    if estimator._uses_random_numbers(module):
        generator = make_generator(random_state, data.device)
        # A call of partial_fit draws other masks than the one before.
        generator.manual_seed(generator.initial_seed() + progress.n_samples_seen)
    step, loss = make_step(
        estimator, module, flat, data, alpha=estimator.alpha, generator=generator
    )
    engine_module = estimator._engine_module(module)
    graphs = _make_graphs(estimator, engine_module, data.device, generator)
    most = None if graphs is None else MOST_BATCHES
    batches = _make_batches(estimator, labelled, random_state, most)
    autocast = data.precision.autocast
    by_numba = None
    if uses_numba(estimator):
        by_numba = make_numba_epoch(
            flat,
            batches,
            optimiser,
            task=loss.task,
            solver=estimator.solver,
            alpha=estimator.alpha,
        )
    loop = EpochLoop(
        Training(
            module=engine_module,
            flat=flat,
            step=step,
            optimiser=optimiser,
            schedule=make_schedule_of(estimator, optimiser),
            batches=batches,
            progress=progress,
            max_epochs=estimator.max_iter,
            tol=estimator.tol,
            n_iter_no_change=estimator.n_iter_no_change,
            task=loss.task,
            validation=held_out and Validation(*held_out, loss, loss.task, autocast),
            early_stopping=estimator.early_stopping,
            single_epoch=incremental,
            verbose=bool(estimator.verbose),
            callbacks=estimator.callbacks,
            graphs=graphs,
            by_numba=by_numba,
            n_threads=useful_threads(module, data.rows.n_features, batches.batch_size),
        ),
        hooks,
    )
    loop.run()
    flat.release()
    state = {"solver": estimator.solver, "state": _to_cpu(optimiser.state_dict())}
    return Trained(loop.n_epochs, progress.loss_curve[-1], loop.engine, state)


def _make_graphs(
    estimator: Any,
    module: nn.Module,
    device: torch.device,
    generator: torch.Generator | None,
) -> BlockGraphs | None:
    # A loss of the user's, or a callback, may do anything; compiled code has its own ways.
    if estimator.compile or callable(estimator.loss) or estimator.callbacks:
        return None
    return make_block_graphs(module, device, generator)


def train_full_batch(
    estimator: Any, module: nn.Module, data: TrainingData, progress: Progress, *, hooks: Hooks
) -> Trained:
    """Train `module` in place by L-BFGS, with an estimator's parameters."""
    _check_no_dropout(module)
    flat = FlatParameters(module)
    module.train()
    step, _ = make_step(estimator, module, flat, data, alpha=0.0, generator=None)
    block = min(data.rows.n, data.rows.block_rows)
    batches = Batches(
        data.rows, data.target, data.sample_weight, batch_size=block, random_state=None
    )
    n_iter, loss = train_lbfgs(
        FullBatch(flat, step, batches, estimator.alpha),
        progress,
        tol=estimator.tol,
        max_iter=estimator.max_iter,
        max_fun=estimator.max_fun,
        verbose=bool(estimator.verbose),
        n_threads=useful_threads(module, data.rows.n_features, block),
        hooks=hooks,
    )
    flat.release()
    module.eval()
    return Trained(n_iter, loss, f"lbfgs, {step.name}", None)


def _check_no_dropout(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            raise ValueError(
                'module must have no active dropout with solver="lbfgs", whose line search needs '
                f"the same loss for the same weights, got {layer}."
            )


def make_loss_of(estimator: Any, module: nn.Module, codec: LabelCodec) -> TaskLoss:
    """Return the loss that a module of an estimator is trained by."""
    two_logits = codec.kind == "binary" and estimator._n_logits(module, codec) == 2
    task: Task = "multiclass" if two_logits else codec.kind
    return make_smoothed_loss(estimator.loss, task, estimator.label_smoothing)


def make_smoothed_loss(
    loss: str | Loss, task: Task, label_smoothing: float | torch.Tensor
) -> TaskLoss:
    """Return a loss whose label smoothing is one number, or a tensor with one a net."""
    smooths = isinstance(label_smoothing, torch.Tensor) or label_smoothing > 0
    return make_loss(loss, task, **({"label_smoothing": label_smoothing} if smooths else {}))


def make_step(
    estimator: Any,
    module: nn.Module,
    flat: FlatParameters,
    data: TrainingData,
    *,
    alpha: float,
    generator: torch.Generator | None,
) -> tuple[Step, TaskLoss]:
    """Return the closed-form step where it covers the module, else autograd's; and the loss.

    What torch compiles is differentiated by autograd.
    """
    loss = make_loss_of(estimator, module, data.codec)
    engine_module = estimator._engine_module(module)
    autocast = data.precision.autocast
    by_torch = estimator.compile and not uses_numba(estimator)
    if by_torch:
        engine_module = compiled(engine_module, data.device, draws=generator is not None)
    else:
        closed = make_conv_step(
            engine_module, loss, flat, alpha=alpha, generator=generator, autocast=autocast
        ) or make_dense_step(
            engine_module, loss, flat, alpha=alpha, generator=generator, autocast=autocast
        )
        if closed is not None:
            return closed, loss
    step = AutogradStep(
        engine_module, loss, flat, alpha=alpha, generator=generator, autocast=autocast
    )
    if by_torch:
        step.name = "autograd, compiled"
    return step, loss


def make_schedule_of(estimator: Any, optimiser: Any) -> Schedule:
    """Return the schedule that sets the learning rate of an optimiser, or of what stands in."""
    scheduled = OPTIMISERS[estimator.solver].scheduled
    return make_schedule(
        estimator.learning_rate if scheduled else "constant",
        optimiser,
        initial=estimator.learning_rate_init,
        power_t=estimator.power_t,
    )


def _make_batches(
    estimator: Any,
    labelled: Labelled,
    random_state: np.random.RandomState,
    most: int | None,
) -> Batches:
    return Batches(
        *labelled,
        batch_size=resolve_batch_size(estimator, labelled[0].n),
        random_state=random_state if estimator.shuffle else None,
        most=most,
    )


def wanted_batch_size(estimator: Any) -> int:
    """Return the rows of a batch where there are enough."""
    return 200 if estimator.batch_size == "auto" else int(estimator.batch_size)


def resolve_batch_size(estimator: Any, n_rows: int) -> int:
    """Return the rows of a batch: at most all, of which a warning tells if others were named."""
    batch_size = wanted_batch_size(estimator)
    if estimator.batch_size != "auto" and batch_size > n_rows:
        warnings.warn(
            f"batch_size must be at most the number of training rows, {n_rows}, got "
            f"{batch_size}. It is clipped.",
            stacklevel=2,
        )
    return min(batch_size, n_rows)


def split_rows(
    estimator: Any,
    target: torch.Tensor,
    codec: LabelCodec,
    random_state: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows to train on and of those held out for early stopping.

    Raises
    ------
    ValueError
        If fewer than two rows would be held out.
    """
    n_rows = len(target)
    if estimator.validation_fraction == 0:
        raise ValueError("validation_fraction must be above 0 with early_stopping=True, got 0.")
    # scikit-learn draws the split from the same source, stratified for two classes only.
    train, held_out = train_test_split(
        np.arange(n_rows),
        random_state=random_state,
        test_size=estimator.validation_fraction,
        stratify=target.cpu().numpy() if codec.kind == "binary" else None,
    )
    if len(held_out) < 2:
        raise ValueError(
            f"The validation set must have at least 2 rows, got {len(held_out)} of {n_rows}. "
            f"Increase validation_fraction (now {estimator.validation_fraction}) or pass more "
            "data."
        )
    return train, held_out


def _subset(data: TrainingData, index: np.ndarray) -> Labelled:
    where = torch.from_numpy(index).to(data.device)
    weight = None if data.sample_weight is None else data.sample_weight[where]
    return SubsetRows(data.rows, index), data.target[where], weight


def _to_cpu(state: Any) -> Any:
    """Return a nested state with its tensors copied to the CPU."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _to_cpu(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_to_cpu(value) for value in state]
    return state
