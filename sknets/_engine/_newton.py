"""Newton's method for a smooth objective: one loop, two ways to solve for the step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from sknets._engine._logistic_objective import Curvature, LogisticObjective, Progress, Vector

SUFFICIENT = 2.0**-11
HALVINGS = 30

StepSolver = Callable[[LogisticObjective, Curvature, Vector], Vector]


def newton_cg(
    objective: LogisticObjective, start: Vector, *, tol: float, max_iter: int, progress: Progress
) -> tuple[Vector, bool, str]:
    """Minimise by truncated Newton steps: conjugate gradients on products with the Hessian.

    Source: J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed. (2006), algorithm 7.1; the
    conjugate gradients are preconditioned by the Hessian's diagonal, so that features of very
    different scale cost little.
    """
    return _newton(objective, start, _cg_step, tol, max_iter, progress)


def newton_cholesky(
    objective: LogisticObjective, start: Vector, *, tol: float, max_iter: int, progress: Progress
) -> tuple[Vector, bool, str]:
    """Minimise by Newton steps with the Hessian formed and factorised.

    Costs (K * D)^2 numbers of memory; for many samples and few features nothing is faster. A
    Hessian that is singular (collinear features, separable classes) is damped just enough to have a
    Cholesky factor.
    """
    return _newton(objective, start, _cholesky_step, tol, max_iter, progress)


def conjugate_gradients(
    product: Callable[[Vector], Vector], rhs: Vector, diagonal: Vector, max_products: int = 200
) -> Vector:
    """Solve ``H x = rhs``, H positive semi-definite, to the accuracy that Newton's method asks.

    Stops at a residual of ``min(0.5, sqrt(|rhs|_1)) |rhs|_1``, or on a direction without curvature.

    Parameters
    ----------
    product : callable
        Multiplies a vector (m,) by H.
    rhs, diagonal : ndarray of shape (m,)
        Right-hand side, and the diagonal of H as the preconditioner.
    max_products : int
        Multiplications allowed.
    """
    size = np.abs(rhs).sum()
    enough = min(0.5, np.sqrt(size)) * size
    floor = np.finfo(np.float64).eps * max(diagonal.max(initial=0.0), np.finfo(np.float64).tiny)
    inverse = 1.0 / np.maximum(diagonal, floor)
    x = np.zeros_like(rhs)
    residual = rhs.copy()
    scaled = inverse * residual
    direction = scaled.copy()
    rho = residual @ scaled
    for _ in range(max_products):
        if np.abs(residual).sum() <= enough:
            break
        h_direction = product(direction)
        curvature = direction @ h_direction
        if curvature <= 16 * np.finfo(np.float64).eps * (direction**2 @ diagonal):
            break
        step = rho / curvature
        x += step * direction
        residual -= step * h_direction
        scaled = inverse * residual
        rho, old = residual @ scaled, rho
        direction = scaled + (rho / old) * direction
    return x if x.any() else inverse * rhs


def _newton(
    objective: LogisticObjective,
    params: Vector,
    solve: StepSolver,
    tol: float,
    max_iter: int,
    progress: Progress,
) -> tuple[Vector, bool, str]:
    """Walk Newton's steps with a backtracking line search."""
    value, grad = objective.loss_gradient(params)
    for _ in range(max_iter):
        if np.abs(grad).max() <= tol:
            return params, True, "the gradient is within tol"
        step = solve(objective, objective.curvature(params), grad)
        if not step @ grad < 0:
            step = -grad
        found = _backtrack(objective, params, value, grad, step)
        if found is None:
            return params, False, "the line search found no lower value; rounding may be the limit"
        params, value, grad = found
        progress(params, value)
    converged = bool(np.abs(grad).max() <= tol)
    return params, converged, "the gradient is within tol" if converged else "max_iter is reached"


