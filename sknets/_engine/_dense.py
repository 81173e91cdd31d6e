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
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor

from sknets._core import fill_dropout_mask_
from sknets._engine._dense_program import Call, DenseLayer, DenseProgram
from sknets._engine._flat import FlatParameters
from sknets._engine._logistic_loss import softplus
from sknets._engine._products import FirstProducts, Products, make_products
from sknets._nn import MLP, Activation, LogLoss, Loss, get_activation


@dataclass(frozen=True)
class _EpochMemory:
    """What the losses of an epoch are made of, in memory that every such epoch uses again.

    Attributes
    ----------
    sizes : list of int
        Rows of each batch.
    kept : Tensor of shape (..., 1 or K, n)
        What is kept of the rows' logits.
    parts : sequence of Tensor
        The same, a batch each.
    norms : Tensor of shape (n_batches, ...)
        Squared norms of the penalised weights.
    square_norms : list of callable
        Each writes the norms of a batch.
    counts : Tensor of shape (n_batches,)
        The sizes.
    """

    sizes: list[int]
    kept: Tensor
    parts: Sequence[Tensor]
    norms: Tensor
    square_norms: list[Call]
    counts: Tensor


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
    label_smoothing : float or Tensor of shape (...), default=0.0
        The share of the target spread over all classes, as in `LogLoss`.
    generator : torch.Generator or None
        Draws dropout masks.
    products : Products or None, default=None
        What multiplies; None is what is fastest where nothing else runs.
    """

    name = "closed form"
    # As in scikit-learn, no sample counts for more than the loss of a probability of eps.
    bounds_losses = True

    def __init__(
        self,
        layers: Sequence[DenseLayer],
        activation: Activation,
        task: str,
        *,
        penalised: Tensor,
        penalised_grad: Tensor,
        alpha: float | Tensor,
        label_smoothing: float | Tensor = 0.0,
        generator: torch.Generator | None = None,
        products: Products | None = None,
    ) -> None:
        self.layers = layers
        self.activation = activation
        self.task = task
        self.penalised = penalised
        self.penalised_grad = penalised_grad
        self.alpha = alpha
        self.generator = generator
        stacked = layers[0].weight.ndim == 3
        self._products = products or make_products(penalised, stacked=stacked)
        self._programs: dict[int, DenseProgram] = {}
        self._decays: dict[int, Any] = {}  # alpha (..., 1) over the rows of a batch
        self.label_smoothing = label_smoothing
        self._smooths = isinstance(label_smoothing, Tensor) or label_smoothing > 0
        # Of softmax, the loss is kept by its logarithms where their mean is wanted too.
        self._keeps_logs = self._smooths or not self.bounds_losses
        self._share = label_smoothing  # of a class's target, for every number (..., K, B)
        if isinstance(label_smoothing, Tensor):
            self._share = label_smoothing[..., None, None]
        self._is_penalised = isinstance(alpha, Tensor) or alpha > 0
        self._memories: dict[tuple[int, int], _EpochMemory] = {}
        self._first_products: FirstProducts | None = None

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
        self._i = 0
        self._row_weights: list[Tensor | None] = []
        key = (len(batch_sizes), sum(batch_sizes))  # only the last may be smaller
        memory = self._memories.get(key)
        if memory is None:
            memory = self._memories[key] = self._make_memory(batch_sizes)
        self._memory = memory

    def _make_memory(self, sizes: list[int]) -> _EpochMemory:
        like = self.layers[0].weight
        lead, n_labels = like.shape[:-2], self.layers[-1].bias.shape[-1]
        n_kept = 1 if self.task == "multiclass" else n_labels
        kept = like.new_empty((*lead, n_kept, sum(sizes)))
        norms = like.new_zeros((len(sizes), *lead))
        return _EpochMemory(
            sizes,
            kept,
            kept.split(sizes, -1),
            norms,
            [self._products.squared_norm(self.penalised, norm) for norm in norms],
            like.new_tensor(sizes),
        )

    def gradient(self, x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None) -> None:
        """Leave the gradient of the batch's objective in the layers' gradients."""
        n_rows = x.shape[-2]
        program = self._programs.get(n_rows) or self._make_program(n_rows)
        rows = self._products.operand(x)
        program.first(rows)
        for call in program.forward:
            call()
        residual = program.residual
        self._output_gradient(program.logits, residual, target)
        # A copy: the memory of a batch is used again before the end of the epoch.
        self._row_weights.append(None if weight is None else weight.clone())
        if weight is None:
            program.average()
        else:
            inverse = _inverse(weight.sum(-1, keepdim=True))  # (..., 1)
            residual.mul_((weight * inverse).unsqueeze(-2))
        for call in program.backward:
            call()
        program.first_gradient(rows)
        if self._is_penalised:
            alpha = self.alpha
            if weight is not None:
                self.penalised_grad.addcmul_(self.penalised, inverse * _column(alpha))
            elif isinstance(alpha, Tensor):
                self.penalised_grad.addcmul_(self.penalised, self._decays[n_rows])
            else:
                self.penalised_grad.add_(self.penalised, alpha=self._decays[n_rows])
            self._memory.square_norms[self._i]()
        self._i += 1

    def end_epoch(self) -> Tensor:
        """Return the epoch's mean objective, shape (...)."""
        memory = self._memory
        sizes = memory.sizes
        gains = self._gains(memory.kept)  # (..., 1 or K, n)
        if all(weight is None for weight in self._row_weights):
            penalty = memory.norms.sum(0).mul_(self.alpha).mul_(0.5)
            return penalty.sub_(gains.sum((-2, -1))).div_(sum(sizes))
        given = [weight for weight in self._row_weights if weight is not None]
        ones = given[0].new_ones(*given[0].shape[:-1], sizes[0])
        parts = zip(self._row_weights, sizes, strict=True)
        weights = torch.cat([ones[..., :n] if w is None else w for w, n in parts], -1)
        inverse = _inverse(self._batch_sums(weights))
        loss = self._batch_sums(gains.sum(-2).neg_().mul_(weights)) * inverse
        norms = memory.norms.movedim(0, -1)
        batch_loss = loss + 0.5 * _column(self.alpha) * norms * inverse
        counts = memory.counts if self._counts is None else self._counts
        return (batch_loss * counts).sum(-1) / counts.sum(-1)

    def _batch_sums(self, values: Tensor) -> Tensor:
        """Return sums over the rows of each batch (..., n_batches) of values (..., n)."""
        sizes = self._memory.sizes  # only the last may be smaller
        values = F.pad(values, (0, len(sizes) * sizes[0] - sum(sizes)))
        return values.unflatten(-1, (len(sizes), sizes[0])).sum(-1)

    def _gains(self, kept: Tensor) -> Tensor:
        """Return minus the losses of the epoch's rows, of what was kept of them, in its shape."""
        if self.task == "multiclass":
            if self._keeps_logs:
                return kept
            return kept.clamp_(min=torch.finfo(kept.dtype).eps).log_()
        gains = self._bounded_(softplus(kept).neg_())
        if not self._smooths:
            return gains
        half = 0.5 * self._share
        return gains.mul_(1.0 - half).add_(half * self._bounded_(softplus(-kept).neg_()))

    def _bounded_(self, logs: Tensor) -> Tensor:
        """Bound the logarithms of probabilities from below, where losses are to be bounded."""
        if not self.bounds_losses:
            return logs
        return logs.clamp_(min=math.log(torch.finfo(logs.dtype).eps))

    # -- a batch ---------------------------------------------------------------------------------

    def _make_program(self, n_rows: int) -> DenseProgram:
        program = DenseProgram(
            self.layers,
            self.activation,
            self._products,
            self._draw_mask_,
            n_rows,
            self._first_products,
        )
        self._programs[n_rows] = program
        self._decays[n_rows] = _column(self.alpha) / n_rows
        return program

    def _draw_mask_(self, mask: Tensor, i: int) -> None:
        """Fill the dropout mask (..., B, H_i) of hidden layer i with 0 and 1 / (1 - rate)."""
        fill_dropout_mask_(mask, self.layers[i].dropout, self.generator)

    def _output_gradient(self, z: Tensor, residual: Tensor, target: tuple[Tensor, ...]) -> None:
        """Fill the residual (..., K, B), probabilities minus target; keep what the loss needs."""
        hot, other = target
        kept = self._memory.parts[self._i]
        if self.task != "multiclass":
            torch.mul(z, other, out=kept)
            torch.sigmoid(z, out=residual)
        elif self._keeps_logs:
            torch.log_softmax(z, -2, out=residual)
            self._keep_logs(residual, other, kept)
            residual.exp_()
        else:
            torch.softmax(z, -2, out=residual)
            torch.gather(residual, -2, other, out=kept)
        if self._smooths:
            n_classes = residual.shape[-2] if self.task == "multiclass" else 2
            hot = hot * (1.0 - self._share) + self._share / n_classes
        residual.sub_(hot)

    def _keep_logs(self, logs: Tensor, index: Tensor, kept: Tensor) -> None:
        """Keep minus the losses (..., 1, B), of the logarithms of probabilities (..., K, B)."""
        if not self._smooths:
            torch.gather(logs, -2, index, out=kept)
            return
        logs = self._bounded_(logs.clone())
        torch.gather(logs, -2, index, out=kept)
        kept.mul_(1.0 - self._share).add_(logs.mean(-2, keepdim=True).mul_(self._share))


