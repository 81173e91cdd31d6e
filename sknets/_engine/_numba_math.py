"""Exponentials and logarithms that Numba's compiler vectorises, and what is made of them.

Numba takes them from the C library, one number at a time. Here a dozen multiplications give one, of
sixteen numbers at once where the processor has such registers.

With a whole n and |r| <= log(2) / 2, e^x = 2^n e^r, and few terms of the Taylor series of e^r - 1
are exact to rounding. Where e^x comes near the smallest normal number, it is 0.

With a whole n and m between the roots of 1/2 and 2, log(2^n m) = n log(2) + log(m), and log(m) = 2
artanh((m - 1) / (m + 1)), of whose Taylor series few terms are exact to rounding, too.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

# Sums may be taken in any order, which vectorises them; numbers that are not finite have to stay
# what they are, so that they are found.
jit_in_any_order = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})

# Rounding depends on the order that is written, so that this is not to be changed.
jit_in_order = njit(nogil=True, error_model="numpy", fastmath={"contract"})


def _choose(function, of_float32, of_float64):
    """Have one of two functions in place of another in compiled code, by the dtype."""

    @overload(function)
    def of_type(x):
        if x == types.float32:
            return lambda x: of_float32(x)
        return lambda x: of_float64(x)


_LOG2_E = 1.4426950408889634
# Their sum is log(2), and whole multiples of the first are exact.
_LOG_2_HIGH, _LOG_2_LOW = 0.693359375, -2.1219444005469058277e-4


def _power_and_rest(x):
    """Return 2^n and e^r - 1: compiled, one of the next two does it."""
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


_choose(_power_and_rest, _power_and_rest32, _power_and_rest64)


def _power_and_factor(x):
    """Return n and m of a normal number: compiled, one of the next two does it."""
    m, n = np.frexp(x)
    return type(x)(n), m


_ROOT_HALF_32, _ROOT_HALF_64 = 0x3F3504F3, 0x3FE6A09E667F3BCD  # the bits of the root of 1/2


@jit_in_order
def _power_and_factor32(x):
    bits = np.float32(x).view(np.int32) - np.int32(_ROOT_HALF_32)
    n = bits >> np.int32(23)
    m = np.int32((bits & np.int32(0x7FFFFF)) + np.int32(_ROOT_HALF_32)).view(np.float32)
    return np.float32(n), m


@jit_in_order
def _power_and_factor64(x):
    bits = np.float64(x).view(np.int64) - np.int64(_ROOT_HALF_64)
    n = bits >> np.int64(52)
    m = np.int64((bits & np.int64(0xFFFFFFFFFFFFF)) + np.int64(_ROOT_HALF_64)).view(np.float64)
    return np.float64(n), m


_choose(_power_and_factor, _power_and_factor32, _power_and_factor64)


@jit_in_order
def log(x):
    """Return the natural logarithm of a positive normal number."""
    f = type(x)
    n, m = _power_and_factor(x)
    s = (m - f(1)) / (m + f(1))
    z = s * s
    p = f(2 / 21)
    for k in (19, 17, 15, 13, 11, 9, 7, 5, 3):
        p = p * z + f(2 / k)
    result = n * f(_LOG_2_HIGH) + (s * (z * p + f(2)) + n * f(_LOG_2_LOW))
    return result if x < f(np.inf) else x


@jit_in_order
def log1p(x):
    """Return the logarithm of 1 + x of an x of at least 0, to rounding of an x below 1."""
    f = type(x)
    one_more = f(1) + x
    return log(one_more) + (x - (one_more - f(1)))


@jit_in_order
def exp(x):
    """Return e^x, of an x for which it does not come near the largest number."""
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
