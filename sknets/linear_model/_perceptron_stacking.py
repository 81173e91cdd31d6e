"""Perceptrons fitted in stacks: the settings of a search that see the same rows in one order."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch

from sknets._base import CannotStack, StackedFit, TrainingData
from sknets._core import make_random_state
from sknets._data import SparseRows, SubsetRows
from sknets._engine._perceptron_stack import PerceptronStack
from sknets._engine._perceptron_task import PerceptronResult, PerceptronSettings
from sknets.linear_model._linear_stacker import LinearStacker
from sknets.linear_model._perceptron_fit import make_settings, split_rows


class PerceptronStacker(LinearStacker):
    """Stacks perceptrons of one fold, seed and penalty: they share scores and inner products."""

    def why_not(self, estimator: Any) -> str | None:
        """Return why an estimator's settings cannot be part of any stack."""
        draws = estimator.shuffle or estimator.early_stopping
        if draws and not isinstance(estimator.random_state, Integral):
            return "random_state is not an integer, so that each fit has an order of its own"
        if estimator.penalty in ("l1", "elasticnet"):
            return f"penalty={estimator.penalty!r} is paid weight by weight, which shares nothing"
        if estimator.precision == "bf16":
            return 'precision="bf16" is not for a perceptron'
        return None

    def key(self, fit: StackedFit) -> tuple:
        """Return what decides the rows, their order and how weights shrink."""
        estimator = fit.estimator
        penalised = estimator.penalty is not None and estimator.alpha > 0
        return (
            *(id(fit.rows), estimator.random_state, bool(estimator.shuffle)),
            *(bool(estimator.fit_intercept), str(estimator.device), estimator.precision),
            (estimator.alpha, estimator.eta0) if penalised else None,
            estimator.validation_fraction if estimator.early_stopping else None,
        )

    def bytes_of_a_fit(self, fit: StackedFit) -> int:
        """Estimate the memory of a perceptron: its weights, old and new, and a block's scores."""
        codec, rows = fit.data.codec, fit.data.rows
        return rows.dtype.itemsize * codec.n_outputs * (4 * rows.n_features + 2048)

    def run(self, fits: Sequence[StackedFit], after_epoch: Callable[[], None]) -> None:
        """Train the perceptrons of one stack."""
        first = fits[0].estimator
        if len(fits[0].data.codec.classes) < 2:
            raise CannotStack("its fold shows one class")
        random_state = make_random_state(copy.copy(first.random_state))
        try:
            data = _data_of(fits[0])
            task, held = split_rows(first, data, random_state)
        except ValueError as reason:
            for fit in fits:
                fit.error = reason
            return
        ready, models = [], []
        for fit in fits:
            try:
                models.append(_settings_of(fit, data, task))
            except ValueError as error:  # a bad value of one candidate does not touch the others
                fit.error = error
                continue
            ready.append(fit)
        if not ready:
            return
        stack = PerceptronStack(
            task, models, random_state, validation=held, after_epoch=after_epoch
        )
        stack.run()
        for fit, result, failure in zip(ready, stack.results, stack.errors, strict=True):
            _finish(fit, data, result, failure)


def _data_of(fit: StackedFit) -> TrainingData:
    """Return the data of the fold alone; class weights are not in its weights."""
    data, index = fit.data, torch.from_numpy(fit.rows).to(fit.data.device)
    rows = data.rows
    if rows.is_sparse:
        part: Any = SparseRows(rows.csr[fit.rows], dtype=rows.dtype, device=rows.device)
    else:
        part = SubsetRows(rows, fit.rows)
    weight = fit.weights(of_classes=False)
    return dataclasses.replace(data, rows=part, target=data.target[index], sample_weight=weight)


def _settings_of(fit: StackedFit, data: TrainingData, task: Any) -> PerceptronSettings:
    return make_settings(fit.estimator, data, task, fit.estimator.max_iter)


def _finish(
    fit: StackedFit, data: TrainingData, result: PerceptronResult, error: ValueError | None
) -> None:
    """Give the estimator what its own ``fit`` would have left."""
    fit.seconds, fit.error = sum(epoch["seconds"] for epoch in result.epochs), error
    if error is None:
        fit.estimator._remember(data)
        fit.estimator._set_fitted(data, result, len(result.epochs))
