"""The convolutional net."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sknets._nn._activations import get_activation
from sknets._nn._conv_plan import ConvPlan, check_input_shape, plan_convolutions
from sknets._nn._mlp import MLP
from sknets._nn._normalization import check_normalization, make_conv_normalization
from sknets._nn._pooling import make_pooling


class CNN(nn.Module):
    """Convolutional layers, then dense layers, giving logits.

    A convolutional layer is convolution, normalisation, activation, pooling, dropout. What the last
    one gives is flattened and goes through an `MLP`.

    `kernel_size`, `stride`, `dilation`, `padding`, `pool`, `pool_size` and `conv_dropout` take one
    value for all convolutional layers, or a tuple with one entry for each. An entry of the tuple
    may again be a tuple, with one value for each axis: ``kernel_size=(5, (1, 3))`` is 5x5 in the
    first layer and 1x3 in the second.

    Parameters
    ----------
    input_shape : tuple of int
        One sample's shape: (C, L) for a signal, (C, H, W) for an image. Flat rows are accepted too.
    n_outputs : int
        Logits a sample.
    conv_channels : tuple of int, or int, default=(32, 64)
        Channels of each convolutional layer; ``()`` for none.
    kernel_size : int, or one entry a layer, default=3
        Size of the kernel.
    stride : int, or one entry a layer, default=1
        Step of the kernel.
    dilation : int, or one entry a layer, default=1
        Distance between the kernel's elements.
    padding : {"same", "valid"} or int, or one entry a layer, default="same"
        Zeros around the input. "same" adds ``dilation * (kernel_size - 1)`` to each axis, half
        before and half after (an odd one after), so that the size becomes ceil(size / stride).
        "valid" adds none, an integer adds that many on each side.
    pool : {"max", "avg", "l2"} or None, or one entry a layer, default="max"
        Largest value, mean, or root of the sum of squares in each window; None for no pooling.
    pool_size : int, or one entry a layer, default=2
        Size and step of the pooling window. A window that is larger than what it pools is the whole
        of it, so pooling never shrinks an axis to nothing.
    conv_dropout : float, or one value a layer, default=0.0
        Share of the values (not of whole channels) set to zero after the pooling in training, in
        [0, 1).
    hidden_layer_sizes : tuple of int, or int, default=(128,)
        Units of each dense layer between the convolutions and the logits.
    activation : str, default="relu"
        A name in `ACTIVATIONS`.
    normalization : {None, "batch", "layer"}, default=None
        Normalisation before each activation. "layer" takes a sample's channels and positions
        together, with one scale and shift a channel.
    dropout : float, or one value a dense layer, default=0.0
        Dropout after each dense layer's activation, in [0, 1).
    channels : {"first", "last"}, default="first"
        Where the channels are in what `forward` is given; "last" is (B, L, C) or (B, H, W, C).

    Attributes
    ----------
    given_shapes : tuple of tuples
        What each convolutional layer is given, (C, L) or (C, H, W).
    features : nn.Sequential
        The convolutional layers by name: ``conv1``, ``norm1``, ``activation1``, ``pool1``,
        ``dropout1``, ``conv2``, …
    classifier : MLP
        The dense layers.
    memory_format : torch.memory_format
        How images lie in memory between the layers. ``torch.channels_last``, for images only, is
        what a CPU's convolutions and poolings in float32 and bfloat16 are quick at.

    Raises
    ------
    ValueError
        If a setting is out of range, or a layer shrinks to nothing; the error names the layer.
    """

    memory_format: torch.memory_format

    def __init__(
        self,
        input_shape: Sequence[int],
        n_outputs: int,
        conv_channels: Sequence[int] | int = (32, 64),
        *,
        kernel_size: Any = 3,
        stride: Any = 1,
        dilation: Any = 1,
        padding: Any = "same",
        pool: Any = "max",
        pool_size: Any = 2,
        conv_dropout: float | Sequence[float] = 0.0,
        hidden_layer_sizes: Sequence[int] | int = (128,),
        activation: str = "relu",
        normalization: str | None = None,
        dropout: float | Sequence[float] = 0.0,
        channels: str = "first",
    ) -> None:
        super().__init__()
        if channels not in ("first", "last"):
            raise ValueError(f'channels must be "first" or "last", got {channels!r}.')
        self.channels = channels
        self.memory_format = torch.contiguous_format
        self.input_shape = check_input_shape(input_shape)
        plans = plan_convolutions(
            self.input_shape,
            conv_channels,
            kernel_size=kernel_size,
            stride=stride,
            dilation=dilation,
            padding=padding,
            pool=pool,
            pool_size=pool_size,
            conv_dropout=conv_dropout,
        )
        check_normalization(normalization)
        self.given_shapes = (self.input_shape, *(plan.out_shape for plan in plans))[: len(plans)]
        self.features = _make_features(plans, activation, normalization)
        n_features = math.prod(plans[-1].out_shape if plans else self.input_shape)
        self.classifier = MLP(
            n_features, hidden_layer_sizes, n_outputs, activation, dropout, normalization
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n_outputs) of samples (B, C, L) or (B, C, H, W), or of their flat rows."""
        x = self.features(self.arrange(x))  # (B, C', L') or (B, C', H', W')
        return self.classifier(x.flatten(1))

    def check_on_cpu(self, *, is_bf16: bool) -> None:
        """Refuse the convolutions that torch (2.14, on x86) cannot train on a CPU.

        Raises
        ------
        ValueError
            If a kernel of one pixel has strides that differ, which ends the process, or if a stride
            is larger than what it steps over in bfloat16, which leaves gradients unset.
        """
        layers = [layer for layer in self.features if isinstance(layer, nn.Conv1d | nn.Conv2d)]
        for i, (layer, shape) in enumerate(zip(layers, self.given_shapes, strict=True), start=1):
            stride, sizes = layer.stride, shape[1:]
            if layer.kernel_size == (1, 1) and len(set(stride)) > 1:
                raise ValueError(
                    "stride must be the same on both axes for a kernel of one pixel, got "
                    f"{stride} in conv{i}: torch cannot train it on a CPU."
                )
            if is_bf16 and any(s > n for s, n in zip(stride, sizes, strict=True)):
                raise ValueError(
                    'stride must be at most the size of its input with precision="bf16", got '
                    f"{stride} for {sizes} in conv{i}: torch's gradients are wrong there on a CPU."
                )

    def arrange(self, x: Tensor) -> Tensor:
        """Samples as the convolutions take them, (B, C, L) or (B, C, H, W), in `memory_format`."""
        if self.channels == "last":
            n_channels, *sizes = self.input_shape
            x = x.reshape(x.shape[0], *sizes, n_channels).movedim(-1, 1)
        else:
            x = x.reshape(x.shape[0], *self.input_shape)
        return _channels_last(x) if self.memory_format == torch.channels_last else x


