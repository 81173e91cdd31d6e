"""Updates of all nets of a stack.

Conventions: M nets, P weights of a net.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknets._engine._stack_member import Member
from sknets._nn import adam_, adam_rate, sgd_, sgd_rate


class StackUpdates:
    """Makes the steps of a solver, with the settings of each net.

    Parameters
    ----------
    members : sequence of Member
        The nets; neighbours with equal `kernel_key` share a kernel.
    flat, grad : Tensor of shape (M, P)
        Weights and gradients.
    moments : tuple of Tensor of shape (M, P)
        What the solver remembers.
    solver : {"adam", "sgd"}
        Of all members.
    n_done : int
        Steps that are done.
    """

    def __init__(
        self,
        members: Sequence[Member],
        flat: Tensor,
        grad: Tensor,
        moments: tuple[Tensor, ...],
        *,
        solver: str,
        n_done: int,
    ) -> None:
        self._members = members
        self._flat, self._grad, self._moments = flat, grad, moments
        self._change = torch.empty_like(flat)  # its memory is touched where it is needed
        self._solver = solver
        self.n_done = n_done
        self._nesterov = bool(members[0].settings["nesterov"])
        self._momentum = flat.new_tensor([m.settings["momentum"] for m in members])[:, None]
        self._groups: list[tuple[slice, tuple]] = []
        start = 0
        for key, group in groupby(members, partial(kernel_key, solver=solver)):
            here = slice(start, start + len(list(group)))
            self._groups.append((here, key))
            start = here.stop
        self._planned: Tensor | None = None

    # -- rates of this epoch ---------------------------------------------------------------------

    def calls(self) -> list[Callable[[], Any]]:
        """Return the calls that make a step of all nets at the rates of this epoch."""
        rates = self._rates()
        if self._solver == "adam":
            steps = [self._adam(here, rates[here], key) for here, key in self._groups]
        else:
            steps = [partial(self._sgd_, self._flat.new_tensor(rates)[:, None])]
        return [self._count, *steps]

    def _rates(self) -> list[float]:
        rates = [m.schedule.rate for m in self._members]
        if self._solver == "adam":
            return rates
        return [sgd_rate(rate, self._flat.dtype) for rate in rates]

    def _count(self) -> None:
        self.n_done += 1

    def _sgd_(self, rate: Tensor) -> None:
        (velocity,) = self._moments
        momentum, nesterov = self._momentum, self._nesterov
        sgd_(self._flat, self._grad, velocity, rate=rate, momentum=momentum, nesterov=nesterov)

    def _adam(self, here: slice, rates: list[float], key: tuple) -> Callable[[], Any]:
        """Return a step of Adam for neighbours whose settings differ in the learning rate alone."""
        parts = self._parts(here)
        betas, eps = key[:2], key[2]
        change, lr = self._change[here], rates[0]
        column = None
        if any(rate != lr for rate in rates):
            column = self._flat.new_tensor(rates)[:, None]

        def step() -> None:
            rate: float | Tensor = adam_rate(lr, self.n_done, betas)
            if column is not None:
                rate = column * adam_rate(1.0, self.n_done, betas)
            adam_(*parts, rate=rate, betas=betas, eps=eps, change=change)

        return step

    def _parts(self, here: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return weights, gradients and both moments of neighbours."""
        first, second = self._moments
        return self._flat[here], self._grad[here], first[here], second[here]

    # -- rates in the device's memory ------------------------------------------------------------

    def plan(self, n: int, most: int) -> None:
        """Write the rates of the next n steps, of `most` at most, to memory; count them as done."""
        if self._planned is None:
            self._planned = self._flat.new_empty(most, len(self._members), 1)
        self._planned[:n] = torch.from_numpy(self.next_rates(n))[:, :, None].to(self._planned)

    def next_rates(self, n: int) -> np.ndarray:
        """Return the rates (n, M) of the next n steps, and count these as done."""
        rates = np.array(self._rates(), np.float64)
        table = np.tile(rates, (n, 1))
        for row in table:
            self.n_done += 1
            for here, key in self._groups if self._solver == "adam" else ():
                row[here] = adam_rate(rates[here], self.n_done, key[:2])
        return table

    def update_at(self, i: int) -> None:
        """Make step number i of those planned; Python does the same in every call."""
        assert self._planned is not None
        rates = self._planned[i]
        if self._solver == "sgd":
            self._sgd_(rates)
            return
        for here, key in self._groups:
            parts, change = self._parts(here), self._change[here]
            adam_(*parts, rate=rates[here], betas=key[:2], eps=key[2], change=change)


def kernel_key(member: Member, *, solver: str) -> tuple:
    """Return the settings that are those of a kernel, the same for all nets that it updates."""
    s = member.settings
    return (*s["betas"], s["eps"]) if solver == "adam" else ()
