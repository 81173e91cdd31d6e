"""What an iterative fit remembers: losses, scores, the best of them, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from sknets._nn import Schedule

HISTORY_COLUMNS = (
    "epoch",
    "train_loss",
    "validation_loss",
    "validation_score",
    "learning_rate",
    "seconds",
)

History = dict[str, list]


def make_history() -> History:
    """Return a history of no epochs: a list a column."""
    return {name: [] for name in HISTORY_COLUMNS}


@dataclass
class Progress:
    """The course of training; it goes on through warm starts and calls of ``partial_fit``.

    Attributes
    ----------
    loss_curve : list of float
        Training loss of every epoch.
    validation_scores : list of float
        Accuracy on the validation set after every epoch that had one.
    best_loss : float
        Smallest training loss so far.
    best_score : float
        Largest validation score so far.
    n_stale : int
        Epochs since the last improvement of more than ``tol``.
    n_samples_seen : int
        Rows trained on, over all epochs.
    history : dict of lists
        A row an epoch, see `HISTORY_COLUMNS`, and a column for each figure of a callback.
    """

    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    best_loss: float = float("inf")
    best_score: float = float("-inf")
    n_stale: int = 0
    n_samples_seen: int = 0
    history: History = field(default_factory=make_history)

    def record(self, **row: float) -> None:
        """Append an epoch to the history, whose number follows from the ones before."""
        row["epoch"] = len(self.history["epoch"]) + 1
        for name, column in self.history.items():
            column.append(row[name] if name in HISTORY_COLUMNS else math.nan)

    def note(self, figures: dict[str, float]) -> None:
        """Add figures of callbacks to the last row; epochs without them have NaN."""
        n_epochs = len(self.history["epoch"])
        for name, value in figures.items():
            if name in HISTORY_COLUMNS or not isinstance(name, str):
                continue
            column = self.history.setdefault(name, [])
            column += [math.nan] * (n_epochs - len(column))
            column[-1] = value

    def note_loss(self, loss: float, tol: float) -> None:
        """Count an epoch as stale unless the training loss fell by more than `tol`."""
        self.n_stale = self.n_stale + 1 if loss > self.best_loss - tol else 0
        self.best_loss = min(self.best_loss, loss)

    def note_score(self, score: float, tol: float) -> bool:
        """Count an epoch as stale unless the score rose by `tol`; say whether it is the best."""
        self.n_stale = self.n_stale + 1 if score < self.best_score + tol else 0
        is_best = score > self.best_score
        self.best_score = max(self.best_score, score)
        return is_best

    def judge(
        self,
        schedule: Schedule,
        *,
        loss: float,
        score: float,
        n_samples: int,
        tol: float,
        patience: float,
        early_stopping: bool,
    ) -> tuple[bool, bool]:
        """Take note of an epoch's loss and validation score, and move the learning rate on.

        Returns
        -------
        is_best : bool
            Whether the score is the best so far; only with `early_stopping`.
        stops : bool
            Whether training ends, after more than `patience` epochs without an improvement of
            `tol`.
        """
        self.n_samples_seen += n_samples
        self.loss_curve.append(loss)
        is_best = False
        if early_stopping:
            self.validation_scores.append(score)
            is_best = self.note_score(score, tol)
        else:
            self.note_loss(loss, tol)
        schedule.end_epoch(self.n_samples_seen)
        if self.n_stale <= patience:
            return is_best, False
        if schedule.stops_at_plateau():
            return is_best, True
        self.n_stale = 0
        return is_best, False

    def copy(self) -> Progress:
        """Return a copy that can go on without changing this one."""
        return Progress(
            list(self.loss_curve),
            list(self.validation_scores),
            self.best_loss,
            self.best_score,
            self.n_stale,
            self.n_samples_seen,
            {name: list(column) for name, column in self.history.items()},
        )


def say(line: str) -> None:
    """Print a line of progress: what ``verbose`` asks for."""
    print(line)  # noqa: T201


def check_finite(loss: float, *, epoch: int, rate: float) -> None:
    """Raise if the loss of an epoch is not finite.

    Raises
    ------
    ValueError
        If it is not; the message says what to try.
    """
    if not math.isfinite(loss):
        raise ValueError(
            f"The training loss must stay finite, got {loss} in epoch {epoch} with a learning rate "
            f"of {rate:g}. Lower learning_rate_init, or scale the features first (StandardScaler "
            "in a Pipeline)."
        )


def check_finite_weights(weights: torch.Tensor, *, epoch: int, rate: float) -> None:
    """Raise if the last update, which no loss has seen yet, broke the weights.

    Raises
    ------
    ValueError
        If a weight is not finite; the message says what to try.
    """
    if math.isfinite(float(weights.detach().sum())):
        return  # one kernel; to look at every weight takes four
    if not bool(torch.isfinite(weights).all()):
        raise ValueError(
            f"The weights must stay finite, got NaN or infinite ones after epoch {epoch} with a "
            f"learning rate of {rate:g}. Lower learning_rate_init, or scale the features first "
            "(StandardScaler in a Pipeline)."
        )
