"""Many nets of one shape, trained together as one computation.

Every net has the rows, shuffles, dropout masks, schedule and stop that it would have alone; only
the arithmetic is shared. Nets that stop leave the stack. What computes the gradients of all nets
is a `StackedStep`, of one kind for dense nets and of another for any module; the rest is the same.

Conventions: M nets still in the stack, P weights of a net, B rows of a batch, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sknets._core import Threads, limit_threads
from sknets._data import Rows
from sknets._engine._cuda_graphs import MOST_BATCHES, BlockGraphs, make_block_graphs
from sknets._engine._flat import FlatParameters
from sknets._engine._numba_epochs import NumbaEpochs, make_numba_stack
from sknets._engine._progress import check_finite, check_finite_weights
from sknets._engine._stack_epoch import StackEpochs
from sknets._engine._stack_member import Member, share_orders
from sknets._engine._stack_updates import StackUpdates, kernel_key
from sknets._engine._step import StackedStep

# Gathered rows of all nets together take about this many bytes at a time; on the CPU they stay in
# the cache, and in memory that is used again.
_BLOCK_BYTES = 2**26
_CPU_BLOCK_BYTES = 2**21

# The share of a stack's nets that have to be gone before graphs of the others are worth making.
_GONE_OF_A_GRAPH = 0.25


# (members, weights (M, P), gradients (M, P), state (M, ...) each, groups) -> step
MakeStep = Callable[[Sequence[Member], Tensor, Tensor, list[Tensor], Sequence[slice]], StackedStep]


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return what a net has beside trained weights: buffers and weights that are not trained."""
    frozen = {n: p.detach() for n, p in module.named_parameters() if not p.requires_grad}
    return {**dict(module.named_buffers()), **frozen}


