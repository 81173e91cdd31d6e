"""The nets of a stack: made for the fits of a search, and given back to their estimators."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Hashable
from numbers import Integral
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sknets._base._classifier import TrainingData
from sknets._base._numba_rules import check_numba_fit
from sknets._base._stacking import StackedFit
from sknets._base._training import Trained, make_loss_of, make_schedule_of, split_rows
from sknets._core import make_generator, make_random_state
from sknets._data import SubsetRows
from sknets._engine import (
    FlatParameters,
    Member,
    Rate,
    Validation,
    dropout_rates,
    has_closed_form,
    state_of,
)
from sknets._nn import MLP


class Start(NamedTuple):
    """How a net begins.

    Attributes
    ----------
    flat : FlatParameters
        Its module, and the weights that it begins with.
    random_state : RandomState
        What it draws from next.
    is_shared : bool
        Whether other nets may begin with the same objects, which then stay as they are.
    dropout : object
        The module's rates, as `Member` has them.
    """

    flat: FlatParameters
    random_state: np.random.RandomState
    is_shared: bool
    dropout: Any


class Starts:
    """The starts of the nets of one stack; those that are equal are made once.

    Most nets of a search have one seed and differ in rates and penalties, and to make a module and
    a random state takes longer than a net of a stack trains on a small batch.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, Start] = {}

    def of(self, estimator: Any, data: TrainingData) -> Start:
        """Return the start that an estimator of the stack would make."""
        seed, settings = estimator.random_state, estimator._start_settings()
        can_share = settings is not None and isinstance(seed, Integral)
        key = (int(seed), settings) if can_share else None
        if key in self._known:
            return self._known[key]
        start = _make_start(estimator, data, can_share=can_share)
        if start.is_shared:
            self._known[key] = start
        return start


def _make_start(estimator: Any, data: TrainingData, *, can_share: bool) -> Start:
    random_state = make_random_state(copy.deepcopy(estimator.random_state))
    module = estimator._build_module(data.rows.n_features, data.codec, random_state)
    closed = is_closed(module, estimator)
    # The many small tensors of our own nets stay on the CPU, and go to a device as one.
    module.to("cpu" if closed else data.device, data.precision.dtype)
    estimator._check_module(module, data.codec)
    module.train()  # as every fit sets it, whatever the module was
    if closed:
        dropout: Any = tuple(rate for _, rate in module.plain_layers or ())
    else:
        dropout = dropout_rates(estimator._engine_module(module))
    return Start(FlatParameters(module), random_state, can_share and closed, dropout)


def is_closed(module: nn.Module, estimator: Any) -> TypeGuard[MLP]:
    """Whether the gradients of a net in a stack have a closed form."""
    return estimator.loss == "log_loss" and has_closed_form(module)


def make_member(fit: StackedFit, starts: Starts) -> tuple[Member, Start]:
    """Draw everything random in the order in which the estimator alone would."""
    estimator, data = fit.estimator, fit.data
    estimator._check_settings((None, None, None), False)
    weights = fit.weights()
    start = starts.of(estimator, data)
    module, random_state = start.flat.module, start.random_state
    check_numba_fit(estimator, module, data.device)
    uses_random_numbers = estimator._uses_random_numbers(module)
    if start.is_shared and (uses_random_numbers or estimator.early_stopping):
        random_state = copy.deepcopy(random_state)  # to draw from
    loss = make_loss_of(estimator, module, data.codec)
    rows, validation = fit.rows, None
    if estimator.early_stopping:
        target = data.target[torch.from_numpy(rows).to(data.device)]
        train, held_out = split_rows(estimator, target, data.codec, random_state)
        index = torch.from_numpy(held_out).to(data.device)
        validation = Validation(
            SubsetRows(data.rows, rows[held_out]),
            target[index],
            None if weights is None else weights[index],
            loss,
            loss.task,
        )
        rows = rows[train]
        weights = None if weights is None else weights[torch.from_numpy(train).to(data.device)]
    generator = make_generator(random_state, data.device) if uses_random_numbers else None
    member = Member(
        vector=start.flat.vector.detach(),
        rows=rows,
        weight=weights,
        validation=validation,
        random_state=random_state if estimator.shuffle else None,
        generator=generator,
        schedule=make_schedule_of(estimator, Rate(estimator.learning_rate_init)),
        settings=_member_settings(estimator, start.dropout),
        state=list(state_of(module).values()),
    )
    return member, start


def _member_settings(estimator: Any, dropout: Any) -> dict[str, Any]:
    return {
        "alpha": estimator.alpha,
        "label_smoothing": estimator.label_smoothing,
        "tol": estimator.tol,
        "patience": estimator.n_iter_no_change,
        "max_epochs": estimator.max_iter,
        "early_stopping": estimator.early_stopping,
        "betas": (estimator.beta_1, estimator.beta_2),
        "eps": estimator.epsilon,
        "momentum": estimator.momentum,
        "nesterov": estimator.nesterovs_momentum,
        "dropout": dropout,
    }


def finish(fit: StackedFit, member: Member, start: Start, engine: str) -> None:
    """Give the estimator what its own ``fit`` would have left."""
    fit.seconds, fit.error = member.seconds, member.error
    if member.error is not None:
        return
    if start.is_shared:
        module = start.flat.module_with(member.vector)
    else:
        module = start.flat.module
        start.flat.release(member.vector)
        with torch.no_grad():
            for tensor, value in zip(state_of(module).values(), member.state, strict=True):
                tensor.copy_(value)
    estimator, progress = fit.estimator, member.progress
    estimator._remember(fit.data)
    trained = Trained(member.n_epochs, progress.loss_curve[-1], engine, None)
    estimator._set_fitted(module.eval(), progress, trained, fit.data)
    if not member.converged:
        warnings.warn(
            f"max_iter={estimator.max_iter} epochs are done and training has not converged yet. "
            "Raise max_iter, or tol if the loss is good enough.",
            ConvergenceWarning,
            stacklevel=2,
        )
