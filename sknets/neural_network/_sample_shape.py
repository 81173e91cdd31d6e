"""How samples lie in X: images, signals or flat rows.

X is flattened to one row a sample at the door (a view wherever memory allows) and the net gives the
rows their shape back, so validation, batches and weights see a table as everywhere else.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from sknets._nn import check_input_shape

CHANNELS = ("first", "last")


def as_array_if_nested(X: Any) -> Any:
    """X, or an array of it if it is a list of images or signals."""
    if hasattr(X, "shape") or not isinstance(X, list | tuple):
        return X
    try:
        array = np.asarray(X)
    except ValueError:  # ragged: validation says what is wrong
        return X
    return array if array.ndim > 2 else X


def resolve_sample_shape(x_shape: tuple, input_shape: Any, channels: str) -> tuple[int, ...]:
    """The shape of one sample with its channel axis, in X's own order.

    Parameters
    ----------
    x_shape : tuple of int
        Shape of X, samples first.
    input_shape : tuple of int or None
        What the user says it is.
    channels : {"first", "last"}
        Where the channel axis is.

    Returns
    -------
    tuple of int
        (C, L) or (C, H, W); (L, C) or (H, W, C) where channels are last.

    Raises
    ------
    ValueError
        If X cannot hold samples of this shape.
    """
    if input_shape is not None:
        shape = check_input_shape(input_shape)
        check_holds(x_shape, shape, channels)
        return shape
    given = tuple(x_shape[1:])
    if len(given) == 3:
        return given
    if len(given) in (1, 2):
        return (1, *given) if channels == "first" else (*given, 1)
    raise ValueError(
        "X must have shape (n_samples, n_features), (n_samples, height, width), or both and a "
        f"channel axis, got {_text(x_shape)}. Reshape your data."
    )


def warn_of_other_order(x_shape: tuple[int, ...], channels: str) -> None:
    """Warn of images that look like those of the other order: of many channels, 1 or 3 wide."""
    if len(x_shape) != 4:
        return
    place, other, axis = (1, -1, "last") if channels == "first" else (-1, 1, "first")
    if x_shape[other] in (1, 3) and x_shape[place] > 4:
        warnings.warn(
            f'With channels="{channels}", X of shape {_text(x_shape)} has {x_shape[place]} '
            f'channels. If its {axis} axis holds the channels, set channels="{axis}".',
            stacklevel=2,
        )


def _text(shape: tuple) -> str:
    return f"({', '.join(map(str, shape))})"


def check_holds(x_shape: tuple, sample_shape: tuple[int, ...], channels: str) -> None:
    """Raise a ValueError unless X holds samples of this shape, flat or not.

    A single channel may have no axis.
    """
    given = tuple(x_shape[1:])
    place = 0 if channels == "first" else -1
    accepted = [sample_shape, (math.prod(sample_shape),)]
    if sample_shape[place] == 1:
        accepted.append(sample_shape[1:] if channels == "first" else sample_shape[:-1])
    if given not in accepted:
        raise ValueError(
            f"X must hold samples of shape {sample_shape}, or rows of {accepted[1][0]} features, "
            f"got X of shape {_text(x_shape)}."
        )


def channels_first(sample_shape: tuple[int, ...], channels: str) -> tuple[int, ...]:
    """The sample's shape as (C, L) or (C, H, W)."""
    if channels == "first":
        return sample_shape
    return (sample_shape[-1], *sample_shape[:-1])


def flatten_samples(X: Any) -> Any:
    """X as one row a sample; a table is returned as it is."""
    if getattr(X, "ndim", 2) <= 2:
        return X
    shape = (X.shape[0], math.prod(X.shape[1:]))
    if hasattr(X, "reshape"):
        return X.reshape(shape)
    return X.__array_namespace__().reshape(X, shape)
