"""The epochs of a stack: what rows each net sees in which batch.

Conventions: M nets, G groups of nets that have the same rows, n rows of the longest net.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sknets._engine._stack_member import Member


class StackEpochs:
    """Batches of all nets, epoch after epoch. Nets with fewer rows than others are padded.

    Parameters
    ----------
    members : sequence of Member
        The nets; those of a group are neighbours.
    groups : sequence of slice
        The groups, each of which has one order.
    batch_size : int
        Rows of a batch.
    like : Tensor
        Of the weights' dtype and device.

    Attributes
    ----------
    members : sequence of Member
        The nets.
    rows : ndarray of shape (G, n)
        Numbers of rows of X, in the order of the epoch.
    sizes : list of int
        Rows of each batch.
    real : list of list of int
        Of each batch, how many rows of each net are not padding.
    needs_weights : list of bool
        Of each batch, whether not all rows of all nets count alike.
    counts : Tensor of shape (M, n_batches)
        How many rows of each batch are real.
    is_padded : bool
        Whether not all are.
    """

    def __init__(
        self, members: Sequence[Member], groups: Sequence[slice], batch_size: int, like: Tensor
    ) -> None:
        self.members, self._groups, self._device = members, groups, like.device
        self.batch_size = batch_size
        self._lengths = [len(m.rows) for m in members]
        n_rows = max(self._lengths)
        self._order = np.zeros((len(groups), n_rows), dtype=np.int64)
        self.rows = np.zeros_like(self._order)
        starts = range(0, n_rows, batch_size)
        self.sizes = [min(batch_size, n_rows - start) for start in starts]
        self.real = [
            [min(max(n - start, 0), batch_size) for n in self._lengths] for start in starts
        ]
        self._is_weighted = any(m.weight is not None for m in members)
        self.is_padded = min(self._lengths) < n_rows
        self.counts = like.new_tensor(self.real).T
        self._weights: Tensor | None = None
        if self._is_weighted or self.is_padded:
            real = np.arange(n_rows) < np.array(self._lengths)[:, None]
            self._weights = torch.from_numpy(real).to(like.device, like.dtype)
        # Batches with as many real rows of each net have the same number.
        kinds: dict[tuple[int, ...], int] = {}
        self._kinds = [kinds.setdefault(tuple(real), len(kinds)) for real in self.real]
        self.needs_weights = [self._is_weighted or min(real) < max(real) for real in self.real]

    def begin(self) -> None:
        """Draw the orders of the next epoch."""
        for places, numbers, group in zip(self._order, self.rows, self._groups, strict=True):
            order = self.members[group.start].order
            places[: len(order.rows)] = order.next()
            numbers[:] = order.rows[places]
        if self._is_weighted:
            self._order_weights()

    def by_group(self) -> Iterator[tuple[slice, np.ndarray, Tensor | None]]:
        """Yield each group, its rows (n,) in their order, and their weights (M, n) for its nets.

        There are none where no net of any group has some.
        """
        for group, numbers in zip(self._groups, self.rows, strict=True):
            n = self._lengths[group.start]
            weights = None
            if self._is_weighted:
                assert self._weights is not None
                weights = self._weights[group, :n]
            yield group, numbers[:n], weights

    def _order_weights(self) -> None:
        """Put the members' weights (M, n) in the order of the rows; a row that is not has 0."""
        assert self._weights is not None
        places = torch.from_numpy(self._order).to(self._device)
        for g, group in enumerate(self._groups):
            for i in range(group.start, group.stop):
                weight, n = self.members[i].weight, self._lengths[i]
                if weight is not None:
                    self._weights[i, :n] = weight[places[g, :n]]

    def blocks(self, n_batches: int) -> Iterator[slice]:
        """Yield the numbers of the batches of one block after the other."""
        for start in range(0, len(self.sizes), n_batches):
            yield slice(start, min(start + n_batches, len(self.sizes)))

    def columns(self, block: slice) -> slice:
        """Return where in `rows` those of a block are."""
        return slice(block.start * self.batch_size, block.stop * self.batch_size)

    def weights(self, block: slice) -> Tensor | None:
        """Return the weights (M, n) of the rows of a block; None where all are 1."""
        if self._weights is None or not any(self.needs_weights[block]):
            return None
        return self._weights[:, self.columns(block)]

    def key(self, block: slice) -> Hashable:
        """Return what blocks have in common that differ in nothing but numbers in memory."""
        return tuple(self._kinds[block])