def _backtrack(
    objective: LogisticObjective, params: Vector, value: float, grad: Vector, step: Vector
) -> tuple[Vector, float, Vector] | None:
    """Halve the step until the value falls enough or, where it cannot, the gradient shrinks."""
    slope = SUFFICIENT * (grad @ step)
    rounding = 16 * objective.eps * abs(value)
    length = 1.0
    for _ in range(HALVINGS):
        new = params + length * step
        new_value, new_grad = objective.loss_gradient(new)
        change = new_value - value
        if change <= length * slope:
            return new, new_value, new_grad
        if abs(change) <= rounding and np.abs(new_grad).sum() < np.abs(grad).sum():
            return new, new_value, new_grad
        length *= 0.5
    return None


def _cg_step(objective: LogisticObjective, curvature: Curvature, grad: Vector) -> Vector:
    return conjugate_gradients(curvature.product, -grad, curvature.diagonal())


def _cholesky_step(objective: LogisticObjective, curvature: Curvature, grad: Vector) -> Vector:
    return cholesky_step(
        curvature.matrix(),
        grad,
        shape=objective.shape,
        has_l2=objective.l2 != 0,
        fit_intercept=objective.fit_intercept,
    )


def cholesky_step(
    hessian: torch.Tensor,
    grad: Vector,
    *,
    shape: tuple[int, int],
    has_l2: bool,
    fit_intercept: bool,
) -> Vector:
    """Solve the Newton system by a Cholesky factor of the Hessian, damped if it has none.

    Parameters
    ----------
    hessian : Tensor of shape (K * D, K * D)
        Overwritten.
    grad : ndarray of shape (K * D,)
        The gradient.
    shape : tuple (K, D)
        Of the parameters.
    has_l2, fit_intercept : bool
        Which columns have no penalty.
    """
    if hessian.device.type == "mps":
        hessian = hessian.cpu().double()
    _fix_class_means(hessian, shape, has_l2, fit_intercept)
    # Scaled to a diagonal of ones, what is singular does not depend on the units of the features.
    diagonal = hessian.diagonal()
    scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
    hessian.mul_(scale).mul_(scale[:, None])
    rhs = torch.from_numpy(-grad).to(hessian.device, hessian.dtype).mul_(scale).unsqueeze(1)
    for damping in (0.0, *(10.0**power for power in range(-8, 3, 2))):
        damped = hessian
        if damping:
            damped = hessian.clone()
            damped.diagonal().add_(damping)
        factor, info = torch.linalg.cholesky_ex(damped)
        if int(info) == 0 and (damping or not _is_nearly_singular(factor)):
            solution = torch.cholesky_solve(rhs, factor)[:, 0].mul_(scale)
            step = solution.to("cpu", torch.float64).numpy()
            if np.isfinite(step).all() and step @ grad < 0:
                return step
    return -grad


def _is_nearly_singular(factor: torch.Tensor) -> bool:
    """Tell from a Cholesky factor whether rounding decides a part of the solution."""
    pivots = factor.diagonal().square()
    rounding = 1e3 * len(pivots) * torch.finfo(factor.dtype).eps
    return bool(pivots.min() <= rounding * pivots.max())


def _fix_class_means(
    hessian: torch.Tensor,
    shape: tuple[int, int],
    has_l2: bool,
    fit_intercept: bool,
) -> None:
    """Give curvature, in place, to shifts of an unpenalised column by one number for all classes.

    Such a shift changes no probability. The gradient has no part along it, so the step gets none
    either.
    """
    n_outputs, width = shape
    if n_outputs == 1:
        return
    if not has_l2:
        free = torch.arange(width, device=hessian.device)
    elif fit_intercept:
        free = torch.tensor([width - 1], device=hessian.device)
    else:
        return
    sizes = hessian.diagonal().view(n_outputs, width).mean(0)[free]
    by_class = hessian.view(n_outputs, width, n_outputs, width)
    by_class[:, free, :, free] += (sizes / n_outputs)[:, None, None]
