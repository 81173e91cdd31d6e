"""What a training step is to the epochs that call it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Step(Protocol):
    """Computes the gradient of one mini-batch and keeps account of the loss.

    The objective of a batch is ``sum(w * loss) / sum(w) + alpha / 2 * ||weights||^2 / sum(w)``,
    with w = 1 where there are no weights, as in scikit-learn's networks. Gradients are left in
    the grad of the flat parameter vector. Nothing here waits for the device.

    Attributes
    ----------
    name : str
        Which way of computing this is, for the record: "closed form" or "autograd".
    """

    name: str

    def encode(self, target: Tensor) -> tuple[Tensor, ...]:
        """Return the targets of some rows as this step wants them; the last axis is the row."""

    def begin_epoch(self, batch_sizes: list[int]) -> None:
        """Forget the losses of the last epoch."""

    def gradient(self, x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None) -> None:
        """Compute the gradient of one batch, x of shape (B, F)."""

    def end_epoch(self) -> Tensor:
        """Return the mean of the objective over the epoch, a batch counting by its rows.

        On an accelerator it is there when the device has come to it.
        """
