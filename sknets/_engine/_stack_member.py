"""The nets of a stack: what each of them has for itself, and the rows that some have in common."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknets._engine._progress import Progress
from sknets._engine._validation import Validation
from sknets._nn import Schedule


class Rate:
    """A learning rate that a schedule can set; stands in for an optimiser."""

    def __init__(self, rate: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": rate}]


@dataclass
class Member:
    """One net of a stack.

    Attributes
    ----------
    vector : Tensor of shape (P,)
        Its weights, as `FlatParameters` lays them out; at the end, the trained ones.
    rows : ndarray of shape (n,)
        The rows of the shared X that it trains on.
    weight : Tensor of shape (n,) or None
        Their weights.
    validation : Validation or None
        What its early stopping looks at.
    random_state : RandomState or None
        Its shuffles are those that a copy of it draws; None keeps the order.
    generator : torch.Generator or None
        Draws its dropout masks.
    schedule : Schedule
        Over a `Rate`.
    settings : dict
        "alpha", "label_smoothing", "tol", "patience", "max_epochs", "early_stopping", and for
        "adam" "betas" and "eps", for "sgd" "momentum" and "nesterov"; "dropout" is a tuple with a
        rate a hidden layer of a dense net, else what `dropout_rates` gives.
    state : list of Tensor
        Buffers and weights that are not trained, as `state_of` lists them; at the end, those that
        belong to `vector`.
    """

    vector: Tensor
    rows: np.ndarray
    weight: Tensor | None
    validation: Validation | None
    random_state: np.random.RandomState | None
    generator: torch.Generator | None
    schedule: Schedule
    settings: dict[str, Any]
    state: list[Tensor] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    n_epochs: int = 0
    converged: bool = False
    seconds: float = 0.0
    error: Exception | None = None
    best: tuple[Tensor, list[Tensor]] | None = None

    def __post_init__(self) -> None:
        self.order = RowOrder(self.rows, self.random_state)


class RowOrder:
    """The order in which nets see their rows, epoch after epoch.

    Parameters
    ----------
    rows : ndarray of shape (n,)
        Numbers of rows.
    random_state : RandomState or None
        The shuffles are those that a copy of it draws; None keeps the order.
    """

    def __init__(self, rows: np.ndarray, random_state: np.random.RandomState | None) -> None:
        self.rows = rows
        self.random_state = random_state
        self._source: np.random.RandomState | None = None
        self._order = np.arange(len(rows))

    def next(self) -> np.ndarray:
        """Return places in `rows`, in the order of the next epoch."""
        if self.random_state is not None:
            # A copy takes longer than an epoch of a small net. Of equal orders, only one is asked.
            self._source = self._source or copy.deepcopy(self.random_state)
            order = np.arange(len(self.rows))
            self._source.shuffle(order)
            self._order = self._order[order]
        return self._order

    def key(self) -> tuple:
        """Return what orders that are equal now, and ever after, have in common."""
        if self.random_state is None:
            return (self.rows.tobytes(),)
        state = self.random_state.get_state(legacy=False)["state"]
        if "key" not in state:  # of another bit generator than the Mersenne twister
            return self.rows.tobytes(), str(state)
        return self.rows.tobytes(), state["key"].tobytes(), state["pos"]


def share_orders(members: Sequence[Member]) -> list[RowOrder]:
    """Give members whose orders are equal one order, and return all that there are."""
    shared: dict[tuple, RowOrder] = {}
    keys: dict[tuple[int, int], tuple] = {}  # found once for the very same objects
    for member in members:
        order = member.order
        objects = id(order.rows), id(order.random_state)
        if objects not in keys:
            keys[objects] = order.key()
        member.order = shared.setdefault(keys[objects], order)
    return list(shared.values())


def label_smoothing_of(members: Sequence[Member], like: Tensor) -> float | Tensor:
    """Return the members' label smoothing (M,), of the dtype and device of `like`; 0.0 if none."""
    shares = [m.settings["label_smoothing"] for m in members]
    return like.new_tensor(shares) if any(shares) else 0.0
