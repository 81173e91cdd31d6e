"""Rows that the models of a fold share, with the products that logistic regressions need.

Rows are in the order of their classes, so that the logits of the rows' own classes are slices. With
one output, rows of the second class are held negated: the logit of a row is then that of the class
it is not of, all rows have the same formula, and curvatures, which have X twice, do not change.

Shapes: n rows, b rows of a block, D columns, K classes, r rows of a left factor (parameters or
residuals of all models and classes of a fold).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from sknets._engine._products import SMALL_PRODUCT

Array = np.ndarray[Any, np.dtype[Any]]

# Numbers of a block's left factor: they stay in the caches, and calls are few, since threads wait
# for each other between calls.
_BLOCK = 2**19


class Fold:
    """Dense rows.

    Parameters
    ----------
    X : ndarray or CSR array of shape (n, F)
        The rows; a subclass takes CSR.
    target : ndarray of shape (n,)
        Classes, sorted.
    n_classes : int
        Two give one output, more give one a class.
    fit_intercept : bool
        Whether a last column of ones is added.

    Attributes
    ----------
    X : ndarray or CSR array of shape (n, D)
        The rows, with the column of ones; with one output, those of the second class negated.
    n, width, n_outputs : int
        Rows, columns and outputs.
    dtype : np.dtype
        What is computed in.
    largest_norm : float
        Norm of the longest row.
    """

    def __init__(self, X: Any, target: Array, n_classes: int, *, fit_intercept: bool) -> None:
        self.n_outputs = 1 if n_classes == 2 else n_classes
        X = self._with_ones(X) if fit_intercept else X
        if self.n_outputs == 1:
            X = self._times(X, np.where(target == 1, -1, 1).astype(X.dtype))
        self.X = X
        self.n, self.width = X.shape
        self.dtype = X.dtype
        self._keep_classes(target, n_classes)
        self._prepare()

    def _with_ones(self, X: Any) -> Any:
        return np.hstack([X, np.ones((len(X), 1), X.dtype)])

    def _times(self, X: Any, signs: Array) -> Any:
        return X * signs[:, None]

    def _keep_classes(self, target: Array, n_classes: int) -> None:
        """Keep where the rows of each class begin, and where all end."""
        self._bounds = np.searchsorted(target, np.arange(n_classes + 1)).tolist()

    def _prepare(self) -> None:
        self.X = np.ascontiguousarray(self.X)
        squares = np.einsum("nd,nd->n", self.X, self.X)
        self.largest_norm = float(np.sqrt(squares.max(initial=0.0)))
        self._transpose()

    def _transpose(self) -> None:
        """Hold the transpose, which as the right factor is half as fast again."""
        self._X_t = np.ascontiguousarray(self.X.T)

    @property
    def parts(self) -> list[tuple[Fold, slice, slice]]:
        """Folds of some rows each, which rows these are, and the columns that they have."""
        return [(self, slice(0, self.n), slice(0, self.width))]

    def block_rows(self, n_factors: int) -> int:
        """Return how many rows to take at once with r rows of a left factor."""
        return min(max(64, _BLOCK // n_factors), self.n)

    def classes_of(self, rows: slice) -> Iterator[tuple[int, slice]]:
        """Yield the classes of some rows, and where among these rows those of the class are."""
        start, stop = rows.start, min(rows.stop, self.n)
        for k, (first, last) in enumerate(zip(self._bounds[:-1], self._bounds[1:], strict=True)):
            if first < stop and last > start:
                yield k, slice(max(first, start) - start, min(last, stop) - start)

    def forward(self, weights: Array, rows: slice | None = None, memory: Any = None) -> Array:
        """Multiply weights (r, D) by rows: (r, b), contiguous, in `memory` if it is given."""
        x_t = self._X_t if rows is None else self._X_t[:, rows]
        shape = len(weights), x_t.shape[1]
        if memory is None:
            logits = np.empty(shape, self.X.dtype)
        else:
            logits = memory[: shape[0] * shape[1]].reshape(shape)
        step = self._step(len(weights))
        for x_part, part in zip(_in_parts(x_t, step), _in_parts(logits, step), strict=True):
            np.matmul(weights, x_part, out=part)
        return logits

    def backward(self, residuals: Array, rows: slice | None = None) -> Array:
        """Multiply residuals (r, b) by rows: (r, D)."""
        x_t = self.X.T if rows is None else self.X[rows].T
        step = self._step(len(residuals))
        total = np.zeros((len(residuals), self.width), residuals.dtype)
        for x_part, part in zip(_in_parts(x_t, step), _in_parts(residuals, step), strict=True):
            total += np.matmul(part, x_part.mT).sum(axis=0)
        return total

    def _step(self, n_factors: int) -> int:
        """Return the rows of products that BLAS does not pack its factors for."""
        return max(32, int(SMALL_PRODUCT / (n_factors * self.width)))

    def weighted_squares(self, weights: Array) -> Array:
        """Multiply weights (r, n) by the squares of all rows: (r, D)."""
        return weights @ np.square(self.X)

    @property
    def ones(self) -> Array:
        """The last column (n,), of ones where there is an intercept, or minus ones."""
        return self.X[:, -1]

    def dense(self, rows: slice) -> Array:
        """Return rows as a dense array (b, D)."""
        return self.X[rows]


def _in_parts(array: Array, step: int) -> Iterator[Array]:
    """Cut the columns of an array (r, n) in parts of `step` and a last one, all as views.

    Yields (parts, r, step) and (1, r, rest): NumPy multiplies all parts in one call.
    """
    n_rows, n = array.shape
    whole = n - n % step
    if whole:
        yield array[:, :whole].reshape(n_rows, -1, step).transpose(1, 0, 2)
    if whole < n:
        yield array[None, :, whole:]


class PartedFold:
    """Dense rows in two parts: the first columns are zero in all rows of one, and left out there.

    It has what "lbfgs" asks for.

    Parameters
    ----------
    short, whole : Fold
        Rows without the first columns, and rows with all of them.

    Attributes
    ----------
    parts : list of (Fold, slice, slice)
        Both in this order, with their rows and columns.
    n, width, n_outputs, dtype, largest_norm
        As those of a fold of all these rows.
    """

    def __init__(self, short: Fold, whole: Fold) -> None:
        self.n, self.width = short.n + whole.n, whole.width
        self.n_outputs, self.dtype = whole.n_outputs, whole.dtype
        self.largest_norm = max(short.largest_norm, whole.largest_norm)
        self.parts = [
            (short, slice(0, short.n), slice(self.width - short.width, self.width)),
            (whole, slice(short.n, self.n), slice(0, self.width)),
        ]


class SparseFold(Fold):
    """Rows held as CSR, never densified by a product."""

    def _with_ones(self, X: Any) -> Any:
        ones = sparse.csr_array(np.ones((X.shape[0], 1), X.dtype))
        return sparse.hstack([X, ones], format="csr")

    def _times(self, X: Any, signs: Array) -> Any:
        return sparse.diags_array(signs) @ X

    def _prepare(self) -> None:
        self.X = sparse.csr_array(self.X)
        self.largest_norm = float(np.sqrt(self.X.multiply(self.X).sum(axis=1).max()))

    def block_rows(self, n_factors: int) -> int:
        """Return all rows: to cut CSR costs as much as a product."""
        return self.n

    def forward(self, weights: Array, rows: slice | None = None, memory: Any = None) -> Array:
        """Multiply weights (r, D) by all rows: (r, n), contiguous."""
        return np.ascontiguousarray((self.X @ np.ascontiguousarray(weights.T)).T)

    def backward(self, residuals: Array, rows: slice | None = None) -> Array:
        """Multiply residuals (r, n) by all rows: (r, D)."""
        return np.asarray((self.X.T @ np.ascontiguousarray(residuals.T)).T)

    def weighted_squares(self, weights: Array) -> Array:
        """Multiply weights (r, n) by the squares of all rows: (r, D)."""
        return np.asarray((self.X.multiply(self.X).T @ weights.T).T)

    @property
    def ones(self) -> Array:
        """The last column (n,), of ones where there is an intercept, or minus ones."""
        return self.X[:, [-1]].toarray()[:, 0]

    def dense(self, rows: slice) -> Array:
        """Return rows as a dense array (b, D)."""
        return self.X[rows].toarray()
