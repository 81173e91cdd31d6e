"""Logits of dense layers on the CPU, by NumPy's products: for predictions.

Shapes: b rows of a block, H inputs or outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from sknets._core import in_numpy, limit_threads
from sknets._data import Rows
from sknets._engine._module_hooks import has_forward_hooks
from sknets._engine._products import rows_times
from sknets._nn import MLP, Activation, get_activation

# Bytes of a block inside the widest layer: two of them stay in a core's cache.
_BLOCK_BYTES = 2**18

# Rows of a block at least. So few are no work for two threads, whatever is set.
_FEWEST_ROWS = 64


def dense_forward(module: nn.Module, dtype: torch.dtype) -> DenseForward | None:
    """Return a plain dense net's forward pass in NumPy; None for another module or dtype."""
    if type(module) is not MLP:
        return None
    if has_forward_hooks(module):
        return None  # somebody wants to be called
    plain = module.plain_layers
    if plain is None or not all(_fits(layer, dtype) for layer, _ in plain):
        return None
    layers = [(layer.weight.detach(), layer.bias.detach()) for layer, _ in plain]
    return DenseForward(layers, get_activation(module.activation))


def _fits(layer: nn.Linear, dtype: torch.dtype) -> bool:
    return layer.bias is not None and layer.weight.dtype == dtype and in_numpy(layer.weight)


class DenseForward:
    """Dense layers with an activation between them.

    Parameters
    ----------
    layers : sequence of (Tensor of shape (H_out, H_in), Tensor of shape (H_out,))
        Weights and biases.
    activation : Activation or None, default=None
        Of all layers but the last; None where there is one layer alone.
    """

    def __init__(
        self, layers: Sequence[tuple[Tensor, Tensor]], activation: Activation | None = None
    ) -> None:
        widest = max(max(weight.shape) for weight, _ in layers)
        row_bytes = widest * layers[0][0].element_size()
        self._block_rows = max(_FEWEST_ROWS, _BLOCK_BYTES // row_bytes)
        self._activation = activation
        # Weights (H_in, H_out), copied: of two transposed factors BLAS is slow.
        self._layers = [(weight.numpy().T.copy(), bias) for weight, bias in layers]

    @np.errstate(over="ignore", invalid="ignore")
    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (b, H) of rows (b, H)."""
        for i, (weight_t, bias) in enumerate(self._layers):
            if i > 0 and self._activation is not None:
                self._activation.forward(x, out=x)
            x = torch.from_numpy(rows_times(x.numpy(), weight_t)).add_(bias)
        return x

    def in_blocks(self, rows: Rows) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (start, stop, logits) of consecutive blocks of rows.

        On one thread: a block is too small for two, and Python's threads gained nothing.
        """
        step = min(self._block_rows, rows.block_rows)
        # One limit around all: to change BLAS's number of threads every time costs as much as
        # a block.
        with nullcontext() if rows.n <= _FEWEST_ROWS else limit_threads(1):
            for start in range(0, rows.n, step):
                stop = min(start + step, rows.n)
                yield start, stop, self(rows.slice(start, stop, aligned=False))
