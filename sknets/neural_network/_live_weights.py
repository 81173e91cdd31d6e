"""Weights of a module as the arrays that scikit-learn's networks have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sknets._data import as_numpy


class LiveWeights(list[Any]):
    """Arrays, one a layer. What is put in the place of one goes to the module too.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        The module's. Weights (n_out, n_in) are shown as (n_in, n_out), transposed.
    export : callable (Tensor) -> array
        Makes the array of a tensor, over the same memory where arrays can.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], export: Callable[[Tensor], Any]) -> None:
        self._parameters, self._export = list(parameters), export
        super().__init__(export(_shown(p)) for p in self._parameters)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Give a layer, or some layers, new weights. Arrays that were shown keep what they hold.

        Raises
        ------
        ValueError
            If their shape or number is another one; nothing is set then.
        """
        places = range(len(self))[index]
        many = isinstance(places, range)
        numbers, values = (list(places), list(value)) if many else ([places], [value])
        if len(values) != len(numbers):
            raise ValueError(f"There must be weights of {len(numbers)} layers, got {len(values)}.")
        new = []
        for i, each in zip(numbers, values, strict=True):
            shown = _shown(self._parameters[i])
            tensor = _copy_of(each, shown)
            if tensor.shape != shown.shape:
                raise ValueError(
                    f"Weights of layer {i} must have shape {tuple(shown.shape)}, got "
                    f"{tuple(tensor.shape)}."
                )
            new.append(tensor)
        for i, tensor in zip(numbers, new, strict=True):
            self._parameters[i].data = _shown(tensor)
            super().__setitem__(i, self._export(_shown(self._parameters[i])))

    def __reduce__(self) -> tuple[Any, ...]:
        """Be copied and pickled as a list of arrays."""
        return list, (list(self),)


def _shown(tensor: Tensor) -> Tensor:
    return tensor.T if tensor.ndim == 2 else tensor


def _copy_of(values: Any, like: Tensor) -> Tensor:
    """Return a copy of numbers of any kind, with the dtype and device of `like`."""
    if not isinstance(values, Tensor):
        values = torch.from_numpy(np.array(as_numpy(values), dtype=np.float64))
    return values.detach().to(like.device, like.dtype, copy=True)
