"""Coordinates of a linear model in which its rows have a mean of zero.

Instead of an intercept there is the logit of the mean row. Weights are the same, and so is their L1
norm; but what an intercept and the weight of a feature far from zero do together no longer couples
the two, so that a diagonal says most of the curvature. Nothing is taken from X.

Shapes: any leading axes "...", K outputs, D columns, the intercept's last; P = K * D.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Centring:
    """From parameters to centred ones and back.

    Parameters
    ----------
    means : ndarray of shape (..., D) or None
        Means of the columns, 0 for the intercept's; None without an intercept: nothing is changed.
    n_outputs : int
        K.
    """

    def __init__(self, means: Array | None, n_outputs: int) -> None:
        self.means = None if means is None else means[..., None, :]
        self._n_outputs = n_outputs

    def of(self, places: Array) -> Centring:
        """Return that of some models of a stack."""
        means = None if self.means is None else self.means[places, 0]
        return Centring(means, self._n_outputs)

    def centred(self, params: Array) -> Array:
        """Return parameters (..., P) in centred coordinates."""
        return self._moved(params, 1.0)

    def params(self, centred: Array) -> Array:
        """Return centred parameters, or steps, as parameters (..., P)."""
        return self._moved(centred, -1.0)

    def gradient(self, grad: Array) -> Array:
        """Return a gradient (..., P) by the parameters as that by the centred ones."""
        if self.means is None:
            return grad
        by_output = self._by_output(grad)
        return (by_output - self.means * by_output[..., -1:]).reshape(grad.shape)

    def _moved(self, params: Array, sign: float) -> Array:
        if self.means is None:
            return params
        by_output = self._by_output(params).copy()
        by_output[..., -1] += sign * (self.means * by_output).sum(axis=-1)
        return by_output.reshape(params.shape)

    def _by_output(self, params: Array) -> Array:
        return params.reshape(*params.shape[:-1], self._n_outputs, -1)
