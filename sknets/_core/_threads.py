"""The number of threads of the calling thread's own work, and nobody else's."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import ThreadpoolController


@functools.cache
def _torch_openmp() -> ThreadpoolController:
    """Return the OpenMP pool that torch runs on; scanning the libraries costs milliseconds."""
    controller = ThreadpoolController().select(user_api="openmp")
    theirs = [lib for lib in controller.lib_controllers if "torch" in (lib.filepath or "")]
    controller.lib_controllers = theirs or controller.lib_controllers
    return controller


@contextmanager
def limit_threads(n_threads: int | None) -> Iterator[None]:
    """Run the block on at most `n_threads` threads; None leaves the setting alone.

    OpenMP keeps the number of threads per calling thread, so a limit set here is not seen by
    other threads, and it is put back on leaving, after an error too.
    """
    if n_threads is None or torch.get_num_threads() <= n_threads:
        yield
        return
    with _torch_openmp().limit(limits=n_threads):
        yield
