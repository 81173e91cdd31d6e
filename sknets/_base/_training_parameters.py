"""The training parameters that all networks share: their rules, and what they exclude."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from sknets._base._classifier import DEVICE_CONSTRAINTS
from sknets._core._sklearn import Interval, Options, StrOptions
from sknets._nn import LOSSES, OPTIMISERS

SMOOTHED_LOSSES = ("log_loss", "focal_loss")
"""Losses that have a target to spread over the classes."""

TRAINING_CONSTRAINTS: dict[str, list] = {
    "solver": [StrOptions({"lbfgs", *OPTIMISERS})],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [
        Interval(Integral, 1, None, closed="left"),
        Options(Real, {np.inf}),
    ],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "loss": [StrOptions(set(LOSSES)), callable],
    "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    "class_weight": [dict, list, StrOptions({"balanced"}), None],
    "callbacks": ["array-like", None],
    **DEVICE_CONSTRAINTS,
    "compile": ["boolean"],
}
"""The part of ``_parameter_constraints`` that all networks share."""


def has_epochs(estimator: Any) -> bool:
    """Say whether the solver trains by epochs.

    Raises
    ------
    AttributeError
        If it does not.
    """
    if estimator.solver not in OPTIMISERS:
        raise AttributeError(
            f"partial_fit is only available for solvers that train by mini-batches, "
            f"{sorted(OPTIMISERS)}, got solver={estimator.solver!r}."
        )
    return True


def check_settings(estimator: Any, validation: tuple, *, incremental: bool) -> None:
    """Refuse half a validation set, and what would have no effect under the solver.

    Parameters
    ----------
    estimator : BaseNetwork
        Whose parameters are checked.
    validation : tuple (X_val, y_val, sample_weight_val)
        What ``fit`` was given.
    incremental : bool
        Whether this is ``partial_fit``.

    Raises
    ------
    ValueError
        If there is such a parameter.
    """
    X_val, y_val, weight_val = validation
    if (X_val is None) != (y_val is None):
        missing, given = ("y_val", "X_val") if y_val is None else ("X_val", "y_val")
        raise ValueError(f"{given} is provided, but {missing} was not provided.")
    if weight_val is not None and X_val is None:
        raise ValueError("sample_weight_val is provided, but X_val was not provided.")
    if estimator.label_smoothing and estimator.loss not in SMOOTHED_LOSSES:
        raise ValueError(
            f"label_smoothing must be 0 where loss is not one of {list(SMOOTHED_LOSSES)}, which "
            f"alone have a target to spread, got {estimator.label_smoothing!r} with "
            f"loss={estimator.loss!r}."
        )
    if incremental and isinstance(estimator.class_weight, str):
        raise ValueError(
            'class_weight must not be "balanced" in partial_fit, which sees a part of the '
            "data at a time. Pass the weights as a dict, or by sample_weight."
        )
    if estimator.solver != "lbfgs":
        return
    for name, value in (("X_val", X_val), ("callbacks", estimator.callbacks)):
        if value is not None:
            raise ValueError(
                f'{name} must be None with solver="lbfgs", which has no epochs, got a '
                f"{type(value).__name__}."
            )
    if np.any(np.asarray(getattr(estimator, "dropout", 0.0)) != 0):
        raise ValueError(
            'dropout must be 0 with solver="lbfgs", whose line search needs the same loss for '
            f"the same weights, got {estimator.dropout!r}."
        )
