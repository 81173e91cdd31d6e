"""L-BFGS: scipy's quasi-Newton steps on torch's loss and gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from sknets._engine._logistic_objective import LogisticObjective, Progress, Vector

MAX_ITER_REACHED = "max_iter is reached"
TOO_MANY_EVALUATIONS = "too many evaluations"
NOTHING_LOWER = "the line search found no lower value"
NOTHING_GAINED = "the objective no longer falls; rounding may be the limit"

# In float64, where the objective no longer falls is good enough, as it is for scikit-learn. With
# the rounding of float32 that may be anywhere: so many times `tol` is not.
FAR_FROM_TOL = 10.0


def lbfgs(
    objective: LogisticObjective, start: Vector, *, tol: float, max_iter: int, progress: Progress
) -> tuple[Vector, bool, str]:
    """Minimise a smooth objective until no component of its gradient exceeds ``tol``.

    Returns the parameters, whether they converged, and why they stopped.

    Source: R. H. Byrd, P. Lu, J. Nocedal, C. Zhu, "A limited memory algorithm for bound constrained
    optimization", SIAM J. Sci. Comput. 16 (1995).
    """

    def after_iteration(intermediate_result: OptimizeResult) -> None:
        progress(intermediate_result.x, float(intermediate_result.fun))

    options: dict[str, Any] = {
        "maxiter": max_iter,
        "maxfun": 50 * max(1, max_iter),
        "maxls": 50,
        "gtol": tol,
        "ftol": np.finfo(np.float64).eps,
    }
    result = minimize(
        objective.loss_gradient,
        start,
        method="L-BFGS-B",
        jac=True,
        options=options,
        callback=after_iteration,
    )
    rounds = objective.eps > np.finfo(np.float64).eps
    if rounds and result.status == 0 and np.abs(result.jac).max() > FAR_FROM_TOL * tol:
        return result.x, False, NOTHING_GAINED
    message = str(result.message)
    if result.status == 1:
        message = MAX_ITER_REACHED if result.nit >= max_iter else TOO_MANY_EVALUATIONS
    elif result.status == 2:
        message = NOTHING_LOWER
    return result.x, result.status == 0, message
