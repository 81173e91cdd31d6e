"""Rows that the models of a fold share, with the products that logistic regressions need.

Shapes: n rows, b rows of a block, D columns, K classes, r rows of a left factor (parameters or
residuals of all models and classes of a fold).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

Array = np.ndarray[Any, np.dtype[Any]]

# Numbers of a block's left factor: they stay in a core's cache.
_BLOCK = 2**17


class Fold:
    """Dense rows.

    Parameters
    ----------
    X : ndarray or CSR array of shape (n, F)
        The rows; a subclass takes CSR.
    target : ndarray of shape (n,)
        Classes.
    n_classes : int
        Two give one output, more give one a class.
    fit_intercept : bool
        Whether a last column of ones is added.

    Attributes
    ----------
    X : ndarray or CSR array of shape (n, D)
        The rows, with the column of ones.
    indicators : ndarray of shape (K, n)
        1 where a row is of the class; for two classes, where it is of the second.
    target : ndarray of shape (n,)
        Classes.
    n, width : int
        Rows and columns.
    """

    def __init__(self, X: Any, target: Array, n_classes: int, *, fit_intercept: bool) -> None:
        self.X = self._with_ones(X) if fit_intercept else self._in_line(X)
        self.n, self.width = self.X.shape
        self.target = target
        classes = np.array([1]) if n_classes == 2 else np.arange(n_classes)
        self.indicators = (target == classes[:, None]).astype(X.dtype)

    def _with_ones(self, X: Any) -> Any:
        return np.hstack([X, np.ones((len(X), 1), X.dtype)])

    def _in_line(self, X: Any) -> Any:
        return np.ascontiguousarray(X)

    @property
    def largest_norm(self) -> float:
        """Norm of the longest row."""
        squares = np.einsum("nd,nd->n", self.X, self.X)
        return float(np.sqrt(squares.max(initial=0.0)))

    def block_rows(self, n_factors: int) -> int:
        """Return how many rows to take at once with r rows of a left factor."""
        return min(max(64, _BLOCK // n_factors), self.n)

    def forward(self, weights: Array, rows: slice = slice(None), memory: Any = None) -> Array:
        """Multiply weights (r, D) by rows: (r, b), contiguous, in `memory` if it is given."""
        x = self.X[rows]
        if memory is not None:
            memory = memory[: len(weights) * len(x)].reshape(len(weights), len(x))
        return np.matmul(weights, x.T, out=memory)

    def own_logits(self, logits: Array, rows: slice) -> Array:
        """Return from logits (K, A, b) of rows those of the rows' classes, (A, b)."""
        if len(logits) == 1:  # the first class has a logit of zero
            return logits[0] * self.indicators[0, rows]
        return logits[self.target[rows], :, np.arange(logits.shape[2])].T

    def backward(self, residuals: Array, rows: slice = slice(None)) -> Array:
        """Multiply residuals (r, b) by rows: (r, D)."""
        return residuals @ self.X[rows]

    def weighted_squares(self, weights: Array) -> Array:
        """Multiply weights (r, n) by the squares of all rows: (r, D)."""
        return weights @ np.square(self.X)

    def dense(self, rows: slice) -> Array:
        """Return rows as a dense array (b, D)."""
        return self.X[rows]


class SparseFold(Fold):
    """Rows held as CSR, never densified by a product."""

    def _with_ones(self, X: Any) -> Any:
        ones = sparse.csr_array(np.ones((X.shape[0], 1), X.dtype))
        return sparse.hstack([X, ones], format="csr")

    def _in_line(self, X: Any) -> Any:
        return sparse.csr_array(X)

    @property
    def largest_norm(self) -> float:
        """Norm of the longest row."""
        return float(np.sqrt(self.X.multiply(self.X).sum(axis=1).max()))

    def block_rows(self, n_factors: int) -> int:
        """Return all rows: to cut CSR costs as much as a product."""
        return self.n

    def forward(self, weights: Array, rows: slice = slice(None), memory: Any = None) -> Array:
        """Multiply weights (r, D) by all rows: (r, n), contiguous."""
        return np.ascontiguousarray((self.X @ np.ascontiguousarray(weights.T)).T)

    def backward(self, residuals: Array, rows: slice = slice(None)) -> Array:
        """Multiply residuals (r, n) by all rows: (r, D)."""
        return np.asarray((self.X.T @ np.ascontiguousarray(residuals.T)).T)

    def weighted_squares(self, weights: Array) -> Array:
        """Multiply weights (r, n) by the squares of all rows: (r, D)."""
        return np.asarray((self.X.multiply(self.X).T @ weights.T).T)

    def dense(self, rows: slice) -> Array:
        """Return rows as a dense array (b, D)."""
        return self.X[rows].toarray()
