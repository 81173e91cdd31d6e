"""Gradients of a stack of nets of any module, by autograd through ``torch.func.vmap``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sknets._core import (
    SeededRandom,
    SeededRandomOfEach,
    attribute_keys,
    is_out_of_memory,
    wide_dtype,
)
from sknets._engine._flat import FlatParameters
from sknets._engine._module_hooks import has_gradient_hooks
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


class ModuleNotMapped(Exception):
    """A module that ``torch.func.vmap`` cannot run; the message says why."""


def check_modules(modules: Sequence[nn.Module]) -> None:
    """Raise a `ModuleNotMapped` unless one of these modules can stand for all, with their weights.

    ``vmap`` would run them, but not as each runs alone.
    """
    first = _fixed_attributes(modules[0])
    for module in modules:
        if has_gradient_hooks(module):
            raise ModuleNotMapped("hooks of gradients do not run there")
        embeddings = [m for m in module.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
        if any(m.padding_idx is not None or m.max_norm is not None for m in embeddings):
            raise ModuleNotMapped("padding_idx and max_norm of embeddings have no effect there")
        if _fixed_attributes(module) != first:
            raise ModuleNotMapped("the modules of its nets have attributes that differ")


def _fixed_attributes(module: nn.Module) -> dict[str, Any]:
    """Return `attribute_keys` without the rates of dropout, which may differ."""
    rates = {f"{name}.p" for name in _dropouts(module)}
    return {name: key for name, key in attribute_keys(module).items() if name not in rates}


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
    attributes : dict
        The `attribute_keys` of its module before the first step.
    make_loss : callable (label_smoothing) -> Loss
        Makes the loss of nets whose label smoothing is one number or a tensor (M,).

    Raises
    ------
    ModuleNotMapped
        In any call, where the module turns out to depend on more than weights and rows: where its
        attributes change, or its gradient is another than without ``vmap``.
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
        attributes: dict[str, Any],
        make_loss: Callable[[float | Tensor], Loss],
    ) -> None:
        self.module = template.module
        self.members = members
        self.weights = flat.detach().requires_grad_()  # the same memory
        self.weights.grad = self._grad = grad
        self.state = state
        self._state_names = list(state_of(self.module))
        self._template = template
        self._parameters = {
            name: p
            for name, p in self.module.named_parameters(remove_duplicate=False)
            if p.requires_grad
        }
        self._is_checked = False
        self._lengths: dict[tuple[int, ...], list[tuple[int, list[Member], Any]]] = {}
        self._attributes = attributes
        self._dropouts = _dropouts(self.module)
        n_penalised = len(template.penalised)
        self._penalised = flat[:, :n_penalised]
        self._penalised_grad = grad[:, :n_penalised]
        self._make_loss = make_loss
        self._smoothing = label_smoothing_of(members, flat)
        self._strength = flat.new_zeros(len(members))
        self._alpha = flat.new_tensor([m.settings["alpha"] for m in members])
        self._wide = wide_dtype(flat.device)

    @property
    def is_capturable(self) -> bool:
        """Whether no net draws, from a generator of its own."""
        return all(m.generator is None for m in self.members)

    def encode(self, target: Tensor) -> tuple[Tensor, ...]:
        """Return targets (M, n) or (M, n, K) with the row last."""
        return (target if target.ndim == 2 else target.mT,)

    def begin_epoch(self, batch_sizes: list[int], counts: Tensor | None = None) -> None:
        """Forget the losses of the last epoch."""
        self._sum = self.weights.new_zeros(len(self.members), dtype=self._wide)
        if counts is None:
            self._n_rows = torch.full_like(self._sum, sum(batch_sizes))
        else:
            self._n_rows = counts.to(self._wide).sum(-1)

    def gradient(self, x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None) -> None:
        """Leave the gradient of every net's batch in its row of the gradients."""
        goal = target[0] if target[0].ndim == 2 else target[0].mT
        self._grad.zero_()
        try:
            alone = {} if self._is_checked else self._gradients_alone(x, goal, weight)
            for n, members, which in self._by_length():
                part = None if weight is None else weight[which]
                self._run(which, members, n, x[which], goal[which], part)
        except Exception as error:  # the forward pass is the user's own code
            if is_out_of_memory(error):
                raise
            raise ModuleNotMapped(str(error)) from error
        if alone:
            self._is_checked = True
            self._check_attributes()
            for i, gradient in alone.items():
                self._check_gradient(i, gradient)

    def _by_length(self) -> list[tuple[int, list[Member], Any]]:
        """Return each number of rows, the nets that have so many, and an index of them."""
        key = tuple(self.n_real)
        if key not in self._lengths:
            numbers = sorted(set(key))
            parts: list[tuple[int, list[Member], Any]] = []
            for n in numbers:
                places = [i for i, m in enumerate(key) if m == n]
                which: Any = slice(None)
                if len(numbers) > 1:
                    which = torch.tensor(places, device=self.weights.device)
                parts.append((n, [self.members[i] for i in places], which))
            self._lengths[key] = parts
        return self._lengths[key]

    def _check_attributes(self) -> None:
        after = attribute_keys(self.module)
        for name in {**self._attributes, **after}:
            if self._attributes.get(name) != after.get(name):
                raise ModuleNotMapped(f"its forward sets the attribute {name!r}")

    def _gradients_alone(
        self, x: Tensor, target: Tensor, weight: Tensor | None
    ) -> dict[int, Tensor]:
        """Return the gradients, without penalties, of the first and the last net without vmap."""
        return {
            i: self._gradient_alone(
                i, x[i, :n], target[i, :n], None if weight is None else weight[i, :n]
            )
            for i, n in enumerate(self.n_real)
            if i in (0, len(self.n_real) - 1)
        }

    def _gradient_alone(self, i: int, x: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        member = self.members[i]
        vector = self.weights[i].detach().clone().requires_grad_()
        tensors = {name: self._template.part(vector, p) for name, p in self._parameters.items()}
        state = [t[i].clone() for t in self.state]
        tensors |= dict(zip(self._state_names, state, strict=True))
        draws: Any = nullcontext()
        if member.generator is not None:
            copied = torch.Generator(member.generator.device)
            draws = SeededRandom(copied.set_state(member.generator.get_state()))
        smoothing = self._smoothing
        loss = self._make_loss(smoothing[i] if isinstance(smoothing, Tensor) else smoothing)
        with self._rates(lambda name: member.settings["dropout"][name]), draws:
            logits = functional_call(self.module, tensors, (x,), tie_weights=False)
        weighted_mean(loss(logits, target), weight).backward()
        return torch.zeros_like(vector) if vector.grad is None else vector.grad

    def _check_gradient(self, i: int, alone: Tensor) -> None:
        """Compare a net's gradient with what it is `alone`, up to rounding."""
        penalty = self._strength[i] * self._penalised[i]
        difference = self._grad[i] - alone
        difference[: len(penalty)] -= penalty
        allowed = 10 * torch.finfo(alone.dtype).eps ** 0.5 * alone.abs().max()
        if (difference.abs() > allowed).any():
            raise ModuleNotMapped("its gradient is another one there")

    def _run(
        self,
        which: Any,
        members: list[Member],
        n: int,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None,
    ) -> None:
        """Add gradient and loss of some of the nets, each on the first n rows."""
        x, target = x[:, :n], target[:, :n]
        weight = None if weight is None else weight[:, :n]
        logits, state = self._forward(which, members, x)
        smoothing = self._smoothing
        loss = self._make_loss(smoothing[which] if isinstance(smoothing, Tensor) else smoothing)
        objective = weighted_mean(loss(logits, target), weight)  # (m,)
        objective.sum().backward()
        with torch.no_grad():
            total = x.new_full((len(x),), n) if weight is None else weight.sum(-1)
            strength = torch.where(total > 0, self._alpha[which] / total, 0.0)
            self._strength[which] = strength
            weights = self._penalised[which]
            self._penalised_grad[which] += strength[:, None] * weights
            penalty = 0.5 * strength * torch.linalg.vecdot(weights, weights)
            self._sum[which] += (objective.detach() + penalty).to(self._wide) * n
            for kept, new in zip(self.state, state, strict=True):
                kept[which] = new

    def _forward(self, which: Any, members: list[Member], x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (m, n, K) of some nets, and the state that it leaves."""
        weights = self.weights[which]
        version = weights._version
        tensors = {name: self._template.part(weights, p) for name, p in self._parameters.items()}
        # Copies: the backward pass needs them as they are now.
        state = [t[which].clone() for t in self.state]
        tensors |= dict(zip(self._state_names, state, strict=True))
        generators: list[Any] = [m.generator for m in members]

        def call(tensors: dict[str, Tensor], x: Tensor, number: Tensor) -> Any:
            draws: Any = nullcontext()
            if generators[0] is not None:
                draws = SeededRandomOfEach(generators, number)
            with draws:
                logits = functional_call(self.module, tensors, (x,), tie_weights=False)
            return logits, [tensors[name] for name in self._state_names]

        number = torch.arange(len(x), device=x.device)
        with self._rates(lambda name: tuple(m.settings["dropout"][name] for m in members)):
            result = vmap(call)(tensors, x, number)
        if weights._version != version:
            raise ModuleNotMapped("its forward changes its weights")
        return result

    @contextmanager
    def _rates(self, rate: Callable[[str], Any]) -> Iterator[None]:
        """Let dropout layers, by name, have rates of a net or of several."""
        before = {name: layer.p for name, layer in self._dropouts.items()}
        for name, layer in self._dropouts.items():
            layer.p = rate(name)
        try:
            yield
        finally:
            for name, layer in self._dropouts.items():
                layer.p = before[name]

    def end_epoch(self) -> Tensor:
        """Return the mean of each net's objective over the epoch."""
        self._check_attributes()
        return self._sum / self._n_rows
