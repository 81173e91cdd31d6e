"""The objectives of many logistic regressions, evaluated together.

The models differ in penalties, weights and the rows they see. Those that see the same rows (the
candidates of one fold) share every product: the logits of all of them are one product with X, and
so are the gradients. What is shared is arithmetic alone; each model has the objective of
`LogisticObjective`, and nothing of its neighbours.

Conventions
-----------
M models, A of them asked about, n rows of a fold, b rows of a block, D columns (an intercept is the
weight of a last column of ones), K outputs, P = K * D parameters. Logits are (K, A, b): a sum over
classes then runs along long, contiguous axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sknets._engine._centring import Centring
from sknets._engine._lbfgs_memory import Memory
from sknets._engine._logistic_loss import against_overflow
from sknets._engine._stack_fold import Array, Fold

# Logits up to this size need no shift before ``exp``: it does not overflow, and a loss is not lost
# in the rounding of a large logit.
_SAFE_LOGIT = {np.dtype(np.float32): 0.0, np.dtype(np.float64): 350.0}


@dataclass
class StackedModel:
    """One logistic regression of a stack: what it minimises, and how that went.

    Attributes
    ----------
    fold : int
        Number of its fold.
    share : ndarray of shape (n,) or None
        Weights of the fold's rows, divided by their sum; None weighs all alike.
    l2, l1 : float
        Strengths of the penalties, on the scale of the mean loss.
    tol : float
        Largest component of the gradient at which to stop.
    max_iter : int
        Iterations allowed.
    params : ndarray of shape (P,)
        Where it started; in the end, where it stopped.
    losses, seconds : list of float
        The objective after each iteration, and the iteration's share of the time.
    converged : bool
        Whether it stopped for `tol`.
    message : str
        Why it stopped.
    error : ValueError or None
        What its own fit would have raised.
    """

    fold: int
    share: Array | None
    l2: float
    l1: float
    tol: float
    max_iter: int
    params: Array
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    converged: bool = False
    message: str = "max_iter is reached"
    error: ValueError | None = None


class LogisticStack:
    """Values and gradients of many logistic objectives.

    Parameters
    ----------
    folds : sequence of Fold
        All with the same columns and classes.
    models : sequence of StackedModel
        Numbered by their places.
    fit_intercept : bool
        Whether the last column is an intercept, which is not penalised.

    Attributes
    ----------
    is_on_device : bool
        Whether an accelerator evaluates the objectives.
    """

    is_on_device = False

    def __init__(
        self, folds: Sequence[Fold], models: Sequence[StackedModel], *, fit_intercept: bool
    ) -> None:
        self.folds: Sequence[Any] = folds  # a child may have others
        self.models = models
        self.fit_intercept = fit_intercept
        self.shape = (folds[0].n_outputs, folds[0].width)
        self.size = self.shape[0] * self.shape[1]
        self.dtype = folds[0].dtype
        self.penalised = np.ones(self.shape, bool)
        if fit_intercept:
            self.penalised[:, -1] = False
        self.penalised = self.penalised.ravel()
        self.l2 = np.array([model.l2 for model in models])
        self._fold_of = np.array([model.fold for model in models])
        self._norms = np.array([fold.largest_norm for fold in folds])
        self._is_weighted = any(model.share is not None for model in models)
        self._shares: dict[int, tuple[Array, Array] | None] = {}
        self._last_shares: dict[int, tuple[bytes, Array | None]] = {}

    def loss_gradient(self, params: Array, models: Array) -> tuple[Array, Array]:
        """Evaluate the smooth objectives of some models.

        Parameters
        ----------
        params : ndarray of shape (A, P)
            Where.
        models : ndarray of shape (A,)
            Numbers of the models.

        Returns
        -------
        values : ndarray of shape (A,)
            Not finite where a model's logits overflow.
        grads : ndarray of shape (A, P)
            Gradients.
        """
        values, grads = np.empty(len(models)), np.empty((len(models), self.size))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            shifted = self.needs_shift(params, models)
            for fold, here in self.by_fold(models):
                some = self._apart(params, here)
                values[here], grads[here] = self._in_fold(
                    fold, params[some], models[some], shifted=bool(shifted[some].any())
                )
            n_penalised = self.shape[1] - int(self.fit_intercept)
            coef = params.reshape(-1, *self.shape)[:, :, :n_penalised]
            l2 = self.l2[models]
            values += 0.5 * l2 * np.vecdot(coef, coef).sum(axis=1)
            grads.reshape(-1, *self.shape)[:, :, :n_penalised] += l2[:, None, None] * coef
        return values, grads

    def centring(self, models: Array) -> Centring:
        """Return the coordinates of models (A,) in which the weighted means of rows are zero."""
        if not self.fit_intercept:
            return Centring(None, self.shape[0])
        means = np.empty((len(models), self.shape[1]))
        for number, where in self.by_fold(models):
            fold, share = self.folds[number], self.shares(number, models[where])
            if share is None:
                share = self._even_share(number)[None]
            means[where] = fold.backward(share * fold.ones)
        means[:, -1] = 0.0
        return Centring(means, self.shape[0])

    def make_memory(self, n_models: int) -> Memory:
        """Return what L-BFGS remembers of so many models."""
        return Memory(n_models, self.size)

    def _apart(self, params: Array, where: Array) -> Array:
        """Return those of the models of a fold that stand at points of their own.

        In the first two passes all of them stand at one, before their penalties take them apart.
        """
        is_one = not self._is_weighted and (params[where[0]] == params[where[-1]]).all()
        return where[:1] if is_one and (params[where] == params[where[0]]).all() else where

    def by_fold(self, models: Array) -> Iterator[tuple[int, Array]]:
        """Yield the folds of some models, and where in `models` those of the fold stand."""
        if not len(models):
            return
        folds = self._fold_of[models]
        order = np.argsort(folds, kind="stable")
        starts = np.flatnonzero(np.diff(folds[order])) + 1
        for where in np.split(order, starts):
            yield int(folds[where[0]]), where

    def by_class(self, params: Array) -> Array:
        """Return parameters (A, P) as the rows of one product, (K * A, D)."""
        n_outputs, width = self.shape
        rows = params.reshape(-1, n_outputs, width).transpose(1, 0, 2).reshape(-1, width)
        return rows.astype(self.dtype, copy=False)

    def by_model(self, rows: Array) -> Array:
        """Return the rows (K * A, D) of a product as parameters (A, P), float64."""
        n_outputs, width = self.shape
        split = rows.reshape(n_outputs, -1, width).transpose(1, 0, 2)
        return split.reshape(-1, self.size).astype(np.float64, copy=False)

    def shares(self, fold: int, models: Array) -> Array | None:
        """Return the weights (A, n) of the rows of a fold; None if all are ``1 / n``."""
        if not self._is_weighted:
            return None
        asked = models.tobytes()
        known, shares = self._last_shares.get(fold, (b"", None))
        if known != asked:  # the same models are asked about until one of them stops
            shares = self._take_shares(fold, models)
            self._last_shares[fold] = asked, shares
        return shares

    def _take_shares(self, fold: int, models: Array) -> Any:
        """Return the weights of some models, of those of all models of the fold."""
        if fold not in self._shares:
            self._shares[fold] = self._shares_of_all(fold)
        known = self._shares[fold]
        if known is None:
            return None
        shares, places = known
        return shares[places[models]]

    def _shares_of_all(self, fold: int) -> tuple[Any, Array] | None:
        """Return the different weights of the rows of a fold, and each model's place in them."""
        even = self._even_share(fold)
        distinct: list[Array] = []
        place_of: dict[int, int] = {}
        places = np.zeros(len(self.models), np.intp)
        for number in np.flatnonzero(self._fold_of == fold).tolist():
            given = self.models[number].share
            share = even if given is None else given
            if id(share) not in place_of:
                place_of[id(share)] = len(distinct)
                distinct.append(share)
            places[number] = place_of[id(share)]
        if all(share is even for share in distinct):
            return None
        return np.stack(distinct), places

    def _even_share(self, fold: int) -> Array:
        """Return the equal weights (n,) of the rows of a fold."""
        n = self.folds[fold].n
        return np.full(n, 1 / n, self.dtype)

    def _in_fold(
        self, number: int, params: Array, models: Array, *, shifted: bool
    ) -> tuple[Array, Array]:
        """Return the weighted means of the losses, and their gradients."""
        fold, share = self.folds[number], self.shares(number, models)
        weights = self.by_class(params)
        values, grads = np.zeros(len(models)), np.zeros(weights.shape, self.dtype)
        for part, rows, columns in fold.parts:
            of_part = None if share is None else share[:, rows]
            value, grad = self._in_part(part, weights[:, columns], of_part, shifted=shifted)
            values += value
            grads[:, columns] += grad
        if share is None:
            values /= fold.n
            grads /= fold.n
        return values, self.by_model(grads)

    def _in_part(
        self, fold: Fold, weights: Array, share: Array | None, *, shifted: bool
    ) -> tuple[Array, Array]:
        """Return the weighted sums of losses (A,), and their gradients (K * A, D)."""
        values = np.zeros(len(weights) // self.shape[0])
        grads = np.zeros(weights.shape, self.dtype)
        n_rows = fold.block_rows(len(weights))
        memory = np.empty(len(weights) * n_rows, self.dtype)
        for start in range(0, fold.n, n_rows):
            rows = slice(start, start + n_rows)
            residuals = fold.forward(weights, rows, memory)
            losses = self._losses_residuals(fold, residuals, rows, shifted=shifted)
            if share is None:
                values += losses.sum(axis=1, dtype=np.float64)
            else:
                weight = share[:, rows]
                values += np.vecdot(losses.astype(np.float64, copy=False), weight)
                by_class = residuals.reshape(self.shape[0], *weight.shape)
                by_class *= weight
            grads += fold.backward(residuals, rows)
        return values, grads

    def _losses_residuals(self, fold: Fold, logits: Array, rows: slice, *, shifted: bool) -> Array:
        """Return the losses (A, b) of rows and turn their logits (K * A, b) into derivatives."""
        n_outputs = self.shape[0]
        if n_outputs == 1:  # the row's own class has a logit of zero
            _, losses, shift = self.probabilities(logits, shifted=shifted)
            if shift is not None:
                losses += shift
            return losses
        by_class = logits.reshape(n_outputs, -1, logits.shape[1])
        own = np.empty(by_class.shape[1:], self.dtype)
        where = list(fold.classes_of(rows))
        for k, of_class in where:
            own[:, of_class] = by_class[k, :, of_class]
        proba, losses, shift = self.probabilities(logits, shifted=shifted)
        for k, of_class in where:
            proba[k, :, of_class] -= 1
        losses -= own if shift is None else np.subtract(own, shift, out=own)
        return losses

    def needs_shift(self, params: Array, models: Array) -> Array:
        """Say for which models (A,) logits could be too large for ``exp``."""
        rows = params.reshape(-1, *self.shape)
        longest = np.sqrt(np.vecdot(rows, rows).max(axis=1))
        return ~(longest * self._norms[self._fold_of[models]] <= _SAFE_LOGIT[self.dtype])

    def probabilities(self, logits: Array, *, shifted: bool) -> tuple[Array, Array, Array | None]:
        """Turn logits (K * A, b) into probabilities (K, A, b), in place.

        Returns
        -------
        proba : ndarray of shape (K, A, b)
            For two classes, of the one that the row is not of.
        log_sums : ndarray of shape (A, b)
            Logarithm of the sum over classes of the exponentials of the logits less the shift.
        shift : ndarray of shape (A, b) or None
            The largest logit, if `shifted`.
        """
        n_outputs = self.shape[0]
        proba = logits.reshape(n_outputs, -1, logits.shape[1])
        if n_outputs == 1:  # the other class has a logit of zero
            shift = np.maximum(proba[0], 0) if shifted else None
            first = 1 if shift is None else np.exp(-shift)
        else:
            shift, first = (proba.max(axis=0) if shifted else None), None
        if shift is not None:
            proba -= shift
        np.exp(proba, out=proba)
        sums = proba.sum(axis=0) if first is None else proba[0] + first
        if n_outputs == 1:
            log_sums = np.log1p(proba[0]) if shift is None else np.log(sums)
            proba /= sums
            return proba, log_sums, shift
        log_sums = np.log(sums)
        proba *= np.divide(1, sums, out=sums)
        return proba, log_sums, shift

    def centred(self, params: Array, model: StackedModel) -> Array:
        """Take from each unpenalised column its mean over classes; no probability changes."""
        params = params.reshape(self.shape).copy()
        if self.shape[0] == 1:
            return params
        if model.l1 == 0 and model.l2 == 0:
            params -= params.mean(axis=0)
        elif self.fit_intercept:
            params[:, -1] -= params[:, -1].mean()
        return params


def not_finite(loss: float, dtype: np.dtype) -> ValueError:
    """Return the error of a fit whose loss or gradient is not finite."""
    return ValueError(
        f"The training loss and its gradient must stay finite, got a loss of {loss}. "
        f"{against_overflow(is_float64=dtype == np.float64)}"
    )
