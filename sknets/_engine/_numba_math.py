"""Exponentials that Numba's compiler vectorises, and what is made of them.

Numba takes exponentials from the C library, one number at a time. Here a dozen multiplications
give one, of sixteen numbers at once where the processor has such registers.

With a whole n and |r| <= log(2) / 2, e^x = 2^n e^r, and few terms of the Taylor series of e^r - 1
are exact to rounding. Where e^x comes near the smallest normal number, it is 0.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

# Rounding depends on the order that is written, so that this is not to be changed.
jit_in_order = njit(nogil=True, error_model="numpy", fastmath={"contract"})

_LOG2_E = 1.4426950408889634
# Their sum is log(2), and whole multiples of the first are exact.
_LOG_2_HIGH, _LOG_2_LOW = 0.693359375, -2.1219444005469058277e-4


def _power_and_rest(x):
    """Return 2^n and e^r - 1 of an x of at most 0: compiled, one of the next two does it."""
    return np.exp(x), type(x)(0)


@jit_in_order
def _power_and_rest32(x):
    f = np.float32
    y = f(-87) if x < f(-87) else x
    n = np.floor(y * f(_LOG2_E) + f(0.5))
    r = (y - n * f(_LOG_2_HIGH)) - n * f(_LOG_2_LOW)
    p = f(1 / 5040)
    p = p * r + f(1 / 720)
    p = p * r + f(1 / 120)
    p = p * r + f(1 / 24)
    p = p * r + f(1 / 6)
    p = p * r + f(1 / 2)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
    return f(0) if x < y else power.view(np.float32), (p * r) * r + r


@jit_in_order
def _power_and_rest64(x):
    y = -708.0 if x < -708.0 else x
    n = np.floor(y * _LOG2_E + 0.5)
    r = (y - n * _LOG_2_HIGH) - n * _LOG_2_LOW
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    power = np.int64((np.int64(n) + np.int64(1023)) << np.int64(52))
    return 0.0 if x < y else power.view(np.float64), (p * r) * r + r


@overload(_power_and_rest)
def _of_type(x):
    if x == types.float32:
        return lambda x: _power_and_rest32(x)
    return lambda x: _power_and_rest64(x)


@jit_in_order
def exp(x):
    """Return e^x of an x of at most 0."""
    power, rest = _power_and_rest(x)
    return power + power * rest


@jit_in_order
def sigmoid(x):
    """Return 1 / (1 + e^-x)."""
    f = type(x)
    e = exp(-abs(x))
    return (e if x < f(0) else f(1)) / (f(1) + e)


@jit_in_order
def tanh(x):
    """Return the hyperbolic tangent."""
    f = type(x)
    power, rest = _power_and_rest(-abs(x + x))
    minus = (power - f(1)) + power * rest  # e^(-2 |x|) - 1
    t = -minus / (f(2) + minus)
    return -t if x < f(0) else t
