"""Logistic regressions fitted in stacks: all candidates and folds of a search together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from sknets._base import (
    CannotStack,
    StackedFit,
    TrainingData,
    check_numba_linear,
    uses_numba,
)
from sknets._core import limit_threads, numpy_dtype
from sknets._data import SubsetRows
from sknets._engine import (
    STACK_SOLVERS,
    ColumnOrder,
    DeviceFold,
    DeviceLogisticStack,
    Fold,
    FullBatchResult,
    LogisticStack,
    NumbaFold,
    NumbaLogisticStack,
    PartedFold,
    Progress,
    SparseFold,
    StackedModel,
    all_columns,
    blocks_of_csr,
    blocks_of_rows,
    order_columns,
    run_stack,
)
from sknets.linear_model._linear_stacker import LinearStacker
from sknets.linear_model._logistic_fit import (
    balanced_weights,
    fill_history,
    penalty_strengths,
    warn_unless_converged,
)

# Logits of a fold's models below which calls cost more than what they compute.
_FEW_LOGITS = 2**16


class LogisticStacker(LinearStacker):
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
            *(str(estimator.device), estimator.precision, uses_numba(estimator)),
        )

    def bytes_of_a_fit(self, fit: StackedFit) -> int:
        """Estimate the memory of a model.

        It has L-BFGS pairs and its fold's rows: on the CPU twice, and elsewhere once (CSR twice),
        with their logits and some arrays as large.
        """
        data, n = fit.data, len(fit.rows)
        rows, n_outputs = data.rows, data.codec.n_outputs
        itemsize = rows.dtype.itemsize
        nnz = rows.csr.nnz * n // max(1, rows.n) if rows.is_sparse else 0
        if is_on_device(data):
            x = 2 * nnz * (itemsize + 8) if rows.is_sparse else n * rows.n_features * itemsize
            here = x + n * ((3 * n_outputs + 1) * itemsize + 8)
        elif rows.is_sparse:  # all logits at once, and the rows with their column numbers
            here = n * (2 * n_outputs * itemsize) + nnz * (itemsize + 4)
        else:
            here = n * (itemsize * 2 * (rows.n_features + 2) + 16)
        return 8 * 32 * n_outputs * (rows.n_features + 1) + here

    def run(self, fits: Sequence[StackedFit], after_epoch: Callable[[], None]) -> None:
        """Fit the models of one stack."""
        data = fits[0].data
        solver = fits[0].estimator.solver
        if is_on_device(data) and solver != "lbfgs":
            raise CannotStack(f"solver={solver!r} is not stacked on {data.device.type}")
        ready, models, folds = [], [], _Folds(fits)
        with limit_threads(1):  # to take rows is no work for two
            for fit in fits:
                try:
                    fit.estimator._check_settings()
                    fit.estimator._check_classes(data.codec)
                    check_numba_linear(fit.estimator, data.device)
                    models.append(_make_model(fit, folds))
                except ValueError as error:  # a bad value of one touches no other
                    fit.error = error
                    continue
                ready.append(fit)
        if not ready:
            return
        make_stack: type[LogisticStack] = LogisticStack
        if is_on_device(data):
            make_stack = DeviceLogisticStack
        elif folds.by_numba:
            make_stack = NumbaLogisticStack
        stack = make_stack(folds.made, models, fit_intercept=folds.fit_intercept)
        run_stack(stack, solver, after_epoch)
        for fit, model in zip(ready, models, strict=True):
            _finish(fit, model, folds.spread(stack.centred(model.params, model)))


def is_on_device(data: TrainingData) -> bool:
    """Whether an accelerator computes."""
    return data.device.type != "cpu"


class _Folds:
    """The rows that the models of a stack are multiplied with, and each model's weights of them.

    Where folds are small, a call costs more than what it computes. They are then one: all models
    see all rows, and rows of other folds weigh 0.
    """

    def __init__(self, fits: Sequence[StackedFit]) -> None:
        self.data = fits[0].data
        self.fit_intercept = fits[0].estimator.fit_intercept
        is_dense = not (self.data.rows.is_sparse or is_on_device(self.data))
        self.by_numba = uses_numba(fits[0].estimator) and is_dense
        self.made: list[Any] = []  # of Fold, or of DeviceFold
        self._numbers: dict[bytes, int] = {}
        self._shares: dict[tuple, Any] = {}
        self._target = self.data.target.cpu().numpy()
        trains = {id(fit.rows): fit.rows for fit in fits}  # those of one fold share the array
        n_factors = len(fits) * self.data.codec.n_outputs // len(trains)
        joined = None if self.data.rows.is_sparse else _joined(list(trains.values()), n_factors)
        self._n_factors = n_factors
        self.is_joined = joined is not None
        if joined is not None:
            trains = dict.fromkeys(trains, joined)
        self._order = self._order_of_columns(fits[0].estimator.solver)
        self._rows = {key: self._in_order(rows) for key, rows in trains.items()}

    def _in_order(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of a fold in the order in which they are laid out.

        Those without rare columns come first; each part is in the order of the classes.
        """
        if is_on_device(self.data):
            return rows
        return rows[np.lexsort((self._target[rows], self._order.has_rare[rows]))]

    def _order_of_columns(self, solver: str) -> ColumnOrder:
        """Return the columns to compute with.

        The gradient by coefficients of zeros is zero, and L-BFGS leaves these at zero. Newton's
        methods may meet a singular matrix there and have to meet it here.
        """
        rows = self.data.rows
        if rows.is_sparse or is_on_device(self.data) or solver != "lbfgs":
            return all_columns(rows)
        return order_columns(rows, 0 if self.is_joined else self._n_factors)

    def spread(self, params: np.ndarray) -> np.ndarray:
        """Return parameters (K, D) of the used columns as those of all columns."""
        order = self._order
        if order.is_identity:
            return params
        n_features, n_used = order.n_features, len(order.columns)
        spread = np.zeros((len(params), n_features + params.shape[1] - n_used))
        spread[:, order.columns] = params[:, :n_used]
        spread[:, n_features:] = params[:, n_used:]
        return spread

    def number_of(self, fit: StackedFit) -> int:
        """Return the number of a fit's fold."""
        index = self._rows[id(fit.rows)]
        key = index.tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self.made)
            self.made.append(self._make(index))
        return self._numbers[key]

    def _make(self, index: np.ndarray) -> Fold | PartedFold | DeviceFold:
        rows, order = self.data.rows, self._order
        if is_on_device(self.data):
            return self._make_on_device(index)
        make: Any = NumbaFold if self.by_numba else Fold
        if rows.is_sparse:
            X, make = rows.csr[index], SparseFold
        else:
            X = rows.take(torch.from_numpy(index)).numpy()
        make = partial(
            make, n_classes=len(self.data.codec.classes), fit_intercept=self.fit_intercept
        )
        if not order.is_identity:
            X = X[:, order.columns]
        X, target = X.astype(numpy_dtype(rows.dtype), copy=False), self._target[index]
        n_short = int(np.count_nonzero(~order.has_rare[index]))
        if 0 < n_short < len(index):
            short = make(X[:n_short, order.n_rare :], target[:n_short])
            return PartedFold(short, make(X[n_short:], target[n_short:]))
        return make(X, target)

    def _make_on_device(self, index: np.ndarray) -> DeviceFold:
        rows, device = self.data.rows, self.data.device
        if rows.is_sparse:
            blocks = blocks_of_csr(rows.csr[index], rows.dtype, device)
        else:
            # Beside its features a row has logits, and some arrays as large.
            width = rows.n_features + 4 * self._n_factors
            blocks = blocks_of_rows(SubsetRows(rows, index), width=width)
        return DeviceFold(
            blocks,
            self.data.target[torch.from_numpy(index).to(device)],
            len(self.data.codec.classes),
            fit_intercept=self.fit_intercept,
        )

    def weighted(self, fit: StackedFit) -> tuple[np.ndarray | None, float]:
        """Return the weights of the fold's rows divided by their sum, and the sum.

        Made once for equal weights; None instead of equal ones.
        """
        key = (id(fit.rows), repr(fit.estimator.class_weight))
        if key not in self._shares:
            share, total = _weights(fit)
            self._shares[key] = self._laid_out(fit, share), total
        return self._shares[key]

    def _laid_out(self, fit: StackedFit, share: np.ndarray | None) -> np.ndarray | None:
        """Return a fit's weights in the order of its fold's rows."""
        if share is None and not self.is_joined:
            return None
        of_all = np.zeros(len(self._target), self.made[0].dtype)
        of_all[fit.rows] = 1 / len(fit.rows) if share is None else share
        return of_all[self._rows[id(fit.rows)]]


