"""Results that come a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from scipy import sparse


def assemble(parts: Iterable[tuple[int, int, Any]], n: int) -> Any:
    """Lay parts one after another in memory that is taken once.

    Parameters
    ----------
    parts : iterable of (start, stop, part)
        Tensors, arrays or CSR matrices of rows ``start`` to ``stop``, in order.
    n : int
        Rows in all.
    """
    whole: Any = None
    pieces = []
    for start, stop, part in parts:
        if stop - start == n:
            whole = part
        elif sparse.issparse(part):
            pieces.append(part)
        else:
            if whole is None:
                shape = (n, *part.shape[1:])
                is_tensor = isinstance(part, torch.Tensor)
                whole = part.new_empty(shape) if is_tensor else np.empty(shape, part.dtype)
            whole[start:stop] = part
    return sparse.vstack(pieces, format="csr") if pieces else whole
