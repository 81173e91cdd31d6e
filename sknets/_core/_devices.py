"""Devices and precision: settings resolved to what torch understands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


def resolve_device(device: Any, *, given: torch.device | None = None) -> torch.device:
    """Return the torch device that the parameter `device` stands for.

    Parameters
    ----------
    device : str or torch.device
        "auto", "cpu", "cuda", "cuda:1", "mps", ...
    given : torch.device or None, default=None
        Where the data already is; "auto" stays there.

    Raises
    ------
    ValueError
        If torch does not know the device or it is not present on this machine.
    """
    if isinstance(device, str) and device == "auto":
        if given is not None:
            return given
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f'device must be "auto" or a name that torch knows ("cpu", "cuda", "cuda:1", "mps"), '
            f"got {device!r}."
        ) from error
    _check_present(resolved, device)
    if resolved.type == "cuda" and resolved.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return resolved


def _check_present(resolved: torch.device, device: Any) -> None:
    if resolved.type == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (resolved.index or 0) >= n_devices:
            raise ValueError(
                f"device must be present on this machine, which has {n_devices} CUDA device(s), "
                f'got {device!r}. Use device="auto" to take a GPU only where there is one.'
            )
    elif resolved.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(
            f"device must be present on this machine, which has no MPS device, got {device!r}. "
            'Use device="auto" to take a GPU only where there is one.'
        )


@dataclass(frozen=True)
class Precision:
    """What a fit computes in: the dtype of weights and data, and autocast's or none."""

    dtype: torch.dtype
    autocast: torch.dtype | None = None


def resolve_precision(
    precision: str, *, device: torch.device, input_dtype: torch.dtype
) -> Precision:
    """Return the dtype to compute in.

    "auto" keeps float32 input in float32 and computes everything else in float64 on the CPU,
    as scikit-learn does; on an accelerator it is float32. "bf16" is mixed precision: float32
    weights, bfloat16 products.
    """
    if precision == "bf16":
        return Precision(torch.float32, torch.bfloat16)
    if precision == "float64" and device.type == "mps":
        raise ValueError('precision must not be "float64" on an MPS device, which has none.')
    if precision == "auto":
        low = (torch.float32, torch.bfloat16)
        single = device.type != "cpu" or input_dtype in low
        return Precision(torch.float32 if single else torch.float64)
    return Precision({"float32": torch.float32, "float64": torch.float64}[precision])


def is_present(device: torch.device) -> bool:
    """Whether `device` can be used on this machine."""
    try:
        _check_present(device, device)
    except ValueError:
        return False
    return True
