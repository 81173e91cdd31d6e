"""Weights of a module as the arrays that scikit-learn's networks have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from sknets._data import as_numpy


class LiveWeights(list[Any]):
    """Arrays, one a layer. What is put in the place of one is written to the module too.

    Parameters
    ----------
    tensors : iterable of Tensor
        The module's, which share their memory with the arrays where arrays can.
    export : callable (Tensor) -> array
        Makes the array of a tensor.
    """

    def __init__(self, tensors: Iterable[Tensor], export: Callable[[Tensor], Any]) -> None:
        self._tensors, self._export = list(tensors), export
        super().__init__(map(export, self._tensors))

    def __setitem__(self, index: Any, value: Any) -> None:
        """Write the weights of a layer, or of some layers.

        Raises
        ------
        ValueError
            If their shape or number is another one; nothing is written then.
        """
        places = range(len(self))[index]
        many = isinstance(places, range)
        numbers, values = (list(places), list(value)) if many else ([places], [value])
        if len(values) != len(numbers):
            raise ValueError(f"There must be weights of {len(numbers)} layers, got {len(values)}.")
        new = [torch.as_tensor(as_numpy(each)) for each in values]
        for i, each in zip(numbers, new, strict=True):
            if each.shape != self._tensors[i].shape:
                raise ValueError(
                    f"Weights of layer {i} must have shape {tuple(self._tensors[i].shape)}, got "
                    f"{tuple(each.shape)}."
                )
        with torch.no_grad():
            for i, each in zip(numbers, new, strict=True):
                self._tensors[i].copy_(each)
                super().__setitem__(i, self._export(self._tensors[i]))

    def __reduce__(self) -> tuple[Any, ...]:
        """Be copied and pickled as a list of arrays."""
        return list, (list(self),)
