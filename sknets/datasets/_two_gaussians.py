"""Two Gaussian classes whose true posterior, a logistic one, is known."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.special import ndtr
from sklearn.utils import Bunch

from sknets._core import make_random_state


def make_two_gaussians(
    n_samples: int = 1000,
    n_features: int = 2,
    *,
    distance: float = 2.0,
    means: Any = None,
    random_state: Any = None,
) -> Bunch:
    r"""Draw from N(mu0, I) and N(mu1, I) with equal priors, and say what the best classifier is.

    With equal covariances and priors, Bayes' rule gives a logistic posterior with a linear
    argument, :math:`P(y = 1 \mid x) = 1 / (1 + e^{-(w^T x + b)})`, where :math:`w = \mu_1 - \mu_0`
    and :math:`b = (\|\mu_0\|^2 - \|\mu_1\|^2) / 2`. Logistic regression without a penalty estimates
    just these.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows. Each takes its class by the toss of a fair coin.
    n_features : int, default=2
        Number of columns; with ``means`` it must be their length.
    distance : float, default=2.0
        Distance between the means, in standard deviations, unless ``means`` gives them. They then
        lie on the diagonal, symmetric about the origin.
    means : array-like of shape (2, n_features), default=None
        The means mu0 and mu1.
    random_state : int, RandomState instance or None, default=None
        Makes the sample. Pass an int for the same sample in every call.

    Returns
    -------
    sample : :class:`~sklearn.utils.Bunch`
        With the attributes

        X : ndarray of shape (n_samples, n_features)
            The rows, float64.
        y : ndarray of shape (n_samples,)
            Their classes, 0 or 1.
        coef : ndarray of shape (n_features,)
            The true weights ``mu1 - mu0``.
        intercept : float
            The true intercept.
        bayes_accuracy : float
            The accuracy that no classifier exceeds, ``Phi(|mu1 - mu0| / 2)``.
        means : ndarray of shape (2, n_features)
            mu0 and mu1.

    Raises
    ------
    ValueError
        If a number is out of its range or ``means`` has another shape.

    References
    ----------
    Hastie, T., Tibshirani, R. and Friedman, J., "The Elements of Statistical Learning", 2nd ed.
    (2009), sections 4.3 and 4.4.

    Examples
    --------
    >>> from sknets.datasets import make_two_gaussians
    >>> sample = make_two_gaussians(n_samples=100, means=[[0, 0], [3, 4]], random_state=0)
    >>> sample.X.shape, sample.coef, sample.intercept
    ((100, 2), array([3., 4.]), -12.5)
    >>> round(sample.bayes_accuracy, 4)
    0.9938
    """
    _check_count("n_samples", n_samples)
    _check_count("n_features", n_features)
    centres = (
        _make_means(n_features, distance) if means is None else _check_means(means, n_features)
    )
    rng = make_random_state(random_state)
    y = rng.randint(2, size=n_samples)
    X = centres[y] + rng.standard_normal((n_samples, n_features))
    coef = centres[1] - centres[0]
    return Bunch(
        X=X,
        y=y,
        coef=coef,
        intercept=float(centres[0] @ centres[0] - centres[1] @ centres[1]) / 2,
        bayes_accuracy=float(ndtr(np.linalg.norm(coef) / 2)),
        means=centres,
    )


def _check_count(name: str, value: Any) -> None:
    """Raise unless a number of rows or columns is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")


def _make_means(n_features: int, distance: Any) -> np.ndarray:
    """Place two means (2, n_features) on the diagonal, ``distance`` apart, about the origin."""
    if not isinstance(distance, Real) or not 0 <= float(distance) < np.inf:
        raise ValueError(f"distance must be a finite number of at least 0, got {distance!r}.")
    half = np.full(n_features, float(distance) / 2 / np.sqrt(n_features))
    return np.stack([-half, half])


def _check_means(means: Any, n_features: int) -> np.ndarray:
    """Return means as finite float64 (2, n_features), or raise."""
    centres = np.array(means, dtype=np.float64)
    if centres.shape != (2, n_features):
        raise ValueError(
            f"means must have shape (2, n_features) = (2, {n_features}), got {centres.shape}."
        )
    if not np.isfinite(centres).all():
        raise ValueError(f"means must be finite, got {centres.tolist()}.")
    return centres
