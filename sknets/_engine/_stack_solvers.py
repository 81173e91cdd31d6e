"""Solvers of stacks of logistic regressions, by name, and the threads that they run on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from sknets._core import limit_threads
from sknets._engine._lbfgs_stack import stacked_lbfgs
from sknets._engine._logistic_stack import Array, LogisticStack
from sknets._engine._newton_stack import stacked_newton_cg, stacked_newton_cholesky
from sknets._engine._parts import Watch, run_parts
from sknets._engine._proximal_newton_stack import stacked_proximal_newton

STACK_SOLVERS: dict[str, Callable[[LogisticStack, Array, Callable[[], bool]], None]] = {
    "lbfgs": stacked_lbfgs,
    "newton-cg": stacked_newton_cg,
    "newton-cholesky": stacked_newton_cholesky,
    "proximal-newton": stacked_proximal_newton,
}
"""Solvers by name; they take a stack, numbers of its models, and a callback after every pass."""

# Multiply-adds of a pass over X, of all models of a thread, below which threads do not pay.
_WORTH_THREADS = 2e7


def run_stack(stack: LogisticStack, solver: str, after_tick: Callable[[], None]) -> None:
    """Minimise all objectives of a stack.

    The models of different folds have nothing in common, so that each thread takes folds of its
    own and multiplies them alone: two small products on a thread each take less time than one after
    the other on two.

    Parameters
    ----------
    stack : LogisticStack
        Whose models are filled in.
    solver : str
        A key of ``STACK_SOLVERS``.
    after_tick : callable () -> None
        Called after every pass over X, at most as often as a model iterates.
    """
    solve = STACK_SOLVERS[solver]
    folds = np.array([model.fold for model in stack.models])
    n_threads = _useful_threads(stack)
    most = max(model.max_iter for model in stack.models)
    parts = [np.flatnonzero(folds % n_threads == i) for i in range(n_threads)]
    if n_threads == 1:
        # Rows that do not fit on a device are gathered here, which is work for all threads.
        with limit_threads(None if stack.is_on_device else 1):
            solve(stack, parts[0], Watch(most, after_tick))
    else:
        run_parts([partial(solve, stack, part) for part in parts], most, after_tick)


def _useful_threads(stack: LogisticStack) -> int:
    """Return how many threads pay: at most those of torch, which the user has set."""
    if stack.is_on_device:
        return 1
    work = sum(stack.folds[model.fold].n for model in stack.models) * stack.size
    return int(max(1, min(torch.get_num_threads(), len(stack.folds), work // _WORTH_THREADS)))
