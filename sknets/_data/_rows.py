"""X as the engines see it: rows that are handed out as dense tensors, a few at a time."""

from __future__ import annotations

import math
from mmap import mmap
from typing import Any

import numpy as np
import torch
from scipy import sparse

from sknets._core import free_bytes

Index = torch.Tensor | np.ndarray

# Blocks of rows handed out at once take about this many bytes: small beside any memory, large
# beside the cost of a call.
_BLOCK_BYTES = 2**25


# Products round differently by where in memory their operands lie, up to this many bytes.
_ALIGNMENT = 64

# An X in memory of at most so many bytes is copied once to where it is aligned; a larger one a
# block at a time.
_COPY_BYTES = 2**28


def _steady(part: torch.Tensor) -> torch.Tensor:
    """Return rows laid out so that products of equal rows have equal bits, wherever X came from."""
    part = part.contiguous()
    if part.device.type == "cpu" and part.data_ptr() % _ALIGNMENT:
        return part.clone()
    return part


def _converted(data: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return data in another dtype, which has to hold its numbers."""
    rows = data.to(device, dtype)
    narrows = data.is_floating_point() and dtype.itemsize < data.dtype.itemsize
    # A sum that is finite is proof enough.
    if narrows and not math.isfinite(float(rows.sum())) and bool(torch.isinf(rows).any()):
        raise ValueError(
            f"X must hold numbers up to {torch.finfo(dtype).max:.2g}, since the estimator "
            f"computes in {dtype}, got larger ones. Scale the features, or use "
            'precision="float64".'
        )
    return rows


class Rows:
    """The rows of a 2-D X, given out as dense tensors of one dtype on one device.

    Attributes
    ----------
    n : int
        Number of rows.
    n_features : int
        Number of columns.
    dtype : torch.dtype
        Of the tensors given out.
    device : torch.device
        Of the tensors given out.
    is_sparse : bool
        Whether X is a CSR matrix; `csr` is then that matrix, and None otherwise.
    """

    is_sparse = False
    csr: Any = None

    def __init__(
        self, n: int, n_features: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.n = n
        self.n_features = n_features
        self.dtype = dtype
        self.device = device

    @property
    def block_rows(self) -> int:
        """How many rows to ask for at once where any number would do."""
        rows = max(1, _BLOCK_BYTES // max(1, self.n_features * self.dtype.itemsize))
        return rows if rows < _ALIGNMENT else rows - rows % _ALIGNMENT

    def take(self, index: Index, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the rows numbered `index`, shape (len(index), n_features), in `out` if given."""
        rows = self._take(index)
        return rows if out is None else out.copy_(rows)

    def _take(self, index: Index) -> torch.Tensor:
        raise NotImplementedError

    def slice(self, start: int, stop: int, *, aligned: bool = True) -> torch.Tensor:
        """Return rows `start` to `stop`, shape (stop - start, n_features).

        Where they lie in memory need not matter to who multiplies by NumPy: ``aligned=False``
        saves a copy then.
        """
        raise NotImplementedError

    def to(self, device: torch.device) -> Rows:
        """Return the same rows, given out on another device."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.n


class DenseRows(Rows):
    """Rows of a tensor, which may be a view of NumPy's memory or of a memory map.

    With `may_move`, the tensor is copied to where it is aligned when slices of it are first asked
    for; rows that are gathered come in new memory anyway.
    """

    def __init__(
        self,
        data: torch.Tensor,
        *,
        dtype: torch.dtype,
        device: torch.device,
        may_move: bool = False,
    ) -> None:
        super().__init__(data.shape[0], data.shape[1], dtype=dtype, device=device)
        self.data = data
        self._may_move = may_move

    def to(self, device: torch.device) -> Rows:
        """Return the same rows, given out on another device."""
        return make_rows(self.data, dtype=self.dtype, device=device)

    def take(self, index: Index, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the rows numbered `index`, shape (len(index), n_features), in `out` if given."""
        data = self.data
        where = torch.as_tensor(index, dtype=torch.int64, device=data.device)
        if out is not None and (data.dtype, data.device) == (out.dtype, out.device):
            return torch.index_select(data, 0, where, out=out)
        rows = _converted(data.index_select(0, where), self.device, self.dtype)
        return rows if out is None else out.copy_(rows)

    def slice(self, start: int, stop: int, *, aligned: bool = True) -> torch.Tensor:
        """Return rows `start` to `stop`; a view where dtype, device and place already fit."""
        if aligned and self._may_move:
            self.data, self._may_move = _steady(self.data), False
        part = _converted(self.data[start:stop], self.device, self.dtype)
        return _steady(part) if aligned else part.contiguous()


class ArrayRows(Rows):
    """Rows of an array that torch cannot describe, converted as they are asked for."""

    def __init__(self, array: np.ndarray, *, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(array.shape[0], array.shape[1], dtype=dtype, device=device)
        self.array = array

    def to(self, device: torch.device) -> Rows:
        """Return the same rows, given out on another device."""
        return make_rows(self.array, dtype=self.dtype, device=device)

    def _take(self, index: Index) -> torch.Tensor:
        return self._convert(self.array[np.asarray(index)])

    def slice(self, start: int, stop: int, *, aligned: bool = True) -> torch.Tensor:
        """Return rows `start` to `stop`, shape (stop - start, n_features)."""
        return self._convert(self.array[start:stop])

    def _convert(self, part: np.ndarray) -> torch.Tensor:
        rows = torch.empty(part.shape, dtype=self.dtype)  # torch's own memory is aligned
        rows.numpy()[...] = part
        return rows.to(self.device)


class SparseRows(Rows):
    """Rows of a CSR matrix, densified as they are asked for."""

    is_sparse = True

    def __init__(self, csr: Any, *, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(csr.shape[0], csr.shape[1], dtype=dtype, device=device)
        self.csr = csr

    def to(self, device: torch.device) -> Rows:
        """Return the same rows, given out on another device."""
        return make_rows(self.csr, dtype=self.dtype, device=device)

    def _take(self, index: Index) -> torch.Tensor:
        return self._densify(self.csr[np.asarray(index)])

    def slice(self, start: int, stop: int, *, aligned: bool = True) -> torch.Tensor:
        """Return rows `start` to `stop`, shape (stop - start, n_features)."""
        return self._densify(self.csr[start:stop])

    def _densify(self, part: Any) -> torch.Tensor:
        if part.dtype not in (np.float32, np.float64):
            return _steady(torch.from_numpy(part.toarray()).to(self.device, self.dtype))
        kind = torch.float32 if part.dtype == np.float32 else torch.float64
        rows = torch.empty(part.shape, dtype=kind)  # torch's own memory is aligned
        part.toarray(out=rows.numpy())
        return rows.to(self.device, self.dtype)


class SubsetRows(Rows):
    """Some rows of other rows, by number and without a copy."""

    def __init__(self, rows: Rows, index: np.ndarray) -> None:
        super().__init__(len(index), rows.n_features, dtype=rows.dtype, device=rows.device)
        self.rows = rows
        self.index = index

    def to(self, device: torch.device) -> Rows:
        """Return the same rows, given out on another device."""
        return SubsetRows(self.rows.to(device), self.index)

    def take(self, index: Index, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the rows numbered `index` among these, in `out` if given."""
        return self.rows.take(self.index[np.asarray(index)], out)

    def slice(self, start: int, stop: int, *, aligned: bool = True) -> torch.Tensor:
        """Return rows `start` to `stop` of these, shape (stop - start, n_features)."""
        return self.rows.take(self.index[start:stop])


def make_rows(X: Any, *, dtype: torch.dtype, device: torch.device, once: bool = False) -> Rows:
    """Return the rows of a checked X.

    A dense X in memory is brought to `dtype` and into line at once, whole, unless it is read only
    `once`; then, like a memory map, which stays on disk, it is converted a block at a time. On an
    accelerator X goes there once, whole, if it takes at most half of the free memory.
    """
    if sparse.issparse(X):
        return SparseRows(X, dtype=dtype, device=device)
    on_disk = isinstance(X, np.ndarray) and is_memory_mapped(X)
    if on_disk and not _torch_describes(X):
        return ArrayRows(X, dtype=dtype, device=device)
    data = X if isinstance(X, torch.Tensor) else as_tensor_view(X)
    if device.type != "cpu" and data.device != device:
        fits = data.numel() * dtype.itemsize <= free_bytes(device) // 2
        data = _converted(data, device, dtype) if fits else data
    elif not (on_disk or once):
        data = _converted(data, device, dtype)
        may_move = data.nbytes <= _COPY_BYTES
        return DenseRows(data, dtype=dtype, device=device, may_move=may_move)
    return DenseRows(data, dtype=dtype, device=device)


def is_memory_mapped(array: Any) -> bool:
    """Whether the memory of `array` is, in the end, a file's: a ``numpy.memmap`` or ``mmap``."""
    while array is not None:
        if isinstance(array, np.memmap | mmap):
            return True
        array = array.obj if isinstance(array, memoryview) else getattr(array, "base", None)
    return False


def _torch_describes(array: np.ndarray) -> bool:
    """Whether torch can make a tensor over the memory of `array`."""
    return (
        array.dtype.isnative
        and array.dtype != np.longdouble
        and all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)
    )


class _Writeable:
    """Presents read-only memory as writeable, for torch, which has no read-only tensors."""

    def __init__(self, array: np.ndarray) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.base = array


def as_tensor_view(array: np.ndarray) -> torch.Tensor:
    """Return a tensor over the memory of `array`, read-only or not; nobody may write to it.

    Memory that torch cannot describe is copied: negative strides or strides of half an element,
    foreign byte order, and ``longdouble``, which becomes float64.
    """
    array = np.asarray(array)
    if not _torch_describes(array):
        wide = array.dtype == np.longdouble
        array = array.astype(np.float64 if wide else array.dtype.newbyteorder("="), order="C")
    if not array.flags.writeable and array.size:
        array = np.asarray(_Writeable(array))
    elif not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(array)
