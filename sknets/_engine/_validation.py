"""Loss and accuracy of a module on rows that it is not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sknets._core import Threads, limit_threads
from sknets._data import Rows
from sknets._engine._dense_forward import dense_forward
from sknets._engine._threads import useful_threads
from sknets._nn import Loss

# Too few to be worth a look at the module.
_FEW_ROWS = 16
# So many that another way through a dense net is worth looking for.
_MANY_ROWS = 500


def logits_in_blocks(
    module: nn.Module, rows: Rows, *, autocast: torch.dtype | None = None
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (start, stop, logits) of consecutive blocks of rows, without autograd.

    The module is left in the mode, training or evaluation, in which it was found.
    """
    if rows.n > _MANY_ROWS and autocast is None and rows.device.type == "cpu":
        dense = dense_forward(module, rows.dtype)
        if dense is not None:
            yield from dense.in_blocks(rows)
            return
    block = rows.n if rows.n <= _FEW_ROWS else _rows_of_a_block(module, rows)
    n_threads = None
    if rows.n > 1 and rows.device.type == "cpu":
        n_threads = useful_threads(module, rows.n_features, block).torch
    was_training = module.training
    if was_training:
        module.eval()
    try:
        for start in range(0, rows.n, block):
            stop = min(start + block, rows.n)
            limit = nullcontext() if n_threads is None else limit_threads(Threads(torch=n_threads))
            with torch.no_grad(), limit:
                x = rows.slice(start, stop)
                if autocast is None:
                    logits = module(x)
                else:
                    with torch.autocast(x.device.type, autocast):
                        logits = module(x)
            yield start, stop, logits.to(rows.dtype)
    finally:
        if was_training:
            module.train()


def _rows_of_a_block(module: nn.Module, rows: Rows) -> int:
    """Return how many rows to run at once: a net may be many times as wide inside as its rows."""
    n_weights = max((p.numel() for p in module.parameters()), default=1)
    n_bytes = _widest(module, rows.n_features) * rows.dtype.itemsize
    return min(rows.block_rows, max(256, 2**25 // max(1, n_weights)), max(1, 2**26 // n_bytes))


@dataclass
class Validation:
    """Rows, targets and weights to judge a module on.

    Attributes
    ----------
    rows : Rows
        X of the validation set, n rows.
    target : Tensor of shape (n,) or (n, n_labels)
        Encoded labels, on the rows' device.
    weight : Tensor of shape (n,) or None
        Sample weights, on the rows' device.
    loss : Loss
        One value a sample.
    task : {"multiclass", "binary", "multilabel"}
        How logits become labels.
    autocast : torch.dtype or None
        As in training.
    """

    rows: Rows
    target: Tensor
    weight: Tensor | None
    loss: Loss
    task: str
    autocast: torch.dtype | None = None

    @torch.no_grad()
    def measure(self, module: nn.Module) -> tuple[float, float]:
        """Return the mean loss and the accuracy (of whole label sets where multilabel)."""
        loss, right, total = 0.0, 0.0, 0.0
        for start, stop, logits in logits_in_blocks(module, self.rows, autocast=self.autocast):
            target = self.target[start:stop]
            hit = self._is_right(logits, target).double()
            losses = self.loss(logits, target).double()
            if self.weight is not None:
                weight = self.weight[start:stop].double()
                losses, hit = losses * weight, hit * weight
                total += float(weight.sum())
            else:
                total += stop - start
            loss += float(losses.sum())
            right += float(hit.sum())
        if total == 0:
            raise ValueError(
                "The weights of the held-out rows must not all be zero: they have no mean loss. "
                "Hold out more rows by validation_fraction, or pass X_val and y_val."
            )
        return loss / total, right / total

    def _is_right(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.task == "multiclass":
            return logits.argmax(1) == target
        if self.task == "binary":
            return (logits[:, 0] > 0) == (target > 0)
        return ((logits > 0) == (target > 0)).all(1)


def _widest(module: nn.Module, n_features: int) -> int:
    """Return how many numbers a row is at most inside the convolutions of a module, if any.

    A convolution has at most as many output positions as X has, and its channels are padded to
    blocks of 8.
    """
    n_channels, widest = None, 1
    for layer in module.modules():
        if isinstance(layer, nn.modules.conv._ConvNd):
            n_channels = n_channels or layer.in_channels
            widest = max(widest, max(8, layer.out_channels) * n_features // n_channels)
    return widest
