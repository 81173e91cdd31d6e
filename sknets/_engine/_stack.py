"""Many nets of one shape, trained together as one computation.

Every net has the rows, shuffles, dropout masks, schedule and stop that it would have alone; only
the arithmetic is shared. Nets that stop leave the stack. What computes the gradients of all nets
is a `StackedStep`, of one kind for dense nets and of another for any module; the rest is the same.

Conventions: M nets still in the stack, P weights of a net, B rows of a batch, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sknets._core import Threads, limit_threads
from sknets._data import Rows
from sknets._engine._flat import FlatParameters
from sknets._engine._progress import check_finite, check_finite_weights
from sknets._engine._stack_member import Member, share_orders
from sknets._nn import adam_

# Gathered rows of all nets together take about this many bytes at a time; on the CPU they stay in
# the cache, and in memory that is used again.
_BLOCK_BYTES = 2**26
_CPU_BLOCK_BYTES = 2**21


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

    def encode(self, target: Tensor) -> tuple[Tensor, ...]:
        """Return targets (G, n, ...) as this step wants them; the last axis is the row."""

    def begin_epoch(self, batch_sizes: list[int], counts: Tensor | None = None) -> None:
        """Forget the losses of the last epoch.

        `counts` (M, n_batches) says how many rows of each batch are real, if not all are.
        """

    def gradient(self, x: Tensor, target: tuple[Tensor, ...], weight: Tensor | None) -> None:
        """Compute the gradients of one batch, x of shape (M, B, F) or (G, B, F)."""

    def end_epoch_losses(self) -> Tensor:
        """Return the mean of each net's objective over the epoch, shape (M,)."""


