"""How many threads a net is worth."""

from __future__ import annotations

from torch import nn

from sknets._core import Threads

# Multiply-adds of a batch below which a second thread costs more than it brings.
_WORTH_THREADS = 5e7
_WORTH_BLAS_THREADS = 1e7


def useful_threads(module: nn.Module, n_features: int, batch_size: int) -> Threads:
    """Return 1 where a net is too small to gain from threads, else None: as many as are set.

    On a machine whose cores are shared, a small net on two threads waits for the busier one at
    every product and may take a hundred times as long as on one.
    """
    per_row = 0.0
    n_channels = None
    for layer in module.modules():
        if isinstance(layer, nn.modules.conv._ConvNd):
            n_channels = n_channels or layer.in_channels
            # An upper bound: as many output positions as the input has.
            per_row += layer.weight.numel() * n_features / n_channels
        else:
            per_row += sum(p.numel() for p in layer.parameters(recurse=False) if p.ndim > 1)
    work = per_row * batch_size
    # Between convolutions torch's threads hold their cores, so that BLAS had better have none.
    alone = n_channels is None and work >= _WORTH_BLAS_THREADS
    return Threads(torch=1 if work < _WORTH_THREADS else None, blas=None if alone else 1)
