"""The line search ends where the strong Wolfe conditions hold, by the trials of scipy's."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from sknets._engine._line_search import DECREASE, FLATNESS, LineSearch

# Along each line: the objective, its slope, and the first trial.
LINES = {
    "parabola": (lambda t: (t - 2) ** 2, lambda t: 2 * (t - 2), 0.01),
    "a step too far": (lambda t: (t - 2) ** 2, lambda t: 2 * (t - 2), 90.0),
    "steep": (lambda t: math.exp(3 * t) - 9 * t, lambda t: 3 * math.exp(3 * t) - 9, 1.0),
    "flat": (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2, 1e-3),
    "rippled": (
        lambda t: -t + 1e-3 * math.sin(200 * t) + 0.1 * t * t,
        lambda t: -1 + 0.2 * math.cos(200 * t) + 0.2 * t,
        0.1,
    ),
    "a wall": (lambda t: -t + max(0.0, t - 1) ** 4, lambda t: -1 + 4 * max(0.0, t - 1) ** 3, 30.0),
}


def search(name):
    value, slope, first = LINES[name]
    found = LineSearch(value(0.0), slope(0.0), first)
    for n_trials in range(1, 40):
        step = found.step
        if found.tell(value(step), slope(step)):
            return step, n_trials
    raise AssertionError("the search did not end")


@pytest.mark.parametrize("name", LINES)
def test_it_ends_where_the_wolfe_conditions_hold(name):
    value, slope, _ = LINES[name]
    step, _ = search(name)
    assert value(step) <= value(0.0) + DECREASE * step * slope(0.0)
    assert abs(slope(step)) <= FLATNESS * abs(slope(0.0))


@pytest.mark.parametrize("name", LINES)
def test_it_takes_the_trials_of_scipys_lbfgs(name):
    # On a line, the first iteration of L-BFGS-B is this search, from a step of length one.
    value, slope, first = LINES[name]
    seen = []

    def objective(x):
        t = first * float(x[0])
        seen.append(t)
        return value(t), np.array([first * slope(t)])

    minimize(objective, [0.0], method="L-BFGS-B", jac=True, options={"maxiter": 1})
    found = LineSearch(value(0.0), slope(0.0), first)
    trials = []
    for _ in seen[1:]:
        trials.append(found.step)
        if found.tell(value(found.step), slope(found.step)):
            break
    np.testing.assert_allclose(trials, seen[1:], rtol=1e-9)
