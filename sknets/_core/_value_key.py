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
"""Settings of these types cannot change, and are equal if ``==`` says so."""

# What torch itself keeps in a module: weights and layers, of which `value_key` speaks, and hooks.
_OF_ANY_MODULE = frozenset(vars(nn.Module()))


def value_key(value: Any) -> Hashable:
    """Return something that is equal for equal modules and factories, clones among them.

    Classes are equal if they are the same; functions if their code is, and what it refers to;
    modules by their layers, weights and attributes; other objects by what they hold. What cannot be
    compared equals itself alone.
    """
    return _key(value, {}, [])


def attribute_keys(module: nn.Module) -> dict[str, Hashable]:
    """Return what the layers of a module hold beside weights, buffers and layers, as keys by name.

    In two modules of one structure the weights may differ, and the keys be equal.
    """
    known = {id(tensor): name for name, tensor in module.state_dict(keep_vars=True).items()}
    return {
        f"{path}.{name}" if path else name: _key(value, known, [])
        for path, layer in module.named_modules()
        for name, value in vars(layer).items()
        if name not in _OF_ANY_MODULE
    }


def _key(value: Any, known: dict[int, str], within: list[int]) -> Hashable:
    """Return the key of a value; tensors that are `known` by name have that, and not their numbers.

    `within` are the objects that hold the value, one of which it may be again.
    """
    if isinstance(value, PLAIN_TYPES):
        return (type(value), repr(value))
    if id(value) in known:
        return ("tensor", known[id(value)])
    if id(value) in within:
        return ("within", within.index(id(value)))
    if inspect.isclass(value):
        return id(value)
    within = [*within, id(value)]
    held = _held(value)
    if held is not None:
        return (type(value), *(_key(part, known, within) for part in held))
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    try:
        return joblib.hash(value.numpy() if isinstance(value, torch.Tensor) else value)
    except Exception:  # pickling is the value's own code
        return id(value)


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
        return [value.training, learned, value._buffers, value._modules, own]
    return None


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None
