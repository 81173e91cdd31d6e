"""Numba, which is not everywhere."""

from __future__ import annotations

from sknets._core import import_optional


def import_numba() -> None:
    """Import Numba, for ``compile="numba"``.

    Raises
    ------
    ImportError
        If it is not installed; the message says how to install it.
    """
    import_optional("numba", extra="numba", purpose='compile="numba"')
