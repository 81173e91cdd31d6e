"""What L-BFGS remembers of the models of a stack, and the directions that it gives.

Source: R. H. Byrd, J. Nocedal, R. B. Schnabel, "Representations of quasi-Newton matrices and their
use in limited memory methods", Math. Program. 63 (1994), theorem 2.2.

Shapes: A models that still learn, P parameters, m pairs of memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

PAIRS = 10
"""Pairs of a model, at most; an even number, for compiled code reads vectors four at a time."""


class Memory:
    """The last pairs of steps s and changes y of the gradient, of each of A models.

    The inverse of the upper triangle of S'Y, in the order of the pairs' ages, is kept and not the
    triangle: without its oldest row and column it is still the inverse of the rest, and another
    pair adds one column. So nothing is solved, and places need no order: an empty one holds zeros.
    """

    ARRAYS = ("pairs", "inverse", "yy", "sy", "n_updates", "scale")

    def __init__(self, n_models: int, size: int) -> None:
        self.pairs = np.zeros((n_models, 2 * PAIRS, size))  # s in the first half, y in the second
        self.inverse = np.zeros((n_models, PAIRS, PAIRS))
        self.yy = np.zeros((n_models, PAIRS, PAIRS))
        self.sy = np.zeros((n_models, PAIRS))
        self.n_updates = np.zeros(n_models, np.int64)  # since the memory was empty
        self.scale = np.ones(n_models)

    def forget(self, row: int) -> None:
        """Empty the memory of one model."""
        for array in (self.pairs, self.inverse, self.yy, self.sy, self.n_updates):
            array[row] = 0
        self.scale[row] = 1.0

    def is_empty(self, row: int) -> bool:
        """Whether a model has no pairs."""
        return not self.n_updates[row]

    def directions(
        self, grads: Array, before: Array, last: tuple[Array, Array], sy: Array, kept: Array
    ) -> Array:
        """Take in the last pairs of some models and return directions of descent for all, (A, P).

        Parameters
        ----------
        grads, before : ndarray of shape (A, P)
            Gradients, and those before the last steps.
        last : tuple of ndarray of shapes (A,) and (A, P)
            Lengths and directions of the last steps.
        sy : ndarray of shape (A,)
            Inner products of the steps and what they changed in the gradients.
        kept : ndarray of shape (A,)
            Whether a pair is kept.
        """
        changes, steps = grads - before, last[0][:, None] * last[1]
        products = self.pairs @ np.stack([grads, changes], axis=1).mT
        of_grads = products[:, :, 0]
        new = np.flatnonzero(kept)
        if len(new):
            grads_of_new = grads if len(new) == len(grads) else grads[new]
            at = self._remember(new, steps, changes, sy, products[new, :, 1])
            rows = self.pairs[new, at], self.pairs[new, PAIRS + at]
            of_grads[new, at] = np.vecdot(rows[0], grads_of_new)
            of_grads[new, PAIRS + at] = np.vecdot(rows[1], grads_of_new)
        directions = (self._weights(of_grads)[:, None] @ self.pairs)[:, 0]
        directions += self.scale[:, None] * grads
        return np.negative(directions, out=directions)

    def _remember(
        self, new: Array, steps: Array, changes: Array, sy: Array, products: Array
    ) -> Array:
        """Write the pairs of the rows `new` over their oldest ones and return their places.

        `products` (len(new), 2 m) are the old pairs times the changes.
        """
        at = self.n_updates[new] % PAIRS
        self.n_updates[new] += 1
        sy, yy = sy[new], np.vecdot(changes, changes)[new]
        self.pairs[new, at], self.pairs[new, PAIRS + at] = steps[new], changes[new]
        inverse = self.inverse[new]
        rows = np.arange(len(new))
        inverse[rows, at] = inverse[rows, :, at] = products[rows, at] = 0
        column = np.einsum("amn,an->am", inverse, products[:, :PAIRS])
        column /= -sy[:, None]
        column[rows, at] = 1 / sy
        inverse[rows, :, at] = column
        self.inverse[new] = inverse
        self.yy[new, :, at] = self.yy[new, at, :] = products[:, PAIRS:]
        self.yy[new, at, at] = yy
        self.sy[new, at] = sy
        self.scale[new] = sy / yy
        return at

    def _weights(self, products: Array) -> Array:
        """Return the multiples (A, 2 m) of the pairs in the inverse Hessian times the gradient."""
        scale = self.scale[:, None]
        s_grads, y_grads = products[:, :PAIRS], products[:, PAIRS:]
        inner = np.einsum("amn,an->am", self.inverse, s_grads)
        right = np.einsum("amn,an->am", self.yy, inner)
        right -= y_grads
        right *= scale
        right += self.sy * inner
        weights = np.empty_like(products)
        np.einsum("anm,an->am", self.inverse, right, out=weights[:, :PAIRS])
        np.multiply(inner, -scale, out=weights[:, PAIRS:])
        return weights
