"""The number of threads of the calling thread's own work, and nobody else's."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
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


@functools.cache
def _set_mkl_threads() -> Callable[[int], int] | None:
    """Return MKL's setter of the calling thread's limit, or None where torch has no MKL.

    After ``torch.set_num_threads`` MKL, which computes the products, no longer asks OpenMP.
    """
    try:
        return ctypes.CDLL(torch._C.__file__).MKL_Set_Num_Threads_Local
    except (AttributeError, OSError):
        return None


@contextmanager
def limit_threads(n_threads: int | None) -> Iterator[None]:
    """Run the block on at most `n_threads` threads; None leaves the setting alone.

    OpenMP and MKL keep the number of threads per calling thread, so a limit set here is not seen
    by other threads, and it is put back on leaving, after an error too.
    """
    if n_threads is None or torch.get_num_threads() <= n_threads:
        yield
        return
    set_mkl_threads = _set_mkl_threads()
    before = 0 if set_mkl_threads is None else set_mkl_threads(n_threads)
    try:
        with _torch_openmp().limit(limits=n_threads):
            yield
    finally:
        if set_mkl_threads is not None:
            set_mkl_threads(before)
