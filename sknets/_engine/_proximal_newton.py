"""Proximal Newton: logistic regression with any mixture of L1 and L2 penalties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sknets._engine._centring import Centring
from sknets._engine._logistic_objective import LogisticObjective, Progress, Vector
from sknets._engine._newton import conjugate_gradients

SUFFICIENT = 1e-4
TRIES = 30


@dataclass(frozen=True)
class _Point:
    """Parameters with the smooth value f, its gradient, and the whole objective F."""

    params: Vector
    smooth: float
    grad: Vector
    whole: float


def proximal_newton(
    objective: LogisticObjective, start: Vector, *, tol: float, max_iter: int, progress: Progress
) -> tuple[Vector, bool, str]:
    """Minimise f + l1 ||W||_1 until no component of the smallest subgradient exceeds ``tol``.

    Each iteration takes one proximal gradient step, scaled by the Hessian's diagonal, which lets
    parameters enter and leave zero, and then one Newton step among those that are not zero, where
    the objective is smooth. The first makes it converge from anywhere, the second makes the end
    quadratic. Both are taken in the coordinates of `Centring`.

    Source: J. D. Lee, Y. Sun, M. A. Saunders, "Proximal Newton-type methods for minimizing
    composite functions", SIAM J. Optim. 24 (2014); the step on the support is the second phase of
    R. H. Byrd et al., "A family of second-order methods for convex l1-regularized optimization",
    Math. Program. 159 (2016).
    """
    strength = objective.l1 * objective.penalised
    centring = objective.centring()
    point = _evaluate(objective, start)
    bound = 1.0
    for _ in range(max_iter):
        if _residual(point, strength) <= tol:
            return point.params, True, "the subgradient is within tol"
        diagonal = objective.curvature(point.params).diagonal(centring)
        diagonal = np.maximum(diagonal, 1e-10 * max(diagonal.max(), np.finfo(np.float64).tiny))
        before, bound = point, max(1.0, bound / 2)
        point, bound = _proximal_step(objective, centring, point, strength, diagonal, bound)
        point = _support_step(objective, centring, point, strength)
        if not (
            point.whole < before.whole or _residual(point, strength) < _residual(before, strength)
        ):
            return before.params, False, "no step lowers the value; rounding may be the limit"
        progress(point.params, point.whole)
    converged = _residual(point, strength) <= tol
    return (
        point.params,
        converged,
        "the subgradient is within tol" if converged else "max_iter is reached",
    )


def _evaluate(objective: LogisticObjective, params: Vector) -> _Point:
    smooth, grad = objective.loss_gradient(params)
    return _Point(params, smooth, grad, smooth + objective.l1_penalty(params))


def _subgradient(point: _Point, strength: Vector) -> Vector:
    """Return the smallest element of the subdifferential of F."""
    at_zero = np.sign(point.grad) * np.maximum(np.abs(point.grad) - strength, 0.0)
    return np.where(point.params == 0, at_zero, point.grad + strength * np.sign(point.params))


def _residual(point: _Point, strength: Vector) -> float:
    return float(np.abs(_subgradient(point, strength)).max())


def _proximal_step(
    objective: LogisticObjective,
    centring: Centring,
    point: _Point,
    strength: Vector,
    diagonal: Vector,
    bound: float,
) -> tuple[_Point, float]:
    """Minimise a separable quadratic model plus the L1 term, steeper until it bounds F."""
    start, grad = centring.centred(point.params), centring.gradient(point.grad)
    for _ in range(TRIES):
        metric = bound * diagonal
        target = start - grad / metric
        new = np.sign(target) * np.maximum(np.abs(target) - strength / metric, 0.0)
        move = new - start
        if not move.any():
            break
        candidate = _evaluate(objective, centring.params(new))
        model = point.smooth + grad @ move + 0.5 * (metric * move) @ move
        slack = 16 * objective.eps * abs(point.smooth)
        if candidate.smooth <= model + slack and candidate.whole <= point.whole:
            return candidate, bound
        bound *= 2
    return point, bound


def _support_step(
    objective: LogisticObjective, centring: Centring, point: _Point, strength: Vector
) -> _Point:
    """Take a Newton step among the nonzero parameters; one that would change sign becomes zero."""
    support = (point.params != 0) | (strength == 0)
    if not support.any():
        return point
    slope = _subgradient(point, strength)
    curvature = objective.curvature(point.params)

    def product(part: Vector) -> Vector:
        vector = np.zeros_like(point.params)
        vector[support] = part
        return centring.gradient(curvature.product(centring.params(vector)))[support]

    start, step = centring.centred(point.params), np.zeros_like(point.params)
    downhill, diagonal = -centring.gradient(slope)[support], curvature.diagonal(centring)[support]
    step[support] = conjugate_gradients(product, downhill, diagonal)
    length = 1.0
    for _ in range(TRIES):
        new = start + length * step
        new[(strength > 0) & (new * start < 0)] = 0.0
        candidate = _evaluate(objective, centring.params(new))
        change = candidate.whole - point.whole
        if change < 0 and change <= SUFFICIENT * (slope @ (candidate.params - point.params)):
            return candidate
        rounding = 16 * objective.eps * abs(point.whole)
        if abs(change) <= rounding and _residual(candidate, strength) < _residual(point, strength):
            return candidate
        length *= 0.5
    return point
