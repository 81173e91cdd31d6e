"""How soon a thread that waits for Python's lock asks for it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds; Python's default is 0.005. A thread that comes back from a kernel then has its turn after
# this long, not after the other thread's next kernel or the one after that.
_INTERVAL = 1e-5


class _SharedInterval:
    """The interval of the process: short while any work asks for it, whatever the order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_asking = 0
        self._before = 0.0

    def enter(self) -> None:
        with self._lock:
            if self._n_asking == 0:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, _INTERVAL))
            self._n_asking += 1

    def leave(self) -> None:
        with self._lock:
            self._n_asking -= 1
            if self._n_asking == 0:
                sys.setswitchinterval(self._before)


_SHARED = _SharedInterval()


@contextmanager
def quick_switching() -> Iterator[None]:
    """Let threads that run short kernels take turns quickly, as long as the block runs."""
    _SHARED.enter()
    try:
        yield
    finally:
        _SHARED.leave()
