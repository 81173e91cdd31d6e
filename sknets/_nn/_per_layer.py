"""Settings that take one value, or one a layer."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np


def is_sequence(value: object) -> bool:
    """Whether a setting was written as several values."""
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)


def expand_per_layer(value: Any, n_layers: int, name: str, layers: str = "layers") -> tuple:
    """One entry for each layer: the sequence itself, or the single value repeated.

    Raises
    ------
    ValueError
        If a sequence has not one entry a layer.
    """
    if not is_sequence(value):
        return (value,) * n_layers
    if len(value) != n_layers:
        raise ValueError(
            f"{name} must be one value or one for each of the {n_layers} {layers}, "
            f"got {len(value)} values: {value!r}."
        )
    return tuple(value)


def expand_sizes(sizes: Any, name: str) -> tuple[int, ...]:
    """A tuple of positive layer sizes from a tuple, a list or one number."""
    entries = tuple(sizes) if is_sequence(sizes) else (sizes,)
    for entry in entries:
        if not _is_integer(entry) or entry < 1:
            raise ValueError(f"{name} must be integers of at least 1, got {sizes!r}.")
    return tuple(int(entry) for entry in entries)


def expand_rates(value: Any, n_layers: int, name: str, layers: str = "layers") -> tuple[float, ...]:
    """One dropout rate in [0, 1) for each layer."""
    rates = expand_per_layer(value, n_layers, name, layers)
    for rate in rates if is_sequence(value) else (value,):
        if not isinstance(rate, Real) or isinstance(rate, bool) or not 0.0 <= float(rate) < 1.0:
            raise ValueError(f"{name} must be at least 0 and less than 1, got {value!r}.")
    return tuple(float(rate) for rate in rates)


def expand_axes(value: Any, n_axes: int, name: str, minimum: int = 1) -> tuple[int, ...]:
    """One integer an axis, from one number or a tuple within a per-layer tuple."""
    entries = tuple(value) if is_sequence(value) else (value,) * n_axes
    if len(entries) != n_axes or not all(_is_integer(e) and e >= minimum for e in entries):
        raise ValueError(
            f"{name} must be an integer of at least {minimum}, or a tuple of {n_axes}, "
            f"one an axis; got {value!r}."
        )
    return tuple(int(entry) for entry in entries)


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
