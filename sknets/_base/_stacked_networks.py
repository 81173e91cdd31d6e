"""Networks fitted in stacks."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sknets._base._classifier import TrainingData
from sknets._base._stacking import StackedFit, Stacker
from sknets._base._training import Trained, split_rows
from sknets._core import is_out_of_memory, make_generator, make_random_state
from sknets._data import SubsetRows
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


class NetworkStacker(Stacker):
    """Stacks networks that train by epochs."""

    def why_not(self, estimator: Any) -> str | None:
        """Return why an estimator's settings cannot be part of any stack."""
        if estimator.solver not in OPTIMISERS:
            return f"solver={estimator.solver!r} does not train by mini-batches"
        if estimator.normalization is not None:
            return f"normalization={estimator.normalization!r} needs autograd"
        if estimator.precision == "bf16":
            return 'precision="bf16" needs autograd'
        return None

    def check_data(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> TrainingData:
        """Check and encode all rows as the estimator's ``fit`` would."""
        return estimator._check_training_data(X, y, sample_weight, multilabel=True)

    def key(self, fit: StackedFit) -> tuple:
        """Return what decides a net's shape, and its number of steps an epoch."""
        estimator = fit.estimator
        n_train = len(fit.rows)
        if estimator.early_stopping:
            n_train -= int(np.ceil(estimator.validation_fraction * n_train))
        size = min(_batch_size(estimator), n_train)
        shared = tuple(repr(getattr(estimator, name)) for name in _SHARED)
        # Folds of slightly different length are padded, as long as they take as many steps.
        return (*shared, size, -(-n_train // size))

    def bytes_of_a_fit(self, fit: StackedFit) -> int:
        """Estimate the memory that one net takes while it trains."""
        estimator, rows = fit.estimator, fit.data.rows
        hidden = [int(h) for h in np.atleast_1d(estimator.hidden_layer_sizes)]
        widths = [rows.n_features, *hidden, fit.data.codec.n_outputs]
        n_weights = sum(a * b + b for a, b in pairwise(widths))
        # Weights, gradients, two moments, a copy; activations, their gradients, rows of a batch.
        return (5 * n_weights + 4 * _batch_size(estimator) * sum(widths)) * rows.dtype.itemsize

    def run(self, fits: Sequence[StackedFit], after_epoch: Callable[[], None]) -> None:
        """Train the nets of one stack."""
        _fit_stack(fits, after_epoch)


def _batch_size(estimator: Any) -> int:
    return 200 if estimator.batch_size == "auto" else int(estimator.batch_size)


def _fit_stack(fits: Sequence[StackedFit], after_epoch: Callable[[], None]) -> None:
    members, modules, ready = [], [], []
    for fit in fits:
        try:
            member, module = _make_member(fit)
        except Exception as error:  # a bad value of one candidate does not touch the others
            if is_out_of_memory(error):
                raise
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
    size = min(_batch_size(first), n_rows)
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
    stack.run(after_epoch)
    for fit, member, module in zip(ready, members, modules, strict=True):
        _finish(fit, member, module)


def _make_member(fit: StackedFit) -> tuple[Member, nn.Module]:
    """Draw everything random in the order in which the estimator alone would."""
    estimator, data = fit.estimator, fit.data
    estimator._check_settings((None, None, None), False)
    weights = fit.weights()
    random_state = make_random_state(copy.deepcopy(estimator.random_state))
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
