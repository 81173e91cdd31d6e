"""The training step of any module, by autograd."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from sknets._core import SeededRandom, wide_dtype
from sknets._engine._flat import FlatParameters
from sknets._nn import Loss, weighted_mean

_NORMALISATIONS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


class AutogradStep:
    """Runs a module forward and backward on each batch.

    Parameters
    ----------
    module : nn.Module
        Gives logits (B, K) of rows (B, F).
    loss : Loss
        One value a sample, of logits and target.
    flat : FlatParameters
        Of the module.
    alpha : float
        Strength of the L2 penalty.
    generator : torch.Generator or None
        Feeds the module's dropout and other random layers.
    autocast : torch.dtype or None
        Lower precision for the products of the forward pass.
    """

    name = "autograd"

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        flat: FlatParameters,
        *,
        alpha: float,
        generator: torch.Generator | None,
        autocast: torch.dtype | None,
    ) -> None:
        self.module = module
        self.loss = loss
        self.flat = flat
        self.alpha = alpha
        self.generator = generator
        self.autocast = autocast

    def encode(self, target: Tensor) -> tuple[Tensor, ...]:
        """Return the targets, rows last."""
        return (target if target.ndim == 1 else target.T,)

    def begin_epoch(self, batch_sizes: list[int]) -> None:
        """Forget the losses of the last epoch."""
        self._n_rows = sum(batch_sizes)
        vector = self.flat.vector
        self._sum = torch.zeros((), dtype=wide_dtype(vector.device), device=vector.device)

    def gradient(self, x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None) -> None:
        """Leave the gradient of the batch's objective in the flat vector's grad."""
        goal = target[0] if target[0].ndim == 1 else target[0].T
        self.flat.grad.zero_()
        with ExitStack() as stack:
            if self.generator is not None:
                stack.enter_context(SeededRandom(self.generator))
            if self.autocast is not None:
                stack.enter_context(torch.autocast(x.device.type, self.autocast))
            logits = self._logits(x)
        objective = weighted_mean(self.loss(logits, goal), weight)
        objective.backward()
        data_loss = objective.detach()
        if self.alpha:
            data_loss = data_loss + self._penalise(len(x), weight)
        self._sum.add_(data_loss, alpha=len(x))

    def _logits(self, x: Tensor) -> Tensor:
        try:
            return self.module(x)
        except ValueError as error:
            if len(x) > 1 or not any(isinstance(m, _NORMALISATIONS) for m in self.module.modules()):
                raise
            raise ValueError(
                "batch_size must not leave a last batch of one row where the net cannot train on "
                f"one: {error}"
            ) from error

    @torch.no_grad()
    def _penalise(self, n_rows: int, weight: Tensor | None) -> Tensor:
        """Add the penalty's gradient and return the penalty."""
        penalised = self.flat.penalised
        if weight is None:
            self.flat.penalised_grad.add_(penalised, alpha=self.alpha / n_rows)
            return torch.dot(penalised, penalised) * (0.5 * self.alpha / n_rows)
        total = weight.sum()
        strength = torch.where(total > 0, self.alpha / total, 0.0)
        self.flat.penalised_grad.addcmul_(penalised, strength)
        return 0.5 * strength * torch.dot(penalised, penalised)

    def end_epoch(self) -> Tensor:
        """Return the mean of the objective over the epoch, shape ()."""
        return self._sum / self._n_rows
