"""The logistic objective of few rows: one NumPy call a formula, where a call costs more than rows.

Conventions: as in `_logistic_objective`.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

# With more numbers than this in the logits, kernels that vectorise better are worth their calls.
_FEW = 20_000

# An X of at most so many numbers stays in a core's cache: twice as many logits are few then.
_SMALL = 2**18


class FewRows:
    """Loss and gradient, without the penalty, of rows that are held with a column of ones.

    Parameters
    ----------
    X : Tensor of shape (n, F)
        The rows, on the CPU.
    target : Tensor of shape (n,)
        Signs -1 and 1 with one output, class numbers otherwise.
    share : Tensor of shape (n,) or ()
        Weights divided by their sum.
    shape : tuple (K, D)
        Of the parameters.
    """

    def __init__(self, X: Tensor, target: Tensor, share: Tensor, shape: tuple[int, int]) -> None:
        n, n_features = X.shape
        self._shape = shape
        self._X = np.empty((n, shape[1]), X.numpy().dtype)
        self._X[:, :n_features] = X.numpy()
        self._X[:, n_features:] = 1.0
        self._X_t = np.ascontiguousarray(self._X.T)
        self._target = target.numpy()
        self._share = share.numpy()
        self._samples = np.arange(n)

    def __call__(self, params: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean loss and its gradient (K * D,) at flat `params`."""
        weights = params.reshape(self._shape).astype(self._X.dtype, copy=False)
        logits = np.dot(weights, self._X_t)  # (K, n)
        of_classes = self._binary if len(logits) == 1 else self._multinomial
        losses, residual = of_classes(logits)
        residual *= self._share
        is_even = self._share.ndim == 0
        loss = losses.sum() * self._share if is_even else np.dot(losses, self._share)
        return float(loss), np.dot(residual, self._X).astype(np.float64, copy=False).ravel()

    def _binary(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        against = logits * -self._target
        losses = np.logaddexp(0.0, against)
        residual = np.exp(against - losses)  # the probability of the other class
        return losses[0], residual * -self._target

    def _multinomial(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits -= logits.max(axis=0)
        own = logits[self._target, self._samples]
        proba = np.exp(logits, out=logits)
        sums = proba.sum(axis=0)
        proba /= sums
        proba[self._target, self._samples] -= 1.0
        return np.log(sums) - own, proba


def are_few(n: int, n_features: int, n_outputs: int) -> bool:
    """Whether `n` rows with so many features and outputs are worth a call a formula."""
    return n * n_outputs <= (2 * _FEW if n * n_features <= _SMALL else _FEW)
