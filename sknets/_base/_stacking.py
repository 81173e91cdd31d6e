"""Fits of many networks as stacks: which may share one, and the estimators that come out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sknets._base._classifier import TrainingData
from sknets._base._training import Trained, split_rows
from sknets._core import make_generator, make_random_state
from sknets._data import LabelCodec, SubsetRows, combine_weights
from sknets._engine import FlatParameters, Member, Rate, Stack, Validation, useful_threads
from sknets._nn import MLP, OPTIMISERS, LogLoss, get_activation, make_schedule

# Parameters that decide a net's shape or its course as a whole: one stack has one value of each.
_SHARED = (
    "hidden_layer_sizes",
    "activation",
    "solver",
    "batch_size",
    "nesterovs_momentum",
    "device",
    "precision",
)


@dataclass
class StackedFit:
    """One fit to make: an estimator, and the rows of the shared data that it trains on.

    Attributes
    ----------
    estimator : BaseNetwork
        Not fitted; with the candidate's parameters set. Fitted by `fit_stacks`.
    rows : ndarray of shape (n_train,)
        Numbers of the training rows.
    data : TrainingData
        Of all rows; fits with the same object share their X.
    where : str
        Set by `fit_stacks`: which stack the fit ran in.
    error : Exception or None
        Set by `fit_stacks`, if the fit failed.
    seconds : float
        Set by `fit_stacks`: this fit's share of its stack's time.
    """

    estimator: Any
    rows: np.ndarray
    data: TrainingData
    where: str = ""
    error: Exception | None = None
    seconds: float = 0.0


def why_not_stacked(estimator: Any) -> str | None:
    """Return why an estimator's fit cannot be part of a stack; None if it can."""
    solver = getattr(estimator, "solver", None)
    if not getattr(estimator, "_stackable", False):
        return f"{type(estimator).__name__} is not fitted in stacks"
    if solver not in OPTIMISERS:
        return f"solver={solver!r} does not train by mini-batches"
    if estimator.normalization is not None:
        return f"normalization={estimator.normalization!r} needs autograd"
    if estimator.precision == "bf16":
        return 'precision="bf16" needs autograd'
    for name in ("callbacks", "warm_start", "verbose"):
        if getattr(estimator, name):
            return f"{name} is set"
    if getattr(estimator, "_skl_callbacks", None):
        return "it has callbacks"
    return None


