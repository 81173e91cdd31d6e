"""X cut into blocks of rows, each with the products that a linear model needs.

A block is small enough to stay in the cache between the two products of one pass, so that a loss
and its gradient read X from memory once. Shapes: K outputs, b rows of a block, F features.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from sknets._data import Rows

_CACHE_BYTES = 3 << 20
_DEVICE_BYTES = 1 << 30


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
    ) -> None:
        self.n = n
        self.n_features = n_features
        self.dtype = dtype
        self.device = device
        self._make_block = make_block
        self._block_rows = block_rows or self.rows_within(n_features)
        self._dense_rows = dense_rows

    def __iter__(self) -> Iterator[tuple[slice, RowBlock]]:
        for start in range(0, self.n, self._block_rows):
            stop = min(start + self._block_rows, self.n)
            yield slice(start, stop), self._make_block(start, stop)

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
        """Return how many rows of ``width`` numbers make one block, at least 64."""
        on_cpu = self.device.type == "cpu"
        budget = _CACHE_BYTES * torch.get_num_threads() if on_cpu else _DEVICE_BYTES
        return max(64, budget // max(1, width * self.dtype.itemsize))


def blocks_of_tensor(X: Tensor, *, block_rows: int | None = None) -> RowBlocks:
    """Cut a dense tensor (n, F) into blocks that are views of it."""
    return RowBlocks(
        X.shape[0],
        X.shape[1],
        X.dtype,
        X.device,
        lambda start, stop: DenseBlock(X[start:stop]),
        block_rows=block_rows,
    )


def blocks_of_csr(
    X: Any, dtype: torch.dtype, device: torch.device, *, block_rows: int | None = None
) -> RowBlocks:
    """Hold a scipy CSR array (n, F) as one block, on the CPU or on an accelerator.

    The values are converted to ``dtype`` once; the indices are shared on the CPU.
    """
    values = np.dtype(str(dtype).removeprefix("torch."))
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


def blocks_of_rows(rows: Rows) -> RowBlocks:
    """Cut the rows of an engine's X; those on disk or on another device come a block at a time."""
    if rows.is_sparse:
        return blocks_of_csr(rows.csr, rows.dtype, rows.device)
    return RowBlocks(
        rows.n,
        rows.n_features,
        rows.dtype,
        rows.device,
        lambda start, stop: DenseBlock(rows.slice(start, stop)),
    )


def _to_torch_csr(X: Any, device: torch.device) -> Tensor:
    """Copy a scipy CSR array to torch's CSR on a device."""
    with warnings.catch_warnings():
        # torch says that its CSR layout may change; only its products are used here.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(
            torch.from_numpy(X.indptr.astype(np.int64)),
            torch.from_numpy(X.indices.astype(np.int64)),
            torch.tensor(X.data),
            size=X.shape,
            device=device,
            check_invariants=True,
        )
