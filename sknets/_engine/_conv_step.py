"""The training step of a convolutional net in closed form.

Beside the convolutions, autograd keeps every layer's output in new memory (whose pages the system
clears one by one), activates what a pooling then throws away, and casts weights layer by layer.
Here a batch runs through stages that keep their memory, and then through the dense step.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sknets._core import fill_dropout_mask_
from sknets._engine._conv_stages import ConvLayer, Dropout, Stage, make_stages
from sknets._engine._dense import dense_layers, is_log_loss
from sknets._engine._dense_head import DenseHead
from sknets._engine._flat import FlatParameters
from sknets._engine._products import SharedThreadsProducts
from sknets._nn import CNN, Activation, Loss, get_activation

# A batch runs in parts whose largest tensor has at most about so many bytes, and which have at
# least so many rows: what a convolution returns is then still in the cache for the next stage.
_PART_BYTES = 2**23
_PART_ROWS = 8


class ConvStep:
    """Forward, log-loss gradient and backward pass of convolutional, then dense layers.

    Parameters
    ----------
    module : CNN
        Says how samples lie in rows and in memory.
    layers : sequence of ConvLayer
        The convolutional layers.
    head : DenseHead
        The dense layers.
    activation : Activation
        Of all layers.
    dtype : torch.dtype
        Of the convolutions and poolings; what the dense layers give has that of the weights.
    generator : torch.Generator or None
        Draws dropout masks, here and in the head.
    """

    name = "closed form"

    def __init__(
        self,
        module: CNN,
        layers: Sequence[ConvLayer],
        head: DenseHead,
        activation: Activation,
        *,
        dtype: torch.dtype,
        generator: torch.Generator | None,
    ) -> None:
        self.module = module
        self.layers = layers
        self.head = head
        self.activation = activation
        self.dtype = dtype
        self.generator = generator
        self._programs: dict[int, _Program] = {}
        self.encode = head.encode
        self.begin_epoch = head.begin_epoch
        self.end_epoch = head.end_epoch

    @property
    def numbers_of_a_row(self) -> int:
        """How many numbers the largest convolution gives for a row."""
        return max(math.prod(convolved) for convolved, _ in _shapes(self.module, self.layers))

    def gradient(self, x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None) -> None:
        """Leave the gradient of the batch's objective in the layers' gradients."""
        for layer in self.layers:
            layer.begin_step(self.dtype, self.module.memory_format)
        program = self._programs.get(len(x))
        if program is None:
            program = self._programs[len(x)] = _Program(self, len(x))
        program.forward(x)
        self.head.gradient(program.rows, target, weight)
        program.backward()


class _Program:
    """The memory of the batches of `n_rows` rows, and what runs in it."""

    def __init__(self, step: ConvStep, n_rows: int) -> None:
        self._step = step
        layers, shapes = step.layers, _shapes(step.module, step.layers)
        like = layers[0].weight
        *_, n_features = (math.prod(pooled) for _, pooled in shapes)
        self.rows = like.new_empty(n_rows, n_features)
        self._by_rows = torch.empty_like(self.rows)
        self._masks = {
            i: like.new_empty(n_rows, *pooled)
            for i, (layer, (_, pooled)) in enumerate(zip(layers, shapes, strict=True))
            if layer.dropout
        }
        scratch: dict[Any, Tensor] = {}
        self._parts = [
            _Part(step, part, scratch) for part in _split(n_rows, shapes, step.dtype.itemsize)
        ]

    def forward(self, x: Tensor) -> None:
        """Fill `rows` with what the convolutional layers give for a batch, flattened."""
        step = self._step
        for i, mask in self._masks.items():
            fill_dropout_mask_(mask, step.layers[i].dropout, step.generator)
        for part in self._parts:
            part.forward(x, self._masks, self.rows)
        if len(step.layers) - 1 in self._masks:
            self.rows.mul_(self._last_mask())

    def backward(self) -> None:
        """Add the gradients of the convolutional layers' weights."""
        by_rows = self._step.head.input_gradient_(self._by_rows)
        if len(self._step.layers) - 1 in self._masks:
            by_rows.mul_(self._last_mask())
        for part in self._parts:
            part.backward(by_rows)

    def _last_mask(self) -> Tensor:
        """Return the mask of the last layer, which is applied to the flat rows."""
        return self._masks[len(self._step.layers) - 1].flatten(1)


class _Part:
    """Some rows of a batch, `where`, on their way through the stages."""

    def __init__(self, step: ConvStep, where: slice, scratch: dict[Any, Tensor]) -> None:
        self._step, self._where = step, where
        self._stages: list[Stage] = []
        self._dropouts: dict[int, Dropout] = {}
        for i, layer in enumerate(step.layers):
            drops = layer.dropout > 0 and i < len(step.layers) - 1
            self._stages += make_stages(
                layer, step.activation, scratch, is_first=i == 0, drops=drops
            )
            if drops:
                self._dropouts[i] = self._stages[-1]  # type: ignore[assignment]
        self._grad: Tensor | None = None

    def forward(self, x: Tensor, masks: dict[int, Tensor], rows: Tensor) -> None:
        for i, dropout in self._dropouts.items():
            dropout.mask = masks[i][self._where]
        module = self._step.module
        y = module.arrange(x[self._where].to(self._step.dtype))
        y = (y if y.ndim == 4 else y.unsqueeze(2)).contiguous(memory_format=module.memory_format)
        for stage in self._stages:
            y = stage.forward(y)
        rows[self._where].view(y.shape).copy_(y)
        if self._grad is None:
            self._grad = torch.empty_like(y)

    def backward(self, by_rows: Tensor) -> None:
        assert self._grad is not None
        grad = self._grad.copy_(by_rows[self._where].view(self._grad.shape))
        for stage in reversed(self._stages):
            grad = stage.backward(grad)


