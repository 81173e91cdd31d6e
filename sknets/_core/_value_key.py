"""When two settings count as equal."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Hashable
from typing import Any

import joblib


def value_key(value: Any) -> Hashable:
    """Return something that is equal for equal modules and factories, clones among them.

    Functions and classes are equal if they are the same; other objects by what they hold. What
    cannot be compared equals itself alone.
    """
    if isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.items()]
        return ("partial", *map(value_key, parts))
    if isinstance(value, tuple | list):
        return (type(value), *map(value_key, value))
    if inspect.isroutine(value) or inspect.isclass(value):
        return id(value)
    try:
        return joblib.hash(value)
    except Exception:  # pickling is the value's own code
        return id(value)
