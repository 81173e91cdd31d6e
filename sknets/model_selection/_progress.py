"""How far a search is: for scikit-learn's callbacks, and in print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sknets._base import StackedFit
from sknets._engine import say


@dataclass
class StackProgress:
    """Tells of the epochs of one stack while it runs, in whichever process that is.

    Attributes
    ----------
    name : str
        Of the stack.
    estimator : estimator
        One of the stack's.
    max_epochs : int
        Of the fit that may take the most.
    verbose : int
        Above 0, about ten lines are printed.
    context : CallbackContext or None
        Of the stack as a task of the search.
    """

    name: str
    estimator: Any
    max_epochs: int
    verbose: int
    context: Any
    n_epochs: int = 0

    def __enter__(self) -> StackProgress:
        if self.context is not None:
            self.context.call_on_fit_task_begin(estimator=self.estimator)
        if self.verbose > 0:
            say(f"{self.name}: begins")
        return self

    def after_epoch(self) -> None:
        """Take note of an epoch of the stack."""
        self.n_epochs += 1
        if self.n_epochs > self.max_epochs:  # memory ran out, and the stack was run in parts
            return
        if self.context is not None:
            epoch = self.context.subcontext(task_name="epoch")
            epoch.call_on_fit_task_begin(estimator=self.estimator)
            epoch.call_on_fit_task_end(estimator=self.estimator)
        if self.verbose > 0 and self._is_tenth():
            say(f"{self.name}: epoch {self.n_epochs} of at most {self.max_epochs}")

    def _is_tenth(self) -> bool:
        return self.n_epochs * 10 // self.max_epochs > (self.n_epochs - 1) * 10 // self.max_epochs

    def __exit__(self, *error: object) -> None:
        if self.context is not None:
            self.context.call_on_fit_task_end(estimator=self.estimator)


class SearchProgress:
    """The tasks of a search, one after another: stacks, fits one by one, scoring.

    Parameters
    ----------
    context : CallbackContext or None, default=None
        Of the search as a whole.
    estimator : estimator, default=None
        What is searched over.
    verbose : int, default=0
        Above 0, progress is printed.
    """

    def __init__(self, context: Any = None, estimator: Any = None, verbose: int = 0) -> None:
        self.estimator = estimator
        self.verbose = verbose
        self.context: Any = None
        if context is not None:
            self.context = context.subcontext(task_name="search", max_subtasks=3)
            self.context.call_on_fit_task_begin(estimator=estimator)

    def begin(self, name: str, n_tasks: int) -> Any:
        """Begin the next task, of `n_tasks` parts."""
        if self.context is None:
            return None
        context = self.context.subcontext(
            task_name=name, max_subtasks=n_tasks, sequential_subtasks=False
        )
        return context.call_on_fit_task_begin(estimator=self.estimator)

    def end(self, context: Any) -> None:
        """End a task."""
        if context is not None:
            context.call_on_fit_task_end(estimator=self.estimator)

    def of_stacks(self, stacks: Sequence[list[StackedFit]], context: Any) -> list[StackProgress]:
        """Return the progress of each stack, as parts of the task with this context."""
        watched = []
        for i, stack in enumerate(stacks):
            max_epochs = max(int(fit.estimator.max_iter) for fit in stack)
            part = None
            if context is not None:
                part = context.subcontext("stack", task_id=i, max_subtasks=max_epochs)
            name = f"Stack {i + 1} of {len(stacks)}, {len(stack)} nets"
            watched.append(StackProgress(name, stack[0].estimator, max_epochs, self.verbose, part))
        return watched
