"""The layers of a convolutional net, forward and backward, in memory that every batch uses again.

Conventions
-----------
- x, y: (B, C, H, W), a signal with H = 1; both in the net's memory format.
- ``forward(x)`` returns y, which nobody changes before ``backward`` has run, unless a stage says
  that it works in place.
- ``backward(grad)`` takes the gradient by y, which it may overwrite, and returns that by x.
- Memory is made when a stage first runs: torch then knows the shapes and strides. What a
  convolution returns is torch's own new memory, and free again when the next stage has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sknets._nn import Activation

aten = torch.ops.aten

Pair = tuple[int, int]


@dataclass
class ConvLayer:
    """A convolutional layer: weights, where their gradients go, and how it is applied.

    Attributes
    ----------
    weight, bias, weight_grad, bias_grad : Tensor
        Of the flat parameters; weights are (C', C, H, W).
    stride, padding, dilation : (int, int)
        As in ``torch.nn.Conv2d``.
    extra_padding : (int, int)
        Zeros added after the height and the width alone.
    pool : {"max", "avg"} or None
        What follows.
    window : (int, int)
        Its window.
    dropout : float
        Rate after that.
    used_weight, used_bias : Tensor
        Weights in the dtype and memory format of the step, as of its beginning.
    """

    weight: Tensor
    bias: Tensor
    weight_grad: Tensor
    bias_grad: Tensor
    stride: Pair
    padding: Pair
    dilation: Pair
    extra_padding: Pair = (0, 0)
    pool: str | None = None
    window: Pair = (1, 1)
    dropout: float = 0.0

    def begin_step(self, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
        """Take the weights as they are now, and forget their gradients."""
        self.used_weight = self.weight.to(dtype, memory_format=memory_format)
        self.used_bias = self.bias.to(dtype)
        self.weight_grad.zero_()
        self.bias_grad.zero_()

    def sizes_after(self, sizes: Pair) -> tuple[Pair, Pair]:
        """Return height and width after the convolution, and after the pooling."""
        convolved = tuple(
            (n + extra + 2 * p - d * (k - 1) - 1) // s + 1
            for n, extra, p, d, k, s in zip(
                sizes,
                self.extra_padding,
                self.padding,
                self.dilation,
                self.weight.shape[2:],
                self.stride,
                strict=True,
            )
        )
        pooled = tuple(n // w for n, w in zip(convolved, self.window, strict=True))
        return convolved, pooled


class Stage(Protocol):
    """A layer, or a part of one."""

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""

    def backward(self, grad: Tensor) -> Tensor:
        """Return the gradient by x, and add those of weights to where they go."""


class Convolution:
    """The convolution, but for its bias's gradient; the net's first gives no gradient by x."""

    def __init__(self, layer: ConvLayer, *, is_first: bool) -> None:
        self._layer = layer
        self._needs = [not is_first, True, False]

    def forward(self, x: Tensor) -> Tensor:
        layer = self._layer
        self._sizes = x.shape[2:]
        height, width = layer.extra_padding
        self._x = F.pad(x, (0, width, 0, height)) if height or width else x
        return torch.convolution(
            self._x,
            layer.used_weight,
            layer.used_bias,
            layer.stride,
            layer.padding,
            layer.dilation,
            transposed=False,
            output_padding=(0, 0),
            groups=1,
        )

    def backward(self, grad: Tensor) -> Tensor:
        layer = self._layer
        by_x, by_weight, _ = aten.convolution_backward(
            *(grad, self._x, layer.used_weight, None),
            *(layer.stride, layer.padding, layer.dilation, False, (0, 0), 1, self._needs),
        )
        layer.weight_grad.add_(by_weight)
        if by_x is None or by_x.shape[2:] == self._sizes:
            return by_x
        height, width = self._sizes
        return by_x[:, :, :height, :width].clone(memory_format=torch.preserve_format)


class BiasGradient:
    """Sums the gradient of the bias, and changes nothing.

    A pooling hands on each number of its gradient once, as a whole or in parts. So the sum after a
    pooling, over fewer numbers, is the sum before it.
    """

    def __init__(self, layer: ConvLayer) -> None:
        self._layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x

    def backward(self, grad: Tensor) -> Tensor:
        self._layer.bias_grad.add_(grad.sum((0, 2, 3)))
        return grad


class Activate:
    """The activation; `in_place` writes y over x."""

    def __init__(self, activation: Activation, *, in_place: bool) -> None:
        self._activation = activation
        self._in_place = in_place
        self._out: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        activation = self._activation
        if self._in_place:
            self._kept = activation.forward(x, out=x)
            return x
        if self._out is None:
            self._out = torch.empty_like(x)
        activation.forward(x, out=self._out)
        self._kept = x if activation.needs_input else self._out
        return self._out

    def backward(self, grad: Tensor) -> Tensor:
        return self._activation.multiply_derivative_(grad, self._kept)


class MaxPool:
    """Largest value of each window.

    `scratch` holds the gradient by x; stages that run one after another share it by its shape.
    """

    def __init__(self, window: Pair, scratch: dict[torch.Size, Tensor]) -> None:
        self._window = window
        self._scratch = scratch
        self._out: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        window = self._window
        self._shape = x.shape
        if self._out is None:
            self._scratch.setdefault(x.shape, torch.empty_like(x))
            self._out, self._where = aten.max_pool2d_with_indices(x, window, window)
        else:
            aten.max_pool2d_with_indices.out(x, window, window, out=self._out, indices=self._where)
        return self._out

    def backward(self, grad: Tensor) -> Tensor:
        by_x, window = self._scratch[self._shape], self._window
        if grad.itemsize < 4:  # windows do not overlap: nothing is to be added, which is slow here
            return aten.max_unpool2d.out(grad, self._where, self._shape[2:], out=by_x)
        return aten.max_pool2d_with_indices_backward.grad_input(
            *(grad, by_x, window, window, (0, 0), (1, 1), False, self._where), grad_input=by_x
        )


class AveragePool:
    """Mean of each window; `scratch` as in `MaxPool`."""

    def __init__(self, window: Pair, scratch: dict[torch.Size, Tensor]) -> None:
        self._window = window
        self._scratch = scratch
        self._out: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        window = self._window
        self._shape = x.shape
        if self._out is None:
            self._scratch.setdefault(x.shape, torch.empty_like(x))
            self._out = aten.avg_pool2d(x, window, window)
        else:
            aten.avg_pool2d.out(x, window, window, out=self._out)
        return self._out

    def backward(self, grad: Tensor) -> Tensor:
        by_x, window = self._scratch[self._shape], self._window
        return aten.avg_pool2d_backward.grad_input(
            *(grad, by_x, window, window, (0, 0), False, True, None), grad_input=by_x
        )


class Dropout:
    """Multiplies by `mask` (B, C, H, W), which is to be set before each batch."""

    mask: Tensor

    def __init__(self) -> None:
        self._out: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._out is None:
            self._out, self._mask = torch.empty_like(x), torch.empty_like(x)
        self._mask.copy_(self.mask)  # to the memory format of x
        return torch.mul(x, self._mask, out=self._out)

    def backward(self, grad: Tensor) -> Tensor:
        return grad.mul_(self._mask)


def make_stages(
    layer: ConvLayer,
    activation: Activation,
    scratch: dict[Any, Tensor],
    *,
    is_first: bool,
    drops: bool,
) -> Sequence[Stage]:
    """Return the stages of a layer; with `drops`, dropout is one of them.

    The largest value of a monotone activation is that of the largest input. So it is computed after
    the pooling, of fewer numbers: the values are the same, and the gradients too, because of equal
    inputs the first is the largest either way, and where the activation alone makes values equal
    (all below zero, for relu) its derivative is 0.
    """
    pools: list[Stage] = []
    if layer.pool == "max":
        pools = [MaxPool(layer.window, scratch)]
    elif layer.pool == "avg":
        pools = [AveragePool(layer.window, scratch)]
    pools_first = layer.pool == "max" and activation.is_monotone
    owns = pools_first and not activation.needs_input
    activates: list[Stage] = []
    if activation.name != "identity":
        activates = [Activate(activation, in_place=owns)]
    convolution, bias = Convolution(layer, is_first=is_first), BiasGradient(layer)
    dropout: list[Stage] = [Dropout()] if drops else []
    if pools_first:
        return [convolution, *pools, bias, *activates, *dropout]
    return [convolution, bias, *activates, *pools, *dropout]
