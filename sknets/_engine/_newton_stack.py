"""Newton's method for a stack of logistic regressions, with the steps of each one alone.

The loop is that of `_newton`: the models walk side by side, and every evaluation, every product
with a Hessian and every trial of a line search serves all that wait for one.

Shapes: A models that still learn, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np

from sknets._engine._logistic_stack import Array, LogisticStack, StackedModel, not_finite
from sknets._engine._newton import HALVINGS, SUFFICIENT, cholesky_step
from sknets._engine._stack_curvature import StackCurvature

_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)

Solve = Callable[[LogisticStack, StackCurvature, Array], Array]
"""From Hessians and gradients (A, P) to steps (A, P)."""


def stacked_newton_cg(stack: LogisticStack, numbers: Array, after_tick: Callable[[], bool]) -> None:
    """Minimise by truncated Newton steps; parameters are those of `stacked_lbfgs`."""
    _walk(stack, numbers, _cg_steps, after_tick)


def stacked_newton_cholesky(
    stack: LogisticStack, numbers: Array, after_tick: Callable[[], bool]
) -> None:
    """Minimise by Newton steps with the Hessians formed; parameters as of `stacked_lbfgs`."""
    _walk(stack, numbers, _cholesky_steps, after_tick)


class Walkers:
    """Models that walk side by side: where they stand, and what they have done.

    Attributes
    ----------
    numbers : ndarray of shape (A,)
        The models that still learn.
    params, values, grads : ndarray of shape (A, P), (A,), (A, P)
        Where they stand, with the smooth objective and its gradient.
    """

    def __init__(self, stack: LogisticStack, numbers: Array) -> None:
        self.stack = stack
        self._clock = perf_counter()
        self.numbers = np.array([i for i in numbers if stack.models[i].max_iter > 0], np.intp)
        size = (0, stack.size)
        models = self.models
        self.params = np.stack([m.params for m in models]) if models else np.empty(size)
        self.values, self.grads = stack.loss_gradient(self.params, self.numbers)
        self.keep(self.finite(self.values, self.grads, self.numbers))

    @property
    def models(self) -> list[StackedModel]:
        """The models that still learn."""
        return [self.stack.models[i] for i in self.numbers]

    def finite(self, values: Array, grads: Array, numbers: Array) -> Array:
        """Say which evaluations are finite; the others end their models with an error."""
        fine = np.isfinite(values) & np.isfinite(grads).all(axis=1)
        for i in np.flatnonzero(~fine):
            error = not_finite(float(values[i]), self.stack.dtype)
            self.stack.models[numbers[i]].error = error
        return fine

    def keep(self, stays: Array) -> None:
        """Go on with the models that stay."""
        if not stays.all():
            for name in ("numbers", "params", "values", "grads"):
                setattr(self, name, getattr(self, name)[stays])

    def stop(self, holds: Array, converged: bool, message: str) -> None:
        """Stop the models for which something holds."""
        for i in np.flatnonzero(holds):
            model = self.stack.models[self.numbers[i]]
            model.params = self.params[i].copy()
            model.converged, model.message = converged, message
        self.keep(~holds)

    def stop_out_of_iterations(self) -> None:
        """Stop the models that have done all they may."""
        done = np.array([len(m.losses) >= m.max_iter for m in self.models], bool)
        self.stop(done, False, "max_iter is reached")

    def record(self, losses: Array) -> None:
        """Note an iteration of every model."""
        now = perf_counter()
        seconds = (now - self._clock) / max(1, len(losses))
        self._clock = now
        for model, loss in zip(self.models, losses.tolist(), strict=True):
            model.losses.append(loss)
            model.seconds.append(seconds)


def stacked_cg(
    products: Callable[[Array, Array], Array], rhs: Array, diagonals: Array, limit: int = 200
) -> Array:
    """Solve systems ``H x = rhs`` side by side, each to the accuracy of `conjugate_gradients`.

    Parameters
    ----------
    products : callable (vectors (a, P), places (a,)) -> (a, P)
        Multiplies vectors by the matrices of some places.
    rhs, diagonals : ndarray of shape (A, P)
        Right-hand sides, and the diagonals of the matrices.
    limit : int
        Products allowed a system.
    """
    size = np.abs(rhs).sum(axis=1)
    enough = np.minimum(0.5, np.sqrt(size)) * size
    floor = _EPS * np.maximum(diagonals.max(axis=1, initial=0.0), _TINY)
    inverse = 1.0 / np.maximum(diagonals, floor[:, None])
    x, residual = np.zeros_like(rhs), rhs.copy()
    direction = inverse * residual
    rho = np.einsum("ap,ap->a", residual, direction)
    live = np.arange(len(rhs))
    for _ in range(limit):
        live = live[np.abs(residual[live]).sum(axis=1) > enough[live]]
        if not len(live):
            break
        ahead = direction[live]
        h_ahead = products(ahead, live)
        curvature = np.einsum("ap,ap->a", ahead, h_ahead)
        curved = curvature > 16 * _EPS * np.einsum("ap,ap,ap->a", ahead, ahead, diagonals[live])
        live, ahead, h_ahead = live[curved], ahead[curved], h_ahead[curved]
        step = (rho[live] / curvature[curved])[:, None]
        x[live] += step * ahead
        residual[live] -= step * h_ahead
        scaled = inverse[live] * residual[live]
        new = np.einsum("ap,ap->a", residual[live], scaled)
        direction[live] = scaled + (new / rho[live])[:, None] * ahead
        rho[live] = new
    empty = ~x.any(axis=1)
    x[empty] = (inverse * rhs)[empty]
    return x


def _cg_steps(stack: LogisticStack, curvature: StackCurvature, grads: Array) -> Array:
    return stacked_cg(curvature.products, -grads, curvature.diagonals())


def _cholesky_steps(stack: LogisticStack, curvature: StackCurvature, grads: Array) -> Array:
    steps = [
        cholesky_step(
            curvature.matrix(i),
            grad,
            shape=stack.shape,
            has_l2=bool(stack.l2[number]),
            fit_intercept=stack.fit_intercept,
        )
        for i, (number, grad) in enumerate(zip(curvature.models, grads, strict=True))
    ]
    return np.stack(steps)


def _walk(
    stack: LogisticStack, numbers: Array, solve: Solve, after_tick: Callable[[], bool]
) -> None:
    walkers = Walkers(stack, numbers)
    while True:
        tol = np.array([model.tol for model in walkers.models])
        within = np.abs(walkers.grads).max(axis=1, initial=0.0) <= tol
        walkers.stop(within, True, "the gradient is within tol")
        walkers.stop_out_of_iterations()
        if not len(walkers.numbers):
            return
        curvature = StackCurvature(stack, walkers.params, walkers.numbers)
        steps = solve(stack, curvature, walkers.grads)
        uphill = ~(np.einsum("ap,ap->a", steps, walkers.grads) < 0)
        steps[uphill] = -walkers.grads[uphill]
        _backtrack(walkers, steps)
        walkers.record(walkers.values)
        if after_tick():
            return


def _backtrack(walkers: Walkers, steps: Array) -> None:
    """Halve each step until its value falls enough or, where it cannot, the gradient shrinks.

    Moves the models; those that find no step stop.
    """
    stack, values, grads = walkers.stack, walkers.values.copy(), walkers.grads.copy()
    slopes = SUFFICIENT * np.einsum("ap,ap->a", grads, steps)
    rounding = 16 * float(np.finfo(stack.dtype).eps) * np.abs(values)
    start, length = walkers.params.copy(), 1.0
    waiting, failed = np.arange(len(steps)), np.zeros(len(steps), bool)
    for _ in range(HALVINGS):
        new = start[waiting] + length * steps[waiting]
        new_values, new_grads = stack.loss_gradient(new, walkers.numbers[waiting])
        fine = walkers.finite(new_values, new_grads, walkers.numbers[waiting])
        failed[waiting[~fine]] = True
        change = new_values - values[waiting]
        shrinks = np.abs(new_grads).sum(axis=1) < np.abs(grads[waiting]).sum(axis=1)
        found = change <= length * slopes[waiting]
        found = fine & (found | (np.abs(change) <= rounding[waiting]) & shrinks)
        here = waiting[found]
        walkers.params[here] = new[found]
        walkers.values[here], walkers.grads[here] = new_values[found], new_grads[found]
        waiting = waiting[fine & ~found]
        if not len(waiting):
            break
        length *= 0.5
    stuck = np.zeros(len(steps), bool)
    stuck[waiting] = True
    stuck = stuck[~failed]
    walkers.keep(~failed)
    message = "the line search found no lower value; rounding may be the limit"
    walkers.stop(stuck, False, message)
