"""Gradients of a stack of nets of any module, by autograd through ``torch.func.vmap``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sknets._core import SeededRandomOfEach, is_out_of_memory
from sknets._engine._flat import FlatParameters
from sknets._engine._stack import state_of
from sknets._engine._stack_member import Member, label_smoothing_of
from sknets._nn import Loss, weighted_mean


def _has_rate(layer: Any) -> bool:
    """Whether a layer is a dropout that draws, and whose rate may differ between nets."""
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
    return type(layer) in kinds and layer.p > 0


def _dropouts(module: nn.Module) -> dict[str, Any]:
    return {name: layer for name, layer in module.named_modules() if _has_rate(layer)}


def dropout_rates(module: nn.Module) -> dict[str, float]:
    """Return the rates of a module's dropout layers by name, as far as they are not 0."""
    return {name: layer.p for name, layer in _dropouts(module).items()}


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    """Return what the layers of a module hold beside tensors and layers, by name."""
    return {
        f"{path}.{name}" if path else name: value
        for path, layer in module.named_modules()
        for name, value in vars(layer).items()
        if not name.startswith("_")
    }


class ModuleNotMapped(Exception):
    """A module that ``torch.func.vmap`` cannot run; the message says why."""


class StackedModuleStep:
    """Runs one module forward with the weights of all nets, and backward once.

    A batch of which some nets have fewer rows than others is run for each number of rows apart,
    so that no padding enters a net: not its normalisation, not its dropout masks.

    Parameters
    ----------
    members : sequence of Member
        The nets, M of them.
    flat, grad : Tensor of shape (M, P)
        Their weights, and where the gradients go.
    state : list of Tensor of shape (M, ...)
        Their buffers and weights that are not trained; running statistics change in place.
    groups : sequence of slice
        Not used.
    template : FlatParameters
        Of a module of their shape.
    make_loss : callable (label_smoothing) -> Loss
        Makes the loss of nets whose label smoothing is one number or a tensor (M,).
    """

    name = "autograd, stacked"
    n_real: list[int]
    shares_rows = False

    def __init__(
        self,
        members: Sequence[Member],
        flat: Tensor,
        grad: Tensor,
        state: list[Tensor],
        groups: Sequence[slice],
        *,
        template: FlatParameters,
        make_loss: Callable[[float | Tensor], Loss],
    ) -> None:
        self.module = template.module
        self.members = members
        self.weights = flat.detach().requires_grad_()  # the same memory
        self.weights.grad = grad
        self.state = state
        self._state_names = list(state_of(self.module))
        self._template = template
        self._parameters = {
            name: p
            for name, p in self.module.named_parameters(remove_duplicate=False)
            if p.requires_grad
        }
        self._is_checked = False
        self._dropouts = _dropouts(self.module)
        n_penalised = len(template.penalised)
        self._penalised = flat[:, :n_penalised]
        self._penalised_grad = grad[:, :n_penalised]
        self._make_loss = make_loss
        self._smoothing = label_smoothing_of(members, flat)
        self._alpha = flat.new_tensor([m.settings["alpha"] for m in members])
        self._wide = torch.float32 if flat.device.type == "mps" else torch.float64

    def encode(self, target: Tensor) -> tuple[Tensor, ...]:
        """Return targets (M, n) or (M, n, K) with the row last."""
        return (target if target.ndim == 2 else target.mT,)

    def begin_epoch(self, batch_sizes: list[int], counts: Tensor | None = None) -> None:
        """Forget the losses of the last epoch."""
        n_models = len(self.members)
        self._sum = torch.zeros(n_models, dtype=self._wide, device=self.weights.device)
        if counts is None:
            counts = self.weights.new_tensor(batch_sizes).expand(n_models, -1)
        self._n_rows = counts.detach().to(self._wide).sum(-1)

    def gradient(self, x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None) -> None:
        """Leave the gradient of every net's batch in its row of the gradients."""
        goal = target[0] if target[0].ndim == 2 else target[0].mT
        self.weights.grad.zero_()  # type: ignore[union-attr]
        numbers = sorted(set(self.n_real))
        before = None if self._is_checked else _plain_attributes(self.module)
        try:
            if len(numbers) == 1:
                self._run(slice(None), numbers[0], x, goal, weight)
                numbers = []
            for n in numbers:
                which = torch.tensor([m == n for m in self.n_real], device=x.device).nonzero()[:, 0]
                part = None if weight is None else weight[which]
                self._run(which, n, x[which], goal[which], part)
        except Exception as error:  # the forward pass is the user's own code
            if is_out_of_memory(error):
                raise
            raise ModuleNotMapped(str(error)) from error
        if before is not None:
            self._is_checked = True
            after = _plain_attributes(self.module)
            changed = [name for name, value in after.items() if before.get(name) is not value]
            if changed:
                raise ModuleNotMapped(f"its forward sets the attribute {changed[0]!r}")

    def _run(self, which: Any, n: int, x: Tensor, target: Tensor, weight: Tensor | None) -> None:
        """Add gradient and loss of some of the nets, each on the first n rows."""
        x, target = x[:, :n], target[:, :n]
        weight = None if weight is None else weight[:, :n]
        logits, state = self._forward(which, x)
        smoothing = self._smoothing
        loss = self._make_loss(smoothing[which] if isinstance(smoothing, Tensor) else smoothing)
        objective = weighted_mean(loss(logits, target), weight)  # (m,)
        objective.sum().backward()
        with torch.no_grad():
            total = x.new_full((len(x),), n) if weight is None else weight.sum(-1)
            strength = torch.where(total > 0, self._alpha[which] / total, 0.0)
            weights = self._penalised[which]
            self._penalised_grad[which] += strength[:, None] * weights
            penalty = 0.5 * strength * torch.linalg.vecdot(weights, weights)
            self._sum[which] += (objective.detach() + penalty).to(self._wide) * n
            for kept, new in zip(self.state, state, strict=True):
                kept[which] = new

    def _forward(self, which: Any, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (m, n, K) of some nets, and the state that it leaves."""
        weights = self.weights[which]
        tensors = {name: self._template.part(weights, p) for name, p in self._parameters.items()}
        # Copies: the backward pass needs them as they are now.
        state = [t[which].clone() for t in self.state]
        tensors |= dict(zip(self._state_names, state, strict=True))
        members = self.members
        if isinstance(which, Tensor):
            members = [members[i] for i in which.tolist()]
        generators: list[Any] = [m.generator for m in members]

        def call(tensors: dict[str, Tensor], x: Tensor, number: Tensor) -> Any:
            draws: Any = nullcontext()
            if generators[0] is not None:
                draws = SeededRandomOfEach(generators, number)
            with draws:
                logits = functional_call(self.module, tensors, (x,), tie_weights=False)
            return logits, [tensors[name] for name in self._state_names]

        number = torch.arange(len(x), device=x.device)
        with self._rates_of(members):
            return vmap(call)(tensors, x, number)

    @contextmanager
    def _rates_of(self, members: Sequence[Member]) -> Iterator[None]:
        """Let every dropout layer have a rate a net."""
        before = {name: layer.p for name, layer in self._dropouts.items()}
        for name, layer in self._dropouts.items():
            layer.p = tuple(m.settings["dropout"][name] for m in members)
        try:
            yield
        finally:
            for name, layer in self._dropouts.items():
                layer.p = before[name]

    def end_epoch_losses(self) -> Tensor:
        """Return the mean of each net's objective over the epoch."""
        return self._sum / self._n_rows
