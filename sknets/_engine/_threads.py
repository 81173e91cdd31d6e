"""How many threads a net is worth."""

from __future__ import annotations

import math

import torch
from torch import nn

from sknets._core import Threads

# Multiply-adds of a batch below which a second thread costs more than it brings.
_WORTH_THREADS = 5e7
_WORTH_BLAS_THREADS = 1e7

# Multiply-adds of a stack that take as long as the Python around one batch of it, with the waiting
# for other threads' Python; and the fewest nets that make up for it.
_PYTHON_OF_A_BATCH = 3.5e7
_NETS_OF_A_PART = 6


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
            # Not by parameters(), which takes as long as a small prediction.
            own = layer._parameters.values()
            per_row += sum(p.numel() for p in own if p is not None and p.ndim > 1)
    work = per_row * batch_size
    # Between convolutions torch's threads hold their cores, so that BLAS had better have none.
    alone = n_channels is None and work >= _WORTH_BLAS_THREADS
    return Threads(torch=1 if work < _WORTH_THREADS else None, blas=None if alone else 1)


def useful_parts(module: nn.Module, batch_size: int, n_nets: int) -> int:
    """Return in how many parts, each on a thread, a stack of dense nets trains fastest.

    Small products gain nothing from threads, but nets that know nothing of each other do. Only one
    thread at a time runs Python, though: p parts take turns for p times the Python of a batch.
    """
    per_row = sum(p.numel() for p in module.parameters() if p.ndim > 1)
    work = 3 * per_row * batch_size * n_nets
    n_parts = int(0.5 + math.sqrt(0.25 + work / _PYTHON_OF_A_BATCH))
    return max(1, min(n_parts, n_nets // _NETS_OF_A_PART, torch.get_num_threads()))
