"""Logistic regressions fitted in stacks: all candidates and folds of a search together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sknets._base import CannotStack, StackedFit, Stacker
from sknets._data import check_sample_weight, combine_weights
from sknets._engine import (
    STACK_SOLVERS,
    Fold,
    FullBatchResult,
    LogisticStack,
    Progress,
    SparseFold,
    StackedModel,
    run_stack,
)
from sknets.linear_model._logistic_fit import (
    balanced_weights,
    fill_history,
    penalty_strengths,
    warn_unless_converged,
)


class LogisticStacker(Stacker):
    """Stacks logistic regressions that take the same solver's steps."""

    def why_not(self, estimator: Any) -> str | None:
        """Return why an estimator's settings cannot be part of any stack."""
        if estimator.solver not in STACK_SOLVERS:
            return f"solver={estimator.solver!r} is not stacked"
        return None

    def key(self, fit: StackedFit) -> tuple:
        """Return what decides the course of the solver, and the shape of the parameters."""
        estimator = fit.estimator
        return (
            *(estimator.solver, bool(estimator.fit_intercept)),
            *(str(estimator.device), estimator.precision),
        )

    def bytes_of_a_fit(self, fit: StackedFit) -> int:
        """Estimate the memory of a model: its L-BFGS pairs, its weights, and a copy of its rows."""
        n, rows = len(fit.rows), fit.data.rows
        size = fit.data.codec.n_outputs * (rows.n_features + 1)
        itemsize = rows.dtype.itemsize
        if rows.is_sparse:  # all logits at once, and the rows with their column numbers
            copy = n * (2 * fit.data.codec.n_outputs * itemsize)
            copy += rows.csr.nnz * n // max(1, rows.n) * (itemsize + 4)
        else:
            copy = itemsize * n * (rows.n_features + 2)
        return 8 * 32 * size + copy

    def run(self, fits: Sequence[StackedFit], after_epoch: Callable[[], None]) -> None:
        """Fit the models of one stack."""
        data = fits[0].data
        if data.device.type != "cpu":
            raise CannotStack(f"logistic regression is not stacked on {data.device.type}")
        ready, models, folds = [], [], _Folds()
        for fit in fits:
            try:
                fit.estimator._check_settings()
                fit.estimator._check_classes(data.codec)
                models.append(_make_model(fit, folds))
            except ValueError as error:  # a bad value of one candidate does not touch the others
                fit.error = error
                continue
            ready.append(fit)
        if not ready:
            return
        first = ready[0].estimator
        stack = LogisticStack(folds.made, models, fit_intercept=first.fit_intercept)
        run_stack(stack, first.solver, after_epoch)
        for fit, model in zip(ready, models, strict=True):
            _finish(fit, stack, model)


class _Folds:
    """The folds of a stack, each made once."""

    def __init__(self) -> None:
        self.made: list[Fold] = []
        self._numbers: dict[int, int] = {}
        self._shares: dict[tuple, Any] = {}

    def number_of(self, fit: StackedFit) -> int:
        """Return the number of a fit's fold; fits of one fold share the array of its rows."""
        if id(fit.rows) not in self._numbers:
            data, index = fit.data, torch.from_numpy(fit.rows)
            is_sparse = data.rows.is_sparse
            rows = data.rows.csr[fit.rows] if is_sparse else data.rows.take(index).numpy()
            dtype = np.dtype(str(data.rows.dtype).removeprefix("torch."))
            fold = (SparseFold if is_sparse else Fold)(
                rows.astype(dtype, copy=False),
                data.target[index].numpy(),
                len(data.codec.classes),
                fit_intercept=fit.estimator.fit_intercept,
            )
            self._numbers[id(fit.rows)] = len(self.made)
            self.made.append(fold)
        return self._numbers[id(fit.rows)]

    def weighted(self, fit: StackedFit) -> Any:
        """Return the data of a fit's rows with all weights, made once for equal weights."""
        key = (id(fit.rows), repr(fit.estimator.class_weight))
        if key not in self._shares:
            self._shares[key] = _weights(fit)
        return self._shares[key]


def _weights(fit: StackedFit) -> tuple[np.ndarray | None, float]:
    """Return the weights of a fit's rows divided by their sum (None if all are equal), and it."""
    data, class_weight = fit.data, fit.estimator.class_weight
    if data.sample_weight is None and class_weight is None:
        return None, float(len(fit.rows))
    index = torch.from_numpy(fit.rows)
    target = data.target[index]
    given = None if data.sample_weight is None else data.sample_weight[index].numpy()
    given = check_sample_weight(given, len(index))
    if isinstance(class_weight, str):
        weight = None if given is None else torch.from_numpy(given)
        weight = balanced_weights(weight, target, len(data.codec.classes), data.rows.dtype)
    else:
        labels = data.codec.classes[target.numpy()]
        combined = combine_weights(given, class_weight, labels, data.codec.classes)
        weight = torch.from_numpy(combined).to(data.rows.dtype)
    total = float(weight.double().sum())
    return (weight.double() / total).to(data.rows.dtype).numpy(), total


def _make_model(fit: StackedFit, folds: _Folds) -> StackedModel:
    estimator = fit.estimator
    share, total = folds.weighted(fit)
    l2, l1 = penalty_strengths(estimator, total)
    width = fit.data.rows.n_features + int(estimator.fit_intercept)
    return StackedModel(
        fold=folds.number_of(fit),
        share=share,
        l2=l2,
        l1=l1,
        tol=estimator.tol,
        max_iter=estimator.max_iter,
        params=np.zeros(fit.data.codec.n_outputs * width),
    )


def _finish(fit: StackedFit, stack: LogisticStack, model: StackedModel) -> None:
    """Give the estimator what its own ``fit`` would have left."""
    estimator = fit.estimator
    fit.seconds, fit.error = sum(model.seconds), model.error
    if model.error is not None:
        return
    result = FullBatchResult(
        stack.centred(model.params, model),
        len(model.losses),
        model.losses,
        model.seconds,
        model.converged,
        stopped=False,
        interrupted=False,
        message=model.message,
    )
    progress = Progress()
    fill_history(progress, result)
    estimator._remember(fit.data)
    fitted = estimator._exported(fit.data, result.params)
    estimator._set_fitted(fitted, fit.data, progress, result.n_iter)
    warn_unless_converged(result, estimator)
