"""What Rosenblatt's rule is given, told and asked to give back.

Shapes: K classes (1 for a binary target), n rows, F features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from sknets._data import Rows

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
    epochs : list of dict
        A row an epoch, with the keys of `PERCEPTRON_COLUMNS`.
    """

    coef: Tensor
    intercept: Array
    epochs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def history(self) -> dict[str, list]:
        """The epochs as one list a column."""
        return {name: [epoch[name] for epoch in self.epochs] for name in PERCEPTRON_COLUMNS}