def stack_key(fit: StackedFit) -> tuple:
    """Return what the fits of one stack have in common."""
    estimator = fit.estimator
    n_train = len(fit.rows)
    if estimator.early_stopping:
        n_train -= int(np.ceil(estimator.validation_fraction * n_train))
    size = 200 if estimator.batch_size == "auto" else estimator.batch_size
    size = min(size, n_train)
    shared = tuple(repr(getattr(estimator, name)) for name in _SHARED)
    # Folds of slightly different length are padded, as long as they take as many steps.
    return (type(estimator), id(fit.data), *shared, size, -(-n_train // size))


def fit_stacks(fits: Sequence[StackedFit], *, max_bytes: int) -> None:
    """Fit all estimators in place, in as few stacks as there are shapes and memory allows.

    Parameters
    ----------
    max_bytes : int
        How much memory the weights, moments and activations of a stack may take.
    """
    groups: dict[tuple, list[StackedFit]] = {}
    for fit in fits:
        groups.setdefault(stack_key(fit), []).append(fit)
    number = 0
    for group in groups.values():
        size = max(1, max_bytes // _bytes_of_a_net(group[0]))
        for start in range(0, len(group), size):
            number += 1
            part = group[start : start + size]
            for fit in part:
                fit.where = f"stack {number} of {len(part)} nets"
            _fit_stack(part)


def _bytes_of_a_net(fit: StackedFit) -> int:
    """Estimate the memory that one net takes while it trains."""
    estimator, rows = fit.estimator, fit.data.rows
    hidden = [int(h) for h in np.atleast_1d(estimator.hidden_layer_sizes)]
    widths = [rows.n_features, *hidden, fit.data.codec.n_outputs]
    n_weights = sum(a * b + b for a, b in pairwise(widths))
    size = 200 if estimator.batch_size == "auto" else int(estimator.batch_size)
    # Weights, gradients, two moments, a copy; activations, their gradients, rows of a batch.
    return (5 * n_weights + 4 * size * sum(widths)) * rows.dtype.itemsize


def _fit_stack(fits: list[StackedFit]) -> None:
    members, modules, ready = [], [], []
    for fit in fits:
        try:
            member, module = _make_member(fit)
        except Exception as error:  # a bad value of one candidate does not touch the others
            fit.error = error
            continue
        members.append(member)
        modules.append(module)
        ready.append(fit)
    if not members:
        return
    first, data = ready[0].estimator, ready[0].data
    template = first._build_module(data.rows.n_features, data.codec, np.random.RandomState(0))
    template.to(data.device, data.precision.dtype)
    n_rows = max(len(m.rows) for m in members)
    size = min(200 if first.batch_size == "auto" else int(first.batch_size), n_rows)
    stack = Stack(
        members,
        data.rows,
        data.target,
        template=FlatParameters(template),
        linears=template.linears,
        activation=get_activation(first.activation),
        task=data.codec.kind,
        solver=first.solver,
        batch_size=size,
        n_threads=useful_threads(template, data.rows.n_features, size * len(members)),
    )
    stack.run()
    for fit, member, module in zip(ready, members, modules, strict=True):
        _finish(fit, member, module)


def _make_member(fit: StackedFit) -> tuple[Member, nn.Module]:
    """Draw everything random in the order in which the estimator alone would."""
    estimator, data = fit.estimator, fit.data
    estimator._check_settings((None, None, None), False)
    weights = _weights_of(fit)
    random_state = make_random_state(estimator.random_state)
    module: MLP = estimator._build_module(data.rows.n_features, data.codec, random_state)
    module.to(data.device, data.precision.dtype)
    flat = FlatParameters(module)
    rows, validation = fit.rows, None
    if estimator.early_stopping:
        target = data.target[torch.from_numpy(rows).to(data.device)]
        train, held_out = split_rows(estimator, target, data.codec, random_state)
        validation = Validation(
            SubsetRows(data.rows, rows[held_out]),
            target[torch.from_numpy(held_out).to(data.device)],
            None if weights is None else weights[torch.from_numpy(held_out).to(data.device)],
            LogLoss(data.codec.kind),
            data.codec.kind,
        )
        rows = rows[train]
        weights = None if weights is None else weights[torch.from_numpy(train).to(data.device)]
    generator = None
    if estimator._uses_random_numbers(module):
        generator = make_generator(random_state, data.device)
    scheduled = OPTIMISERS[estimator.solver].scheduled
    dropout = np.broadcast_to(estimator.dropout, len(module.linears) - 1)
    member = Member(
        vector=flat.vector.detach().clone(),
        rows=rows,
        weight=weights,
        validation=validation,
        random_state=random_state if estimator.shuffle else None,
        generator=generator,
        schedule=make_schedule(
            estimator.learning_rate if scheduled else "constant",
            Rate(estimator.learning_rate_init),
            initial=estimator.learning_rate_init,
            power_t=estimator.power_t,
        ),
        settings={
            "alpha": estimator.alpha,
            "tol": estimator.tol,
            "patience": estimator.n_iter_no_change,
            "max_epochs": estimator.max_iter,
            "early_stopping": estimator.early_stopping,
            "betas": (estimator.beta_1, estimator.beta_2),
            "eps": estimator.epsilon,
            "momentum": estimator.momentum,
            "nesterov": estimator.nesterovs_momentum,
            "dropout": tuple(float(rate) for rate in dropout),
        },
    )
    return member, module


def _weights_of(fit: StackedFit) -> torch.Tensor | None:
    """Return the weights of the fit's rows, its class weights included."""
    data, index = fit.data, torch.from_numpy(fit.rows).to(fit.data.device)
    weight = None if data.sample_weight is None else data.sample_weight[index]
    if fit.estimator.class_weight is None:
        return weight
    labels = data.codec.classes[data.target[index].cpu().numpy()]
    given = None if weight is None else weight.cpu().numpy()
    combined = combine_weights(given, fit.estimator.class_weight, labels, data.codec.classes)
    return torch.from_numpy(combined).to(data.device, data.precision.dtype)


def _finish(fit: StackedFit, member: Member, module: nn.Module) -> None:
    """Give the estimator what its own ``fit`` would have left."""
    fit.seconds, fit.error = member.seconds, member.error
    if member.error is not None:
        return
    flat = FlatParameters(module)
    with torch.no_grad():
        flat.vector.copy_(member.vector)
    flat.release()
    estimator = fit.estimator
    estimator._remember(fit.data)
    estimator.n_features_in_ = fit.data.rows.n_features
    progress = member.progress
    trained = Trained(member.n_epochs, progress.loss_curve[-1], "closed form, stacked", None)
    estimator._set_fitted(module.eval(), progress, trained, fit.data)
    if not member.converged:
        warnings.warn(
            f"max_iter={estimator.max_iter} epochs are done and training has not converged yet. "
            "Raise max_iter, or tol if the loss is good enough.",
            ConvergenceWarning,
            stacklevel=2,
        )


def same_classes(codec: LabelCodec, y: Any) -> bool:
    """Whether the labels y, a part of all, show every class."""
    if codec.kind == "multilabel":
        return True
    return len(np.unique(y)) == len(codec.classes)
