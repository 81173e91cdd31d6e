"""Stacks as tasks: in this process, on several devices, or on the workers of a joblib backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from queue import Queue
from typing import Any

import torch
from joblib import effective_n_jobs, parallel_config
from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed

from sknets._base import StackedFit, cut_stacks, run_stack
from sknets._core import limit_threads
from sknets.model_selection._progress import SearchProgress, StackProgress

Devices = Sequence[torch.device]


@dataclass
class Workers:
    """Where the fits of a search run.

    Attributes
    ----------
    n_jobs : int or None
        Of the search: how many processes, or workers of a backend.
    devices : list of torch.device
        Which share the stacks; none for wherever the data is.
    """

    n_jobs: int | None
    devices: list[torch.device]

    def __post_init__(self) -> None:
        # joblib does not say whether the user registered a backend; but only its own default
        # gives way where threads are preferred.
        backend, self._n_jobs_of_backend = get_active_backend()
        with_threads, _ = get_active_backend(prefer="threads")
        self._backend = backend if type(backend) is type(with_threads) else None

    @property
    def n_stacks(self) -> int:
        """How many stacks run at once.

        `n_jobs` alone does not spread stacks: in one process a stack has all threads, and starting
        others takes longer than most stacks.
        """
        if self.devices:
            return len(self.devices)
        return 1 if self._backend is None else effective_n_jobs(self.n_jobs)

    def as_registered(self) -> AbstractContextManager:
        """Use the user's backend in the block, within that of `none`."""
        if self._backend is None:
            return nullcontext()
        return parallel_config(backend=self._backend, n_jobs=self._n_jobs_of_backend)

    def none(self) -> AbstractContextManager:
        """Spread nothing to the user's backend in the block."""
        if self._backend is None:
            return nullcontext()
        return parallel_config(backend="sequential", n_jobs=1)


def run_stacks(
    fits: Sequence[StackedFit],
    *,
    max_bytes: int | None,
    workers: Workers,
    progress: SearchProgress,
) -> None:
    """Make all fits in stacks and say which stack each ran in.

    Parameters
    ----------
    max_bytes : int or None
        Memory that a stack may take; None is found out.
    """
    n_workers = workers.n_stacks
    stacks = cut_stacks(fits, max_bytes=max_bytes, n_workers=n_workers)
    context = progress.begin("stacks", len(stacks))
    watched = progress.of_stacks(stacks, context)
    tasks = list(zip(stacks, watched, strict=True))
    if workers.devices:
        made = _run_on_devices(tasks, workers.devices)
    elif n_workers > 1:
        made = _run_on_workers(tasks, workers.n_jobs, n_workers)
    else:
        made = [_run_here(stack, watch) for stack, watch in tasks]
    progress.end(context)
    number = 0
    for stack, sizes in zip(stacks, made, strict=True):
        start = 0
        for size in sizes:
            number += 1
            for fit in stack[start : start + size]:
                fit.where = f"stack {number} ({size} net{'s' if size > 1 else ''})"
            start += size


def _run_here(stack: list[StackedFit], watch: StackProgress) -> list[int]:
    """Run a stack and return the sizes of the parts that it was run in."""
    with watch:
        return [len(part) for part in run_stack(stack, watch.after_epoch)]


# -- several devices -----------------------------------------------------------------------------


def _run_on_devices(
    tasks: Sequence[tuple[list[StackedFit], StackProgress]], devices: Devices
) -> list[list[int]]:
    """Run every stack on the device that is free first; a thread a device."""
    free: Queue[torch.device] = Queue()
    for device in devices:
        free.put(device)
    moved: dict[tuple[int, torch.device], Any] = {}
    n_threads = max(1, torch.get_num_threads() // len(devices))

    def run(stack: list[StackedFit], watch: StackProgress) -> list[int]:
        device = free.get()
        try:
            key = (id(stack[0].data), device)
            if key not in moved:
                moved[key] = stack[0].data.to(device)
            here = moved[key]
            for fit in stack:
                fit.data = here
            with limit_threads(n_threads if device.type == "cpu" else None):
                return _run_here(stack, watch)
        finally:
            free.put(device)

    given = [stack[0].data for stack, _ in tasks]  # kept, so that no other gets its id
    made = _in_threads(run, tasks, len(devices))
    del given
    return made


def _in_threads(run: Callable, tasks: Sequence[tuple], n_threads: int) -> list[list[int]]:
    parallel = Parallel(n_jobs=n_threads, backend="threading", batch_size=1)
    return parallel(delayed(run)(*task) for task in tasks)


# -- a joblib backend ----------------------------------------------------------------------------


def _run_on_workers(
    tasks: Sequence[tuple[list[StackedFit], StackProgress]], n_jobs: int | None, n_workers: int
) -> list[list[int]]:
    """Run every stack on a worker, which may be another process or another machine."""
    here = os.getpid()
    results = Parallel(n_jobs=n_jobs, batch_size=1)(
        delayed(_run_on_worker)(stack, watch, here, n_workers) for stack, watch in tasks
    )
    made = []
    for (stack, _), (fits, sizes) in zip(tasks, results, strict=True):
        for fit, result in zip(stack, fits, strict=True):
            if result.estimator is not fit.estimator:  # a copy came back from another process
                vars(fit.estimator).update(vars(result.estimator))
            fit.where, fit.error = result.where, result.error
            fit.seconds, fit.is_done = result.seconds, result.is_done
        made.append(sizes)
    return made


def _run_on_worker(
    stack: list[StackedFit], watch: StackProgress, caller: int, n_workers: int
) -> tuple[list[StackedFit], list[int]]:
    """Run a stack and return its fits without their data."""
    # Workers that are threads of the caller share its cores; processes see to that themselves.
    shared = max(1, torch.get_num_threads() // n_workers) if os.getpid() == caller else None
    with limit_threads(shared):
        sizes = _run_here(stack, watch)
    return [replace(fit, data=None) for fit in stack], sizes  # type: ignore[arg-type]
