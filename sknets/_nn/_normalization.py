"""Normalisation layers by name."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NORMALIZATIONS = ("batch", "layer")


class BatchNorm1d(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` that accepts a batch of one row in training."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C) or (B, C, L)
        if self.training and _has_one_value(x):
            return _normalize_by_running_statistics(self, x)
        return super().forward(x)


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` that accepts a batch of one 1x1 image in training."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        if self.training and _has_one_value(x):
            return _normalize_by_running_statistics(self, x)
        return super().forward(x)


def _has_one_value(x: Tensor) -> bool:
    """Whether a batch has one value a channel: no variance, so torch refuses to normalise it.

    The last batch of an epoch may be a single row.
    """
    return x.numel() == x.shape[1]


def _normalize_by_running_statistics(layer: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.batch_norm(
        x,
        layer.running_mean,
        layer.running_var,
        layer.weight,
        layer.bias,
        training=False,
        eps=layer.eps,
    )


def check_normalization(normalization: str | None) -> None:
    """Raise a ValueError unless `normalization` is None or a known name."""
    if normalization is not None and normalization not in NORMALIZATIONS:
        raise ValueError(f'normalization must be None, "batch" or "layer", got {normalization!r}.')


def make_dense_normalization(kind: str, n_units: int) -> nn.Module:
    """Normalisation of (B, n_units): over the batch, or over each row's units."""
    return BatchNorm1d(n_units) if kind == "batch" else nn.LayerNorm(n_units)


def make_conv_normalization(kind: str, n_channels: int, n_axes: int) -> nn.Module:
    """Normalisation of (B, n_channels, L) or (B, n_channels, H, W).

    "layer" normalises each sample over its channels and positions, with one scale and shift a
    channel: a group normalisation of one group.
    """
    if kind == "layer":
        return nn.GroupNorm(1, n_channels)
    return (BatchNorm1d if n_axes == 1 else BatchNorm2d)(n_channels)
