"""What every layer of a convolutional net will be, worked out before one is made.

A plan turns "one value or one a layer" into one record a layer with its shapes, and refuses a net
whose layers shrink to nothing. `CNN` builds its layers from the plan, `layer_shapes` prints it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sknets._nn._normalization import check_normalization
from sknets._nn._per_layer import expand_axes, expand_per_layer, expand_rates, expand_sizes
from sknets._nn._pooling import check_pooling

LAYERS = "convolutional layers"


@dataclass(frozen=True)
class ConvPlan:
    """One convolutional block: convolution, then pooling if `pool` is not None.

    Attributes
    ----------
    in_channels, out_channels : int
        Channels before and after.
    kernel, stride, dilation : tuple of int
        One value an axis.
    padding : tuple of (int, int)
        Zeros added before and after each axis.
    pool : str or None
        A pooling's name.
    window : tuple of int
        The pooling window, at most the size of what it pools.
    dropout : float
        Rate after the pooling.
    conv_shape, out_shape : tuple of int
        Shape (C, L) or (C, H, W) after the convolution and after the pooling.
    """

    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    pool: str | None
    window: tuple[int, ...]
    dropout: float
    conv_shape: tuple[int, ...]
    out_shape: tuple[int, ...]

    @property
    def n_parameters(self) -> int:
        """Weights and biases of the convolution."""
        return self.out_channels * (self.in_channels * math.prod(self.kernel) + 1)


class LayerShape(NamedTuple):
    """A row of `layer_shapes`: the layer's name in the module, its output, its parameters."""

    name: str
    output_shape: tuple[int, ...]
    n_parameters: int


def check_input_shape(input_shape: Any) -> tuple[int, ...]:
    """The shape of one sample as (C, L) or (C, H, W).

    Raises
    ------
    ValueError
        If it has another number of axes, or one that is not a positive integer.
    """
    shape = expand_sizes(input_shape, "input_shape")
    if len(shape) not in (2, 3):
        raise ValueError(
            "input_shape must be (channels, length) or (channels, height, width), "
            f"got {input_shape!r}."
        )
    return shape


def plan_convolutions(
    input_shape: Sequence[int],
    conv_channels: Sequence[int] | int = (32, 64),
    *,
    kernel_size: Any = 3,
    stride: Any = 1,
    dilation: Any = 1,
    padding: Any = "same",
    pool: Any = "max",
    pool_size: Any = 2,
    conv_dropout: float | Sequence[float] = 0.0,
) -> list[ConvPlan]:
    """One plan for each convolutional layer; the parameters are those of `CNN`.

    Raises
    ------
    ValueError
        If a setting is out of range, or a layer shrinks to nothing.
    """
    shape = check_input_shape(input_shape)
    channels = expand_sizes(conv_channels, "conv_channels")
    n_axes, n_layers = len(shape) - 1, len(channels)

    def by_layer(value: Any, name: str) -> list[tuple[int, ...]]:
        entries = expand_per_layer(value, n_layers, name, LAYERS)
        return [expand_axes(entry, n_axes, name) for entry in entries]

    layers = zip(
        channels,
        by_layer(kernel_size, "kernel_size"),
        by_layer(stride, "stride"),
        by_layer(dilation, "dilation"),
        expand_per_layer(padding, n_layers, "padding", LAYERS),
        expand_per_layer(pool, n_layers, "pool", LAYERS),
        by_layer(pool_size, "pool_size"),
        expand_rates(conv_dropout, n_layers, "conv_dropout", LAYERS),
        strict=True,
    )
    plans: list[ConvPlan] = []
    for i, layer in enumerate(layers, start=1):
        plans.append(_plan_layer(f"conv{i}", shape, *layer))
        shape = plans[-1].out_shape
    return plans


