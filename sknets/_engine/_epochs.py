"""Training by epochs of mini-batches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sknets._core import Threads, limit_threads
from sknets._data import Batch, Batches
from sknets._engine._cuda_graphs import BlockGraphs
from sknets._engine._flat import FlatParameters
from sknets._engine._progress import Progress, check_finite, check_finite_weights, say
from sknets._engine._step import Step
from sknets._engine._validation import Validation
from sknets._nn import Adaptive, Optimiser, Schedule


@dataclass
class Hooks:
    """What the caller wants to hear of.

    Attributes
    ----------
    epoch_begins : callable () -> None
        Before an epoch.
    epoch_ends : callable () -> bool
        After an epoch; true asks to stop.
    fit_ends : callable () -> None
        After the last epoch.
    """

    epoch_begins: Callable[[], None] = lambda: None
    epoch_ends: Callable[[], bool] = lambda: False
    fit_ends: Callable[[], None] = lambda: None


@dataclass
class Training:
    """Everything a fit by epochs needs, built.

    Attributes
    ----------
    module, flat, step, optimiser, schedule, batches
        The net, its weights as one vector, what computes a gradient, what applies it, the
        learning rate's course, and the data.
    progress : Progress
        Continued, in place.
    max_epochs : int
        Epochs at most.
    tol, n_iter_no_change : float
        Training ends after more than `n_iter_no_change` epochs without an improvement of `tol`.
    validation : Validation or None, default=None
        Measured after every epoch.
    early_stopping : bool, default=False
        Whether the validation score decides when to stop and which epoch's weights to keep.
    single_epoch : bool, default=False
        One epoch of ``partial_fit``: not to converge is then no news.
    verbose : bool, default=False
        Whether to print a line an epoch.
    callbacks : sequence, default=()
        skorch's callbacks.
    graphs : BlockGraphs or None, default=None
        Run the steps, of batches that keep their places, where there are no callbacks.
    by_numba : callable () -> float or None, default=None
        Trains on all batches of an epoch in place of the step, where there are no callbacks, in
        code compiled by Numba, and returns the epoch's mean objective.
    task : str
        "multiclass", "binary" or "multilabel".
    """

    module: nn.Module
    flat: FlatParameters
    step: Step
    optimiser: Optimiser
    schedule: Schedule
    batches: Batches
    progress: Progress
    max_epochs: int
    tol: float
    n_iter_no_change: float
    task: str
    validation: Validation | None = None
    early_stopping: bool = False
    single_epoch: bool = False
    verbose: bool = False
    callbacks: Any = ()
    graphs: BlockGraphs | None = None
    by_numba: Callable[[], float] | None = None
    n_threads: Threads | int | None = None


class EpochLoop:
    """Runs a `Training`.

    Attributes
    ----------
    n_epochs : int
        Whole epochs done.
    engine : str
        Which way of computing gradients runs.
    """

    def __init__(self, training: Training, hooks: Hooks | None = None) -> None:
        self.training = training
        self.hooks = hooks or Hooks()
        self.n_epochs = 0
        self._rates: torch.Tensor | None = None
        self._best: list[torch.Tensor] | None = None
        self._last: tuple[list, list] | None = None  # of the last whole epoch
        self._net: Any = None

    @property
    def engine(self) -> str:
        """Which way of computing gradients runs."""
        graphs, name = self.training.graphs, self.training.step.name
        if self.training.by_numba is not None:
            return f"{name}, numba"
        return f"{name}, CUDA graphs" if graphs is not None and graphs.n_launches else name

    def run(self) -> None:
        """Train until the loss or the score no longer improves, or the epochs are used up.

        Raises
        ------
        ValueError
            If the loss or a weight turns NaN or infinite.
        KeyboardInterrupt
            If the user interrupts before one epoch is whole; later the weights of the last whole
            epoch stand and a warning is given.
        """
        training = self.training
        with limit_threads(training.n_threads):
            self._start_callbacks()
            training.module.train()
            try:
                self._run_epochs()
            except KeyboardInterrupt:
                if self._last is None:
                    raise
                weights, moments = self._last
                training.flat.restore(weights)
                training.optimiser.restore(moments)
                warnings.warn(
                    f"Training interrupted by user after epoch {self.n_epochs}, whose weights are "
                    "kept.",
                    stacklevel=2,
                )
            if training.early_stopping and self._best is not None:
                training.flat.restore(self._best)
            check_finite_weights(
                training.flat.vector, epoch=self.n_epochs, rate=training.schedule.rate
            )
            self._notify("on_train_end")
        training.module.eval()
        self.hooks.fit_ends()

    def _run_epochs(self) -> None:
        training = self.training
        while self.n_epochs < training.max_epochs:
            self.hooks.epoch_begins()
            started = perf_counter()
            self._notify("on_epoch_begin")
            loss = self._train_epoch()
            check_finite(loss, epoch=self.n_epochs + 1, rate=training.schedule.rate)
            wants_stop = self._end_epoch(loss, started)
            self._last = training.flat.snapshot(), training.optimiser.snapshot()
            if self._callbacks_stop() | bool(self.hooks.epoch_ends()) or wants_stop:
                return
            if training.single_epoch:
                return
        warnings.warn(
            f"max_iter={training.max_epochs} epochs are done and training has not converged yet. "
            "Raise max_iter, or tol if the loss is good enough.",
            ConvergenceWarning,
            stacklevel=2,
        )

    @np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite is looked for
    def _train_epoch(self) -> float:
        training = self.training
        if training.by_numba is not None and self._net is None:
            return training.by_numba()
        if training.graphs is not None:
            return self._train_epoch_by_graphs(training.graphs)
        step, optimiser = training.step, training.optimiser
        step.begin_epoch(training.batches.sizes)
        for x, target, weight in training.batches.epoch(step.encode):
            if self._net is None:
                step.gradient(x, target, weight)
                optimiser.update()
            else:  # a callback may keep the batch, whose memory the next block takes
                x, target = x.clone(), tuple(part.clone() for part in target)
                self._notify("on_batch_begin", batch=(x, target), training=True)
                step.gradient(x, target, weight)
                named = list(training.module.named_parameters())
                self._notify("on_grad_computed", named_parameters=named, X=x, y=target)
                self._net.optimizer_.step()
                self._end_batch(x, target)
        return float(step.end_epoch())

    def _train_epoch_by_graphs(self, graphs: BlockGraphs) -> float:
        training = self.training
        vector = training.flat.vector.detach()
        total = vector.new_zeros((), dtype=torch.float64)
        n_epochs = 1 if training.single_epoch else training.max_epochs - self.n_epochs
        n_left = n_epochs * training.batches.n_blocks
        for block in training.batches.blocks(training.step.encode):
            if self._rates is None:  # the first block is the longest
                self._rates = vector.new_empty(len(block))
            n_rows = sum(len(x) for x, *_ in block)
            self._rates[: len(block)] = vector.new_tensor(training.optimiser.next_rates(len(block)))
            loss = graphs.run(n_rows, partial(self._train_block, block, self._rates), n_left)
            n_left -= 1
            total += loss.to(torch.float64) * n_rows
        return float(total) / training.batches.rows.n

    def _train_block(self, block: list[Batch], rates: torch.Tensor) -> torch.Tensor:
        """Make the steps of a block, at rates that lie on the device, and return its mean loss."""
        step, optimiser = self.training.step, self.training.optimiser
        step.begin_epoch([len(x) for x, *_ in block])
        for i, (x, target, weight) in enumerate(block):
            step.gradient(x, target, weight)
            optimiser.update_at(rates[i])
        return step.end_epoch()

    def _end_epoch(self, loss: float, started: float) -> bool:
        """Record the epoch, prepare the next, and say whether there should be none."""
        training, progress = self.training, self.training.progress
        rate = training.schedule.rate
        validation_loss = score = float("nan")
        if training.validation is not None:
            validation_loss, score = training.validation.measure(training.module)
        # From here to the snapshots nothing takes long enough to be interrupted in.
        self.n_epochs += 1
        progress.record(
            train_loss=loss,
            validation_loss=validation_loss,
            validation_score=score,
            learning_rate=rate,
            seconds=perf_counter() - started,
        )
        if training.verbose:
            self._print(loss, score)
        is_best, stops = progress.judge(
            training.schedule,
            loss=loss,
            score=score,
            n_samples=training.batches.rows.n,
            tol=training.tol,
            patience=training.n_iter_no_change,
            early_stopping=training.early_stopping,
        )
        if is_best:
            self._best = training.flat.snapshot()
        slows = isinstance(training.schedule, Adaptive) and training.schedule.rate < rate
        if training.verbose and (stops or slows):
            self._print_plateau(stops=stops)
        return stops

    def _print(self, loss: float, score: float) -> None:
        line = f"Epoch {self.n_epochs}, loss = {loss:.8f}"
        if not math.isnan(score):
            line += f", validation score = {score:.6f}"
        say(line)

    def _print_plateau(self, *, stops: bool) -> None:
        training = self.training
        what = "training loss has not fallen by more than"
        if training.early_stopping:
            what = "validation score has not risen by"
        then = "training ends"
        if not stops:
            then = f"the learning rate is {training.schedule.rate:g} from now on"
        say(
            f"The {what} tol={training.tol:g} for more than {training.n_iter_no_change} epochs: "
            f"{then}."
        )

    # -- skorch's callbacks ----------------------------------------------------------------------

    def _start_callbacks(self) -> None:
        training = self.training
        if training.callbacks is None or len(training.callbacks) == 0:
            return
        from sknets._engine._net import CallbackNet, as_dataset, check_callbacks

        self._net = CallbackNet(
            training.module,
            training.optimiser,
            task=training.task,
            dtype=training.batches.rows.dtype,
            callbacks=check_callbacks(training.callbacks),
            max_epochs=training.max_epochs,
            batch_size=training.batches.batch_size,
        ).initialize()
        train = as_dataset(training.batches.rows, training.batches.target)
        check = training.validation
        self._datasets = {
            "dataset_train": train,
            "dataset_valid": None if check is None else as_dataset(check.rows, check.target),
        }
        self._notify("on_train_begin", X=train.X, y=train.y)

    def _notify(self, event: str, **details: Any) -> None:
        if self._net is None:
            return
        if event == "on_epoch_begin":
            self._net.history.new_epoch()
            self._net.history.record("epoch", len(self._net.history))
        if event == "on_batch_begin":
            self._net.history.new_batch()
        if event.startswith("on_epoch"):
            details = self._datasets
        for _, callback in self._net.callbacks_:
            getattr(callback, event)(self._net, **details)

    def _end_batch(self, x: torch.Tensor, target: tuple[torch.Tensor, ...]) -> None:
        """Note a batch in skorch's history; no step keeps predictions, so that there are none."""
        self._net.history.record_batch("train_batch_size", len(x))
        self._notify("on_batch_end", batch=(x, target), training=True, y_pred=None)

    def _callbacks_stop(self) -> bool:
        """Give skorch's callbacks the epoch's figures; one that raises asks to stop."""
        if self._net is None:
            return False
        history, record = self.training.progress.history, self._net.history.record
        figures = {"train_loss": history["train_loss"][-1]}
        if self.training.validation is not None:
            figures["valid_loss"] = history["validation_loss"][-1]
            figures["valid_acc"] = history["validation_score"][-1]
        for name, value in figures.items():
            earlier = [row[name] for row in self._net.history[:-1]]
            better = max if name.endswith("acc") else min
            record(name, value)
            record(f"{name}_best", not earlier or better(value, better(earlier)) != better(earlier))
        record("dur", history["seconds"][-1])
        stops = False
        try:
            self._notify("on_epoch_end")
        except KeyboardInterrupt:
            stops = True
        except KeyError as error:
            absent = self.training.validation is None and "'valid_" in str(error)
            if absent and "not found in history" in str(error):  # skorch's words
                raise ValueError(
                    "callbacks that watch validation figures need rows that are held out, got "
                    f"none and {error}. Set early_stopping=True, or pass X_val and y_val."
                ) from error
            raise
        self.training.progress.note(self._net.notes(without=figures))
        return stops
