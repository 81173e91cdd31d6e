"""Matrix products into memory that is there already: by NumPy on the CPU, by torch elsewhere.

A BLAS is written for the processors of its maker. torch brings Intel's, which uses half of what an
AMD processor can do; NumPy's (OpenBLAS, or Apple's on a Mac) knows both. A call of it costs a third
of one of torch's, too. Kernels that are not products stay torch's, on the same memory.

Shapes: B rows, H inputs or outputs of a layer, K logits; any leading axes "...".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sknets._core import in_numpy

# Multiply-adds of a product up to which OpenBLAS multiplies without packing its factors, which for
# few rows or columns is twice as fast.
SMALL_PRODUCT = 1e6

# And up to which several such products take less time than one.
CUT_PRODUCT = 3e6

# With a factor that is transposed in memory it does so up to so many numbers of the product, and
# from so many terms of each.
_TRANSPOSED_NUMBERS = 1200
_TRANSPOSED_TERMS = 32

# Rows of a part below which the parts are too many.
_FEWEST_ROWS = 16

Operand = Any  # an ndarray or a tensor, as the products want it


class FirstProducts(Protocol):
    """What multiplies a batch itself. Functions are given back with their memory bound to them."""

    def affine(self, bias: Tensor, weight: Tensor, out: Tensor) -> Callable[[Operand], Any]:
        """Return a function that writes ``x @ weight.T + bias`` (..., B, H) of an operand x."""

    def weight_gradient(self, delta: Tensor, out: Tensor) -> Callable[[Operand], Any]:
        """Return a function that writes ``delta.T @ x`` (..., H, F) of an operand x (..., B, F)."""

    def logits(self, bias: Tensor, weight: Tensor, out: Tensor) -> Callable[[Operand], Any]:
        """Return a function that writes ``weight @ x_t + bias`` (..., K, B) of an operand x_t."""


class Products(FirstProducts, Protocol):
    """What a dense net multiplies.

    Attributes
    ----------
    multiply : callable (a, b, *, out)
        Writes the matrix product of two operands to a third.
    """

    multiply: Callable[..., Any]

    def operand(self, tensor: Tensor) -> Operand:
        """Return the tensor as the products want it, over the same memory."""

    def sum_rows(self, delta: Tensor, ones: Operand, out: Tensor) -> Callable[[], Any]:
        """Return a function that writes the sum of `delta` over its rows; `ones` has B elements."""

    def squared_norm(self, vector: Tensor, out: Tensor) -> Callable[[], Any]:
        """Return a function that writes the sum of squares over the last axis."""

    def scale(self, tensor: Tensor, factor: float) -> Callable[[], Any]:
        """Return a function that multiplies the tensor by a number, in place."""


class TorchProducts:
    """Products by torch, on any device."""

    def __init__(self, *, stacked: bool) -> None:
        self.multiply: Any = torch.bmm if stacked else torch.mm
        self._addmm: Any = torch.baddbmm if stacked else torch.addmm

    def operand(self, tensor: Tensor) -> Tensor:
        return tensor

    def affine(self, bias: Tensor, weight: Tensor, out: Tensor) -> Callable[[Tensor], Any]:
        row, weight_t = bias.unsqueeze(-2), weight.mT
        return lambda x: self._addmm(row, x, weight_t, out=out)

    def weight_gradient(self, delta: Tensor, out: Tensor) -> Callable[[Tensor], Any]:
        return partial(self.multiply, delta.mT, out=out)

    def logits(self, bias: Tensor, weight: Tensor, out: Tensor) -> Callable[[Tensor], Any]:
        column = bias.unsqueeze(-1)
        return lambda x_t: self._addmm(column, weight, x_t, out=out)

    def sum_rows(self, delta: Tensor, ones: Tensor, out: Tensor) -> Callable[[], Any]:
        return partial(torch.sum, delta, -2, out=out)

    def squared_norm(self, vector: Tensor, out: Tensor) -> Callable[[], Any]:
        return partial(torch.linalg.vecdot, vector, vector, out=out)

    def scale(self, tensor: Tensor, factor: float) -> Callable[[], Any]:
        return partial(tensor.mul_, factor)


# Rows of a product up to which CUDA's plain product is the slower one: of 10 rows and 200 terms it
# takes an H200 30 to 50 microseconds, and the product that adds a vector to each row 3 to 4.
_FEW_ROWS = 16


class CudaProducts(TorchProducts):
    """Products of one net on CUDA: of few rows, and with a bias, by the product that adds one."""

    def __init__(self) -> None:
        super().__init__(stacked=False)
        self.multiply = self._multiply
        self._zeros: dict[int, Tensor] = {}

    def _multiply(self, a: Tensor, b: Tensor, *, out: Tensor) -> None:
        if len(out) > _FEW_ROWS:
            torch.mm(a, b, out=out)
            return
        width = out.shape[1]
        if width not in self._zeros:
            self._zeros[width] = out.new_zeros(width)
        torch.addmm(self._zeros[width], a, b, out=out)

    def affine(self, bias: Tensor, weight: Tensor, out: Tensor) -> Callable[[Tensor], Any]:
        weight_t = weight.mT
        if not weight_t.is_contiguous():  # by output, that product is the slower one
            return super().affine(bias, weight, out)
        return lambda x: torch.addmm(bias, x, weight_t, out=out)

    def logits(self, bias: Tensor, weight: Tensor, out: Tensor) -> Callable[[Tensor], Any]:
        multiply = partial(self.multiply, weight, out=out)
        return _then(multiply, partial(out.add_, bias.unsqueeze(-1)))


class NumpyProducts:
    """Products by NumPy's BLAS, on the CPU."""

    def __init__(self, *, stacked: bool) -> None:
        # Of two equal calls for matrices, dot is the shorter one.
        self.multiply: Any = np.matmul if stacked else np.dot
        self._square: Any = np.vecdot if stacked else np.dot

    def operand(self, tensor: Tensor) -> np.ndarray:
        return tensor.numpy()

    def affine(self, bias: Tensor, weight: Tensor, out: Tensor) -> Callable[[np.ndarray], Any]:
        multiply = self.rows_times(weight.mT, out)
        add_bias = partial(out.add_, bias.unsqueeze(-2))

        return _then(multiply, add_bias)

    def rows_times(self, weight_t: Tensor, out: Tensor) -> Callable[[np.ndarray], Any]:
        """Return a function that writes ``x @ weight_t`` of x (..., B, F), in parts of its rows."""
        n_rows, width = out.shape[-2:]
        n = 1
        if weight_t.stride(-1) == 1:
            n = _n_parts(n_rows * width * weight_t.shape[-2], n_rows)
        if n == 1:
            factor, product = weight_t.numpy(), partial(self.multiply, out=out.numpy())
            return lambda x: product(x, factor)
        parts = (n, n_rows // n)
        factor = weight_t.unsqueeze(-3).numpy()
        product = partial(np.matmul, out=out.view(*out.shape[:-2], *parts, width).numpy())
        return lambda x: product(x.reshape(*x.shape[:-2], *parts, x.shape[-1]), factor)

    def weight_gradient(self, delta: Tensor, out: Tensor) -> Callable[[np.ndarray], Any]:
        if out.stride(-1) == 1:
            return partial(self.multiply, delta.mT.numpy(), out=out.numpy())
        out = out.mT  # (..., F, H), whose rows can be had in parts
        *lead, n_features, width = out.shape
        n_rows = delta.shape[-2]
        n = _n_parts(n_rows * width * n_features, n_features)
        if n == 1:
            factor, product = delta.numpy(), partial(self.multiply, out=out.numpy())
            return lambda x: product(x.swapaxes(-1, -2), factor)
        size = n_features // n
        factor = delta.unsqueeze(-3).numpy()
        product = partial(np.matmul, out=out.view(*lead, n, size, width).numpy())
        axes = (*range(len(lead)), *(len(lead) + i for i in (1, 2, 0)))
        return lambda x: product(x.reshape(*x.shape[:-1], n, size).transpose(axes), factor)

    def logits(self, bias: Tensor, weight: Tensor, out: Tensor) -> Callable[[np.ndarray], Any]:
        add_bias = partial(np.add, out.numpy(), bias.unsqueeze(-1).numpy(), out=out.numpy())
        n_outputs, n_features = weight.shape[-2:]
        n = _n_transposed_parts(n_outputs, out.shape[-1], n_features)
        if n:
            return _then(self._times_rows(weight, out, n), add_bias)
        # Two transposed factors are then faster than one, so that a copy of the small one pays.
        weight_t = weight.mT.numpy()
        copy = np.empty_like(weight_t, order="C")
        product = partial(self.multiply, copy.swapaxes(-1, -2), out=out.numpy())

        def logits(x_t: np.ndarray) -> None:
            np.copyto(copy, weight_t)
            product(x_t)
            add_bias()

        return logits

    def _times_rows(self, weight: Tensor, out: Tensor, n: int) -> Callable[[np.ndarray], Any]:
        """Return a function that writes ``weight @ x_t`` of x_t (..., F, B), in n parts of B."""
        if n == 1:
            factor, product = weight.numpy(), partial(self.multiply, out=out.numpy())
            return lambda x_t: product(factor, x_t)
        parts = (n, out.shape[-1] // n)
        factor = weight.unsqueeze(-3).numpy()
        product = partial(np.matmul, out=out.unflatten(-1, parts).transpose(-3, -2).numpy())
        return lambda x_t: product(factor, x_t.reshape(*x_t.shape[:-1], *parts).swapaxes(-3, -2))

    def sum_rows(self, delta: Tensor, ones: np.ndarray, out: Tensor) -> Callable[[], Any]:
        return partial(self.multiply, ones, delta.numpy(), out=out.numpy())

    def squared_norm(self, vector: Tensor, out: Tensor) -> Callable[[], Any]:
        return partial(self._square, vector.numpy(), vector.numpy(), out=out.numpy())

    def scale(self, tensor: Tensor, factor: float) -> Callable[[], Any]:
        array = tensor.numpy()
        return partial(np.multiply, array, np.array(factor, array.dtype), array)


def _then(
    multiply: Callable[[Operand], Any], add_bias: Callable[[], Any]
) -> Callable[[Operand], Any]:
    def affine(x: Operand) -> None:
        multiply(x)
        add_bias()

    return affine


def _n_parts(work: int, length: int) -> int:
    """Return in how many equal parts to cut an axis of so many numbers.

    A product of `work` multiply-adds that is not much larger than a small one is faster in small
    ones.
    """
    if not SMALL_PRODUCT < work <= CUT_PRODUCT:
        return 1
    least = math.ceil(work / SMALL_PRODUCT)
    return next((n for n in range(least, least + 3) if length % n == 0), 1)


def _n_transposed_parts(n_outputs: int, n_rows: int, n_terms: int) -> int | None:
    """Return in how many parts to cut rows whose transpose is multiplied, None where none help."""
    least = max(1, math.ceil(n_outputs * n_rows / _TRANSPOSED_NUMBERS))
    if least > 1 and n_terms < _TRANSPOSED_TERMS:
        return None
    return next((n for n in range(least, least + 3) if n_rows % n == 0), None)


def rows_times(rows: np.ndarray, weight_t: np.ndarray) -> np.ndarray:
    """Return rows (b, F) times weights (F, H); by NumPy's BLAS, in parts of the rows."""
    n_rows, (n_features, width) = len(rows), weight_t.shape
    size = int(SMALL_PRODUCT / (n_features * width))
    if not _FEWEST_ROWS <= size < n_rows:
        return np.matmul(rows, weight_t)
    out = np.empty((n_rows, width), rows.dtype)
    whole = n_rows - n_rows % size
    parts = rows[:whole].reshape(-1, size, n_features)
    np.matmul(parts, weight_t, out=out[:whole].reshape(-1, size, width))
    if whole < n_rows:
        np.matmul(rows[whole:], weight_t, out=out[whole:])
    return out


def times_rows(weights: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Write weights (K, F) times rows (b, F), transposed, to `out` (K, b); by NumPy's BLAS."""
    (n_outputs, n_features), n_rows = weights.shape, len(rows)
    size = int(SMALL_PRODUCT / (n_outputs * n_features))
    if n_features < _TRANSPOSED_TERMS:
        weights = np.ascontiguousarray(weights.T).T  # not packed either if both are transposed
    else:
        size = min(size, _TRANSPOSED_NUMBERS // n_outputs)
    if size < _FEWEST_ROWS:
        np.matmul(weights, rows.T, out=out)
        return
    rest = n_rows % size
    whole = n_rows - rest
    if whole:
        parts = rows[:whole].reshape(-1, size, n_features).transpose(0, 2, 1)
        into = out[:, :whole].reshape(n_outputs, -1, size).transpose(1, 0, 2)
        np.matmul(weights, parts, out=into)
    if rest:
        np.matmul(weights, rows[whole:].T, out=out[:, whole:])


# Multiply-adds from which oneDNN's product is faster than NumPy's on one thread.
_LARGE_PRODUCT = 2e6


class SharedThreadsProducts(NumpyProducts):
    """Products of one net among torch's kernels, on the CPU: large ones on torch's threads.

    Between its kernels a thread of torch's waits for the next and holds its core, so that a thread
    that NumPy's BLAS starts beside it comes late by milliseconds. So BLAS has one thread here (the
    caller sees to that), and large products in float32 are those of oneDNN, which runs torch's
    convolutions; torch itself multiplies with MKL.

    Parameters
    ----------
    autocast : torch.dtype or None
        Lower precision for the large products of float32.
    """

    def __init__(self, autocast: torch.dtype | None = None) -> None:
        super().__init__(stacked=False)
        by_torch = _onednn_product()
        if autocast is not None:
            by_torch = partial(_cast_product, autocast)
        if by_torch is not None:
            self.multiply = partial(_multiply_on_shared_threads, by_torch)


TensorProduct = Callable[[Tensor, Tensor], Tensor]


def _multiply_on_shared_threads(
    by_torch: TensorProduct, a: np.ndarray, b: np.ndarray, *, out: np.ndarray
) -> None:
    if a.dtype != np.float32 or a.ndim != 2 or a.size * b.shape[-1] < _LARGE_PRODUCT:
        np.dot(a, b, out=out)
        return
    # The small factor is laid out as oneDNN is quick at; the large one it reads as it is.
    rows = torch.from_numpy(np.ascontiguousarray(a))
    torch.from_numpy(out).copy_(by_torch(rows, torch.from_numpy(b)))


def _cast_product(dtype: torch.dtype, a: Tensor, b: Tensor) -> Tensor:
    return torch.mm(a.to(dtype), b.to(dtype))


def _onednn_product() -> TensorProduct | None:
    """Return oneDNN's product, which torch keeps for its compiler, or None without it."""
    if not torch.backends.mkldnn.is_available():
        return None
    try:
        linear = torch.ops.mkldnn._linear_pointwise.default
    except AttributeError:
        return None
    return lambda a, b: linear(a, b.T, None, "none", [], "")


def make_products(like: Tensor, *, stacked: bool) -> Products:
    """Return the products for tensors of the dtype and device of `like`."""
    if in_numpy(like):
        return NumpyProducts(stacked=stacked)
    if like.device.type == "cuda" and not stacked:
        return CudaProducts()
    return TorchProducts(stacked=stacked)
