"""All trainable weights of a module as one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Layers whose weights (not biases) the L2 penalty falls on.
_PENALISED = (
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.MultiheadAttention,
)


class FlatParameters:
    """The trainable parameters of a module as views of one vector, and so their gradients.

    An optimiser then makes one call a step, a snapshot is one copy, and the L2 penalty is one
    product: penalised weights come first in the vector.

    Parameters
    ----------
    module : nn.Module
        Its floating parameters have one dtype and are on one device.

    Attributes
    ----------
    vector : nn.Parameter of shape (n_parameters,)
        The weights; `grad` holds their gradients, and is ``vector.grad``.
    penalised : Tensor of shape (n_penalised,)
        The part of `vector` that the penalty falls on: weights of layers, not biases or scales.
    penalised_grad : Tensor of shape (n_penalised,)
        Its gradients.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        weights = _penalised_weights(module)
        chosen = {id(p) for p in weights}
        trainable = [p for p in module.parameters() if p.requires_grad]
        others = [p for p in trainable if id(p) not in chosen]
        self.parameters = [p for p in trainable if id(p) in chosen] + others
        like = self.parameters[0] if self.parameters else torch.empty(0)
        total = sum(p.numel() for p in self.parameters)
        flat = torch.empty(total, dtype=like.dtype, device=like.device)
        self.vector = nn.Parameter(flat)
        self.grad = torch.zeros_like(flat)
        self.vector.grad = self.grad
        start = 0
        for p in self.parameters:
            stop = start + p.numel()
            view = flat[start:stop].view(p.shape)
            view.copy_(p.detach())
            p.data = view
            p.grad = self.grad[start:stop].view(p.shape)
            start = stop
        n_penalised = sum(p.numel() for p in self.parameters[: len(self.parameters) - len(others)])
        self.penalised = flat[:n_penalised]
        self.penalised_grad = self.grad[:n_penalised]

    def place(self, parameter: Tensor) -> tuple[slice, torch.Size]:
        """Return where in the vector a parameter lies, and its shape."""
        start = parameter.storage_offset()
        return slice(start, start + parameter.numel()), parameter.shape

    def grad_of(self, parameter: Tensor) -> Tensor:
        """Return the part of `grad` that belongs to a parameter."""
        where, shape = self.place(parameter)
        return self.grad[where].view(shape)

    def snapshot(self) -> list[Tensor]:
        """Return a copy of weights and buffers (running statistics)."""
        return [self.vector.detach().clone(), *(b.clone() for b in self.module.buffers())]

    @torch.no_grad()
    def restore(self, snapshot: list[Tensor]) -> None:
        """Put a snapshot's values back."""
        self.vector.copy_(snapshot[0])
        for buffer, value in zip(self.module.buffers(), snapshot[1:], strict=True):
            buffer.copy_(value)

    def release(self) -> None:
        """Give every parameter memory of its own again and drop the gradients."""
        for p in self.parameters:
            p.data = p.detach().clone()
            p.grad = None


def _penalised_weights(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights of dense, convolutional, recurrent and attention layers.

    Parameters that a user's layer holds itself count as weights from two axes on.
    """
    normalisations = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    weights = []
    for layer in module.modules():
        if isinstance(layer, normalisations):
            continue
        own = dict(layer.named_parameters(recurse=False))
        known = isinstance(layer, _PENALISED)
        weights += [p for name, p in own.items() if p.ndim >= 2 and not (known and "bias" in name)]
    return weights
