"""The training step of a dense net in closed form: no autograd, no allocation, few kernels.

Conventions
-----------
Shapes may have any leading axes "...": (M,) for a stack of M nets, none for one net.

- x: (..., B, F) rows of a batch; h_i: (..., B, H_i) outputs of hidden layer i
- weight_i: (..., H_i, H_{i-1}), bias_i: (..., H_i), as in ``torch.nn.Linear``
- logits and their gradient: (..., K, B); sums over classes then run along the first axis of a
  matrix, which vectorises, while a short last axis does not
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sknets._engine._flat import FlatParameters
from sknets._nn import MLP, Activation, LogLoss, Loss, get_activation


@dataclass(frozen=True)
class DenseLayer:
    """Weights of a dense layer and where their gradients go."""

    weight: Tensor
    bias: Tensor
    weight_grad: Tensor
    bias_grad: Tensor
    dropout: float = 0.0


class _Buffers:
    """Memory for one batch size, used again for every batch."""

    def __init__(self, layers: Sequence[DenseLayer], shape: tuple[int, ...], keep: bool) -> None:
        like = layers[0].weight
        *lead, n_rows = shape

        def empty(*size: int) -> Tensor:
            return torch.empty(*lead, *size, dtype=like.dtype, device=like.device)

        widths = [layer.bias.shape[-1] for layer in layers]
        self.before = [empty(n_rows, width) for width in widths[:-1]]
        self.after = [empty(n_rows, w) for w in widths[:-1]] if keep else self.before
        self.dropped = [
            empty(n_rows, w) if layer.dropout else None
            for w, layer in zip(widths[:-1], layers[:-1], strict=True)
        ]
        self.masks = [
            empty(n_rows, w) if layer.dropout else None
            for w, layer in zip(widths[:-1], layers[:-1], strict=True)
        ]
        self.delta = [empty(n_rows, width) for width in widths[:-1]]
        self.logits = empty(widths[-1], n_rows)
        self.residual = empty(widths[-1], n_rows)
        # Views are made once: making one costs as much as a small kernel.
        self.residual_t = self.residual.mT
        self.delta_t = [delta.mT for delta in self.delta] + [self.residual]
        last = self.after[-1] if self.after else None
        if self.dropped and self.dropped[-1] is not None:
            last = self.dropped[-1]
        self.last_t = None if last is None else last.mT


class DenseStep:
    """Forward, log-loss gradient and backward pass of dense layers, written out.

    Parameters
    ----------
    layers : sequence of DenseLayer
        From input to output.
    activation : Activation
        Of the hidden layers.
    task : {"multiclass", "binary", "multilabel"}
        Softmax of K logits, or a sigmoid of each.
    penalised, penalised_grad : Tensor of shape (..., n_penalised)
        All weights (not biases) in one vector, and their gradients.
    alpha : float or Tensor of shape (...)
        Strength of the L2 penalty, one value or one a net.
    generator : torch.Generator or None
        Draws dropout masks.
    """

    name = "closed form"

    def __init__(
        self,
        layers: Sequence[DenseLayer],
        activation: Activation,
        task: str,
        *,
        penalised: Tensor,
        penalised_grad: Tensor,
        alpha: float | Tensor,
        generator: torch.Generator | None = None,
    ) -> None:
        self.layers = layers
        self.activation = activation
        self.task = task
        self.penalised = penalised
        self.penalised_grad = penalised_grad
        self.alpha = alpha
        self.generator = generator
        stacked = layers[0].weight.ndim == 3
        self._addmm: Any = torch.baddbmm if stacked else torch.addmm
        self._mm: Any = torch.bmm if stacked else torch.mm
        self._buffers: dict[tuple[int, ...], _Buffers] = {}
        self._rows = [layer.bias.unsqueeze(-2) for layer in layers]  # (..., 1, H)
        self._output_bias = layers[-1].bias.unsqueeze(-1)  # (..., K, 1)
        self._weights_t = [layer.weight.mT for layer in layers]  # (..., H_{i-1}, H_i)

    # -- targets ---------------------------------------------------------------------------------

    def encode(self, target: Tensor) -> tuple[Tensor, ...]:
        """Return (one-hot (..., K, n), class (..., 1, n)), or (0 or 1, 1 or -1) (..., K, n) each.

        The target is (..., n), or (..., n, K) where multilabel.
        """
        like = self.layers[-1].bias
        if self.task == "multiclass":
            index = target.unsqueeze(-2) if target.ndim > 1 else target.unsqueeze(0)
            shape = (*index.shape[:-2], like.shape[-1], index.shape[-1])
            hot = torch.zeros(shape, dtype=like.dtype, device=like.device)
            return hot.scatter_(-2, index, 1.0), index
        hot = target.to(like.dtype)
        hot = hot.unsqueeze(-2) if self.task == "binary" else hot.mT
        return hot, 1.0 - 2.0 * hot

    # -- an epoch --------------------------------------------------------------------------------

    def begin_epoch(self, batch_sizes: list[int], counts: Tensor | None = None) -> None:
        """Make room for the losses of an epoch's rows and the penalty of its steps.

        `counts`, of shape (..., n_batches), says how many rows of each batch are real where nets
        with fewer rows are padded by rows of weight 0.
        """
        self._counts = counts
        lead = self.layers[0].weight.shape[:-2]
        n_rows, n_labels = sum(batch_sizes), self.layers[-1].bias.shape[-1]
        n_kept = 1 if self.task == "multiclass" else n_labels
        like = self.layers[0].weight
        self._batch_sizes = batch_sizes
        self._kept = like.new_empty((*lead, n_kept, n_rows)).split(batch_sizes, -1)
        self._norms = like.new_zeros((*lead, len(batch_sizes))).unbind(-1)
        self._weights: list[Tensor] = []
        self._i = 0

    def gradient(self, x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None) -> None:
        """Leave the gradient of the batch's objective in the layers' gradients."""
        key = (*self.layers[0].weight.shape[:-2], x.shape[-2])
        buffers = self._buffers.get(key)
        if buffers is None:
            buffers = _Buffers(self.layers, key, self.activation.needs_input)
            self._buffers[key] = buffers
        inputs = self._forward(x, buffers)
        self._output_gradient(buffers, target)
        if weight is None and not isinstance(self.alpha, Tensor):
            scale = 1.0 / x.shape[-2]
            buffers.residual.mul_(scale)
            self._backward(inputs, buffers)
            if self.alpha:
                self.penalised_grad.add_(self.penalised, alpha=self.alpha * scale)
        else:
            if weight is None:
                weight = x.new_ones(x.shape[:-1])
            self._weights.append(weight)
            total = weight.sum(-1, keepdim=True)  # (..., 1)
            inverse = torch.where(total > 0, 1.0 / total, 0.0)
            buffers.residual.mul_((weight * inverse).unsqueeze(-2))
            self._backward(inputs, buffers)
            strength = inverse * _column(self.alpha)
            self.penalised_grad.addcmul_(self.penalised, strength)
        if isinstance(self.alpha, Tensor) or self.alpha:
            torch.linalg.vecdot(self.penalised, self.penalised, out=self._norms[self._i])
        self._i += 1

    def end_epoch(self) -> float:
        """Return the epoch's mean objective of one net."""
        return float(self.end_epoch_losses())

    def end_epoch_losses(self) -> Tensor:
        """Return the epoch's mean objective, shape (...)."""
        sizes = self._batch_sizes
        kept = torch.cat(self._kept, -1)
        # As in scikit-learn, no sample counts for more than the loss of a probability of eps.
        highest = -math.log(torch.finfo(kept.dtype).eps)
        if self.task == "multiclass":
            loss = kept.log().neg_().clamp_(max=highest).squeeze(-2)
        else:
            loss = F.softplus(kept).clamp_(max=highest).sum(-2)
        norms = torch.stack(self._norms, -1)  # (..., n_batches)
        if not self._weights:
            return (loss.sum(-1) + 0.5 * self.alpha * norms.sum(-1)) / sum(sizes)
        means = []
        for part, weight in zip(loss.split(sizes, -1), self._weights, strict=True):
            total = weight.sum(-1)
            inverse = torch.where(total > 0, 1.0 / total, 0.0)
            means.append((part * weight).sum(-1) * inverse)
            norms[..., len(means) - 1] *= inverse
        counts = self._counts
        if counts is None:
            counts = torch.tensor(sizes, dtype=loss.dtype, device=loss.device)
        batch_loss = torch.stack(means, -1) + 0.5 * _column(self.alpha) * norms
        return (batch_loss * counts).sum(-1) / counts.sum(-1)

    # -- a batch ---------------------------------------------------------------------------------

    def _forward(self, x: Tensor, buffers: _Buffers) -> list[Tensor]:
        """Fill `buffers.logits` and return the input of every layer."""
        inputs = [x]
        for i in range(len(self.layers) - 1):
            z = self._addmm(self._rows[i], inputs[-1], self._weights_t[i], out=buffers.before[i])
            h = self.activation.forward(z, out=buffers.after[i])
            mask, dropped = buffers.masks[i], buffers.dropped[i]
            if mask is not None and dropped is not None:
                self._draw_mask_(mask, i)
                h = torch.mul(h, mask, out=dropped)
            inputs.append(h)
        output = self.layers[-1]
        last_t = x.mT if buffers.last_t is None else buffers.last_t
        self._addmm(self._output_bias, output.weight, last_t, out=buffers.logits)
        return inputs

    def _draw_mask_(self, mask: Tensor, i: int) -> None:
        """Fill the dropout mask (..., B, H_i) of hidden layer i with 0 and 1 / (1 - rate)."""
        keep = 1.0 - self.layers[i].dropout
        mask.bernoulli_(keep, generator=self.generator).div_(keep)

    def _output_gradient(self, buffers: _Buffers, target: tuple[Tensor, ...]) -> None:
        """Fill the residual, probabilities minus target; keep what the loss needs."""
        z, residual = buffers.logits, buffers.residual  # (..., K, B)
        hot, other = target
        if self.task == "multiclass":
            torch.softmax(z, -2, out=residual)
            torch.gather(residual, -2, other, out=self._kept[self._i])
        else:
            torch.mul(z, other, out=self._kept[self._i])
            torch.sigmoid(z, out=residual)
        residual.sub_(hot)

    def _backward(self, inputs: list[Tensor], buffers: _Buffers) -> None:
        """Fill every layer's gradients from the gradient of the logits."""
        delta = buffers.residual_t  # (..., B, K)
        for i in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[i]
            self._mm(buffers.delta_t[i], inputs[i], out=layer.weight_grad)
            torch.sum(delta, -2, out=layer.bias_grad)
            if i == 0:
                return
            below = self._mm(delta, layer.weight, out=buffers.delta[i - 1])
            mask = buffers.masks[i - 1]
            if mask is not None:
                below.mul_(mask)
            kept = buffers.before if self.activation.needs_input else buffers.after
            delta = self.activation.multiply_derivative_(below, kept[i - 1])


