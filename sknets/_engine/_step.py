"""What a training step, of one net or of a stack, is to the epochs that call it."""

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


class StackedStep(Protocol):
    """Computes the gradients of one mini-batch of every net still in the stack.

    As `Step`, with a leading axis of M nets: the objective of a net's batch is the one it has
    alone, and its gradient is left in the net's row of the gradients.

    Attributes
    ----------
    name : str
        Which way of computing this is, for the record.
    n_real : list of int
        Set before `gradient`: how many rows of this batch each net has; the others are padding.
    shares_rows : bool
        Whether `gradient` takes x (G, B, F) of the groups of nets that have the same rows.
    """

    name: str
    n_real: list[int]
    shares_rows: bool

    @property
    def is_capturable(self) -> bool:
        """Whether it does the same in every epoch, but for numbers in memory."""

    def encode(self, target: Tensor) -> tuple[Tensor, ...]:
        """Return targets (G, n, ...) as this step wants them; the last axis is the row."""

    def begin_epoch(self, batch_sizes: list[int], counts: Tensor | None = None) -> None:
        """Forget the losses of the last epoch.

        `counts` (M, n_batches) says how many rows of each batch are real, if not all are.
        """

    def gradient(self, x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None) -> None:
        """Compute the gradients of one batch, x of shape (M, B, F) or (G, B, F)."""

    def end_epoch(self) -> Tensor:
        """Return the mean of each net's objective over the epoch, shape (M,)."""
