"""Devices, seeds, threads, optional imports, and the only door to scikit-learn's private names."""

from sknets._core._devices import Precision, is_present, resolve_device, resolve_precision
from sknets._core._optional import import_optional
from sknets._core._seeds import SeededRandom, make_generator, make_random_state
from sknets._core._threads import limit_threads

__all__ = [
    "Precision",
    "SeededRandom",
    "import_optional",
    "is_present",
    "limit_threads",
    "make_generator",
    "make_random_state",
    "resolve_device",
    "resolve_precision",
]