def _inverse(total: Tensor) -> Tensor:
    """Return 1 / total, and 0 where the weights of a batch add up to nothing."""
    return torch.where(total > 0, 1.0 / total, 0.0)


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
    autocast: torch.dtype | None = None,
) -> DenseStep | None:
    """Return the closed-form step of a module that it covers, and None for any other.

    Covered are the dense nets `MLP` without normalisation, under the log-loss, in one dtype.
    """
    if not (type(module) is MLP and is_log_loss(loss) and autocast is None):
        return None
    layers = dense_layers(module, flat)
    if layers is None:
        return None
    return DenseStep(
        layers,
        get_activation(module.activation),
        loss.task,
        penalised=flat.penalised,
        penalised_grad=flat.penalised_grad,
        alpha=alpha,
        label_smoothing=loss.label_smoothing,
        generator=generator,
    )


def is_log_loss(loss: Loss) -> TypeGuard[LogLoss]:
    """Whether a loss is one whose gradient is probabilities minus target."""
    return isinstance(loss, LogLoss) and not loss.gamma


def has_closed_form(module: torch.nn.Module) -> TypeGuard[MLP]:
    """Whether a dense step covers a module: a plain `MLP` that trains all its weights."""
    if type(module) is not MLP or module.plain_layers is None:
        return False
    return all(p.requires_grad for p in module.parameters())


def dense_layers(module: MLP, flat: FlatParameters) -> list[DenseLayer] | None:
    """Return the layers of a dense net, or None if it has others than a dense step covers."""
    plain = module.plain_layers if has_closed_form(module) else None
    if plain is None:
        return None
    return [
        DenseLayer(
            linear.weight.detach(),
            linear.bias.detach(),
            flat.grad_of(linear.weight),
            flat.grad_of(linear.bias),
            rate,
        )
        for linear, rate in plain
    ]
