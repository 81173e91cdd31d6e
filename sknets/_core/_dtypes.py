"""One floating type, two libraries' names of it."""

import numpy as np
import torch


def numpy_dtype(dtype: torch.dtype) -> np.dtype:
    """Return NumPy's name of torch's float32 or float64."""
    return np.dtype(str(dtype).removeprefix("torch."))