# x, target, weight, and how many rows of each net are real.
_Batch = tuple[Tensor, tuple[Tensor, ...], Tensor | None, list[int]]


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
    make_step : callable (members, flat, grad, state, groups) -> StackedStep
        Makes the step of the members that are left.
    solver : {"adam", "sgd"}
        Of all members.
    batch_size : int
        Rows of a batch.
    n_threads : int or None, default=None
        Threads at most.
    by_numba : NumbaEpochs or None, default=None
        Trains in place of the step.
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
        by_numba: NumbaEpochs | None = None,
    ) -> None:
        self.members = list(members)
        self.rows = rows
        self.target = target
        self.template = template
        self.make_step = make_step
        self.solver = solver
        self.batch_size = batch_size
        self.n_threads = n_threads
        self.by_numba = by_numba
        self._n_done = 0  # steps
        self._has_launched = False

    @property
    def engine(self) -> str:
        """Which way of computing gradients runs."""
        if self.by_numba is not None:
            return f"{self.step.name}, numba"
        return f"{self.step.name}, CUDA graphs" if self._has_launched else self.step.name

    def run(self, after_epoch: Callable[[], Any] = lambda: None) -> None:
        """Train every member until it stops; failures are kept in ``member.error``.

        Where `after_epoch` returns True, all of them stop at once.
        """
        # Neighbours with the same rows share them, and with equal settings a kernel.
        places = {id(order): i for i, order in enumerate(share_orders(self.members))}
        by_kernel = partial(kernel_key, solver=self.solver)
        active = sorted(self.members, key=lambda m: (places[id(m.order)], by_kernel(m)))
        states = zip(*(m.state for m in active), strict=True)
        state = [torch.stack(tensors).to(self.rows.device) for tensors in states]
        flat = torch.stack([m.vector for m in active]).to(self.rows.device)
        self._build(active, flat, state, None)
        with limit_threads(self.n_threads):
            while self.active:
                self._epoch()
                if after_epoch():
                    return

    # -- state -----------------------------------------------------------------------------------

    def _build(
        self,
        active: list[Member],
        flat: Tensor,
        state: list[Tensor],
        moments: tuple[Tensor, ...] | None,
    ) -> None:
        self.active = active
        self._runs = [True] * len(active)  # which of them go on
        if not active:
            return
        self.flat, self.grad = flat, torch.zeros_like(flat)
        self.moments = moments or tuple(
            torch.zeros_like(flat) for _ in range(2 if self.solver == "adam" else 1)
        )
        self._updates = StackUpdates(
            active, flat, self.grad, self.moments, solver=self.solver, n_done=self._n_done
        )
        self.state = state
        self._groups: list[slice] = []
        for _, group in groupby(active, lambda m: id(m.order)):
            start = self._groups[-1].stop if self._groups else 0
            self._groups.append(slice(start, start + len(list(group))))
        sizes = torch.tensor([group.stop - group.start for group in self._groups])
        self._group_of = torch.arange(len(sizes)).repeat_interleave(sizes).to(flat.device)
        self._epochs = StackEpochs(active, self._groups, self.batch_size, flat)
        self._rooms: dict[str, Tensor] = {}
        self.step = self.make_step(active, flat, self.grad, state, self._groups)
        self._graphs = None
        if self.step.is_capturable:
            self._graphs = make_block_graphs(self.template.module, flat.device)
        self._blocks: list[slice] = []
        self._train_by_numba = None
        if self.by_numba is None:
            self._blocks += self._epochs.blocks(self._batches_of_a_block())
        else:
            tensors = (flat, self.grad, *self.moments)
            self._train_by_numba = make_numba_stack(
                self.by_numba, self._epochs, self.rows, self.target, tensors
            )

    def _keep(self, stays: list[bool]) -> None:
        """Go on with the members that stay."""
        n_gone = len(stays) - sum(stays)
        # A smaller stack needs graphs of its own: so long as few are gone, they run along.
        has_graphs = self._graphs is not None and self._graphs.n_launches > 0
        fewest_gone = _GONE_OF_A_GRAPH * len(stays) if has_graphs else 1
        if n_gone < fewest_gone and any(stays):
            self._runs = stays
            return
        self._n_done = self._updates.n_done
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
        n_running = sum(self._runs)
        stays = [
            runs and self._end_epoch(i, member, loss, started, n_running)
            for i, (member, loss, runs) in enumerate(
                zip(self.active, losses, self._runs, strict=True)
            )
        ]
        self._keep(stays)

    @np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite is looked for
    def _train_epoch(self) -> list[float]:
        epochs = self._epochs
        epochs.begin()
        if self._train_by_numba is not None:
            return self._train_by_numba(self._updates.next_rates(len(epochs.sizes)))
        if self._graphs is not None:
            return self._train_epoch_by_graphs(self._graphs).tolist()
        self.step.begin_epoch(epochs.sizes, epochs.counts if epochs.is_padded else None)
        updates = self._updates.calls()
        for block in self._blocks:
            for x, target, weight, n_real in self._batches(block, *self._gather(block)):
                self.step.n_real = n_real
                self.step.gradient(x, target, weight)
                for update in updates:
                    update()
        return self.step.end_epoch().tolist()

    def _batches_of_a_block(self) -> int:
        on_cpu = self.flat.device.type == "cpu"
        # On the CPU, rows that nets do not share are in the cache once a group.
        n_copies = len(self._groups) if on_cpu or self.step.shares_rows else len(self.active)
        per_batch = n_copies * self.batch_size * self.rows.n_features * self.rows.dtype.itemsize
        n_batches = (_CPU_BLOCK_BYTES if on_cpu else _BLOCK_BYTES) // max(1, per_batch)
        return max(1, n_batches if self._graphs is None else min(n_batches, MOST_BATCHES))

    def _batches(
        self, block: slice, x: Tensor, encoded: tuple[Tensor, ...], weights: Tensor | None
    ) -> Iterator[_Batch]:
        """Yield the batches of a block, of its rows, targets and weights."""
        epochs = self._epochs
        for i in range(block.start, block.stop):
            first = (i - block.start) * self.batch_size
            here = slice(first, first + epochs.sizes[i])
            parts = tuple(t[..., here] for t in encoded)
            weight = None
            if weights is not None and epochs.needs_weights[i]:
                weight = weights[:, here]
            yield x[:, here], parts, weight, epochs.real[i]

    def _gather(self, block: slice) -> tuple[Tensor, tuple[Tensor, ...], Tensor | None]:
        """Return X (G, n, F), or (M, n, F), targets (M, ..., n) and weights (M, n) of a block.

        Where there are graphs, they lie where those of the last block lay.
        """
        rows = self._epochs.rows[:, self._epochs.columns(block)]
        index = torch.from_numpy(np.ascontiguousarray(rows).ravel())
        like = torch.empty(0, dtype=self.rows.dtype, device=self.rows.device)
        x = self.rows.take(index, out=self._room("x", like, len(index), self.rows.n_features))
        x = x.view(*rows.shape, -1)
        target = self.target[index.to(self.target.device)]
        target = target.view(*rows.shape, *self.target.shape[1:])
        encoded = self.step.encode(target)
        if len(self._groups) < len(self.active):
            encoded = tuple(self._for_each_net(f"target {i}", t) for i, t in enumerate(encoded))
            if not self.step.shares_rows:
                x = self._for_each_net("x of each net", x)
        elif self._graphs is not None:
            encoded = tuple(
                self._room(f"target {i}", t, *t.shape).copy_(t) for i, t in enumerate(encoded)
            )
        weights = self._epochs.weights(block)
        if weights is not None and self._graphs is not None:
            weights = self._room("weights", weights, *weights.shape).copy_(weights)
        return x, encoded, weights

    def _for_each_net(self, name: str, of_groups: Tensor) -> Tensor:
        """Return (M, ...) of (G, ...)."""
        room = self._room(name, of_groups, len(self.active), *of_groups.shape[1:])
        return torch.index_select(of_groups, 0, self._group_of, out=room)

    def _room(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """Return memory of a shape, the same that the last block had under this name."""
        n = math.prod(shape)
        room = self._rooms.get(name)
        if room is None or room.numel() < n:
            room = self._rooms[name] = like.new_empty(n)
        return room[:n].view(shape)

    # -- an epoch by graphs ----------------------------------------------------------------------

    def _train_epoch_by_graphs(self, graphs: BlockGraphs) -> Tensor:
        total = self.flat.new_zeros(len(self.active), dtype=torch.float64)
        counts = self._epochs.counts.to(torch.float64)
        running = [m for m, runs in zip(self.active, self._runs, strict=True) if runs]
        n_epochs = max(m.settings["max_epochs"] - m.n_epochs for m in running)
        for i, block in enumerate(self._blocks):
            gathered = self._gather(block)
            self._updates.plan(block.stop - block.start, MOST_BATCHES)
            call = partial(self._train_block, block, gathered)
            n_left = n_epochs * len(self._blocks) - i
            loss = graphs.run(self._epochs.key(block), call, n_left)
            total += loss * counts[:, block].sum(-1)
        self._has_launched |= graphs.n_launches > 0
        return total / counts.sum(-1)

    def _train_block(self, block: slice, gathered: tuple[Any, ...]) -> Tensor:
        """Make the steps of a block, at planned rates, and return the nets' mean losses (M,)."""
        self.step.begin_epoch(self._epochs.sizes[block], self._epochs.counts[:, block])
        for i, (rows, target, weight, n_real) in enumerate(self._batches(block, *gathered)):
            self.step.n_real = n_real
            self.step.gradient(rows, target, weight)
            self._updates.update_at(i)
        return self.step.end_epoch()

    # -- the end of an epoch ---------------------------------------------------------------------

    def _end_epoch(
        self, i: int, member: Member, loss: float, started: float, n_running: int
    ) -> bool:
        """Record the epoch of net i, one of those that run, and say whether it goes on."""
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
        seconds = (perf_counter() - started) / n_running
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
