"""What ``compile="numba"`` covers. A net that it does not cover is an error.

Of a linear model it changes the speed alone: where there is no compiled code, all is computed as
without it, so that one estimator serves a search and its last fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from sknets._engine import NUMBA_ACTIVATIONS, check_numba, import_numba
from sknets._nn import OPTIMISERS


def uses_numba(estimator: Any) -> bool:
    """Whether an estimator is to be fitted through Numba, and not through torch's compiler."""
    return isinstance(estimator.compile, str)


def check_numba_settings(estimator: Any) -> None:
    """Raise if an estimator asks for Numba and for what it does not cover.

    Raises
    ------
    ValueError
        If it does; the message says which parameter.
    """
    if not uses_numba(estimator):
        return
    rates = np.asarray(estimator.dropout, dtype=object)
    sizes = np.asarray(estimator.hidden_layer_sizes, dtype=object)
    rules = (
        ("solver", f"one of {sorted(OPTIMISERS)}", estimator.solver in OPTIMISERS),
        (
            "activation",
            f"one of {sorted(NUMBA_ACTIVATIONS)}",
            estimator.activation in NUMBA_ACTIVATIONS,
        ),
        ("hidden_layer_sizes", "of one layer at least", sizes.size > 0),
        ("dropout", "0", not np.any(rates != 0)),
        ("normalization", "None", estimator.normalization is None),
        ("loss", '"log_loss"', estimator.loss == "log_loss"),
        ("label_smoothing", "0", estimator.label_smoothing == 0),
        ("callbacks", "None", estimator.callbacks is None or len(estimator.callbacks) == 0),
        ("precision", '"auto", "float32" or "float64"', estimator.precision != "bf16"),
    )
    for name, rule, holds in rules:
        if not holds:
            value = getattr(estimator, name)
            raise ValueError(f'{name} must be {rule} with compile="numba", got {value!r}.')


def check_numba_fit(estimator: Any, module: nn.Module, device: torch.device) -> None:
    """Raise if an estimator asks for Numba with a net or a device that it does not cover.

    Raises
    ------
    ImportError
        If Numba is not installed.
    ValueError
        If it does not cover them.
    """
    if not uses_numba(estimator):
        return
    check_numba(module)
    _check_device(device)


def check_numba_linear(estimator: Any, device: torch.device) -> None:
    """Raise if a linear model asks for Numba with a device that it does not cover.

    Raises
    ------
    ImportError
        If Numba is not installed.
    ValueError
        If it does not cover it.
    """
    if uses_numba(estimator):
        import_numba()
        _check_device(device)


def _check_device(device: torch.device) -> None:
    if device.type != "cpu":
        raise ValueError(f'device must be "cpu" with compile="numba", got {str(device)!r}.')
