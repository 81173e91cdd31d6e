"""What a dense net does with every batch of one size, written down once as calls.

Making a view and looking a name up cost as much as a small kernel. So both are done once: a
program is a list of calls over memory that every batch uses again. Missing from it are the calls
that see the batch itself: the first layer's two products, and what compares with the target.

Conventions: as in `_dense`; what ends in ``_op`` is for the products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sknets._engine._products import FirstProducts, Operand, Products
from sknets._nn import Activation

Call = Callable[[], Any]


@dataclass(frozen=True)
class DenseLayer:
    """Weights of a dense layer and where their gradients go."""

    weight: Tensor
    bias: Tensor
    weight_grad: Tensor
    bias_grad: Tensor
    dropout: float = 0.0


class DenseProgram:
    """The calls for a batch of `n_rows` rows, from the first layer's output to its gradient.

    Parameters
    ----------
    layers : sequence of DenseLayer
        From input to output.
    activation : Activation
        Of the hidden layers.
    products : Products
        What multiplies.
    draw_mask_ : callable (mask, i)
        Fills the dropout mask of hidden layer i.
    n_rows : int
        Rows of the batch.
    first_products : FirstProducts or None, default=None
        What multiplies the batch itself; None is `products`.

    Attributes
    ----------
    first : callable (x_op) -> None
        Writes the output of the first layer's product.
    forward : list of callable
        Then gives the logits.
    logits, residual : Tensor of shape (..., K, B)
        The logits, and where the gradient by them is to be written.
    average : callable () -> None
        Divides the residual by the number of rows.
    backward : list of callable
        Then gives all gradients but that of the first layer's weights.
    first_delta : operand of shape (..., B, H)
        The gradient by the first layer's output; its product with the weights is the gradient by
        the rows.
    first_gradient : callable (x_op) -> None
        Writes the gradient of the first layer's weights.
    """

    def __init__(
        self,
        layers: Sequence[DenseLayer],
        activation: Activation,
        products: Products,
        draw_mask_: Callable[[Tensor, int], None],
        n_rows: int,
        first_products: FirstProducts | None = None,
    ) -> None:
        self._layers, self._activation, self._products = layers, activation, products
        self._first_products = first_products or products
        self._draw_mask_ = draw_mask_
        self._n_rows = n_rows
        widths = [layer.bias.shape[-1] for layer in layers]
        self.logits = self._empty(widths[-1], n_rows)
        self.residual = self._empty(widths[-1], n_rows)
        self.average = products.scale(self.residual, 1.0 / n_rows)
        like = layers[0].bias
        self._ones = products.operand(torch.ones(n_rows, dtype=like.dtype, device=like.device))
        self._outputs: list[Tensor] = []  # of the hidden layers, (..., B, H)
        self._kept: list[Tensor] = []  # what the activation's derivative is written in
        self._masks: list[Tensor | None] = []
        self.first: Callable[[Operand], Any]
        self.forward: list[Call] = []
        for i, width in enumerate(widths[:-1]):
            self._add_hidden_layer(i, width)
        self._add_logits()
        self._deltas = [self._empty(n_rows, width) for width in widths[:-1]]
        self._deltas.append(self.residual.mT)  # of each layer, the gradient by its output
        self.first_delta = products.operand(self._deltas[0])
        first = self._first_products
        self.first_gradient = first.weight_gradient(self._deltas[0], layers[0].weight_grad)
        self.backward: list[Call] = []
        for i in range(len(layers) - 1, 0, -1):
            self._add_backward(i)
        self.backward.append(self._bias_gradient(0))
        # A method of the step, which holds this program: without masks, no circle keeps both alive.
        del self._draw_mask_

    def _empty(self, *size: int) -> Tensor:
        like = self._layers[0].weight
        return torch.empty(*like.shape[:-2], *size, dtype=like.dtype, device=like.device)

    def _add_hidden_layer(self, i: int, width: int) -> None:
        layer, activation = self._layers[i], self._activation
        z = self._empty(self._n_rows, width)
        h = self._empty(self._n_rows, width) if activation.needs_input else z
        products = self._products if i else self._first_products
        affine = products.affine(layer.bias, layer.weight, z)
        if i == 0:
            self.first = affine
        else:
            self.forward.append(partial(affine, self._products.operand(self._outputs[-1])))
        self.forward.append(partial(activation.forward, z, out=h))
        self._kept.append(z)
        mask = None
        if layer.dropout:
            mask, kept_part = self._empty(*h.shape[-2:]), self._empty(*h.shape[-2:])
            self.forward.append(partial(self._draw_mask_, mask, i))
            self.forward.append(partial(torch.mul, h, mask, out=kept_part))
            h = kept_part
        self._masks.append(mask)
        self._outputs.append(h)

    def _add_logits(self) -> None:
        layer = self._layers[-1]
        products = self._products if self._outputs else self._first_products
        logits = products.logits(layer.bias, layer.weight, self.logits)
        if self._outputs:
            h_t = self._products.operand(self._outputs[-1].mT)
            self.forward.append(partial(logits, h_t))
        else:
            self.first = lambda x: logits(x.swapaxes(-1, -2))

    def _add_backward(self, i: int) -> None:
        """Add the gradients of layer i, and the gradient by the output of the layer below."""
        layer, delta, below = self._layers[i], self._deltas[i], self._deltas[i - 1]
        operand, multiply = self._products.operand, self._products.multiply
        inputs, grad = operand(self._outputs[i - 1]), operand(layer.weight_grad)
        self.backward += [
            partial(multiply, operand(delta.mT), inputs, out=grad),
            self._bias_gradient(i),
            partial(multiply, operand(delta), operand(layer.weight), out=operand(below)),
        ]
        mask = self._masks[i - 1]
        if mask is not None:
            self.backward.append(partial(below.mul_, mask))
        derivative = self._activation.multiply_derivative_
        self.backward.append(partial(derivative, below, self._kept[i - 1]))

    def _bias_gradient(self, i: int) -> Call:
        return self._products.sum_rows(self._deltas[i], self._ones, self._layers[i].bias_grad)
