"""Logits of a dense net on the CPU, by NumPy's products: for predictions.

Shapes: b rows of a block, H inputs or outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from sknets._core import limit_threads
from sknets._data import Rows
from sknets._nn import MLP, get_activation

_DTYPES = (torch.float32, torch.float64)

# Bytes of a block inside the widest layer: two of them stay in a core's cache.
_BLOCK_BYTES = 2**18


def dense_forward(module: nn.Module, dtype: torch.dtype) -> DenseForward | None:
    """Return a plain dense net's forward pass in NumPy; None for another module or dtype."""
    if type(module) is not MLP:
        return None
    for layer in module.modules():
        if layer._forward_hooks or layer._forward_pre_hooks:
            return None  # somebody wants to be called
    steps: list[nn.Linear | None] = []  # None is the activation
    for name, layer in module.layers.named_children():
        if name.startswith("dropout"):
            continue
        if name.startswith("activation"):
            steps.append(None)
        elif type(layer) is nn.Linear and _is_plain(layer, dtype):
            steps.append(layer)
        else:
            return None
    return DenseForward(steps, get_activation(module.activation).forward)


def _is_plain(layer: nn.Linear, dtype: torch.dtype) -> bool:
    weight = layer.weight
    is_numpys = weight.device.type == "cpu" and weight.dtype == dtype and dtype in _DTYPES
    return is_numpys and layer.bias is not None


class DenseForward:
    """Dense layers with activations between them.

    Parameters
    ----------
    steps : list of nn.Linear or None
        The layers; None stands for the activation.
    activate : callable (x, *, out) -> Tensor
        The activation.

    """

    def __init__(self, steps: list[nn.Linear | None], activate: Callable[..., Tensor]) -> None:
        layers = [layer for layer in steps if layer is not None]
        widest = max(max(layer.in_features, layer.out_features) for layer in layers)
        self._block_rows = max(64, _BLOCK_BYTES // (widest * layers[0].weight.element_size()))
        self._activate = activate
        # Weights (H_in, H_out), copied: of two transposed factors BLAS is slow.
        self._steps = [
            None if layer is None else (layer.weight.detach().numpy().T.copy(), layer.bias.detach())
            for layer in steps
        ]

    @np.errstate(over="ignore", invalid="ignore")
    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (b, H) of rows (b, H)."""
        for step in self._steps:
            if step is None:
                self._activate(x, out=x)
            else:
                x = torch.from_numpy(np.matmul(x.numpy(), step[0])).add_(step[1])
        return x

    def in_blocks(self, rows: Rows) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (start, stop, logits) of consecutive blocks of rows.

        On one thread: a block is too small for two, and Python's threads gained nothing.
        """
        step = min(self._block_rows, rows.block_rows)
        # One limit around all: to change BLAS's number of threads every time costs as much as
        # a block.
        with limit_threads(1):
            for start in range(0, rows.n, step):
                stop = min(start + step, rows.n)
                yield start, stop, self(rows.slice(start, stop, aligned=False))
