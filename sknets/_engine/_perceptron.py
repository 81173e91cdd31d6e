"""Rosenblatt's rule by epochs: order of rows, objective, when each class stops, what is kept.

The rule is ``w <- w + eta (y - yhat) x``, with a step wherever ``y (w.x + b) <= 0`` for targets
y of -1 and +1, each class against the rest. Every class has its own loss and stops on its own.

Shapes: K classes (1 for a binary target), n rows, F features.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknets._core import limit_threads
from sknets._data import Rows
from sknets._engine._epochs import Hooks
from sknets._engine._perceptron_block import Coupling, correct_block
from sknets._engine._perceptron_truncated import TruncatedRule, TruncatedWeights

Array = np.ndarray[Any, np.dtype[Any]]

PERCEPTRON_COLUMNS = (
    "epoch",
    "train_loss",
    "validation_loss",
    "validation_score",
    "learning_rate",
    "seconds",
    "n_mistakes",
    "n_learning",
)
"""Columns of the history; the mean over classes where a column is of one class each."""

# Multiply-adds of a block's Gram matrix below which a second thread costs more than it brings.
_WORTH_THREADS = 5e7


@dataclass(frozen=True)
class PerceptronTask:
    """What to learn from.

    Attributes
    ----------
    rows : Rows
        X, n rows.
    target : ndarray of shape (n,)
        Class numbers.
    sample_weight : ndarray of shape (n,) or None
        Factor of each row's step.
    positive : ndarray of shape (K,)
        The class that is +1 in each binary problem.
    """

    rows: Rows
    target: Array
    sample_weight: Array | None
    positive: Array


@dataclass(frozen=True)
class PerceptronSettings:
    """How to learn.

    Attributes
    ----------
    class_steps : ndarray of shape (K, n_classes)
        Signed step of a row of each class in each binary problem: the step size times the weight
        of the class.
    step_size : float
        Learning rate, for the penalty and the history.
    alpha, l1_ratio : float
        Strength of the penalty (0 for none) and the share of L1 in it.
    intercept_step : float
        Part of each step that the intercept takes; 0 without an intercept.
    max_epochs : int
        Most passes over the rows.
    tol : float or None
        A class's objective has to fall by this much, or its validation score to rise, to count as
        better; None trains all epochs.
    n_iter_no_change : int
        Epochs in a row that are no better before a class stops.
    shuffle : bool
        Whether to take the rows in a new order in every epoch, the same for all classes.
    verbose : bool
        Whether to print a line an epoch.
    block_rows : int or None
        Rows of a block; None chooses by the number of features.
    """

    class_steps: Array
    step_size: float = 1.0
    alpha: float = 0.0
    l1_ratio: float = 0.0
    intercept_step: float = 1.0
    max_epochs: int = 1000
    tol: float | None = 1e-3
    n_iter_no_change: int = 5
    shuffle: bool = True
    verbose: bool = False
    block_rows: int | None = None

    @property
    def shrinkage(self) -> float:
        """Factor that the L2 term puts on the weights at every row."""
        return max(0.0, 1.0 - (1.0 - self.l1_ratio) * self.step_size * self.alpha)

    @property
    def payment(self) -> float:
        """What the L1 term asks of every weight at every row."""
        return self.l1_ratio * self.step_size * self.alpha


@dataclass
class PerceptronResult:
    """What was learnt.

    Attributes
    ----------
    coef : Tensor of shape (K, F)
        Weights, on the device of the rows.
    intercept : ndarray of shape (K,)
        Intercepts.
    n_epochs : int
        Epochs of the class that took most.
    history : dict of lists
        A row an epoch, see `PERCEPTRON_COLUMNS`.
    """

    coef: Tensor
    intercept: Array
    n_epochs: int = 0
    history: dict[str, list] = field(
        default_factory=lambda: {name: [] for name in PERCEPTRON_COLUMNS}
    )


@dataclass
class _Pass:
    """One pass over the rows: per class (K,) loss and penalty sums, and mistakes of all."""

    loss: Array
    penalty: Array
    n_mistakes: int = 0


class PerceptronLoop:
    """Trains all classes together, epoch by epoch, each until it no longer improves.

    Parameters
    ----------
    task : PerceptronTask
        What to learn from.
    settings : PerceptronSettings
        How.
    start : PerceptronResult
        Weights to start from; replaced, never changed in place.
    random_state : RandomState
        Source of the orders of rows.
    validation : PerceptronTask or None, default=None
        Rows whose accuracy, instead of the training objective, decides when a class stops.
    hooks : Hooks or None, default=None
        Told of every epoch.
    """

    def __init__(
        self,
        task: PerceptronTask,
        settings: PerceptronSettings,
        start: PerceptronResult,
        random_state: np.random.RandomState,
        *,
        validation: PerceptronTask | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.task = task
        self.settings = settings
        self.result = start
        self.validation = validation
        self.hooks = hooks or Hooks()
        self._random_state = random_state
        n_classes = settings.class_steps.shape[1]
        self._signs = np.where(task.positive[:, None] == np.arange(n_classes), 1, -1)
        self._dtype = np.dtype(str(task.rows.dtype).removeprefix("torch."))
        n_problems = len(task.positive)
        self._learning = np.ones(n_problems, bool)
        self._best = np.full(n_problems, np.inf)
        self._n_stale = np.zeros(n_problems, int)
        self._losses = np.zeros(n_problems)
        self._scores = np.zeros(n_problems)
        size = settings.block_rows or (64 if task.rows.n_features > 256 else 128)
        self._size = min(size, task.rows.n)
        self._truncated: list[TruncatedWeights] | None = None
        if settings.payment > 0:
            coef = start.coef.cpu().numpy()
            self._truncated = [
                TruncatedWeights.start(w, b) for w, b in zip(coef, start.intercept, strict=True)
            ]
        else:
            self._coupling = Coupling(
                self._size, settings.shrinkage, settings.intercept_step, self._dtype
            )

    def run(self) -> PerceptronResult:
        """Train until every class has stopped or the epochs are used up.

        Raises
        ------
        ValueError
            If weights turn NaN or infinite.
        KeyboardInterrupt
            If the user interrupts before one epoch is whole; later the weights of the last whole
            epoch stand and a warning is given.
        """
        on_cpu = self.task.rows.device.type == "cpu"
        small = self._size**2 * self.task.rows.n_features < _WORTH_THREADS
        first = self.result.n_epochs
        with limit_threads(1 if on_cpu and small else None):
            try:
                while self.result.n_epochs - first < self.settings.max_epochs:
                    self.hooks.epoch_begins()
                    self._train_epoch()
                    if self.hooks.epoch_ends() or not self._learning.any():
                        break
            except KeyboardInterrupt:
                if self.result.n_epochs == first:
                    raise
                warnings.warn(
                    f"Training interrupted by user after epoch {self.result.n_epochs}, whose "
                    "weights are kept.",
                    stacklevel=2,
                )
        self.hooks.fit_ends()
        return self.result

    # -- an epoch --------------------------------------------------------------------------------

    def _train_epoch(self) -> None:
        """Do one epoch; `result` is replaced when it is whole."""
        started = perf_counter()
        learning = np.flatnonzero(self._learning)
        order = self._random_state.permutation(self.task.rows.n) if self.settings.shuffle else None
        # Overflow is looked for once an epoch; infinities are used as marks in every block.
        with np.errstate(invalid="ignore", over="ignore"):
            pass_over = self._pass_by_gram if self._truncated is None else self._pass_by_runs
            coef, intercept, done, state = pass_over(learning, order)
        self._check_finite(coef, intercept)
        self.result = self._end_epoch(learning, coef, intercept, done, started)
        self._truncated = state

    def _pass_by_gram(self, learning: Array, order: Array | None) -> tuple:
        settings = self.settings
        where = torch.from_numpy(learning).to(self.result.coef.device)
        coef = self.result.coef[where]
        intercept = self.result.intercept[learning]
        done = _Pass(np.zeros(len(learning)), np.zeros(len(learning)))
        for start in range(0, self.task.rows.n, self._size):
            x, signs, steps = self._block(start, learning, order)
            scores = (coef @ x.T).cpu().numpy()
            size = scores.shape[1]
            if settings.shrinkage != 1.0:
                squared_norms = (coef * coef).sum(1).cpu().numpy()
                scores *= self._coupling.powers[:size]
            scores += intercept[:, None]
            scores *= signs
            wrong = scores <= 0
            gram = None
            if wrong.any():
                gram = (x @ x.T).cpu().numpy()
                squared_rows = gram.diagonal().copy()
                gram = self._coupling.from_gram(gram)
            ...
        return coef, intercept, done, None
