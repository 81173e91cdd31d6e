"""A step length by Moré and Thuente's search, one trial at a time.

The search narrows an interval by cubic and quadratic models of the objective along the step, until
the objective has fallen enough and its slope is flat enough (the strong Wolfe conditions). It has
the constants of L-BFGS-B, so that a stack of models takes the steps that scipy would.

Source: J. J. Moré, D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease",
ACM Trans. Math. Softw. 20 (1994), sections 2 to 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DECREASE = 1e-3
"""Share of the predicted fall that is enough."""

FLATNESS = 0.9
"""Share of the first slope that is flat enough."""

_NARROW = 0.1  # relative width of an interval that is not worth another trial
_LARGEST = 1e10


@dataclass
class _Trial:
    """A step length with the objective and its slope there."""

    step: float
    value: float
    slope: float

    def tilted(self, slope: float) -> _Trial:
        """Return the trial on the objective less a line through zero."""
        return _Trial(self.step, self.value - self.step * slope, self.slope - slope)


class LineSearch:
    """Finds a step length along a direction of descent.

    Parameters
    ----------
    value, slope : float
        Objective and slope at step zero; the slope is negative.
    step : float
        First trial.
    """

    def __init__(self, value: float, slope: float, step: float) -> None:
        self.step = step
        self._start_value = value
        self._start_slope = slope
        self._enough = DECREASE * slope
        self._best = _Trial(0.0, value, slope)
        self._other = _Trial(0.0, value, slope)
        self._bracketed = False
        self._first_stage = True
        self._low, self._high = 0.0, 5.0 * step
        self._width, self._width_before = _LARGEST, 2 * _LARGEST

    def tell(self, value: float, slope: float) -> bool:
        """Take the objective and slope at ``step``; say whether the search ends there.

        If it does not, ``step`` is the next trial.
        """
        trial = _Trial(self.step, value, slope)
        bound = self._start_value + trial.step * self._enough
        if self._first_stage and value <= bound and slope >= 0:
            self._first_stage = False
        if self._is_exhausted(trial.step):
            return True
        if trial.step == _LARGEST and value <= bound and slope <= self._enough:
            return True
        if value <= bound and abs(slope) <= FLATNESS * -self._start_slope:
            return True
        # While no step has fallen enough, the search looks for one on the tilted objective.
        tilt = self._enough if self._first_stage and bound < value <= self._best.value else 0.0
        self._narrow(trial.tilted(tilt), self._best.tilted(tilt), self._other.tilted(tilt))
        if tilt:
            self._best, self._other = self._best.tilted(-tilt), self._other.tilted(-tilt)
        self._set_bounds()
        return False

    def _is_exhausted(self, step: float) -> bool:
        """Whether rounding, or the width of the interval, leaves nothing to try."""
        if not self._bracketed:
            return False
        outside = step <= self._low or step >= self._high
        return outside or self._high - self._low <= _NARROW * self._high

    def _set_bounds(self) -> None:
        """Keep the next trial inside the interval, or let it grow."""
        best, other = self._best.step, self._other.step
        if self._bracketed:
            if abs(other - best) >= 0.66 * self._width_before:
                self.step = best + 0.5 * (other - best)
            self._width_before, self._width = self._width, abs(other - best)
            self._low, self._high = min(best, other), max(best, other)
        else:
            self._low = self.step + 1.1 * (self.step - best)
            self._high = self.step + 4.0 * (self.step - best)
        self.step = min(max(self.step, 0.0), _LARGEST)
        if self._is_exhausted(self.step):
            self.step = best

    def _narrow(self, trial: _Trial, best: _Trial, other: _Trial) -> None:
        """Choose the next trial, and the interval that holds it."""
        opposite = trial.slope * math.copysign(1.0, best.slope) < 0
        if trial.value > best.value:  # a minimum lies between them
            cubic, quadratic = _cubic(best, trial), _quadratic(best, trial)
            close = abs(cubic - best.step) <= abs(quadratic - best.step)
            step = cubic if close else cubic + (quadratic - cubic) / 2
            self._bracketed = True
        elif opposite:  # a minimum lies between them
            cubic, secant = _cubic(trial, best), _secant(trial, best)
            far = abs(cubic - trial.step) > abs(secant - trial.step)
            step = cubic if far else secant
            self._bracketed = True
        elif abs(trial.slope) < abs(best.slope):
            step = self._extrapolate(trial, best, other)
        elif self._bracketed:
            step = _cubic(trial, other)
        else:
            step = self._high if trial.step > best.step else self._low
        if trial.value > best.value:
            other = trial
        else:
            if opposite:
                other = best
            best = trial
        self._best, self._other, self.step = best, other, step

    def _extrapolate(self, trial: _Trial, best: _Trial, other: _Trial) -> float:
        """Return the next trial where the objective falls and flattens, without a sign change."""
        secant = _secant(trial, best)
        cubic = _cubic_beyond(trial, best)
        if cubic is None:
            cubic = self._high if trial.step > best.step else self._low
        nearer = abs(cubic - trial.step) < abs(secant - trial.step)
        if self._bracketed:
            step = cubic if nearer else secant
            limit = trial.step + 0.66 * (other.step - trial.step)
            return min(limit, step) if trial.step > best.step else max(limit, step)
        step = secant if nearer else cubic
        return min(max(step, self._low), self._high)


def _cubic(a: _Trial, b: _Trial) -> float:
    """Return the minimum of the cubic through two trials, measured from `a`."""
    theta = 3 * (a.value - b.value) / (b.step - a.step) + a.slope + b.slope
    scale = max(abs(theta), abs(a.slope), abs(b.slope))
    root = scale * math.sqrt(max(0.0, (theta / scale) ** 2 - (a.slope / scale) * (b.slope / scale)))
    if b.step < a.step:
        root = -root
    share = ((root - a.slope) + theta) / (((root - a.slope) + root) + b.slope)
    return a.step + share * (b.step - a.step)


def _cubic_beyond(a: _Trial, b: _Trial) -> float | None:
    """Return the cubic's minimum on the far side of `a` from `b`; None where it has none."""
    theta = 3 * (b.value - a.value) / (a.step - b.step) + b.slope + a.slope
    scale = max(abs(theta), abs(a.slope), abs(b.slope))
    root = scale * math.sqrt(max(0.0, (theta / scale) ** 2 - (b.slope / scale) * (a.slope / scale)))
    if a.step > b.step:
        root = -root
    share = ((root - a.slope) + theta) / ((root + (b.slope - a.slope)) + root)
    if share < 0 and root != 0:
        return a.step + share * (b.step - a.step)
    return None


def _quadratic(a: _Trial, b: _Trial) -> float:
    """Return the minimum of the parabola with both values and the slope at `a`."""
    fall = (a.value - b.value) / (b.step - a.step)
    return a.step + ((a.slope / (fall + a.slope)) / 2) * (b.step - a.step)


def _secant(a: _Trial, b: _Trial) -> float:
    """Return where the line through both slopes is zero."""
    return a.step + (a.slope / (a.slope - b.slope)) * (b.step - a.step)
