"""All trainable weights of a module as one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sknets._nn import MLP

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

    Weights lie as in the module, but for those of a dense net's first layer, the largest product of
    most: they lie by input, as scikit-learn's do, which BLAS multiplies rows with faster.

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
        self._places = _places(self.parameters, _by_input(module))
        for p in self.parameters:
            view = self.part(flat, p)
            view.copy_(p.detach())
            p.data = view
            p.grad = self.part(self.grad, p)
        n_penalised = sum(p.numel() for p in self.parameters[: len(self.parameters) - len(others)])
        self.penalised = flat[:n_penalised]
        self.penalised_grad = self.grad[:n_penalised]

    def part(self, values: Tensor, parameter: Tensor) -> Tensor:
        """Return what of values (..., n_parameters) belongs to a parameter, in its shape."""
        where, shape, is_transposed = self._places[id(parameter)]
        part = values[..., where].view((*values.shape[:-1], *shape))
        return part.mT if is_transposed else part

    def grad_of(self, parameter: Tensor) -> Tensor:
        """Return the part of `grad` that belongs to a parameter."""
        return self.part(self.grad, parameter)

    def snapshot(self) -> list[Tensor]:
        """Return a copy of weights and buffers (running statistics)."""
        return [self.vector.detach().clone(), *(b.clone() for b in self.module.buffers())]

    @torch.no_grad()
    def restore(self, snapshot: list[Tensor]) -> None:
        """Put a snapshot's values back."""
        self.vector.copy_(snapshot[0])
        for buffer, value in zip(self.module.buffers(), snapshot[1:], strict=True):
            buffer.copy_(value)

    def release(self, values: Tensor | None = None) -> None:
        """Give every parameter memory of its own again and drop the gradients.

        With `values` (n_parameters,), of any device, they are its numbers.
        """
        for p in self.parameters:
            part = p.detach() if values is None else self.part(values, p)
            p.data = part.clone(memory_format=torch.contiguous_format)
            p.grad = None

    def module_with(self, values: Tensor) -> nn.Module:
        """Return a copy of the module whose weights are `values` (n_parameters,), of any device.

        The module must have no tensors but trained weights. Layers, and what they keep in dicts and
        sets, are copied; anything else that they have is shared.
        """
        parts = (self.part(values, p) for p in self.parameters)
        own = (part.clone(memory_format=torch.contiguous_format) for part in parts)
        pairs = zip(self.parameters, map(nn.Parameter, own), strict=True)
        return _copied(self.module, {id(p): parameter for p, parameter in pairs})


def _copied(module: nn.Module, weights: dict[int, nn.Parameter]) -> nn.Module:
    """Return a copy of a module with other weights, which are given by the ids of its own.

    `copy.deepcopy` takes five times as long.
    """
    copied = module.__class__.__new__(module.__class__)
    state = {
        name: value.copy() if isinstance(value, dict | set) else value
        for name, value in vars(module).items()
    }
    state["_parameters"] = {
        name: None if p is None else weights[id(p)] for name, p in module._parameters.items()
    }
    state["_modules"] = {
        name: None if child is None else _copied(child, weights)
        for name, child in module._modules.items()
    }
    vars(copied).update(state)
    return copied


def _by_input(module: nn.Module) -> Tensor | None:
    """Return the weights of the first layer of a dense net with hidden layers."""
    if not isinstance(module, MLP):
        return None
    linears = module.linears
    return linears[0].weight if len(linears) > 1 else None


Place = tuple[slice, tuple[int, ...], bool]


def _places(parameters: list[nn.Parameter], by_input: Tensor | None) -> dict[int, Place]:
    """Return where each parameter lies, by its id: what part, its shape there, if transposed."""
    places: dict[int, Place] = {}
    start = 0
    for p in parameters:
        where = slice(start, start + p.numel())
        start = where.stop
        shape = tuple(p.shape)
        places[id(p)] = (where, shape[::-1], True) if p is by_input else (where, shape, False)
    return places


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
