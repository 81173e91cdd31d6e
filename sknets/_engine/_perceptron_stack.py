"""Perceptrons that see the same rows in the same order, trained together.

The rule treats classes as separate problems over shared products: scores of a block, and its Gram
matrix. So do the classes of several perceptrons; a stack is one loop over all of them, in which
each perceptron has its own steps, patience and end.

Shapes: M perceptrons of K classes each, n rows, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknets._core import numpy_dtype
from sknets._engine._epochs import Hooks
from sknets._engine._perceptron import PerceptronLoop, not_finite
from sknets._engine._perceptron_task import PerceptronResult, PerceptronSettings, PerceptronTask

Array = np.ndarray[Any, np.dtype[Any]]


class PerceptronStack(PerceptronLoop):
    """Trains several perceptrons from weights of zero.

    Parameters
    ----------
    task : PerceptronTask
        What all learn from.
    models : sequence of PerceptronSettings
        How each learns. They differ in `class_steps`, `step_size`, `max_epochs`, `tol` and
        `n_iter_no_change`; with a penalty not in `step_size`. There is no L1 term.
    random_state : RandomState
        Source of the orders of rows, the same for all.
    validation : PerceptronTask or None
        As in `PerceptronLoop`.
    after_epoch : callable () -> None
        Called after every epoch.

    Attributes
    ----------
    results : list of PerceptronResult
        What each has learnt.
    errors : list of ValueError or None
        What its own fit would have raised.
    """

    _follows_few = False

    def __init__(
        self,
        task: PerceptronTask,
        models: Sequence[PerceptronSettings],
        random_state: np.random.RandomState,
        *,
        validation: PerceptronTask | None,
        after_epoch: Callable[[], None],
    ) -> None:
        n_classes = len(task.positive)
        together = replace(
            models[0],
            class_steps=np.vstack([model.class_steps for model in models]),
            max_epochs=max(model.max_epochs for model in models),
        )
        dtype = numpy_dtype(task.rows.dtype)
        size = len(models) * n_classes
        start = PerceptronResult(
            torch.zeros(size, task.rows.n_features, dtype=task.rows.dtype, device=task.rows.device),
            np.zeros(size, dtype),
        )

        def tile(part: PerceptronTask) -> PerceptronTask:
            return replace(part, positive=np.tile(part.positive, len(models)))

        def epoch_ends() -> bool:
            after_epoch()
            return False

        super().__init__(
            tile(task),
            together,
            start,
            random_state,
            validation=None if validation is None else tile(validation),
            hooks=Hooks(epoch_ends=epoch_ends),
        )
        self.models = models
        self.errors: list[ValueError | None] = [None] * len(models)
        self._n_classes = n_classes
        self._epochs: list[list[dict[str, Any]]] = [[] for _ in models]
        self._is_open = [True] * len(models)
        # Without a tol no epoch is stale.
        tols = [-np.inf if model.tol is None else model.tol for model in models]
        self._tols = np.repeat(tols, n_classes)
        self._patience = np.repeat([model.n_iter_no_change for model in models], n_classes)

    @property
    def results(self) -> list[PerceptronResult]:
        """What each has learnt."""
        return [
            PerceptronResult(
                self.result.coef[self._classes_of(i)].clone(),
                self.result.intercept[self._classes_of(i)].copy(),
                epochs,
            )
            for i, epochs in enumerate(self._epochs)
        ]

    def _classes_of(self, model: int) -> slice:
        return slice(model * self._n_classes, (model + 1) * self._n_classes)

    def _check_finite(self, learning: Array, coef: Tensor, intercept: Array) -> None:
        """Note the models with a weight that is not finite; they end with the epoch."""
        fine = torch.isfinite(coef).all(dim=1).cpu().numpy() & np.isfinite(intercept)
        for i in np.unique(learning[~fine] // self._n_classes):
            epoch = len(self.result.epochs) + 1
            self.errors[i] = not_finite(epoch, self.models[i].step_size)

    def _end_epoch(
        self, learning: Array, coef: Tensor, intercept: Array, done: Any, started: float
    ) -> PerceptronResult:
        """Judge and record the epoch of every model that has not ended."""
        mistakes = np.zeros(len(self._learning), int)
        mistakes[learning] = done.n_mistakes
        n_learning = [int(self._learning[self._classes_of(i)].sum()) for i in self._numbers]
        result = super()._end_epoch(learning, coef, intercept, done, started)
        n_open = sum(self._is_open)
        for i in self._numbers:
            if not self._is_open[i]:
                continue
            here = self._classes_of(i)
            score = self._scores[here].mean() if self.validation is not None else np.nan
            self._epochs[i].append(
                {
                    **result.epochs[-1],
                    "train_loss": float(self._losses[here].mean()),
                    "validation_score": float(score),
                    "learning_rate": self.models[i].step_size,
                    "seconds": (perf_counter() - started) / n_open,
                    "n_mistakes": int(mistakes[here].sum()),
                    "n_learning": n_learning[i],
                }
            )
            ends = len(result.epochs) >= self.models[i].max_epochs or self.errors[i] is not None
            if ends:
                self._learning[here] = False
            self._is_open[i] = bool(self._learning[here].any())
        return result

    @property
    def _numbers(self) -> range:
        return range(len(self.models))

    def _judge(self, learning: Array, objective: Array) -> None:
        """Stop the classes whose objective has not improved for long enough."""
        stale = ~(objective <= self._best[learning] - self._tols[learning])
        self._n_stale[learning] = np.where(stale, self._n_stale[learning] + 1, 0)
        self._best[learning] = np.fmin(self._best[learning], objective)
        self._learning = self._learning & (self._n_stale < self._patience)
