"""Rows with two features added, as scikit-learn's compiled loop reads them: dense or compressed.

Compressed rows leave zeros out. The loop's sums are the same, and shorter.

Shapes: n rows, F features, B rows of a piece.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse

from sknets._core import numpy_dtype
from sknets._core._sklearn import ArrayDataset32, ArrayDataset64, CSRDataset32, CSRDataset64
from sknets._data import Rows

Array = np.ndarray[Any, np.dtype[Any]]

# Numbers of a piece of X, which stays in the cache while every class passes over it, and the fewest
# rows of one.
_PIECE, _FEWEST_ROWS = 2**18, 32

# Numbers looked at to learn how many of X are zero, and numbers compressed at once.
_SAMPLE, _BLOCK = 2**14, 2**16

# What has to be saved for dense rows to be compressed: so many times the numbers of X over all
# passes, so many multiply-adds a pass. They may then take so many bytes.
_SAVED_IN_ALL, _SAVED_A_PASS, _MOST_BYTES = 3, 2e5, 2**27

_DENSE = {np.float32: ArrayDataset32, np.float64: ArrayDataset64}
_COMPRESSED = {np.float32: CSRDataset32, np.float64: CSRDataset64}


def numbers_of_a_row(rows: Rows, n_classes: int, n_epochs: int) -> float:
    """Return how many numbers of a row are not zero, about; all, if rows are better kept dense."""
    n, n_features = rows.n, rows.n_features
    if not rows.is_sparse and n_classes * n_features * n < _SAVED_A_PASS:
        return n_features
    if rows.is_sparse:
        n_numbers = rows.csr.nnz / n
        compress = rows.csr.nnz + 2 * n <= np.iinfo(np.int32).max
    else:
        n_looked_at = min(n, max(1, _SAMPLE // n_features))
        some = rows.take(np.linspace(0, n - 1, n_looked_at).astype(np.intp))
        n_numbers = np.count_nonzero(some.numpy()) / n_looked_at
        saved = n_classes * (n_features - n_numbers)
        compress = (
            saved * n_epochs >= _SAVED_IN_ALL * n_features
            and saved * n >= _SAVED_A_PASS
            and n * (n_numbers + 2) * (rows.dtype.itemsize + 4) <= _MOST_BYTES
            and n_numbers <= 0.6 * n_features
        )
    return n_numbers if compress else n_features


class Piece:
    """Some rows, whose two added features are those of the class that passes over them.

    Attributes
    ----------
    dataset : object
        The rows and their signs, for scikit-learn.
    squares : ndarray of shape (B,)
        Their squared lengths, without the added features.
    held : ndarray of shape (B,)
        Zeros: no row is held out.
    """

    dataset: Any
    squares: Array
    held: Array

    def __init__(self, size: int, dtype: Any) -> None:
        self._signs, self._ones = np.empty(size, dtype), np.ones(size, dtype)
        self._none_held = np.zeros(size, np.uint8)

    def load(self, where: Array | slice) -> None:
        """Take the rows of these numbers."""
        raise NotImplementedError

    def show(self, sign: Array, count: float, squares: Array) -> None:
        """Set signs (B,), and the added features to signed multiples of 1 and of `squares` (B,)."""
        raise NotImplementedError


class DenseRows:
    """Rows that are copied a piece at a time, or once if they are one piece.

    Attributes
    ----------
    size : int
        Rows of a full piece.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.size = min(rows.n, max(_FEWEST_ROWS, _PIECE // rows.n_features))
        self.whole: tuple[Array, Array] | None = None
        if self.size == rows.n:
            x = rows.slice(0, rows.n, aligned=False).numpy()
            self.whole = np.pad(x, ((0, 0), (0, 2))), _squares(x)

    def make_piece(self) -> Piece:
        """Return memory for a piece."""
        return _DensePiece(self)


class _DensePiece(Piece):
    def __init__(self, source: DenseRows) -> None:
        dtype = numpy_dtype(source.rows.dtype)
        super().__init__(source.size, dtype)
        self._source = source
        self._memory = np.empty((source.size, source.rows.n_features + 2), dtype)
        self._set_length(source.size)

    def _set_length(self, n: int) -> None:
        self._rows, self._sign, self.held = self._memory[:n], self._signs[:n], self._none_held[:n]
        self.dataset = _DENSE[self._rows.dtype.type](self._rows, self._sign, self._ones[:n])

    def load(self, where: Array | slice) -> None:
        """Take the rows of these numbers."""
        rows = self._source.rows
        if self._source.whole is None:
            if isinstance(where, slice):
                x = rows.slice(where.start, where.stop, aligned=False).numpy()
            else:
                x = rows.take(where).numpy()
            if len(x) != len(self._rows):
                self._set_length(len(x))
            self._rows[:, :-2] = x
            self.squares = _squares(x)
        else:
            whole, squares = self._source.whole
            self._rows[...] = whole[where]
            self.squares = squares[where]

    def show(self, sign: Array, count: float, squares: Array) -> None:
        """Set signs (B,), and the added features to signed multiples of 1 and of `squares` (B,)."""
        self._sign[:] = sign
        np.multiply(sign, count, out=self._rows[:, -2])
        np.multiply(sign, squares, out=self._rows[:, -1])


class CompressedRows:
    """Rows that are compressed once, whole.

    Attributes
    ----------
    size : int
        Rows of a full piece.
    """

    def __init__(self, rows: Rows) -> None:
        padded = _padded_csr(rows.csr, rows.dtype) if rows.is_sparse else _compressed(rows)
        added = padded.indptr[1:, None] - [1, 2]
        padded.data[added] = 0.0
        self.padded = padded
        self.squares = np.add.reduceat(padded.data * padded.data, padded.indptr[:-1])
        self.size = min(rows.n, max(_FEWEST_ROWS, _PIECE * rows.n // padded.nnz))

    def make_piece(self) -> Piece:
        """Return memory for a piece."""
        return _CompressedPiece(self)


class _CompressedPiece(Piece):
    def __init__(self, source: CompressedRows) -> None:
        super().__init__(source.size, source.padded.dtype)
        self._source = source

    def load(self, where: Array | slice) -> None:
        """Take the rows of these numbers."""
        rows = self._source.padded[where]
        n = rows.shape[0]
        self._sign, self.held = self._signs[:n], self._none_held[:n]
        self._data, self._last = rows.data, rows.indptr[1:].astype(np.intp) - 1
        self._last_but_one = self._last - 1
        self.squares = self._source.squares[where]
        make = _COMPRESSED[rows.dtype.type]
        self.dataset = make(rows.data, rows.indptr, rows.indices, self._sign, self._ones[:n])

    def show(self, sign: Array, count: float, squares: Array) -> None:
        """Set signs (B,), and the added features to signed multiples of 1 and of `squares` (B,)."""
        self._sign[:] = sign
        self._data[self._last_but_one] = sign * count
        self._data[self._last] = sign * squares


def _squares(x: Array) -> Array:
    return np.einsum("bf,bf->b", x, x)


def _compressed(rows: Rows) -> sparse.csr_array:
    """Return dense rows as CSR, with two features of ones added."""
    n_features = rows.n_features + 2
    size = max(1, min(rows.n, _BLOCK // n_features))
    memory = np.ones((size, n_features), numpy_dtype(rows.dtype))
    numbers = np.tile(np.arange(n_features, dtype=np.int32), size)
    data, indices, lengths = [], [], [np.zeros(1, np.int32)]
    for start in range(0, rows.n, size):
        stop = min(start + size, rows.n)
        part = memory[: stop - start]
        part[:, :-2] = rows.slice(start, stop, aligned=False).numpy()
        some = part != 0
        where = np.flatnonzero(some)
        data.append(part.ravel()[where])
        indices.append(numbers[where])
        lengths.append(np.count_nonzero(some, axis=1))
    indptr = np.cumsum(np.concatenate(lengths), dtype=np.int32)
    content = (np.concatenate(data), np.concatenate(indices), indptr)
    return sparse.csr_array(content, shape=(rows.n, n_features))


def _padded_csr(csr: Any, dtype: torch.dtype) -> sparse.csr_array:
    """Return a copy of CSR rows with two features of ones added."""
    ones = np.ones((csr.shape[0], 2))
    padded = sparse.hstack([csr, ones], format="csr", dtype=numpy_dtype(dtype))
    padded = sparse.csr_array(padded)
    padded.sum_duplicates()
    indices, indptr = padded.indices.astype(np.int32), padded.indptr.astype(np.int32)
    return sparse.csr_array((padded.data, indices, indptr), shape=padded.shape)