def _channels_last(x: Tensor) -> Tensor:
    """Return images (B, C, H, W) so laid out; strides tell which layout one channel has."""
    if x.shape[1] > 1:
        return x.contiguous(memory_format=torch.channels_last)
    x = x.contiguous()
    height, width = x.shape[2:]
    return x.as_strided(x.shape, (height * width, 1, width, 1))


def _make_features(
    plans: Sequence[ConvPlan], activation: str, normalization: str | None
) -> nn.Sequential:
    make_activation = get_activation(activation).module
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, plan in enumerate(plans, start=1):
        if any(before != after for before, after in plan.padding):
            layers[f"pad{i}"] = _make_zero_padding(plan)
        layers[f"conv{i}"] = _make_convolution(plan)
        if normalization is not None:
            layers[f"norm{i}"] = make_conv_normalization(
                normalization, plan.out_channels, len(plan.kernel)
            )
        layers[f"activation{i}"] = make_activation()
        if plan.pool is not None:
            layers[f"pool{i}"] = make_pooling(plan.pool, plan.window)
        if plan.dropout > 0:
            layers[f"dropout{i}"] = nn.Dropout(plan.dropout)
    return nn.Sequential(layers)


def _make_zero_padding(plan: ConvPlan) -> nn.Module:
    """The odd zero after an axis, which a convolution's own padding cannot add."""
    odd = tuple(n for before, after in reversed(plan.padding) for n in (0, after - before))
    padding = nn.ZeroPad1d if len(plan.kernel) == 1 else nn.ZeroPad2d
    return padding(odd)  # type: ignore[arg-type]


def _make_convolution(plan: ConvPlan) -> nn.Module:
    convolution = nn.Conv1d if len(plan.kernel) == 1 else nn.Conv2d
    return convolution(
        plan.in_channels,
        plan.out_channels,
        plan.kernel,  # type: ignore[arg-type]
        stride=plan.stride,  # type: ignore[arg-type]
        padding=tuple(before for before, _ in plan.padding),  # type: ignore[arg-type]
        dilation=plan.dilation,  # type: ignore[arg-type]
    )
