"""Pooling layers by name, for signals (B, C, L) and images (B, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn


class L2Pool(nn.Module):
    """Root of the sum of squares in each window.

    Unlike `torch.nn.LPPool2d`, a window of zeros (common after a ReLU) has gradient 0, not NaN.

    Parameters
    ----------
    window : tuple of int
        Size of the window in each axis; the windows do not overlap.
    """

    def __init__(self, window: tuple[int, ...]) -> None:
        super().__init__()
        self.window = window
        self.average = _average(window)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        squares = self.average(x.square()) * math.prod(self.window)
        positive = squares > 0
        return squares.where(positive, 1.0).sqrt().where(positive, 0.0)

    def extra_repr(self) -> str:
        return f"window={self.window}"


def _max(window: tuple[int, ...]) -> nn.Module:
    return nn.MaxPool1d(window) if len(window) == 1 else nn.MaxPool2d(window)


def _average(window: tuple[int, ...]) -> nn.Module:
    if len(window) == 1:
        return nn.AvgPool1d(window)
    return nn.AvgPool2d(window)  # type: ignore[arg-type]


POOLINGS: Mapping[str, Callable[[tuple[int, ...]], nn.Module]] = MappingProxyType(
    {"max": _max, "avg": _average, "l2": L2Pool}
)


def make_pooling(kind: str, window: tuple[int, ...]) -> nn.Module:
    """Pooling over windows that do not overlap; what is left over at the end is dropped.

    Raises
    ------
    ValueError
        If there is no pooling of this name.
    """
    check_pooling(kind)
    return POOLINGS[kind](window)


def check_pooling(kind: str) -> None:
    """Raise a ValueError unless `kind` is a pooling's name."""
    if kind not in POOLINGS:
        raise ValueError(f"pool must be None or one of {sorted(POOLINGS)}, got {kind!r}.")
