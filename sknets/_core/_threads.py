"""The number of threads of a piece of work, and nobody else's."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from threadpoolctl import ThreadpoolController


class Threads(NamedTuple):
    """How many threads a piece of work may use at most; None is as many as are set.

    A waiting thread of OpenMP, which torch's kernels run on, holds its core; one of BLAS gives it
    up. So products gain from a second thread earlier than kernels do.
    """

    torch: int | None = None
    blas: int | None = None


@functools.cache
def _pools() -> ThreadpoolController:
    """Return the process's thread pools; scanning the libraries costs milliseconds."""
    return ThreadpoolController()


@functools.cache
def _torch_openmp() -> ThreadpoolController:
    """Return the OpenMP pool that torch runs on."""
    controller = _pools().select(user_api="openmp")
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


class _SharedBlas:
    """NumPy's BLAS, and SciPy's, whose number of threads is one for the whole process.

    It is lowered while any work asks for it, and put back when the last of it ends, whatever the
    order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: list[int] = []
        self._before: list[int] = []
        self._libraries: list[Any] | None = None

    def enter(self, n_threads: int) -> None:
        """Lower the number of threads to at most `n_threads`."""
        with self._lock:
            if self._libraries is None:
                self._libraries = _pools().select(user_api="blas").lib_controllers
            if not self._limits:
                self._before = [library.num_threads for library in self._libraries]
            self._limits.append(n_threads)
            self._apply()

    def leave(self, n_threads: int) -> None:
        """Take one limit of `n_threads` back."""
        with self._lock:
            self._limits.remove(n_threads)
            self._apply()

    def _apply(self) -> None:
        assert self._libraries is not None
        for library, before in zip(self._libraries, self._before, strict=True):
            wanted = min([before, *self._limits])
            if library.num_threads != wanted:
                _free(library)
                library.set_num_threads(wanted)
                _free(library)


def _free(library: Any) -> None:
    """Let any thread set the library's number of threads.

    threadpoolctl keeps that to the first thread that has set it, and ignores the others.
    """
    clear = getattr(library, "clear_controlling_thread", None)  # older ones have no such rule
    if clear is not None:
        clear(force=True)


_BLAS = _SharedBlas()


@contextmanager
def limit_threads(limit: Threads | int | None) -> Iterator[None]:
    """Run the block on at most so many threads; None leaves the setting alone.

    OpenMP and MKL keep the number of threads per calling thread, so a limit set here is not seen
    by other threads. NumPy's OpenBLAS has one number for the process: it is lowered as long as
    some thread is in such a block. Both are put back on leaving, after an error too.
    """
    threads = limit if isinstance(limit, Threads) else Threads(limit, limit)
    if threads.blas is None:
        with _limit_torch(threads.torch):
            yield
        return
    _BLAS.enter(threads.blas)
    try:
        with _limit_torch(threads.torch):
            yield
    finally:
        _BLAS.leave(threads.blas)


@contextmanager
def _limit_torch(n_threads: int | None) -> Iterator[None]:
    if n_threads is None or torch.get_num_threads() <= n_threads:
        yield
        return
    set_mkl_threads = _set_mkl_threads()
    before = 0 if set_mkl_threads is None else set_mkl_threads(n_threads)
    # Not by threadpoolctl's own `limit`, which takes as long as a prediction of ten rows.
    pools = [(pool, pool.num_threads) for pool in _torch_openmp().lib_controllers]
    try:
        for pool, _ in pools:
            pool.set_num_threads(n_threads)
        yield
    finally:
        for pool, n_before in pools:
            pool.set_num_threads(n_before)
        if set_mkl_threads is not None:
            set_mkl_threads(before)
