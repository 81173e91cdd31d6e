"""Devices, seeds, threads, optional imports, and the only door to scikit-learn's private names."""

from sknets._core._devices import Precision, is_present, resolve_device, resolve_precision
from sknets._core._dtypes import in_numpy, numpy_dtype, wide_dtype
from sknets._core._memory import capture_lock, free_bytes, is_out_of_memory, release_memory
from sknets._core._optional import import_optional
from sknets._core._seeds import (
    SeededRandom,
    SeededRandomOfEach,
    fill_dropout_mask_,
    make_generator,
    make_random_state,
)
from sknets._core._switching import quick_switching
from sknets._core._threads import Threads, limit_threads
from sknets._core._value_key import PLAIN_TYPES, attribute_keys, value_key

__all__ = [
    "PLAIN_TYPES",
    "Precision",
    "SeededRandom",
    "SeededRandomOfEach",
    "Threads",
    "attribute_keys",
    "capture_lock",
    "fill_dropout_mask_",
    "free_bytes",
    "import_optional",
    "in_numpy",
    "is_out_of_memory",
    "is_present",
    "limit_threads",
    "make_generator",
    "make_random_state",
    "numpy_dtype",
    "quick_switching",
    "release_memory",
    "resolve_device",
    "resolve_precision",
    "value_key",
    "wide_dtype",
]