def _plan_layer(
    name: str,
    shape: tuple[int, ...],
    out_channels: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: Any,
    pool: str | None,
    window: tuple[int, ...],
    dropout: float,
) -> ConvPlan:
    """The plan of one layer whose input has this shape."""
    in_channels, *sizes = shape
    # Of one pixel a dilation means nothing; but on a CPU it ends the process.
    dilation = tuple(1 if k == 1 else d for k, d in zip(kernel, dilation, strict=True))
    zeros = _resolve_padding(padding, kernel, dilation)
    room = [
        n + sum(z) - _span(k, d) for n, k, d, z in zip(sizes, kernel, dilation, zeros, strict=True)
    ]
    if min(room) < 0:
        least = [n - min(r, 0) for n, r in zip(sizes, room, strict=True)]
        raise ValueError(
            f"{name} shrinks to nothing: kernel_size={_times(kernel)}, dilation={_times(dilation)} "
            f"and padding={padding!r} need an input of at least {_times(least)}, "
            f"got {_times(sizes)}; "
            'use padding="same", a smaller kernel or less pooling before it.'
        )
    conv_sizes = [r // s + 1 for r, s in zip(room, stride, strict=True)]
    pooled = conv_sizes
    window = tuple(min(w, n) for w, n in zip(window, conv_sizes, strict=True))
    if pool is not None:
        check_pooling(pool)
        pooled = [n // w for n, w in zip(conv_sizes, window, strict=True)]
    return ConvPlan(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=zeros,
        pool=pool,
        window=window,
        dropout=dropout,
        conv_shape=(out_channels, *conv_sizes),
        out_shape=(out_channels, *pooled),
    )


def _span(kernel: int, dilation: int) -> int:
    """Positions from a kernel's first to its last element."""
    return dilation * (kernel - 1) + 1


def _resolve_padding(
    padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """Zeros before and after each axis.

    "same" adds as many as the kernel's span takes away, the odd one after: with stride 1 the size
    stays, with stride s it becomes ceil(size / s).
    """
    if isinstance(padding, str) and padding == "same":
        missing = [_span(k, d) - 1 for k, d in zip(kernel, dilation, strict=True)]
        return tuple((m // 2, m - m // 2) for m in missing)
    if isinstance(padding, str):
        if padding != "valid":
            raise ValueError(f'padding must be "same", "valid" or an integer, got {padding!r}.')
        padding = 0
    return tuple((p, p) for p in expand_axes(padding, len(kernel), "padding", minimum=0))


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def layer_shapes(
    input_shape: Sequence[int],
    n_outputs: int,
    conv_channels: Sequence[int] | int = (32, 64),
    *,
    hidden_layer_sizes: Sequence[int] | int = (128,),
    normalization: str | None = None,
    **conv_settings: Any,
) -> list[LayerShape]:
    """Name, output shape and number of parameters of each layer that has or changes a shape.

    Parameters
    ----------
    input_shape : tuple of int
        One sample's shape, (C, L) or (C, H, W).
    n_outputs : int
        Logits a sample.
    conv_channels : tuple of int, or int, default=(32, 64)
        Channels of each convolutional layer.
    hidden_layer_sizes : tuple of int, or int, default=(128,)
        Units of each dense hidden layer.
    normalization : {None, "batch", "layer"}, default=None
        Normalisation before each activation.
    **conv_settings
        ``kernel_size``, ``stride``, ``dilation``, ``padding``, ``pool``, ``pool_size`` and
        ``conv_dropout``, as in `CNN`.

    Returns
    -------
    list of LayerShape
        Convolutions, normalisations, poolings and dense layers in order. Shapes are one sample's;
        ``module.get_submodule(row.name)`` is the layer.
    """
    plans = plan_convolutions(input_shape, conv_channels, **conv_settings)
    hidden = expand_sizes(hidden_layer_sizes, "hidden_layer_sizes")
    check_normalization(normalization)

    rows = []
    shape = check_input_shape(input_shape)
    for i, plan in enumerate(plans, start=1):
        rows.append(LayerShape(f"features.conv{i}", plan.conv_shape, plan.n_parameters))
        if normalization is not None:
            rows.append(LayerShape(f"features.norm{i}", plan.conv_shape, 2 * plan.out_channels))
        if plan.pool is not None:
            rows.append(LayerShape(f"features.pool{i}", plan.out_shape, 0))
        shape = plan.out_shape
    width = math.prod(shape)
    for i, size in enumerate(hidden, start=1):
        rows.append(LayerShape(f"classifier.layers.dense{i}", (size,), (width + 1) * size))
        if normalization is not None:
            rows.append(LayerShape(f"classifier.layers.norm{i}", (size,), 2 * size))
        width = size
    rows.append(LayerShape("classifier.layers.output", (n_outputs,), (width + 1) * n_outputs))
    return rows
