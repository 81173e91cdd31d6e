"""An epoch's mini-batches, gathered in large blocks and handed out as views."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from sknets._data._rows import Rows

# On a CPU a block stays in the cache until its batches are read.
_CPU_BLOCK_BYTES = 2**20

Encode = Callable[[Tensor], tuple[Tensor, ...]]

# x, target, weight of one mini-batch.
Batch = tuple[Tensor, tuple[Tensor, ...], Tensor | None]


class Batches:
    """Mini-batches of rows, targets and weights.

    Shuffled rows are gathered some batches at a time (1 MB on the CPU, 32 MB elsewhere), or once an
    epoch when there are fewer, into memory that every block uses again. So a batch costs no copy of
    its own, and its views are made once a fit; they hold what they show until the next block is
    gathered.

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
    most : int or None, default=None
        Batches of a block at most. Where it is given, rows whose order is kept are gathered too, so
        that a batch lies where it lay in the epoch before.

    Attributes
    ----------
    sizes : list of int
        Rows of each batch.
    n_blocks : int
        Blocks of an epoch.
    """

    def __init__(
        self,
        rows: Rows,
        target: Tensor,
        weight: Tensor | None,
        *,
        batch_size: int,
        random_state: np.random.RandomState | None,
        most: int | None = None,
    ) -> None:
        self.rows = rows
        self.target = target
        self.weight = weight
        self.batch_size = batch_size
        self.random_state = random_state
        self._gathers = random_state is not None or most is not None
        self._order = np.arange(rows.n)
        n_whole, rest = divmod(rows.n, batch_size)
        self.sizes = [batch_size] * n_whole + [rest] * (rest > 0)
        self._memory: _Memory | None = None
        n_rows = rows.block_rows
        if rows.device.type == "cpu" and random_state is not None:
            n_rows = min(n_rows, _CPU_BLOCK_BYTES // (rows.n_features * rows.dtype.itemsize))
        n_batches = max(1, n_rows // batch_size)
        if most is not None:
            # As few blocks as can be, of about one length.
            n_blocks = -(-len(self.sizes) // min(n_batches, most))
            n_batches = -(-len(self.sizes) // n_blocks)
        self._block = n_batches * batch_size
        self.n_blocks = -(-len(self.sizes) // n_batches)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.sizes)

    def epoch(self, encode: Encode) -> Iterator[Batch]:
        """Yield (x, target, weight) of every batch of one epoch.

        `encode` turns a block of targets into the tensors that a step wants; their last axis is
        the sample.
        """
        for block in self.blocks(encode):
            yield from block

    def blocks(self, encode: Encode) -> Iterator[list[Batch]]:
        """Yield the batches of one epoch, a list for each block of rows."""
        for block in self.whole_blocks(encode):
            yield block.batches

    def whole_blocks(self, encode: Encode) -> Iterator[Block]:
        """Yield the blocks of rows of one epoch."""
        if self.random_state is not None:
            # The composition that scikit-learn's shuffle makes, number by number.
            order = np.arange(self.rows.n)
            self.random_state.shuffle(order)
            self._order = self._order[order]
        for start in range(0, self.rows.n, self._block):
            stop = min(start + self._block, self.rows.n)
            if not self._gathers:
                x = self.rows.slice(start, stop)
                weight = None if self.weight is None else self.weight[start:stop]
                encoded = encode(self.target[start:stop])
                yield Block(x, encoded, weight, self.batch_size)
            else:
                yield self._gather(start, stop, encode)

    def _gather(self, start: int, stop: int, encode: Encode) -> Block:
        index = torch.from_numpy(self._order[start:stop])
        there = index.to(self.target.device)
        encoded = encode(self.target.index_select(0, there))
        if self._memory is None:
            self._memory = _Memory(
                self.rows, encoded, self.weight, min(self._block, self.rows.n), self.batch_size
            )
        block = self._memory.block(stop - start)
        self.rows.take(index, out=block.x)
        for kept, new in zip(block.target, encoded, strict=True):
            kept.copy_(new)
        if self.weight is not None:
            torch.index_select(self.weight, 0, there, out=block.weight)
        return block


class Block:
    """Rows, encoded targets and weights of some batches, and `batches`, which are views of them."""

    def __init__(
        self, x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None, batch_size: int
    ) -> None:
        self.x, self.target, self.weight = x, target, weight
        self.batches = list(_split(x, target, weight, batch_size))


class _Memory:
    """Room for the gathered rows of one block at a time; the last one may be shorter."""

    def __init__(
        self,
        rows: Rows,
        encoded: tuple[Tensor, ...],
        weight: Tensor | None,
        n_rows: int,
        batch_size: int,
    ) -> None:
        self._batch_size = batch_size
        self._x = torch.empty(n_rows, rows.n_features, dtype=rows.dtype, device=rows.device)
        self._target = tuple(t.new_empty((*t.shape[:-1], n_rows)) for t in encoded)
        self._weight = None if weight is None else weight.new_empty(n_rows)
        self._blocks: dict[int, Block] = {}

    def block(self, n_rows: int) -> Block:
        """Return the memory of a block of so many rows."""
        block = self._blocks.get(n_rows)
        if block is None:
            block = self._blocks[n_rows] = Block(
                self._x[:n_rows],
                tuple(t[..., :n_rows] for t in self._target),
                None if self._weight is None else self._weight[:n_rows],
                self._batch_size,
            )
        return block


def _split(
    x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None, size: int
) -> Iterator[Batch]:
    parts = x.split(size)
    targets = zip(*(t.split(size, dim=-1) for t in target), strict=True)
    weights = [None] * len(parts) if weight is None else weight.split(size)
    yield from zip(parts, targets, weights, strict=True)
