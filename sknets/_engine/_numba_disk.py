"""Compiled code that Numba keeps on disk, and makes anew when its sources change.

By itself Numba begins anew only where the file of a function has changed, and not those of
functions that are compiled into it. So what they are is a variable of the function's closure, which
is part of the key.
"""

from __future__ import annotations

import inspect
import sys
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from numba import njit

from sknets._engine._products import CUT_PRODUCT, SMALL_PRODUCT


def fingerprint(*modules: ModuleType) -> int | None:
    """Return a number of the sources of modules and of this one, and of the constants of products.

    None without the sources, as in a program that was packed without them.
    """
    try:
        code = "".join(map(inspect.getsource, (sys.modules[__name__], *modules)))
    except OSError:
        return None
    return zlib.crc32((code + repr((SMALL_PRODUCT, CUT_PRODUCT))).encode())


def kept_on_disk(function: Callable[..., Any], key: int | None) -> Callable[..., Any]:
    """Compile a function that has its fingerprint in its closure.

    Without one, or where there is no folder that can be written to, every program compiles it.
    """
    try:
        return njit(nogil=True, cache=key is not None)(function)
    except RuntimeError:
        return njit(nogil=True)(function)