Shape = tuple[int, int, int]


def _shapes(module: CNN, layers: Sequence[ConvLayer]) -> list[tuple[Shape, Shape]]:
    """Return (C, H, W) after each layer's convolution, and after its pooling."""
    shapes: list[tuple[Shape, Shape]] = []
    height, width = (1, *module.input_shape[1:])[-2:]
    for layer in layers:
        convolved, (height, width) = layer.sizes_after((height, width))
        n_channels = len(layer.bias)
        shapes.append(((n_channels, *convolved), (n_channels, height, width)))
    return shapes


def _split(n_rows: int, shapes: list[tuple[Shape, Shape]], itemsize: int) -> list[slice]:
    """Return the parts of a batch, of about one size."""
    row_bytes = max(math.prod(convolved) for convolved, _ in shapes) * itemsize
    n_parts = -(-n_rows // max(_PART_ROWS, _PART_BYTES // row_bytes))
    size = -(-n_rows // n_parts)
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def make_conv_step(
    module: nn.Module,
    loss: Loss,
    flat: FlatParameters,
    *,
    alpha: float,
    generator: torch.Generator | None,
    autocast: torch.dtype | None,
) -> ConvStep | None:
    """Return the closed-form step of a module that it covers, and None for any other.

    Covered is `CNN` on the CPU without normalisation, with any pooling but "l2", under the
    log-loss. With `autocast` the convolutions have that dtype, and so have large dense products.
    """
    if not (type(module) is CNN and flat.vector.device.type == "cpu" and is_log_loss(loss)):
        return None
    if not all(p.requires_grad for p in module.parameters()):
        return None
    layers = _conv_layers(module, flat)
    dense = dense_layers(module.classifier, flat)
    if not layers or dense is None:
        return None
    activation = get_activation(module.classifier.activation)
    head = DenseHead(
        dense,
        activation,
        loss.task,
        penalised=flat.penalised,
        penalised_grad=flat.penalised_grad,
        alpha=alpha,
        label_smoothing=loss.label_smoothing,
        generator=generator,
        products=SharedThreadsProducts(autocast),
    )
    dtype = autocast or flat.vector.dtype
    return ConvStep(module, layers, head, activation, dtype=dtype, generator=generator)


# A letter for each kind of layer, and what layers in turn `ConvLayer` describes.
_LETTERS: dict[type[nn.Module], str] = {
    nn.ZeroPad1d: "z",
    nn.ZeroPad2d: "z",
    nn.Conv1d: "c",
    nn.Conv2d: "c",
    nn.MaxPool1d: "p",
    nn.MaxPool2d: "p",
    nn.AvgPool1d: "p",
    nn.AvgPool2d: "p",
    nn.Dropout: "d",
}
_DESCRIBED = re.compile("(z?cap?d?)*")


def _conv_layers(module: CNN, flat: FlatParameters) -> list[ConvLayer] | None:
    """Return the convolutional layers, or None if there are others than `ConvLayer` describes."""
    activation_type = type(get_activation(module.classifier.activation).module())
    letters = {**_LETTERS, activation_type: "a"}
    if not _DESCRIBED.fullmatch("".join(letters.get(type(part), "?") for part in module.features)):
        return None
    layers: list[ConvLayer] = []
    extra_padding = (0, 0)
    for part in module.features:
        if isinstance(part, nn.ZeroPad1d | nn.ZeroPad2d):
            extra_padding = _pair(part.padding[1::2][::-1], 0)
        elif isinstance(part, nn.Conv1d | nn.Conv2d):
            layers.append(_conv_layer(part, flat, extra_padding))
            extra_padding = (0, 0)
        elif isinstance(part, nn.MaxPool1d | nn.MaxPool2d):
            layers[-1].pool, layers[-1].window = "max", _pair(part.kernel_size, 1)
        elif isinstance(part, nn.AvgPool1d | nn.AvgPool2d):
            layers[-1].pool, layers[-1].window = "avg", _pair(part.kernel_size, 1)
        elif isinstance(part, nn.Dropout):
            layers[-1].dropout = part.p
    return layers


def _conv_layer(part: nn.Conv1d | nn.Conv2d, flat: FlatParameters, extra: Any) -> ConvLayer:
    weight, weight_grad = part.weight.detach(), flat.grad_of(part.weight)
    if weight.ndim == 3:  # a signal is an image of one row
        weight, weight_grad = weight.unsqueeze(2), weight_grad.unsqueeze(2)
    assert part.bias is not None
    return ConvLayer(
        weight,
        part.bias.detach(),
        weight_grad,
        flat.grad_of(part.bias),
        stride=_pair(part.stride, 1),
        padding=_pair(part.padding, 0),
        dilation=_pair(part.dilation, 1),
        extra_padding=extra,
    )


def _pair(values: Any, of_height: int) -> Any:
    """Return a setting of each axis as (height, width), with `of_height` for a signal."""
    return tuple(values) if len(values) == 2 else (of_height, *values)
