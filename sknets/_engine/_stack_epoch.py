"""An epoch of a stack: what rows each net sees in which batch.

Conventions: M nets, G groups of nets that have the same rows, n rows of the longest net.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sknets._engine._stack_member import Member


class StackEpoch:
    """The orders of an epoch, drawn. Nets with fewer rows than others are padded at the end.

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
    rows : ndarray of shape (G, n)
        Numbers of rows of X.
    sizes : list of int
        Rows of each batch.
    real : list of list of int
        Of each batch, how many rows of each net are not padding.
    """

    def __init__(
        self, members: Sequence[Member], groups: Sequence[slice], batch_size: int, like: Tensor
    ) -> None:
        self._members, self._groups, self._like = members, groups, like
        self.batch_size = batch_size
        lengths = [len(m.rows) for m in members]
        n_rows = max(lengths)
        order = np.zeros((len(groups), n_rows), dtype=np.int64)
        self.rows = np.zeros_like(order)
        for places, numbers, group in zip(order, self.rows, groups, strict=True):
            of_group = members[group.start].order
            places[: len(of_group.rows)] = of_group.next()
            numbers[:] = of_group.rows[places]
        starts = range(0, n_rows, batch_size)
        self.sizes = [min(batch_size, n_rows - start) for start in starts]
        self.real = [[min(max(n - start, 0), batch_size) for n in lengths] for start in starts]
        self._is_weighted = any(m.weight is not None for m in members)
        self._is_padded = min(lengths) < n_rows
        self._weights: Tensor | None = None
        if self._is_weighted or self._is_padded:
            self._weights = self._make_weights(order, lengths)

    def _make_weights(self, order: np.ndarray, lengths: list[int]) -> Tensor:
        """Return the members' weights (M, n), 0 where a member has no row."""
        real = np.arange(order.shape[1]) < np.array(lengths)[:, None]
        weights = torch.from_numpy(real).to(self._like.device, self._like.dtype)
        places = torch.from_numpy(order).to(weights.device)
        for g, group in enumerate(self._groups):
            for i in range(group.start, group.stop):
                weight, n = self._members[i].weight, lengths[i]
                if weight is not None:
                    weights[i, :n] = weight[places[g, :n]]
        return weights

    def blocks(self, n_batches: int) -> Iterator[slice]:
        """Yield the numbers of the batches of one block after the other."""
        for start in range(0, len(self.sizes), n_batches):
            yield slice(start, min(start + n_batches, len(self.sizes)))

    def columns(self, block: slice) -> slice:
        """Return where in `rows` those of a block are."""
        return slice(block.start * self.batch_size, block.stop * self.batch_size)

    def weight(self, i: int) -> Tensor | None:
        """Return the weights (M, B) of batch number i; None where all are 1."""
        first = i * self.batch_size
        if self._weights is None or not (self._is_weighted or self._is_cut(i)):
            return None
        return self._weights[:, first : first + self.batch_size]

    def _is_cut(self, i: int) -> bool:
        return min(self.real[i]) < self.batch_size

    def counts(self, block: slice | None = None) -> Tensor | None:
        """Return how many rows (M, n_batches) of a block are real; None if all are, of an epoch."""
        if not self._is_padded:
            return None
        return self._like.new_tensor(self.real[block or slice(None)]).T

    def key(self, block: slice) -> Hashable:
        """Return what blocks have in common that differ in nothing but numbers in memory."""
        return tuple(self.sizes[block]), tuple(map(tuple, self.real[block])), self._is_weighted