# (members, weights (M, P), gradients (M, P), state (M, ...) each, groups) -> step
MakeStep = Callable[[Sequence[Member], Tensor, Tensor, list[Tensor], Sequence[slice]], StackedStep]


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return what a net has beside trained weights: buffers and weights that are not trained."""
    frozen = {n: p.detach() for n, p in module.named_parameters() if not p.requires_grad}
    return {**dict(module.named_buffers()), **frozen}


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
    make_step : callable (members, flat, grad, state) -> StackedStep
        Makes the step of the members that are left.
    solver : {"adam", "sgd"}
        Of all members.
    batch_size : int
        Rows of a batch.
    n_threads : int or None, default=None
        Threads at most.
    """

    def __init__(
        self,
        members: Sequence[Member],
        rows: Rows,
        target: Tensor,
        *,
        template: FlatParameters,
        make_step: MakeStep,
        solver: str,
        batch_size: int,
        n_threads: Threads | int | None = None,
    ) -> None:
        self.members = list(members)
        self.rows = rows
        self.target = target
        self.template = template
        self.make_step = make_step
        self.solver = solver
        self.batch_size = batch_size
        self.n_threads = n_threads
        self._n_steps = 0

    @property
    def engine(self) -> str:
        """Which way of computing gradients runs."""
        return self.step.name

    def run(self, after_epoch: Callable[[], Any] = lambda: None) -> None:
        """Train every member until it stops; failures are kept in ``member.error``.

        Where `after_epoch` returns True, all of them stop at once.
        """
        # Neighbours with the same rows share them, and with equal settings a kernel.
        places = {id(order): i for i, order in enumerate(share_orders(self.members))}
        active = sorted(self.members, key=lambda m: (places[id(m.order)], self._kernel_key(m)))
        state = [torch.stack(tensors) for tensors in zip(*(m.state for m in active), strict=True)]
        self._build(active, torch.stack([m.vector for m in active]), state, None)
        with limit_threads(self.n_threads):
            while self.active:
                self._epoch()
                if after_epoch():
                    return

    # -- state -----------------------------------------------------------------------------------

    def _kernel_key(self, member: Member) -> tuple:
        s = member.settings
        return (*s["betas"], s["eps"]) if self.solver == "adam" else ()

    def _build(
        self,
        active: list[Member],
        flat: Tensor,
        state: list[Tensor],
        moments: tuple[Tensor, ...] | None,
    ) -> None:
        self.active = active
        if not active:
            return
        self.flat, self.grad = flat, torch.zeros_like(flat)
        self._change = torch.empty_like(flat)  # its memory is touched where it is needed
        self.moments = moments or tuple(
            torch.zeros_like(flat) for _ in range(2 if self.solver == "adam" else 1)
        )
        self.state = state
        self._groups: list[slice] = []
        for _, group in groupby(active, lambda m: id(m.order)):
            start = self._groups[-1].stop if self._groups else 0
            self._groups.append(slice(start, start + len(list(group))))
        sizes = torch.tensor([group.stop - group.start for group in self._groups])
        self._group_of = torch.arange(len(sizes)).repeat_interleave(sizes).to(flat.device)
        self._memory = torch.empty(0, dtype=self.rows.dtype, device=self.rows.device)
        self.step = self.make_step(active, flat, self.grad, state, self._groups)

    def _keep(self, stays: list[bool]) -> None:
        """Go on with the members that stay."""
        if all(stays):
            return
        index = torch.tensor(stays, device=self.flat.device).nonzero()[:, 0]
        moments = tuple(moment[index] for moment in self.moments)
        active = [m for m, stay in zip(self.active, stays, strict=True) if stay]
        self._build(active, self.flat[index], [t[index] for t in self.state], moments)

    def _copy_of(self, i: int) -> tuple[Tensor, list[Tensor]]:
        """Return weights and state of net i."""
        return self.flat[i].clone(), [t[i].clone() for t in self.state]

    @torch.no_grad()
    def _load_template_(self, i: int) -> None:
        """Give the template the weights and the state of net i."""
        self.template.vector.copy_(self.flat[i])
        tensors = state_of(self.template.module).values()
        for tensor, values in zip(tensors, self.state, strict=True):
            tensor.copy_(values[i])

    # -- an epoch --------------------------------------------------------------------------------

    def _epoch(self) -> None:
        started = perf_counter()
        losses = self._train_epoch()
        stays = [
            self._end_epoch(i, member, loss, started)
            for i, (member, loss) in enumerate(zip(self.active, losses, strict=True))
        ]
        self._keep(stays)

    @np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite is looked for
    def _train_epoch(self) -> list[float]:
        active, size = self.active, self.batch_size
        lengths = [len(m.rows) for m in active]
        n_rows = max(lengths)
        order = np.zeros((len(self._groups), n_rows), dtype=np.int64)
        rows = np.zeros_like(order)
        for places, numbers, group in zip(order, rows, self._groups, strict=True):
            of_group = active[group.start].order
            places[: len(of_group.rows)] = of_group.next()
            numbers[:] = of_group.rows[places]
        weighted = any(m.weight is not None for m in active)
        padded = min(lengths) < n_rows
        weights = self._weights(order, lengths) if weighted or padded else None
        sizes = [min(size, n_rows - start) for start in range(0, n_rows, size)]
        starts = range(0, n_rows, size)
        # Of each batch, how many rows of each net are not padding.
        real = [[min(max(n - start, 0), size) for n in lengths] for start in starts]
        self.step.begin_epoch(sizes, self.flat.new_tensor(real).T if padded else None)
        updates = self._updates()
        per_batch = len(rows) * size * self.rows.n_features * self.rows.dtype.itemsize
        block_bytes = _CPU_BLOCK_BYTES if self.flat.device.type == "cpu" else _BLOCK_BYTES
        chunk = max(1, block_bytes // max(1, per_batch)) * size
        for start in range(0, n_rows, chunk):
            stop = min(start + chunk, n_rows)
            x, encoded = self._gather(rows[:, start:stop])
            for first in range(start, stop, size):
                here = slice(first - start, min(first + size, stop) - start)
                self.step.n_real = real[first // size]
                weight = None
                if weights is not None and (weighted or first + size > min(lengths)):
                    weight = weights[:, first : first + size]
                parts = tuple(t[..., here] for t in encoded)
                self.step.gradient(x[:, here], parts, weight)
                self._n_steps += 1
                for update in updates:
                    update()
        return self.step.end_epoch_losses().tolist()

    def _weights(self, order: np.ndarray, lengths: list[int]) -> Tensor:
        """Return the members' weights (M, n_rows), 0 where a member has no row."""
        real = np.arange(order.shape[1]) < np.array(lengths)[:, None]
        weights = torch.from_numpy(real).to(self.flat.device, self.flat.dtype)
        places = torch.from_numpy(order).to(weights.device)
        for g, group in enumerate(self._groups):
            for i in range(group.start, group.stop):
                weight, n = self.active[i].weight, lengths[i]
                if weight is not None:
                    weights[i, :n] = weight[places[g, :n]]
        return weights

    def _gather(self, rows: np.ndarray) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return X (G, n, F), or (M, n, F), and encoded targets (M, ..., n) of rows (G, n)."""
        index = torch.from_numpy(np.ascontiguousarray(rows).ravel())
        n_features = self.rows.n_features
        if len(index) * n_features > self._memory.numel():
            self._memory = self._memory.new_empty(len(index) * n_features)
        memory = self._memory[: len(index) * n_features].view(-1, n_features)
        x = self.rows.take(index, out=memory).view(*rows.shape, n_features)
        target = self.target[index.to(self.target.device)]
        target = target.view(*rows.shape, *self.target.shape[1:])
        encoded = self.step.encode(target)
        if len(self._groups) < len(self.active):
            encoded = tuple(t.index_select(0, self._group_of) for t in encoded)
            x = x if self.step.shares_rows else x.index_select(0, self._group_of)
        return x, encoded

    def _updates(self) -> list[Callable[[], Any]]:
        """Return the calls that make a step of all nets at the rates of this epoch."""
        rates = [m.schedule.rate for m in self.active]
        if self.solver == "adam":
            calls = []
            start = 0
            for key, group in groupby(self.active, self._kernel_key):
                here = slice(start, start + len(list(group)))
                calls.append(self._adam(here, rates[here], key))
                start = here.stop
            return calls
        momenta = [m.settings["momentum"] for m in self.active]
        rate, momentum = (self.flat.new_tensor(values)[:, None] for values in (rates, momenta))
        return [partial(self._sgd_, rate, momentum)]

    def _sgd_(self, rate: Tensor, momentum: Tensor) -> None:
        (velocity,) = self.moments
        velocity.mul_(momentum).addcmul_(self.grad, rate, value=-1.0)
        if self.active[0].settings["nesterov"]:
            self.flat.addcmul_(velocity, momentum).addcmul_(self.grad, rate, value=-1.0)
        else:
            self.flat.add_(velocity)

    def _adam(self, here: slice, rates: list[float], key: tuple) -> Callable[[], Any]:
        """Return a step of Adam for neighbours whose settings differ in the learning rate alone.

        The step is proportional to the rate: where rates differ, one kernel gives those of rate 1.
        """
        flat, grad, moments = self.flat[here], self.grad[here], [m[here] for m in self.moments]
        options = {"betas": key[:2], "eps": key[2]}
        if all(rate == rates[0] for rate in rates):
            return lambda: adam_(flat, grad, *moments, step=self._n_steps, lr=rates[0], **options)
        change, column = self._change[here], flat.new_tensor(rates)[:, None]

        def step() -> None:
            change.zero_()
            adam_(change, grad, *moments, step=self._n_steps, lr=1.0, **options)
            flat.addcmul_(change, column)

        return step

    # -- the end of an epoch ---------------------------------------------------------------------

    def _end_epoch(self, i: int, member: Member, loss: float, started: float) -> bool:
        """Record the epoch of net i and say whether it goes on."""
        settings, rate = member.settings, member.schedule.rate
        member.n_epochs += 1
        validation_loss = score = math.nan
        try:
            check_finite(loss, epoch=member.n_epochs, rate=rate)
            if member.validation is not None:
                self._load_template_(i)
                validation_loss, score = member.validation.measure(self.template.module)
        except ValueError as error:
            member.error = error
            return False
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
            member.best = self._copy_of(i)
        if not stops and member.n_epochs < settings["max_epochs"]:
            return True
        member.converged = stops
        member.vector, member.state = member.best or self._copy_of(i)
        try:
            check_finite_weights(member.vector, epoch=member.n_epochs, rate=member.schedule.rate)
        except ValueError as error:
            member.error = error
        return False
