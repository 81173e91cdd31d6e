"""Packages that are imported where they are used, with an error that says how to get them."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_optional(name: str, *, extra: str, purpose: str) -> ModuleType:
    """Import the module `name`, or say which extra of sknets brings it.

    Raises
    ------
    ImportError
        If the module is not installed, or says itself why it cannot be imported.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package and error.name != name:
            raise
        raise ImportError(
            f"{purpose} needs {package}, which is not installed; "
            f'install it with `pip install "sknets[{extra}]"`.'
        ) from error
