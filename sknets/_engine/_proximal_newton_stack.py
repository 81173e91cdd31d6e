"""Proximal Newton for a stack of logistic regressions with any mixture of L1 and L2 penalties.

The two steps of an iteration are those of `_proximal_newton`, of which the models share the passes
over X.

Shapes: A models that still learn, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sknets._engine._centring import Centring
from sknets._engine._logistic_stack import Array, LogisticStack
from sknets._engine._newton_stack import Walkers, stacked_cg
from sknets._engine._proximal_newton import SUFFICIENT, TRIES
from sknets._engine._stack_curvature import StackCurvature

_TINY = float(np.finfo(np.float64).tiny)


def stacked_proximal_newton(
    stack: LogisticStack, numbers: Array, after_tick: Callable[[], bool]
) -> None:
    """Minimise until no component of the smallest subgradient exceeds ``tol``.

    Parameters are those of `stacked_lbfgs`.
    """
    walk = _Walk(stack, numbers)
    while walk.begin():
        walk.remember()
        walk.proximal_step()
        walk.support_step()
        walk.end()
        if after_tick():
            return


class _Walk(Walkers):
    """Walkers with an L1 term each, and how steep a model of it must be to bound it."""

    def __init__(self, stack: LogisticStack, numbers: Array) -> None:
        super().__init__(stack, numbers)
        self.bounds = np.ones(len(self.numbers))
        self._centring = stack.centring(np.arange(len(stack.models)))
        self.eps = float(np.finfo(stack.dtype).eps)

    def keep(self, stays: Array) -> None:
        """Go on with the models that stay."""
        if hasattr(self, "bounds"):
            self.bounds = self.bounds[stays]
        super().keep(stays)

    @property
    def centring(self) -> Centring:
        """The centred coordinates of the models that still learn."""
        return self._centring.of(self.numbers)

    @property
    def strengths(self) -> Array:
        """What the L1 term asks of every parameter, (A, P)."""
        l1 = np.array([model.l1 for model in self.models])
        return l1[:, None] * self.stack.penalised

    def begin(self) -> bool:
        """Stop the models that are done; say whether any goes on."""
        tol = np.array([model.tol for model in self.models])
        within = _residuals(self.params, self.grads, self.strengths) <= tol
        self.stop(within, True, "the subgradient is within tol")
        self.stop_out_of_iterations()
        return bool(len(self.numbers))

    def remember(self) -> None:
        """Keep where the models stand before an iteration."""
        self._before = self.numbers.copy(), self.params.copy(), *self._standing()

    def end(self) -> None:
        """Record the iteration of the models that gained by it; the others stop before it."""
        numbers, *before = self._before
        stays = np.isin(numbers, self.numbers)  # some may have failed
        params, old_whole, old_residuals = (array[stays] for array in before)
        whole, residuals = self._standing()
        stuck = ~((whole < old_whole) | (residuals < old_residuals))
        self.params[stuck] = params[stuck]
        self.stop(stuck, False, "no step lowers the value; rounding may be the limit")
        self.record(whole[~stuck])

    def _standing(self) -> tuple[Array, Array]:
        """Return the models' whole objectives and the sizes of their subgradients, (A,) each."""
        strengths = self.strengths
        whole = self.values + _l1(self.params, strengths)
        return whole, _residuals(self.params, self.grads, strengths)

    def proximal_step(self) -> None:
        """Minimise separable quadratic models plus the L1 terms, steeper until they bound F."""
        strengths, centring = self.strengths, self.centring
        diagonals = StackCurvature(self.stack, self.params, self.numbers).diagonals(centring)
        largest = np.maximum(diagonals.max(axis=1, initial=0.0), _TINY)
        diagonals = np.maximum(diagonals, 1e-10 * largest[:, None])
        params, values = centring.centred(self.params), self.values.copy()
        grads, whole = centring.gradient(self.grads), values + _l1(params, strengths)
        self.bounds = np.maximum(1.0, self.bounds / 2)
        waiting, failed = np.arange(len(params)), np.zeros(len(params), bool)
        for _ in range(TRIES):
            metric = self.bounds[waiting, None] * diagonals[waiting]
            target = params[waiting] - grads[waiting] / metric
            strength = strengths[waiting]
            new = np.sign(target) * np.maximum(np.abs(target) - strength / metric, 0.0)
            move = new - params[waiting]
            moves = move.any(axis=1)
            waiting, new, move, metric = waiting[moves], new[moves], move[moves], metric[moves]
            if not len(waiting):
                break
            trial = centring.of(waiting).params(new)
            new_values, new_grads, fine = self._evaluate(trial, waiting, failed)
            model = values[waiting] + np.einsum("ap,ap->a", grads[waiting], move)
            model += 0.5 * np.einsum("ap,ap,ap->a", metric, move, move)
            slack = 16 * self.eps * np.abs(values[waiting])
            found = fine & (new_values <= model + slack)
            found &= new_values + _l1(new, strengths[waiting]) <= whole[waiting]
            self._move(waiting, found, trial, new_values, new_grads)
            waiting = waiting[fine & ~found]
            self.bounds[waiting] *= 2
            if not len(waiting):
                break
        self.keep(~failed)

    def support_step(self) -> None:
        """Take Newton steps among nonzero parameters; one that would change sign becomes zero."""
        if not len(self.numbers):
            return
        strengths, centring = self.strengths, self.centring
        support = (self.params != 0) | (strengths == 0)
        slopes = _subgradients(self.params, self.grads, strengths)
        curvature = StackCurvature(self.stack, self.params, self.numbers)

        def products(vectors: Array, places: Array) -> Array:
            here = centring.of(places)
            curved = curvature.products(here.params(vectors), places)
            return here.gradient(curved) * support[places]

        # Outside the support all is zero, and stays so.
        downhill = -centring.gradient(slopes) * support
        steps = stacked_cg(products, downhill, curvature.diagonals(centring) * support)
        steps *= support
        start = centring.centred(self.params)
        params, values, grads = self.params.copy(), self.values.copy(), self.grads.copy()
        whole = values + _l1(params, strengths)
        residuals = _residuals(params, grads, strengths)
        waiting = np.flatnonzero(support.any(axis=1))
        failed, length = np.zeros(len(params), bool), 1.0
        for _ in range(TRIES):
            if not len(waiting):
                break
            old, strength = start[waiting], strengths[waiting]
            new = old + length * steps[waiting]
            new[(strength > 0) & (new * old < 0)] = 0.0
            new = centring.of(waiting).params(new)
            new_values, new_grads, fine = self._evaluate(new, waiting, failed)
            change = new_values + _l1(new, strength) - whole[waiting]
            promised = SUFFICIENT * np.einsum("ap,ap->a", slopes[waiting], new - params[waiting])
            found = (change < 0) & (change <= promised)
            flat = np.abs(change) <= 16 * self.eps * np.abs(whole[waiting])
            found |= flat & (_residuals(new, new_grads, strength) < residuals[waiting])
            found &= fine
            self._move(waiting, found, new, new_values, new_grads)
            waiting = waiting[fine & ~found]
            length *= 0.5
        self.keep(~failed)

    def _evaluate(self, params: Array, waiting: Array, failed: Array) -> tuple[Array, Array, Array]:
        """Evaluate trials; those that are not finite are marked in `failed` by their places."""
        numbers = self.numbers[waiting]
        values, grads = self.stack.loss_gradient(params, numbers)
        fine = self.finite(values, grads, numbers)
        failed[waiting[~fine]] = True
        return values, grads, fine

    def _move(
        self, waiting: Array, found: Array, params: Array, values: Array, grads: Array
    ) -> None:
        here = waiting[found]
        self.params[here] = params[found]
        self.values[here], self.grads[here] = values[found], grads[found]


def _l1(params: Array, strengths: Array) -> Array:
    return np.einsum("ap,ap->a", strengths, np.abs(params))


def _subgradients(params: Array, grads: Array, strengths: Array) -> Array:
    """Return the smallest elements of the subdifferentials of F, (A, P)."""
    at_zero = np.sign(grads) * np.maximum(np.abs(grads) - strengths, 0.0)
    return np.where(params == 0, at_zero, grads + strengths * np.sign(params))


def _residuals(params: Array, grads: Array, strengths: Array) -> Array:
    return np.abs(_subgradients(params, grads, strengths)).max(axis=1, initial=0.0)
