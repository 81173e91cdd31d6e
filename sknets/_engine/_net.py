"""The one place where skorch lives: its net, reduced to what its callbacks need."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch import Tensor, nn

from sknets._data import DenseRows, Rows, SubsetRows, make_rows
from sknets._engine._validation import logits_in_blocks
from sknets._nn import Optimiser


class TorchOptimiser(torch.optim.Optimizer):
    """One of our optimisers as torch's schedules and skorch's callbacks know them.

    Groups and state are shared: a learning rate set here is the one of the next update.
    """

    def __init__(self, optimiser: Optimiser) -> None:
        super().__init__([dict(group) for group in optimiser.param_groups], {})
        self.optimiser = optimiser
        self.param_groups = optimiser.param_groups
        self.state = optimiser.state  # type: ignore[assignment]  # a plain dict will do

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no line search
        """Change every parameter in place by its gradient."""
        self.optimiser.update()


class CallbackNet(NeuralNet):
    """A skorch net around a module and an optimiser that are already built.

    skorch's callbacks see what they expect (``module_``, ``optimizer_``, ``history``,
    ``predict``, ``save_params``); the epochs themselves are run by `EpochLoop`.

    Parameters
    ----------
    module : nn.Module
        Gives logits of rows.
    optimizer : Optimiser
        Updates its weights.
    task : {"multiclass", "binary", "multilabel"}
        How logits become class numbers.
    callbacks : sequence of skorch callbacks, or (name, callback) pairs
        The user's.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: Optimiser,
        *,
        task: str,
        dtype: torch.dtype,
        callbacks: Any,
        max_epochs: int,
        batch_size: int,
    ) -> None:
        self.task = task
        self.dtype = dtype
        super().__init__(
            module=module,
            criterion=nn.Module,
            optimizer=TorchOptimiser(optimizer),
            callbacks=list(callbacks),
            max_epochs=max_epochs,
            batch_size=batch_size,
            verbose=1,  # what a callback prints is the user's choice
            device=None,
            train_split=None,
            use_caching=False,
        )

    @property
    def _default_callbacks(self) -> list:
        return []

    def initialize_module(self) -> CallbackNet:
        """Take the module as it is."""
        self.module_ = self.module
        return self

    def initialize_criterion(self) -> CallbackNet:
        """Have no criterion: the step computes the loss."""
        return self

    def initialize_optimizer(self, triggered_directly: Any = None) -> CallbackNet:
        """Take the optimiser as it is."""
        self.optimizer_ = self.optimizer
        return self

    def notes(self, *, without: Iterable[str]) -> dict[str, float]:
        """Return the numbers of the last epoch that callbacks have noted.

        `without` are names that `EpochLoop` has noted numbers under.
        """
        ours = {"epoch", "dur", "train_batch_size", *without}
        row = self.history[-1] if len(self.history) else {}
        numbers = {name: _as_number(value) for name, value in row.items() if name not in ours}
        return {name: value for name, value in numbers.items() if value is not None}

    def forward_logits(self, X: Any) -> Tensor:
        """Return the logits of rows given as an array, tensor or skorch data set."""
        X = X.X if isinstance(X, Dataset) else X
        device = next(self.module_.parameters()).device
        rows = X if isinstance(X, Rows) else make_rows(X, dtype=self.dtype, device=device)
        return torch.cat([logits for *_, logits in logits_in_blocks(self.module_, rows)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities, a column a class or label."""
        logits = self.forward_logits(X)
        if self.task == "multiclass":
            return torch.softmax(logits, 1).cpu().numpy()
        proba = torch.sigmoid(logits)
        if self.task == "binary":
            proba = torch.cat((1 - proba, proba), 1)
        return proba.cpu().numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Return class numbers, or label indicators."""
        proba = self.predict_proba(X)
        return (proba > 0.5).astype(int) if self.task == "multilabel" else proba.argmax(1)


def _as_number(value: Any) -> float | None:
    """Return a number, also one in a tensor or an array without axes; None of all else."""
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def as_dataset(rows: Rows, target: Tensor, index: np.ndarray | None = None) -> Dataset:
    """Return rows and targets as the data set that skorch hands to its callbacks."""
    if isinstance(rows, SubsetRows):
        return as_dataset(rows.rows, target, rows.index)
    X = rows.data if isinstance(rows, DenseRows) else rows.csr
    return Dataset(X if index is None else X[index], target.cpu().numpy())


def check_callbacks(callbacks: Any) -> list:
    """Return the callbacks as a list of skorch callbacks or (name, callback) pairs.

    Raises
    ------
    TypeError
        If one of them is neither.
    """
    items = [] if callbacks is None else list(callbacks)
    for item in items:
        callback = item[1] if isinstance(item, tuple) and len(item) == 2 else item
        known = isinstance(callback, Callback) or (
            isinstance(callback, type) and issubclass(callback, Callback)
        )
        if not known:
            raise TypeError(
                "callbacks must hold skorch callbacks or (name, callback) pairs, "
                f"got {item!r}. scikit-learn's callbacks are set with set_callbacks()."
            )
    return items
