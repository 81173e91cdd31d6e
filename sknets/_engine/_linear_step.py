"""The training step of logistic regression by mini-batches, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sknets._core import wide_dtype
from sknets._engine._logistic_loss import encode_target, logistic_loss_residual


class LinearStep:
    """Gives the gradient of one batch, whose expectation is that of the whole objective.

    The objective of a batch of b rows is ``sum(w * loss) / (b * mean_weight) + l2 / 2 ||W||^2 +
    l1 ||W||_1``: dividing by the mean weight of all rows, and not by the batch's own sum, keeps
    rows of large weight from counting less in the batches they are in.

    Parameters
    ----------
    module : nn.Linear
        The weights (K, F) and, if there is one, the bias (K,); K is 1 for two classes. Their
        ``grad`` tensors are written to.
    l2, l1 : float
        Strengths of the penalties of the weights, on the scale of the mean loss. The L1 term
        gives its subgradient, so that weights come near to zero but do not stay there.
    mean_weight : float, default=1.0
        Mean of all sample weights.
    autocast : torch.dtype or None, default=None
        Lower precision for the product that gives the logits.
    """

    name = "closed form"

    def __init__(
        self,
        module: nn.Linear,
        *,
        l2: float,
        l1: float,
        mean_weight: float = 1.0,
        autocast: torch.dtype | None = None,
    ) -> None:
        bias = dict(module.named_parameters()).get("bias")
        self.weights = module.weight.detach()
        self.bias = None if bias is None else bias.detach().unsqueeze(1)
        self.weights_grad = _grad_of(module.weight)
        self.bias_grad = None if bias is None else _grad_of(bias)
        self.l2 = l2
        self.l1 = l1
        self.mean_weight = mean_weight
        self.autocast = autocast

    def encode(self, target: Tensor) -> tuple[Tensor, ...]:
        """Return signs for two classes, class numbers for more."""
        if self.weights.shape[0] == 1:
            return (encode_target(target, self.weights.dtype),)
        return (target,)

    def begin_epoch(self, batch_sizes: list[int]) -> None:
        """Forget the losses of the last epoch."""
        self._n_rows = sum(batch_sizes)
        self._total = self.weights.new_zeros(())

    def gradient(self, x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None) -> None:
        """Leave the gradient of the batch's objective in the module's gradients."""
        n_rows = x.shape[0]
        losses, residual = logistic_loss_residual(self._logits(x), target[0])
        if weight is not None:
            share = weight / self.mean_weight
            losses *= share
            residual *= share
        residual /= n_rows
        torch.mm(residual, x, out=self.weights_grad)
        if self.bias_grad is not None:
            torch.sum(residual, 1, out=self.bias_grad)
        self._total += losses.sum()
        if self.l2:
            self._total += 0.5 * self.l2 * n_rows * self.weights.square().sum()
            self.weights_grad.add_(self.weights, alpha=self.l2)
        if self.l1:
            self._total += self.l1 * n_rows * self.weights.abs().sum()
            self.weights_grad.add_(self.weights.sign(), alpha=self.l1)

    def end_epoch(self) -> Tensor:
        """Return the mean of the objective over the epoch, a batch counting by its rows."""
        return self._total.to(wide_dtype(self._total.device)) / self._n_rows

    def _logits(self, x: Tensor) -> Tensor:
        """Return the logits (K, b) of rows (b, F)."""
        if self.autocast is not None:
            with torch.autocast(x.device.type, self.autocast):
                logits = (self.weights @ x.T).to(x.dtype)
        else:
            logits = self.weights @ x.T
        return logits if self.bias is None else logits.add_(self.bias)


def _grad_of(parameter: Tensor) -> Tensor:
    """Return the gradient tensor of a parameter, made if there is none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
