"""An epoch's mini-batches, gathered in large blocks and handed out as views."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from sknets._data._rows import Rows

# On a CPU blocks fit into memory that the process has already: of each 4 KB that it newly gets, the
# system's clearing takes a microsecond. They stay in the cache, too.
_CPU_BLOCK_BYTES = 2**20

Encode = Callable[[Tensor], tuple[Tensor, ...]]


class Batches:
    """Mini-batches of rows, targets and weights.

    Shuffled rows are gathered some batches at a time (1 MB on the CPU, 32 MB elsewhere) and split
    into views, so that a batch costs no copy of its own.

    Parameters
    ----------
    rows : Rows
        X.
    target : Tensor of shape (n, ...)
        Encoded labels, on the device of the rows.
    weight : Tensor of shape (n,) or None
        Sample weights, on the device of the rows.
    batch_size : int
        Rows of a batch; the last one may have fewer.
    random_state : RandomState or None
        Shuffles the rows before every epoch; None keeps their order.
    """

    def __init__(
        self,
        rows: Rows,
        target: Tensor,
        weight: Tensor | None,
        *,
        batch_size: int,
        random_state: np.random.RandomState | None,
    ) -> None:
        self.rows = rows
        self.target = target
        self.weight = weight
        self.batch_size = batch_size
        self.random_state = random_state
        self._order = np.arange(rows.n)
        n_rows = rows.block_rows
        if rows.device.type == "cpu" and random_state is not None:
            n_rows = min(n_rows, _CPU_BLOCK_BYTES // (rows.n_features * rows.dtype.itemsize))
        self._block = max(1, n_rows // batch_size) * batch_size

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return -(-self.rows.n // self.batch_size)

    @property
    def sizes(self) -> list[int]:
        """Rows of each batch."""
        n_whole, rest = divmod(self.rows.n, self.batch_size)
        return [self.batch_size] * n_whole + [rest] * (rest > 0)

    def epoch(self, encode: Encode) -> Iterator[tuple[Tensor, tuple[Tensor, ...], Tensor | None]]:
        """Yield (x, target, weight) of every batch of one epoch.

        `encode` turns a block of targets into the tensors that a step wants; their last axis is
        the sample.
        """
        if self.random_state is not None:
            # The composition that scikit-learn's shuffle makes, number by number.
            order = np.arange(self.rows.n)
            self.random_state.shuffle(order)
            self._order = self._order[order]
        for start in range(0, self.rows.n, self._block):
            stop = min(start + self._block, self.rows.n)
            x, target, weight = self._gather(start, stop)
            size = self.batch_size
            encoded = zip(*(t.split(size, dim=-1) for t in encode(target)), strict=True)
            weights = [None] * -(-(stop - start) // size) if weight is None else weight.split(size)
            yield from zip(x.split(size), encoded, weights, strict=True)

    def _gather(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.random_state is None:
            weight = None if self.weight is None else self.weight[start:stop]
            return self.rows.slice(start, stop), self.target[start:stop], weight
        index = torch.from_numpy(self._order[start:stop])
        x = self.rows.take(index)
        index = index.to(self.target.device)
        weight = None if self.weight is None else self.weight.index_select(0, index)
        return x, self.target.index_select(0, index), weight