def _column(alpha: float | Tensor) -> float | Tensor:
    """Return `alpha` so that it broadcasts with (..., 1)."""
    return alpha.unsqueeze(-1) if isinstance(alpha, Tensor) else alpha


def make_dense_step(
    module: torch.nn.Module,
    loss: Loss,
    flat: FlatParameters,
    *,
    alpha: float,
    generator: torch.Generator | None,
) -> DenseStep | None:
    """Return the closed-form step of a module that it covers, and None for any other.

    Covered are the dense nets `MLP` without normalisation, under the plain log-loss.
    """
    if not (type(module) is MLP and isinstance(loss, LogLoss)):
        return None
    if loss.label_smoothing or loss.gamma:
        return None
    activation_type = type(get_activation(module.activation).module())
    linears, rates = [], {}
    for layer in module.layers:
        if isinstance(layer, torch.nn.Linear):
            linears.append(layer)
        elif isinstance(layer, torch.nn.Dropout):
            rates[len(linears) - 1] = layer.p
        elif type(layer) is not activation_type:
            return None
    layers = [
        DenseLayer(
            linear.weight.detach(),
            linear.bias.detach(),
            flat.grad_of(linear.weight),
            flat.grad_of(linear.bias),
            rates.get(i, 0.0),
        )
        for i, linear in enumerate(linears)
    ]
    return DenseStep(
        layers,
        get_activation(module.activation),
        loss.task,
        penalised=flat.penalised,
        penalised_grad=flat.penalised_grad,
        alpha=alpha,
        generator=generator,
    )
