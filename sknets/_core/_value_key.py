"""When two settings count as equal."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Hashable
from types import CellType, FunctionType, MethodType
from typing import Any
from weakref import ReferenceType

import joblib
import numpy as np
import torch
from torch import nn

PLAIN_TYPES = (str, bytes, bool, int, float, np.number, np.bool_, type(None))
"""Settings of these types cannot change, and are equal if they read alike."""

# What torch itself keeps in a module; `_held` says what of it counts.
_OF_ANY_MODULE = frozenset(vars(nn.Module()))


def value_key(value: Any) -> Hashable:
    """Return something that is equal for equal modules and factories, clones among them.

    Classes are equal if they are the same; functions if their code is, and what it refers to;
    modules by their layers, weights, hooks and attributes; other objects by what they hold. What
    cannot be compared equals itself alone.
    """
    return _Keys({}).of(value)


def attribute_keys(module: nn.Module) -> dict[str, Hashable]:
    """Return what the layers of a module are and hold, beside the numbers of weights and buffers.

    In two modules of one structure the numbers may differ, and the keys, by name, be equal.
    """
    known = {id(tensor): name for name, tensor in module.state_dict(keep_vars=True).items()}
    known |= {id(layer): path for path, layer in module.named_modules()}
    keys: dict[str, Hashable] = {
        f"{name}.requires_grad": p.requires_grad for name, p in module.named_parameters()
    }
    for path, layer in module.named_modules():
        place = f"{path}." if path else ""
        keys[f"{place}__class__"] = id(type(layer))
        keys[f"{place}hooks"] = _Keys(known).of(_hooks(layer))
        for name, value in vars(layer).items():
            if name not in _OF_ANY_MODULE:
                keys[place + name] = _Keys(known).of(value)
    return keys


def _hooks(layer: nn.Module) -> list[Any]:
    return [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]


class _Keys:
    """The keys of values that may hold each other.

    Parameters
    ----------
    known : dict of int to str
        Objects, by their ids, whose key is a name.
    """

    def __init__(self, known: dict[int, str]) -> None:
        self._known = known
        # What was met so far, by its id, in order; held here, so that no other gets its id.
        self._met: dict[int, tuple[int, Any]] = {}

    def of(self, value: Any) -> Hashable:
        """Return the key of a value."""
        if isinstance(value, PLAIN_TYPES):
            return (type(value), repr(value))
        if id(value) in self._known:
            return ("known", self._known[id(value)])
        if id(value) in self._met:
            return ("met", self._met[id(value)][0])
        self._met[id(value)] = len(self._met), value
        if inspect.isclass(value):
            return id(value)
        held = _held(value)
        if held is not None:
            return (type(value), *map(self.of, held))
        try:
            return joblib.hash(_array_of(value) if isinstance(value, torch.Tensor) else value)
        except Exception:  # pickling is the value's own code
            return id(value)


def _array_of(tensor: torch.Tensor) -> Any:
    tensor = tensor.detach().cpu()
    wide = tensor.double() if tensor.dtype == torch.bfloat16 else tensor  # NumPy has none
    return str(tensor.dtype), wide.resolve_conj().resolve_neg().numpy()


def _held(value: Any) -> list[Any] | None:
    """Return what makes a value the one it is, or None if it is to be pickled."""
    if isinstance(value, tuple | list):
        return list(value)
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, FunctionType):
        cells = [_contents(cell) for cell in value.__closure__ or ()]
        return [id(value.__code__), value.__defaults__, value.__kwdefaults__, cells]
    if isinstance(value, ReferenceType):
        return [value()]
    if inspect.isroutine(value):
        return [id(value)]
    if isinstance(value, nn.Module):
        own = [item for item in vars(value).items() if item[0] not in _OF_ANY_MODULE]
        learned = [
            (name, p, p is not None and p.requires_grad) for name, p in value._parameters.items()
        ]
        return [value.training, learned, value._buffers, value._modules, _hooks(value), own]
    return None


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None
