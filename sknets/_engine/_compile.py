"""Modules through torch's compiler."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch
from torch import nn

# What torch's compiler calls for the CPU, by the environment or by name.
_COMPILERS = ("g++", "clang++", "c++", "cl")


def compiled(module: nn.Module, device: torch.device, *, draws: bool) -> nn.Module:
    """Return the module compiled by ``torch.compile``; it is translated when it first runs.

    Parameters
    ----------
    draws : bool
        Whether the module draws random numbers.

    Raises
    ------
    ValueError
        If what compiles is missing, or if the module draws random numbers, which compiled code
        takes from torch's global generator.
    """
    if draws:
        raise ValueError(
            "compile must be False for a net that draws random numbers in training, which would "
            "come from torch's global generator, got True. Set dropout to 0, or compile to False."
        )
    missing = _what_is_missing(device)
    if missing:
        raise ValueError(f"compile must be False where there is no {missing}, got True.")
    return torch.compile(module)  # type: ignore[return-value]  # a module, though typed otherwise


def _what_is_missing(device: torch.device) -> str | None:
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "Triton (pip install triton)"
    names = [os.environ["CXX"]] if os.environ.get("CXX") else _COMPILERS
    if any(shutil.which(name) for name in names):
        return None
    return f"C++ compiler (looked for {', '.join(names)}; set CXX to name another)"
