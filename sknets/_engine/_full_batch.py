"""Full-batch solvers of logistic regression, by name, and the one result they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from sknets._engine._lbfgs import lbfgs
from sknets._engine._logistic_objective import LogisticObjective, Vector
from sknets._engine._newton import newton_cg, newton_cholesky
from sknets._engine._proximal_newton import proximal_newton

SOLVERS: dict[str, Callable[..., tuple[Vector, bool, str]]] = {
    "lbfgs": lbfgs,
    "newton-cg": newton_cg,
    "newton-cholesky": newton_cholesky,
    "proximal-newton": proximal_newton,
}
"""Solvers by name. All but "proximal-newton" need an objective whose ``l1`` is zero."""


@dataclass(frozen=True)
class FullBatchResult:
    """Where a solver ended and how it went.

    Attributes
    ----------
    params : ndarray of shape (K, D), float64
        The parameters, an intercept in the last column if there is one.
    n_iter : int
        Whole iterations done.
    losses : list of float
        The objective after each iteration, penalties included.
    seconds : list of float
        Seconds that each iteration took.
    converged : bool
        Whether ``tol`` was met.
    stopped : bool
        Whether `on_iteration` asked to end it.
    interrupted : bool
        Whether ``KeyboardInterrupt`` ended it; ``params`` are then those of the last whole
        iteration.
    message : str
        Why it ended.
    """

    params: np.ndarray
    n_iter: int
    losses: list[float]
    seconds: list[float]
    converged: bool
    stopped: bool
    interrupted: bool
    message: str


@dataclass
class _Trace:
    """What is known of the iterations so far."""

    params: Vector
    on_iteration: Callable[[Vector, float], bool | None] | None = None
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    started: float = field(default_factory=perf_counter)

    def __call__(self, params: Vector, loss: float) -> None:
        self.params = params.copy()
        self.losses.append(float(loss))
        now = perf_counter()
        self.seconds.append(now - self.started)
        self.started = now
        if self.on_iteration is not None and self.on_iteration(self.params, float(loss)):
            raise _Stopped


class _Stopped(Exception):
    """Ends a solver between two iterations."""


def minimise(
    objective: LogisticObjective,
    solver: str,
    *,
    start: np.ndarray | None = None,
    tol: float = 1e-4,
    max_iter: int = 100,
    on_iteration: Callable[[Vector, float], bool | None] | None = None,
) -> FullBatchResult:
    """Minimise a logistic objective with one of ``SOLVERS``.

    Parameters
    ----------
    objective : LogisticObjective
        What to minimise.
    solver : str
        A key of ``SOLVERS``.
    start : ndarray of shape (K, D), default=None
        Where to start; None starts at zero.
    tol : float, default=1e-4
        Largest component of the (sub)gradient of the mean loss at which to stop.
    max_iter : int, default=100
        Iterations allowed.
    on_iteration : callable ``(params, loss) -> bool or None``, default=None
        Called after each whole iteration with the flat parameters (K * D,) and the objective's
        value; true asks to stop.

    Raises
    ------
    ValueError
        If the loss or its gradient is not finite.
    KeyboardInterrupt
        If the user interrupts before one iteration is whole.
    """
    first = np.zeros(objective.size) if start is None else np.array(start, float).ravel()
    trace = _Trace(first.copy(), on_iteration)
    params, message = first, "max_iter is reached"
    converged = stopped = interrupted = False
    try:
        if max_iter > 0:
            params, converged, message = SOLVERS[solver](
                objective, first, tol=tol, max_iter=max_iter, progress=trace
            )
    except _Stopped:
        params, stopped, message = trace.params, True, "stopped by a callback"
    except KeyboardInterrupt:
        if not trace.losses:
            raise
        params, interrupted, message = trace.params, True, "interrupted by the user"
    return FullBatchResult(
        objective.centred(params).reshape(objective.shape),
        len(trace.losses),
        trace.losses,
        trace.seconds,
        converged,
        stopped,
        interrupted,
        message,
    )
