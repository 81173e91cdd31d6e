"""How much memory there is, and whether an error says that it was not enough."""

from __future__ import annotations

import gc
import os
import threading

import torch

capture_lock = threading.Lock()
"""Held while a CUDA graph is captured: meanwhile no memory is given back to a device."""


def free_bytes(device: torch.device) -> int:
    """Return how much memory of a device is free, as far as it can be known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not a POSIX system
        return 2**32


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of NumPy's or torch's says that memory ran out.

    torch has a class of its own for accelerators; on the CPU it raises a plain RuntimeError.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def release_memory(device: torch.device) -> None:
    """Give memory that torch keeps for later, or that nobody can reach, back to an accelerator."""
    if device.type == "cuda":
        gc.collect()
        with capture_lock:
            torch.cuda.empty_cache()
