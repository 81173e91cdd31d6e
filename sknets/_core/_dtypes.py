"""Floating types that torch and NumPy share."""

import numpy as np
import torch


def numpy_dtype(dtype: torch.dtype) -> np.dtype:
    """Return NumPy's name of torch's float32 or float64."""
    return np.dtype(str(dtype).removeprefix("torch."))


def wide_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of a device that sums of many numbers are kept in."""
    return torch.float32 if device.type == "mps" else torch.float64


def in_numpy(tensor: torch.Tensor) -> bool:
    """Whether NumPy computes with the memory of a tensor: on the CPU, in its own dtypes."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
