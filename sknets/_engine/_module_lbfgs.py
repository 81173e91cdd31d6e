"""L-BFGS on the weights of any module, with the whole data set as one batch."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.optimize import OptimizeResult, minimize
from sklearn.exceptions import ConvergenceWarning

from sknets._core import Threads, limit_threads
from sknets._data import Batches
from sknets._engine._epochs import Hooks
from sknets._engine._flat import FlatParameters
from sknets._engine._progress import Progress, say
from sknets._engine._step import Step

# scipy's status of a run that its callback ended.
_STOPPED = 99


@dataclass
class FullBatch:
    """The objective of all rows as a function of the flat weights, a block at a time.

    Attributes
    ----------
    flat : FlatParameters
        Of the module.
    step : Step
        Computes the gradient of a block; its own penalty must be zero.
    batches : Batches
        Blocks of rows, unshuffled.
    alpha : float
        Strength of the L2 penalty.
    """

    flat: FlatParameters
    step: Step
    batches: Batches
    alpha: float

    def __post_init__(self) -> None:
        weight = self.batches.weight
        self._total = self.batches.rows.n if weight is None else float(weight.sum())

    @torch.no_grad()
    @np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite is looked for
    def __call__(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the objective and its gradient, both float64."""
        flat = self.flat
        _put(flat, values)
        gradient = torch.zeros_like(flat.vector)
        loss = 0.0
        for x, target, weight in self.batches.epoch(self.step.encode):
            self.step.begin_epoch([len(x)])
            with torch.enable_grad():
                self.step.gradient(x, target, weight)
            share = (len(x) if weight is None else float(weight.sum())) / self._total
            gradient.add_(flat.grad, alpha=share)
            loss += share * float(self.step.end_epoch())
        strength = self.alpha / self._total
        n_penalised = len(flat.penalised)
        gradient[:n_penalised].add_(flat.penalised, alpha=strength)
        loss += 0.5 * strength * float(torch.dot(flat.penalised, flat.penalised))
        return loss, gradient.cpu().numpy().astype(np.float64)


def train_lbfgs(
    objective: FullBatch,
    progress: Progress,
    *,
    tol: float,
    max_iter: int,
    max_fun: int,
    verbose: bool,
    n_threads: Threads | int | None,
    hooks: Hooks | None = None,
) -> tuple[int, float]:
    """Minimise the objective; return the number of iterations and the objective reached.

    Parameters
    ----------
    tol : float
        Largest component of the gradient at which to stop.
    max_iter, max_fun : int
        Iterations and evaluations at most; reaching them is a ConvergenceWarning.
    hooks : Hooks or None, default=None
        Told of every iteration after it, as of an epoch; one may ask to stop.

    Raises
    ------
    ValueError
        If the loss turns NaN or infinite.
    KeyboardInterrupt
        If the user interrupts before one iteration is whole; later its weights stand and a
        warning is given.

    References
    ----------
    R. H. Byrd, P. Lu, J. Nocedal, C. Zhu, "A limited memory algorithm for bound constrained
    optimization", SIAM Journal on Scientific Computing 16, 1995.
    """
    flat = objective.flat
    last: Any = None
    loss = float("nan")
    started = perf_counter()

    def after_iteration(intermediate_result: OptimizeResult) -> None:
        nonlocal last, loss, started
        last = intermediate_result.x.copy()
        loss = float(intermediate_result.fun)
        progress.record(
            train_loss=loss,
            validation_loss=float("nan"),
            validation_score=float("nan"),
            learning_rate=float("nan"),
            seconds=perf_counter() - started,
        )
        started = perf_counter()
        if verbose:
            say(f"Iteration {len(progress.history['epoch'])}, loss = {loss:.8f}")
        if hooks is not None:
            _put(flat, last)
            hooks.epoch_begins()
            if hooks.epoch_ends():
                raise StopIteration

    before = len(progress.history["epoch"])
    start = flat.vector.detach().cpu().numpy().astype(np.float64)
    with limit_threads(n_threads):
        try:
            result = minimize(
                _finite(objective, progress),
                start,
                method="L-BFGS-B",
                jac=True,
                options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
                callback=after_iteration,
            )
        except KeyboardInterrupt:
            if last is None:
                raise
            n_iter = len(progress.history["epoch"]) - before
            warnings.warn(
                f"Training interrupted by user after iteration {n_iter}, whose weights are kept.",
                stacklevel=2,
            )
        else:
            last, n_iter, loss = result.x, int(result.nit), float(result.fun)
            if result.status not in (0, _STOPPED):
                warnings.warn(
                    f"lbfgs did not converge after {n_iter} iterations ({result.message}). Raise "
                    "max_iter or max_fun, or scale the features (StandardScaler in a Pipeline).",
                    ConvergenceWarning,
                    stacklevel=2,
                )
    _put(flat, last)
    if hooks is not None:
        hooks.fit_ends()
    return min(n_iter, max_iter), loss


@torch.no_grad()
def _put(flat: FlatParameters, values: np.ndarray) -> None:
    flat.vector.copy_(torch.from_numpy(values))


def _finite(objective: FullBatch, progress: Progress) -> Any:
    """Wrap the objective so that it raises where it is not finite."""

    def checked(values: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = objective(values)
        if not np.isfinite(loss):
            n_iter = len(progress.history["epoch"]) + 1
            raise ValueError(
                f"The training loss must stay finite, got {loss} in iteration {n_iter} of lbfgs. "
                "Scale the features first (StandardScaler in a Pipeline), or raise alpha."
            )
        return loss, gradient

    return checked
