"""Rosenblatt's rule by epochs: order of rows, objective, when each class stops, what is kept.

The rule is ``w <- w + eta (y - yhat) x``, with a step wherever ``y (w.x + b) <= 0`` for targets
y of -1 and +1, each class against the rest. Every class has its own loss and stops on its own.

Shapes: K classes (1 for a binary target), n rows, F features.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknets._core import limit_threads, numpy_dtype
from sknets._engine._epochs import Hooks
from sknets._engine._perceptron_block import Coupling, correct_block
from sknets._engine._perceptron_compiled import CompiledRule, compiled_rule
from sknets._engine._perceptron_followed import FollowedRule, followed_rule
from sknets._engine._perceptron_task import (
    PerceptronResult,
    PerceptronSettings,
    PerceptronTask,
)
from sknets._engine._perceptron_truncated import TruncatedRule, TruncatedWeights
from sknets._engine._products import SMALL_PRODUCT
from sknets._engine._progress import say

Array = np.ndarray[Any, np.dtype[Any]]

# Multiply-adds of a block's Gram matrix below which a second thread costs more than it brings.
_WORTH_THREADS = 5e7

# Numbers gathered from X at once: small blocks of few features are cut from one larger piece.
_GATHERED = 2**17


@dataclass
class _Pass:
    """One pass over the rows: per class (K,) loss and penalty sums, and mistakes."""

    loss: Array
    penalty: Array
    n_mistakes: Array

    @classmethod
    def of(cls, n_classes: int) -> _Pass:
        """Return a pass over no rows yet."""
        return cls(np.zeros(n_classes), np.zeros(n_classes), np.zeros(n_classes, int))


class PerceptronLoop:
    """Trains all classes together, epoch by epoch, each until it no longer improves.

    Parameters
    ----------
    task : PerceptronTask
        What to learn from.
    settings : PerceptronSettings
        How.
    start : PerceptronResult
        Weights to start from; replaced, never changed in place.
    random_state : RandomState
        Source of the orders of rows.
    validation : PerceptronTask or None, default=None
        Rows whose accuracy, instead of the training objective, decides when a class stops.
    hooks : Hooks or None, default=None
        Told of every epoch.
    """

    # Whether few rows may be followed class by class, which shares nothing between classes.
    _follows_few = True

    def __init__(
        self,
        task: PerceptronTask,
        settings: PerceptronSettings,
        start: PerceptronResult,
        random_state: np.random.RandomState,
        *,
        validation: PerceptronTask | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.task = task
        self.settings = settings
        self.result = start
        self.validation = validation
        self.hooks = hooks or Hooks()
        self._random_state = random_state
        self._permutation: Array | None = None
        self._order: Array = np.empty(0, np.intp)
        n_classes = settings.class_steps.shape[1]
        self._dtype = numpy_dtype(task.rows.dtype)
        is_positive = task.positive[:, None] == np.arange(n_classes)
        self._signs = np.where(is_positive, 1, -1).astype(self._dtype)
        self._steps = settings.class_steps.astype(self._dtype)
        n_problems = len(task.positive)
        self._learning = np.ones(n_problems, bool)
        self._best = np.full(n_problems, np.inf)
        self._n_stale = np.zeros(n_problems, int)
        self._losses = np.zeros(n_problems)
        self._scores = np.zeros(n_problems)
        size = settings.block_rows or (64 if task.rows.n_features > 256 else 128)
        self._size = min(size, task.rows.n)
        self._truncated: list[TruncatedWeights] | None = None
        self._rule = self._choose_rule()
        if settings.payment > 0:
            coef = start.coef.cpu().numpy()
            self._truncated = [
                TruncatedWeights.start(w, b) for w, b in zip(coef, start.intercept, strict=True)
            ]
        elif self._rule is None:
            self._coupling = Coupling(
                self._size, settings.shrinkage, settings.intercept_step, self._dtype
            )

    def run(self) -> PerceptronResult:
        """Train until every class has stopped or the epochs are used up.

        Raises
        ------
        ValueError
            If weights turn NaN or infinite.
        KeyboardInterrupt
            If the user interrupts before one epoch is whole; later the weights of the last whole
            epoch stand and a warning is given.
        """
        on_cpu = self.task.rows.device.type == "cpu"
        small = self._rule is not None or self._size**2 * self.task.rows.n_features < _WORTH_THREADS
        first = len(self.result.epochs)
        with limit_threads(1 if on_cpu and small else None):
            try:
                while len(self.result.epochs) - first < self.settings.max_epochs:
                    self.hooks.epoch_begins()
                    self._train_epoch()
                    if self.hooks.epoch_ends() or not self._learning.any():
                        break
            except KeyboardInterrupt:
                if len(self.result.epochs) == first:
                    raise
                warnings.warn(
                    f"Training interrupted by user after epoch {len(self.result.epochs)}, whose "
                    "weights are kept.",
                    stacklevel=2,
                )
        self.hooks.fit_ends()
        return self.result

    # -- an epoch --------------------------------------------------------------------------------

    def _train_epoch(self) -> None:
        """Do one epoch; `result` is replaced when it is whole."""
        started = perf_counter()
        learning = np.flatnonzero(self._learning)
        order = self._next_order()
        # Overflow is looked for once an epoch; infinities are used as marks in every block.
        with np.errstate(invalid="ignore", over="ignore"):
            if self._truncated is not None:
                pass_over = self._pass_by_runs
            else:
                pass_over = self._pass_by_gram if self._rule is None else self._pass_by_rows
            coef, intercept, done, state = pass_over(learning, order)
        self._check_finite(learning, coef, intercept)
        self.result = self._end_epoch(learning, coef, intercept, done, started)
        self._truncated = state

    def _next_order(self) -> Array | None:
        """Permute the last order by the fit's one permutation, as scikit-learn does."""
        if not self.settings.shuffle:
            return None
        if self._permutation is None:
            self._permutation = self._random_state.permutation(self.task.rows.n)
            self._order = np.arange(self.task.rows.n)
        self._order = self._order[self._permutation]
        return self._order

    def _choose_rule(self) -> CompiledRule | FollowedRule | None:
        """Return the rule for rows that are too short for blocks to pay, or None."""
        settings = self.settings
        fixed = not settings.intercept_step and self.result.intercept.any()
        if settings.payment > 0 or settings.block_rows or fixed:
            return None
        rule = compiled_rule(self.task, settings)
        if rule is None and self._follows_few:
            return followed_rule(self.task, settings)
        return rule

    def _pass_by_rows(self, learning: Array, order: Array | None) -> tuple:
        """Pass over short rows, class by class."""
        assert self._rule is not None
        coef = self.result.coef.numpy()[learning]
        intercept = self.result.intercept[learning].astype(np.float64)
        loss, n_mistakes = self._rule.pass_over(
            order, self._signs[learning], self._steps[learning], coef, intercept
        )
        done = _Pass(loss, np.zeros(len(learning)), n_mistakes)
        return torch.from_numpy(coef), intercept, done, None

    def _pass_by_gram(self, learning: Array, order: Array | None) -> tuple:
        """Pass over the rows in blocks, all classes at once."""
        coupling = self._coupling
        device = self.result.coef.device
        coef = self.result.coef[torch.from_numpy(learning).to(device)]
        intercept = self.result.intercept[learning]
        done = _Pass.of(len(learning))
        penalised = coupling.shrinkage != 1.0
        for x, signs, steps in self._blocks(learning, order):
            powers = coupling.powers[: len(x) + 1]
            margins = _product(coef, x.T)
            norms = (coef * coef).sum(1).cpu().numpy()[:, None] if penalised else None
            if penalised:
                margins *= powers[:-1]
                coef *= float(powers[-1])
            margins += intercept[:, None]
            margins *= signs
            if norms is not None:
                done.penalty += 0.5 * self.settings.alpha * (norms * powers[:-1] ** 2).sum(1)
            if not (margins <= 0).any():
                continue
            gram = _gram(x)
            squared_rows = gram.diagonal().copy()
            found = correct_block(margins, signs, steps, coupling.from_gram(gram))
            done.loss -= found.margins.sum(1)
            done.n_mistakes += found.n_mistakes
            if penalised:
                products = coupling.products(found, signs, intercept)
                gains = coupling.gained_squared_norms(found, products, squared_rows)
                done.penalty += 0.5 * self.settings.alpha * gains
            _add_product_(coef, torch.from_numpy(coupling.carried(found.steps)).to(device), x)
            if coupling.intercept_step:
                intercept = intercept + coupling.intercept_step * found.steps.sum(1)
        return coef, intercept, done, None

    def _pass_by_runs(self, learning: Array, order: Array | None) -> tuple:
        """Pass over the rows class by class, where an L1 term bends the weights; on the CPU."""
        settings, states = self.settings, [state.copy() for state in self._truncated or ()]
        rule = TruncatedRule(
            settings.shrinkage,
            settings.payment,
            settings.intercept_step,
            settings.alpha * settings.l1_ratio,
            settings.alpha * (1 - settings.l1_ratio) * 0.5,
        )
        done = _Pass.of(len(learning))
        for x, signs, steps in self._blocks(learning, order):
            rows = x.cpu().numpy()
            for k, number in enumerate(learning):
                loss, penalty, n_mistakes = rule.correct_block(
                    states[number], rows, signs[k], steps[k]
                )
                done.loss[k] += loss
                done.penalty[k] += penalty
                done.n_mistakes[k] += n_mistakes
        coef = torch.from_numpy(np.stack([states[number].coef for number in learning]))
        intercept = np.array([states[number].intercept for number in learning], self._dtype)
        return coef.to(self.result.coef.device), intercept, done, states

    def _blocks(
        self, learning: Array, order: Array | None
    ) -> Iterator[tuple[Tensor, Array, Array]]:
        """Yield the rows (B, F) of each block, their signs and their steps (len(learning), B)."""
        task, size = self.task, self._size
        together = max(1, _GATHERED // (size * task.rows.n_features)) * size
        some = len(learning) < len(self._signs)
        all_signs = self._signs[learning] if some else self._signs
        all_steps = self._steps[learning] if some else self._steps
        for first in range(0, task.rows.n, together):
            last = min(first + together, task.rows.n)
            where: Any = slice(first, last) if order is None else order[first:last]
            rows = task.rows.slice(first, last) if order is None else task.rows.take(where)
            label = task.target[where]
            weight = None if task.sample_weight is None else task.sample_weight[where]
            for start in range(0, last - first, size):
                part = slice(start, start + size)
                signs = all_signs.take(label[part], axis=1)
                steps = all_steps.take(label[part], axis=1)
                yield rows[part], signs, steps if weight is None else steps * weight[part]

    def _check_finite(self, learning: Array, coef: Tensor, intercept: Array) -> None:
        """Raise if a weight of the learning classes is not finite."""
        if not (np.isfinite(coef.cpu().numpy()).all() and np.isfinite(intercept).all()):
            raise not_finite(len(self.result.epochs) + 1, self.settings.step_size)

    # -- after an epoch --------------------------------------------------------------------------

    def _end_epoch(
        self, learning: Array, coef: Tensor, intercept: Array, done: _Pass, started: float
    ) -> PerceptronResult:
        """Put the learning classes back among the others, judge them, and record the epoch."""
        last = self.result
        new_coef, new_intercept = last.coef.clone(), last.intercept.copy()
        new_coef[torch.from_numpy(learning).to(coef.device)] = coef
        new_intercept[learning] = intercept
        loss = done.loss / self.task.rows.n
        self._losses[learning] = loss
        n_learning = len(learning)
        if self.validation is not None:
            self._scores = self._validate(self.validation, new_coef, new_intercept)
            self._judge(learning, -self._scores[learning])
        else:
            self._judge(learning, loss + done.penalty / self.task.rows.n)
        row = {
            "epoch": len(last.epochs) + 1,
            "train_loss": float(self._losses.mean()),
            "validation_loss": float("nan"),
            "validation_score": float("nan" if self.validation is None else self._scores.mean()),
            "learning_rate": self.settings.step_size,
            "seconds": perf_counter() - started,
            "n_mistakes": int(done.n_mistakes.sum()),
            "n_learning": n_learning,
        }
        if self.settings.verbose:
            _print_epoch(row)
        return PerceptronResult(new_coef, new_intercept, [*last.epochs, row])

    def _judge(self, learning: Array, objective: Array) -> None:
        """Stop the classes whose objective has not improved for long enough."""
        tol = self.settings.tol
        if tol is None:
            return
        stale = objective > self._best[learning] - tol
        self._n_stale[learning] = np.where(stale, self._n_stale[learning] + 1, 0)
        self._best[learning] = np.minimum(self._best[learning], objective)
        self._learning = self._learning & (self._n_stale < self.settings.n_iter_no_change)

    def _validate(self, held: PerceptronTask, coef: Tensor, intercept: Array) -> Array:
        """Return the accuracy (K,) of each class against the rest on the held-out rows."""
        right = np.zeros(len(coef))
        for start in range(0, held.rows.n, held.rows.block_rows):
            stop = min(start + held.rows.block_rows, held.rows.n)
            scores = (coef @ held.rows.slice(start, stop).T).cpu().numpy() + intercept[:, None]
            hit = (scores > 0) == (held.positive[:, None] == held.target[start:stop])
            weight = None if held.sample_weight is None else held.sample_weight[start:stop]
            right += hit.sum(1) if weight is None else hit @ weight.astype(np.float64)
        total = held.rows.n if held.sample_weight is None else held.sample_weight.sum(dtype=float)
        return right / total


def not_finite(epoch: int, step_size: float) -> ValueError:
    """Return the error of a fit whose weights are not finite."""
    return ValueError(
        f"The weights must stay finite, got NaN or infinity in epoch {epoch} with a learning rate "
        f"of {step_size:g}. Lower eta0, or scale the features first (StandardScaler in a Pipeline)."
    )


def _print_epoch(row: dict[str, Any]) -> None:
    line = f"Epoch {row['epoch']}, loss = {row['train_loss']:.8f}, {row['n_mistakes']} mistakes"
    if not np.isnan(row["validation_score"]):
        line += f", validation score = {row['validation_score']:.6f}"
    say(line)


def _product(a: Tensor, b: Tensor) -> Array:
    """Return the product of two matrices, on the CPU by NumPy's BLAS (see `_products`)."""
    if a.device.type == "cpu":
        return np.dot(a.numpy(), b.numpy())
    return (a @ b).cpu().numpy()


def _gram(x: Tensor) -> Array:
    """Return the inner products (B, B) of rows with those behind them; others may be zero.

    On the CPU a piece at a time, as large as BLAS multiplies without packing its factors.
    """
    if x.device.type != "cpu":
        return _product(x, x.T)
    rows = x.numpy()
    n_rows, n_features = rows.shape
    size = max(16, int((SMALL_PRODUCT / n_features) ** 0.5) // 16 * 16)
    others = rows.copy()  # of equal factors NumPy makes a call that is slower for few rows
    gram = np.zeros((n_rows, n_rows), rows.dtype)
    for i in range(0, n_rows, size):
        for j in range(i, n_rows, size):
            gram[i : i + size, j : j + size] = np.dot(rows[i : i + size], others[j : j + size].T)
    return gram


def _add_product_(total: Tensor, a: Tensor, b: Tensor) -> None:
    if total.device.type == "cpu":
        total += torch.from_numpy(np.dot(a.numpy(), b.numpy()))
    else:
        total.addmm_(a, b)