def _joined(trains: list[np.ndarray], n_factors: int) -> np.ndarray | None:
    """Return the rows of all folds, if it pays to multiply them together; else None.

    `n_factors` is the number of models of a fold times their outputs.
    """
    if len(trains) == 1 or max(map(len, trains)) * n_factors > _FEW_LOGITS:
        return None
    rows = np.unique(np.concatenate(trains))
    repeated = any(len(np.unique(train)) < len(train) for train in trains)
    return None if repeated or len(rows) > 1.5 * min(map(len, trains)) else rows


def _weights(fit: StackedFit) -> tuple[np.ndarray | None, float]:
    """Return the weights of a fit's rows divided by their sum (None if all are equal), and it."""
    data, class_weight = fit.data, fit.estimator.class_weight
    if data.sample_weight is None and class_weight is None:
        return None, float(len(fit.rows))
    is_balanced = isinstance(class_weight, str)
    weight = fit.weights(of_classes=not is_balanced)
    if is_balanced:
        target = data.target[torch.from_numpy(fit.rows).to(data.device)]
        weight = balanced_weights(weight, target, len(data.codec.classes), data.rows.dtype)
    assert weight is not None  # one of the two is given
    weight = weight.cpu().double()
    total = float(weight.sum())
    return (weight / total).to(data.rows.dtype).numpy(), total


def _make_model(fit: StackedFit, folds: _Folds) -> StackedModel:
    estimator = fit.estimator
    number = folds.number_of(fit)
    share, total = folds.weighted(fit)
    l2, l1 = penalty_strengths(estimator, total)
    return StackedModel(
        fold=number,
        share=share,
        l2=l2,
        l1=l1,
        tol=estimator.tol,
        max_iter=estimator.max_iter,
        params=np.zeros(fit.data.codec.n_outputs * folds.made[number].width),
    )


def _finish(fit: StackedFit, model: StackedModel, params: np.ndarray) -> None:
    """Give the estimator what its own ``fit`` would have left, with parameters (K, D)."""
    estimator = fit.estimator
    fit.seconds, fit.error = sum(model.seconds), model.error
    if model.error is not None:
        return
    result = FullBatchResult(
        params,
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
