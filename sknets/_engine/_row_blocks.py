"""X cut into blocks of rows, each with the products that a linear model needs.

A block is small enough to stay in the cache between the two products of one pass, so that a loss
and its gradient read X from memory once. Shapes: K outputs, b rows of a block, F features.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Protocol

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from sknets._core import limit_threads, numpy_dtype
from sknets._data import Rows
from sknets._engine._products import SMALL_PRODUCT, times_rows

_CACHE_BYTES = 2 << 20
_DEVICE_BYTES = 1 << 30

# Rows of a block at least.
_FEWEST_ROWS = 64

# Blocks of a thread at least: with fewer, threads wait for each other longer than they gain.
_BLOCKS_OF_A_THREAD = 3


class RowBlock(Protocol):
    """Some rows of X, multiplied from the left."""

    def forward(self, weights: Tensor) -> Tensor:
        """Multiply ``weights`` (K, F) by the rows: a new tensor (K, b)."""

    def backward_(self, residual: Tensor, total: Tensor) -> None:
        """Multiply ``residual`` (K, b) by the rows and add that to ``total`` (K, F) in place."""

    def dense(self) -> Tensor:
        """Return the rows as a dense tensor (b, F), which is not to be written to."""


class DenseBlock:
    """Rows held as a dense tensor (b, F)."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def forward(self, weights: Tensor) -> Tensor:
        if weights.shape[0] == 1:
            return torch.mv(self._rows, weights[0]).unsqueeze(0)
        return weights @ self._rows.T

    def backward_(self, residual: Tensor, total: Tensor) -> None:
        if residual.shape[0] == 1:
            total[0].addmv_(self._rows.T, residual[0])
        else:
            total.addmm_(residual, self._rows)

    def dense(self) -> Tensor:
        return self._rows


class ArrayBlock:
    """Rows on the CPU (b, F), multiplied by NumPy's BLAS a few at a time."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows
        self._array = rows.numpy()

    def forward(self, weights: Tensor) -> Tensor:
        w, rows = weights.numpy(), self._array
        if len(w) == 1:
            return torch.from_numpy(np.dot(rows, w[0])[None])
        logits = np.empty((len(w), len(rows)), w.dtype)
        times_rows(w, rows, logits)
        return torch.from_numpy(logits)

    def backward_(self, residual: Tensor, total: Tensor) -> None:
        r, rows, sums = residual.numpy(), self._array, total.numpy()
        if len(r) == 1:
            sums[0] += np.dot(r[0], rows)
            return
        for part in self._parts(len(r)):
            sums += np.dot(r[:, part], rows[part])

    def _parts(self, n_outputs: int) -> Iterator[slice]:
        size = max(16, int(SMALL_PRODUCT / (n_outputs * self._array.shape[1])))
        for start in range(0, len(self._array), size):
            yield slice(start, start + size)

    def dense(self) -> Tensor:
        return self._rows


def _dense_block(rows: Tensor) -> RowBlock:
    return ArrayBlock(rows) if rows.device.type == "cpu" else DenseBlock(rows)


class CsrBlock:
    """Rows held as a scipy CSR array on the CPU, never densified by a product."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self._rows_t = rows.T

    def forward(self, weights: Tensor) -> Tensor:
        product = self._rows @ np.ascontiguousarray(weights.numpy().T)
        return torch.from_numpy(np.ascontiguousarray(product.T))

    def backward_(self, residual: Tensor, total: Tensor) -> None:
        product = self._rows_t @ np.ascontiguousarray(residual.numpy().T)
        total += torch.from_numpy(product).T

    def dense(self) -> Tensor:
        return torch.from_numpy(self._rows.toarray())


class SparseTensorBlock:
    """Rows held on an accelerator as torch's CSR, with the transpose beside them."""

    def __init__(self, rows: Any, device: torch.device) -> None:
        self._rows = _to_torch_csr(rows, device)
        self._rows_t = _to_torch_csr(rows.T.tocsr(), device)

    def forward(self, weights: Tensor) -> Tensor:
        return torch.sparse.mm(self._rows, weights.T.contiguous()).T.contiguous()

    def backward_(self, residual: Tensor, total: Tensor) -> None:
        total += torch.sparse.mm(self._rows_t, residual.T.contiguous()).T

    def dense(self) -> Tensor:
        return self._rows.to_dense()


Blocks = Iterable[tuple[slice, RowBlock]]
"""Blocks with the rows that they hold."""


