"""Exponentials that vectorise are as good as NumPy's."""

import numba
import numpy as np
import pytest

from sknets._engine._numba_math import exp, log, log1p, sigmoid, tanh

FUNCTIONS = {
    "exp": (exp, np.exp),
    "sigmoid": (sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (tanh, np.tanh),
}


def each(function, x):
    """Return a function's values of all numbers, by a loop that is compiled."""

    @numba.njit
    def run(x, out):
        for i in range(len(x)):
            out[i] = function(x[i])

    out = np.empty_like(x)
    run(x, out)
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_within_a_few_units_in_the_last_place(name, dtype):
    function, reference = FUNCTIONS[name]
    rng = np.random.RandomState(0)
    last = 86.9 if dtype is np.float32 else 707.9
    sizes = np.concatenate([rng.uniform(0, last, 20_000), 10.0 ** rng.uniform(-30, 0, 20_000), [0]])
    x = np.concatenate([-sizes, sizes])
    x = x.astype(dtype)
    wanted = reference(x.astype(np.longdouble))
    error = np.abs(each(function, x) - wanted) / np.maximum(np.abs(wanted), np.finfo(dtype).tiny)
    # Of the sizes at which the sum of a sigmoid rounds, both it and the quotient do.
    assert error.max() < (1 if name == "exp" else 3) * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logarithms(dtype):
    rng = np.random.RandomState(0)
    last = np.log10(np.finfo(dtype).max) - 1
    near_1 = np.concatenate([rng.uniform(0.5, 2, 20_000), 1 + 10.0 ** rng.uniform(-8, -1, 20_000)])
    x = np.concatenate([10.0 ** rng.uniform(-last, last, 20_000), near_1, [0.5, 1, 2]])
    below_1 = np.concatenate([rng.uniform(0, 1, 20_000), 10.0 ** rng.uniform(-last, 0, 20_000)])
    for function, reference, values in (
        (log, np.log, x),
        (log1p, np.log1p, np.append(below_1, [0, 1])),
    ):
        values = values.astype(dtype)
        wanted = reference(values.astype(np.longdouble))
        error = np.abs(each(function, values) - wanted)
        assert (error <= 3 * np.finfo(dtype).eps * np.abs(wanted)).all()
    np.testing.assert_array_equal(each(log, np.array([np.inf, np.nan], dtype)), [np.inf, np.nan])


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 87.5), (np.float64, 709.0)])
def test_small_exponentials_are_zero(dtype, size):
    assert each(exp, np.array([-size], dtype)) == 0
    assert 0 < np.exp(-size) < 4 * np.finfo(dtype).tiny


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers_that_are_not_finite(name, dtype):
    function, reference = FUNCTIONS[name]
    x = np.array([-np.inf, -1e30, np.nan], dtype)
    with np.errstate(over="ignore"):
        wanted = reference(x)
    np.testing.assert_allclose(each(function, x), wanted, atol=2 * np.finfo(dtype).tiny)
    if name != "exp":
        np.testing.assert_array_equal(each(function, -x[:2]), [1.0, 1.0])
