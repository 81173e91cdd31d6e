"""Many dense nets of one shape, trained together as one computation.

Every net has the rows, shuffles, dropout masks, schedule and stop that it would have alone; only
the arithmetic is shared. Nets that stop leave the stack.

Conventions: M nets still in the stack, P weights of a net, B rows of a batch, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sknets._core import limit_threads
from sknets._data import Rows
from sknets._engine._dense import DenseLayer, DenseStep
from sknets._engine._flat import FlatParameters
from sknets._engine._progress import Progress, check_finite
from sknets._engine._validation import Validation
from sknets._nn import Activation, Schedule, adam_

# Gathered rows of all nets together take about this many bytes at a time.
_BLOCK_BYTES = 2**26


class Rate:
    """A learning rate that a schedule can set; stands in for an optimiser."""

    def __init__(self, rate: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": rate}]


@dataclass
class Member:
    """One net of a stack.

    Attributes
    ----------
    vector : Tensor of shape (P,)
        Its weights, as `FlatParameters` lays them out; at the end, the trained ones.
    rows : ndarray of shape (n,)
        The rows of the shared X that it trains on.
    weight : Tensor of shape (n,) or None
        Their weights.
    validation : Validation or None
        What its early stopping looks at.
    random_state : RandomState or None
        Draws its shuffles; None keeps the order.
    generator : torch.Generator or None
        Draws its dropout masks.
    schedule : Schedule
        Over a `Rate`.
    settings : dict
        "alpha", "tol", "patience", "max_epochs", "early_stopping", and for "adam" "betas" and
        "eps", for "sgd" "momentum" and "nesterov"; "dropout" is a rate a hidden layer.
    """

    vector: Tensor
    rows: np.ndarray
    weight: Tensor | None
    validation: Validation | None
    random_state: np.random.RandomState | None
    generator: torch.Generator | None
    schedule: Schedule
    settings: dict[str, Any]
    progress: Progress = field(default_factory=Progress)
    n_epochs: int = 0
    converged: bool = False
    seconds: float = 0.0
    error: Exception | None = None
    best: Tensor | None = None

    def __post_init__(self) -> None:
        self._order = np.arange(len(self.rows))

    def next_order(self) -> np.ndarray:
        """Return the rows of X in the order of the next epoch."""
        if self.random_state is not None:
            order = np.arange(len(self.rows))
            self.random_state.shuffle(order)
            self._order = self._order[order]
        return self._order


class _StackedStep(DenseStep):
    """A dense step whose nets draw their dropout masks from generators of their own."""

    members: Sequence[Member]
    n_real: list[int]

    def _draw_mask_(self, mask: Tensor, i: int) -> None:
        for part, member, n in zip(mask, self.members, self.n_real, strict=True):
            rate = member.settings["dropout"][i]
            if rate:  # alone, a layer without dropout draws nothing
                part[:n].bernoulli_(1.0 - rate, generator=member.generator).div_(1.0 - rate)
                part[n:] = 0.0
            else:
                part.fill_(1.0)


class Stack:
    """Trains members together.

    Parameters
    ----------
    members : sequence of Member
        Nets of one shape, all with the same `batch_size` and number of batches.
    rows : Rows
        X, shared.
    target : Tensor of shape (n, ...)
        Encoded labels of all rows of X.
    template : FlatParameters
        Of a module of the members' shape; its weights are overwritten.
    linears : sequence of nn.Linear
        The dense layers of that module, from input to output.
    activation, task, solver : see `DenseStep`
        Of all members.
    batch_size : int
        Rows of a batch.
    """

    def __init__(
        self,
        members: Sequence[Member],
        rows: Rows,
        target: Tensor,
        *,
        template: FlatParameters,
        linears: Sequence[nn.Linear],
        activation: Activation,
        task: str,
        solver: str,
        batch_size: int,
        n_threads: int | None = None,
    ) -> None:
        self.members = list(members)
        self.rows = rows
        self.target = target
        self.template = template
        self.shapes = [
            (*template.place(linear.weight), *template.place(linear.bias)) for linear in linears
        ]
        self.n_penalised = len(template.penalised)
        self.activation = activation
        self.task = task
        self.solver = solver
        self.batch_size = batch_size
        self.n_threads = n_threads
        self._n_steps = 0

    def run(self, after_epoch: Callable[[], None] = lambda: None) -> None:
        """Train every member until it stops; failures are kept in ``member.error``."""
        # Neighbours with equal settings share a kernel.
        active = sorted(self.members, key=self._kernel_key)
        self._build(active, torch.stack([m.vector for m in active]), None)
        with limit_threads(self.n_threads):
            while self.active:
                self._epoch()
                after_epoch()

    # -- state -----------------------------------------------------------------------------------

    def _kernel_key(self, member: Member) -> tuple:
        s = member.settings
        return (member.schedule.rate, *s["betas"], s["eps"]) if self.solver == "adam" else ()

    def _build(
        self, active: list[Member], flat: Tensor, moments: tuple[Tensor, ...] | None
    ) -> None:
        self.active = active
        if not active:
            return
        self.flat, self.grad = flat, torch.zeros_like(flat)
        self.moments = moments or tuple(
            torch.zeros_like(flat) for _ in range(2 if self.solver == "adam" else 1)
        )
        n_models = len(active)
        layers = []
        for i, (w, w_shape, b, b_shape) in enumerate(self.shapes):
            hidden = i < len(self.shapes) - 1
            drops = hidden and any(m.settings["dropout"][i] > 0 for m in active)
            layers.append(
                DenseLayer(
                    flat[:, w].view(n_models, *w_shape),
                    flat[:, b].view(n_models, *b_shape),
                    self.grad[:, w].view(n_models, *w_shape),
                    self.grad[:, b].view(n_models, *b_shape),
                    1.0 if drops else 0.0,
                )
            )
        self.step = _StackedStep(
            layers,
            self.activation,
            self.task,
            penalised=flat[:, : self.n_penalised],
            penalised_grad=self.grad[:, : self.n_penalised],
            alpha=flat.new_tensor([m.settings["alpha"] for m in active]),
        )
        self.step.members = active

    def _keep(self, stays: list[bool]) -> None:
        """Go on with the members that stay."""
        if all(stays):
            return
        index = torch.tensor(stays, device=self.flat.device).nonzero()[:, 0]
        moments = tuple(moment[index] for moment in self.moments)
        active = [m for m, stay in zip(self.active, stays, strict=True) if stay]
        self._build(active, self.flat[index], moments)

    # -- an epoch --------------------------------------------------------------------------------

    def _epoch(self) -> None:
        started = perf_counter()
        losses = self._train_epoch()
        stays = [
            self._end_epoch(i, member, loss, started)
            for i, (member, loss) in enumerate(zip(self.active, losses, strict=True))
        ]
        self._keep(stays)

    def _train_epoch(self) -> list[float]:
        active, size = self.active, self.batch_size
        lengths = [len(m.rows) for m in active]
        n_rows = max(lengths)
        order = np.zeros((len(active), n_rows), dtype=np.int64)
        for line, member in zip(order, active, strict=True):
            line[: len(member.rows)] = member.next_order()
        weights = self._weights(order, lengths, n_rows)
        rows = np.stack([m.rows[line] for m, line in zip(active, order, strict=True)])
        sizes = [min(size, n_rows - start) for start in range(0, n_rows, size)]
        starts = range(0, n_rows, size)
        real = [[min(max(n - start, 0), size) for start in starts] for n in lengths]
        padded = min(lengths) < n_rows
        self.step.begin_epoch(sizes, self.flat.new_tensor(real) if padded else None)
        per_batch = len(active) * size * self.rows.n_features * self.rows.dtype.itemsize
        chunk = max(1, _BLOCK_BYTES // max(1, per_batch)) * size
        for start in range(0, n_rows, chunk):
            stop = min(start + chunk, n_rows)
            x, target = self._gather(rows[:, start:stop])
            encoded = self.step.encode(target)
            for first in range(start, stop, size):
                here = slice(first - start, min(first + size, stop) - start)
                self.step.n_real = [r[first // size] for r in real]
                weight = None if weights is None else weights[:, first : first + size]
                parts = tuple(t[..., here] for t in encoded)
                self.step.gradient(x[:, here], parts, weight)
                self._update()
        return self.step.end_epoch_losses().tolist()

    def _weights(self, order: np.ndarray, lengths: list[int], n_rows: int) -> Tensor | None:
        """Return the members' weights (M, n_rows), 0 where a member has no row; None if all 1."""
        weighted = any(m.weight is not None for m in self.active)
        if not weighted and min(lengths) == n_rows:
            return None
        weights = self.flat.new_zeros((len(lengths), n_rows))
        for i, (member, n) in enumerate(zip(self.active, lengths, strict=True)):
            if member.weight is None:
                weights[i, :n] = 1.0
            else:
                weights[i, :n] = member.weight[torch.from_numpy(order[i, :n]).to(weights.device)]
        return weights

    def _gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return X (M, n, F) and targets (M, n, ...) of rows (M, n)."""
        index = torch.from_numpy(np.ascontiguousarray(rows).ravel())
        x = self.rows.take(index).view(*rows.shape, self.rows.n_features)
        target = self.target[index.to(self.target.device)]
        return x, target.view(*rows.shape, *self.target.shape[1:])

    def _update(self) -> None:
        self._n_steps += 1
        if self.solver == "adam":
            first, second = self.moments
            start = 0
            for key, group in groupby(self.active, self._kernel_key):
                rate, *betas, eps = key
                here = slice(start, start + len(list(group)))
                start = here.stop
                adam_(
                    self.flat[here],
                    self.grad[here],
                    first[here],
                    second[here],
                    step=self._n_steps,
                    lr=rate,
                    betas=(betas[0], betas[1]),
                    eps=eps,
                )
            return
        (velocity,) = self.moments
        column = self.flat.new_tensor
        rate = column([m.schedule.rate for m in self.active])[:, None]
        momentum = column([m.settings["momentum"] for m in self.active])[:, None]
        velocity.mul_(momentum).addcmul_(self.grad, rate, value=-1.0)
        if self.active[0].settings["nesterov"]:
            self.flat.addcmul_(velocity, momentum).addcmul_(self.grad, rate, value=-1.0)
        else:
            self.flat.add_(velocity)

    # -- the end of an epoch ---------------------------------------------------------------------

    def _end_epoch(self, i: int, member: Member, loss: float, started: float) -> bool:
        """Record the epoch of net i and say whether it goes on."""
        settings, rate = member.settings, member.schedule.rate
        member.n_epochs += 1
        try:
            check_finite(loss, epoch=member.n_epochs, rate=rate)
        except ValueError as error:
            member.error = error
            return False
        validation_loss = score = math.nan
        if member.validation is not None:
            with torch.no_grad():
                self.template.vector.copy_(self.flat[i])
            validation_loss, score = member.validation.measure(self.template.module)
        seconds = (perf_counter() - started) / len(self.active)
        member.seconds += seconds
        member.progress.record(
            train_loss=loss,
            validation_loss=validation_loss,
            validation_score=score,
            learning_rate=rate,
            seconds=seconds,
        )
        is_best, stops = member.progress.judge(
            member.schedule,
            loss=loss,
            score=score,
            n_samples=len(member.rows),
            tol=settings["tol"],
            patience=settings["patience"],
            early_stopping=settings["early_stopping"],
        )
        if is_best:
            member.best = self.flat[i].clone()
        if not stops and member.n_epochs < settings["max_epochs"]:
            return True
        member.converged = stops
        member.vector = self.flat[i].clone() if member.best is None else member.best
        return False