class RowBlocks:
    """All of X as a sequence of blocks that can be walked any number of times.

    Parameters
    ----------
    n, n_features : int
        Rows and columns of X.
    dtype : torch.dtype
        What is computed in.
    device : torch.device
        Where is computed.
    make_block : callable ``(start, stop) -> RowBlock``
        Gives the rows of a range.
    block_rows : int or None
        Rows in a block; None fits a block into a core's cache (into 1 GiB on an accelerator).
    dense_rows : callable ``(start, stop) -> Tensor`` or None
        Gives the rows of a range as a dense tensor (b, F); None asks a block for it.
    n_threads : int, default=1
        Threads at most that walk the blocks, each its share of them in one go; one for few blocks.

    Attributes
    ----------
    whole : Tensor of shape (n, F) or None
        All rows, where they are one dense block in the CPU's memory.
    """

    def __init__(
        self,
        n: int,
        n_features: int,
        dtype: torch.dtype,
        device: torch.device,
        make_block: Callable[[int, int], RowBlock],
        *,
        block_rows: int | None = None,
        dense_rows: Callable[[int, int], Tensor] | None = None,
        n_threads: int = 1,
    ) -> None:
        self.n = n
        self.n_features = n_features
        self.dtype = dtype
        self.device = device
        self._make_block = make_block
        self._block_rows = block_rows or self.rows_within(n_features)
        self._dense_rows = dense_rows
        n_parts = max(1, min(n_threads, n // (_BLOCKS_OF_A_THREAD * self._block_rows)))
        n_blocks = -(-n // self._block_rows)
        self._share = -(-n_blocks // n_parts) * self._block_rows  # rows that a thread walks
        self._pool = ThreadPoolExecutor(n_parts - 1) if n_parts > 1 else None

        # One block of all rows is made once: they may have to be gathered, or brought to a device.
        self._only = make_block(0, n) if n <= self._block_rows else None
        self.whole = self._only.dense() if isinstance(self._only, ArrayBlock) else None

    def __iter__(self) -> Iterator[tuple[slice, RowBlock]]:
        return self._between(0, self.n)

    def _between(self, first: int, last: int) -> Iterator[tuple[slice, RowBlock]]:
        if self._only is not None:
            yield slice(first, last), self._only
            return
        for start in range(first, last, self._block_rows):
            stop = min(start + self._block_rows, last)
            yield slice(start, stop), self._make_block(start, stop)

    def walk(self, work: Callable[[Blocks], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return the sums of what `work` gives for the parts of X that the threads have.

        A thread of Python's a part is faster than threads inside each small product, and a busy
        core then delays one part, not every product. Numbers that are not finite are no warning
        here; the caller looks at the sums.
        """
        if self._pool is None:
            with np.errstate(over="ignore", invalid="ignore"):
                return work(iter(self))

        def run(start: int) -> tuple[Tensor, ...]:
            with limit_threads(1), np.errstate(over="ignore", invalid="ignore"):
                return work(self._between(start, min(start + self._share, self.n)))

        starts = range(self._share, self.n, self._share)
        others = [self._pool.submit(run, start) for start in starts]
        try:
            sums = run(0)
        finally:
            wait(others)  # they read X
        for other in others:
            for total, part in zip(sums, other.result(), strict=True):
                total += part
        return sums

    def dense_blocks(self, width: int) -> Iterator[tuple[slice, Tensor]]:
        """Walk X in dense blocks of so many rows that (b, width) numbers fit the budget."""
        step = self.rows_within(width)
        for start in range(0, self.n, step):
            stop = min(start + step, self.n)
            if self._dense_rows is not None:
                yield slice(start, stop), self._dense_rows(start, stop)
            else:
                yield slice(start, stop), self._make_block(start, stop).dense()

    def rows_within(self, width: int) -> int:
        """Return how many rows of ``width`` numbers make one block: a multiple of 64."""
        return _rows_within(width, self.dtype, self.device)


def _rows_within(width: int, dtype: torch.dtype, device: torch.device) -> int:
    budget = _CACHE_BYTES if device.type == "cpu" else _DEVICE_BYTES
    n_rows = budget // max(1, width * dtype.itemsize)
    return max(_FEWEST_ROWS, n_rows - n_rows % _FEWEST_ROWS)


def blocks_of_tensor(X: Tensor, *, block_rows: int | None = None) -> RowBlocks:
    """Cut a dense tensor (n, F) into blocks that are views of it."""
    return RowBlocks(
        X.shape[0],
        X.shape[1],
        X.dtype,
        X.device,
        lambda start, stop: _dense_block(X[start:stop]),
        block_rows=block_rows,
    )


def blocks_of_csr(
    X: Any, dtype: torch.dtype, device: torch.device, *, block_rows: int | None = None
) -> RowBlocks:
    """Hold a scipy CSR array (n, F) as one block, on the CPU or on an accelerator.

    The values are converted to ``dtype`` once; the indices are shared on the CPU.
    """
    values = numpy_dtype(dtype)
    X = sparse.csr_array(X).astype(values, copy=False)
    if device.type == "cpu":
        blocks = {
            start: CsrBlock(X if block_rows is None else X[start : start + block_rows])
            for start in range(0, X.shape[0], block_rows or X.shape[0])
        }
        make_block: Callable[[int, int], RowBlock] = lambda start, stop: blocks[start]  # noqa: E731
    else:
        whole = SparseTensorBlock(X, device)
        block_rows = None
        make_block = lambda start, stop: whole  # noqa: E731
    return RowBlocks(
        X.shape[0],
        X.shape[1],
        dtype,
        device,
        make_block,
        block_rows=block_rows or X.shape[0],
        dense_rows=lambda start, stop: torch.from_numpy(X[start:stop].toarray()).to(device),
    )


def blocks_of_rows(rows: Rows, *, n_threads: int = 1, width: int | None = None) -> RowBlocks:
    """Cut the rows of an engine's X; those on disk or on another device come a block at a time.

    A block of dense rows is of so many that (b, width) numbers fit the budget; None counts their
    features alone.
    """
    if rows.is_sparse:
        return blocks_of_csr(rows.csr, rows.dtype, rows.device)
    return RowBlocks(
        rows.n,
        rows.n_features,
        rows.dtype,
        rows.device,
        lambda start, stop: _dense_block(rows.slice(start, stop, aligned=False)),
        block_rows=None if width is None else _rows_within(width, rows.dtype, rows.device),
        n_threads=n_threads if rows.device.type == "cpu" else 1,
    )


def _to_torch_csr(X: Any, device: torch.device) -> Tensor:
    """Copy a scipy CSR array to torch's CSR on a device."""
    with warnings.catch_warnings():
        # torch says that its CSR layout may change; only its products are used here.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        # It says so of those it makes itself; the one made here is checked.
        warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly")
        return torch.sparse_csr_tensor(
            torch.from_numpy(X.indptr.astype(np.int64)),
            torch.from_numpy(X.indices.astype(np.int64)),
            torch.tensor(X.data),
            size=X.shape,
            device=device,
            check_invariants=True,
        )
