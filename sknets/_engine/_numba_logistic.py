"""Losses, gradients and directions of many logistic regressions, compiled by Numba.

Imported only where that is asked for. A few rows pass through all that is computed of them while
they are in the caches, and nothing holds the interpreter, so that other folds are computed beside.
The products are those of SciPy's BLAS; the formulas are those of `LogisticStack` and `Memory`.

Shapes: A models, K outputs, D columns, n rows, b rows of a block, P = K * D parameters, m pairs of
memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from sknets._engine import _lbfgs_memory, _numba_kernels, _numba_math
from sknets._engine._lbfgs_memory import PAIRS
from sknets._engine._numba_disk import fingerprint, kept_on_disk
from sknets._engine._numba_kernels import exponentials, largest_of_columns
from sknets._engine._numba_math import exp, jit_in_any_order, log, log1p
from sknets._engine._products import SMALL_PRODUCT

_SMALL = int(SMALL_PRODUCT)

# Rows that are looked at together, and bytes of them, which stay in a core's cache.
_FEWEST_ROWS, _MOST_ROWS = 32, 128
_BLOCK_BYTES = 2**18


def block_rows(n_outputs: int, width: int, itemsize: int) -> int:
    """Return how many rows to look at together: BLAS need not pack them for one model at least."""
    n_rows = min(_SMALL // (n_outputs * width), _BLOCK_BYTES // (width * itemsize))
    return min(max(n_rows // 8 * 8, _FEWEST_ROWS), _MOST_ROWS)


# -- losses and gradients -----------------------------------------------------------------------


@jit_in_any_order
def _add_penalties(params, l2, n_penalised, values, grads):
    """Add the penalties of models to their losses, and to the gradients those of the penalties.

    Parameters
    ----------
    params, grads : ndarray of shape (A, K, E), float64
        Parameters and gradients.
    l2 : ndarray of shape (A,)
        Strengths.
    n_penalised : int
        Columns that a penalty falls on, which come first.
    values : ndarray of shape (A,)
        Losses.
    """
    for i in range(len(params)):
        total = 0.0
        for k in range(params.shape[1]):
            row, grad = params[i, k], grads[i, k]
            for d in range(n_penalised):
                total += row[d] * row[d]
                grad[d] += l2[i] * row[d]
        values[i] += 0.5 * l2[i] * total


@jit_in_any_order
def _add_losses_gradients(rows, block, share, first_row, params, where, values, grads):
    """Add to the losses and gradients of models what some rows are of them.

    Parameters
    ----------
    rows : tuple of ndarray of shapes (n, D), (D * n,) and (n,)
        Rows, with one output those of the second class negated; the same, block by block, each (D,
        b); classes, int64.
    block : int
        Rows of a block.
    share : ndarray of shape (A, N) or (1, N)
        What rows count for each model, or for all of them.
    first_row : int
        The first of these rows in `share`.
    params, grads : ndarray of shape (M, K, E), float64
        Parameters and gradients of models; the last D columns are those of the rows.
    where : ndarray of shape (A,)
        Which of the models see the rows.
    values : ndarray of shape (M,)
        Losses.
    """
    x, x_t, target = rows
    n, width = x.shape
    n_models, n_outputs, first_column = len(where), params.shape[1], params.shape[2] - width
    size = max(1, min(n_models, _SMALL // (n_outputs * width * block)))
    size = -(-n_models // -(-n_models // size))
    weights = np.empty((n_models * n_outputs, width), x.dtype)
    _take_columns(params, where, first_column, weights)
    logits = np.empty(size * n_outputs * block, x.dtype)
    products = np.empty(size * n_outputs * width, x.dtype)
    own, largest = np.empty(block, x.dtype), np.empty(block, x.dtype)
    sums = np.empty(block, x.dtype)
    for start in range(0, n, block):
        stop = min(start + block, n)
        b = stop - start
        block_t = x_t[start * width : stop * width].reshape(width, b)
        for first in range(0, n_models, size):
            last = min(first + size, n_models)
            some = slice(first * n_outputs, last * n_outputs)
            z = logits[: (some.stop - some.start) * b].reshape(some.stop - some.start, b)
            np.dot(weights[some], block_t, z)
            for i in range(first, last):
                of_model = z[(i - first) * n_outputs : (i - first + 1) * n_outputs]
                weight = share[i if len(share) > 1 else 0, first_row + start : first_row + stop]
                if n_outputs == 1:
                    loss = _one_output(of_model[0], weight)
                else:
                    room = own[:b], largest[:b], sums[:b]
                    loss = _softmax(of_model, target[start:stop], weight, room)
                values[where[i]] += loss
            product = products[: (some.stop - some.start) * width].reshape(-1, width)
            np.dot(z, x[start:stop], product)
            _add_columns(product, where[first:last], first_column, grads)


@jit_in_any_order
def _take_columns(params, where, first_column, out):
    """Write the last columns of parameters (M, K, E) of A models to an array (A * K, D)."""
    for i in range(len(where)):
        for k in range(params.shape[1]):
            row, of_row = params[where[i], k], out[i * params.shape[1] + k]
            for d in range(len(of_row)):
                of_row[d] = row[first_column + d]


@jit_in_any_order
def _add_columns(product, where, first_column, grads):
    """Add an array (A * K, D) to the last columns of gradients (M, K, E) of A models."""
    for i in range(len(where)):
        for k in range(grads.shape[1]):
            row, of_row = grads[where[i], k], product[i * grads.shape[1] + k]
            for d in range(len(of_row)):
                row[first_column + d] += of_row[d]


@jit_in_any_order
def _softmax(z, target, share, room):
    """Return the loss of logits (K, b), and write its gradients by them in their place."""
    own, largest, sums = room
    largest_of_columns(z, largest)
    for j in range(len(own)):
        own[j] = z[target[j], j] - largest[j]
    exponentials(z, largest, sums)
    loss = 0.0
    for j in range(len(own)):
        loss += float(share[j]) * (log(sums[j]) - own[j])
        sums[j] = share[j] / sums[j]
    for k in range(len(z)):
        row = z[k]
        for j in range(len(row)):
            row[j] *= sums[j]
    for j in range(len(own)):
        z[target[j], j] -= share[j]
    return loss


@jit_in_any_order
def _one_output(z, share):
    """Return the loss of the logits (b,) of the wrong class, and write its gradients."""
    f = z.dtype.type
    loss = 0.0
    for j in range(len(z)):
        e = exp(-abs(z[j]))
        loss += float(share[j]) * (log1p(e) + (f(0) if z[j] < f(0) else z[j]))
        z[j] = share[j] * (e if z[j] < f(0) else f(1)) / (f(1) + e)
    return loss


# -- the memory of L-BFGS -----------------------------------------------------------------------


@jit_in_any_order
def _directions(arrays, grads, before, lengths, last, sy_new, kept, out):
    """Take in the last pairs of models and write directions of descent, one model after another.

    Parameters
    ----------
    arrays : tuple of ndarray
        Those of `Memory`, in the order of its ``ARRAYS``; changed in place.
    grads, before : ndarray of shape (A, P)
        Gradients, and those before the last steps.
    lengths, last : ndarray of shapes (A,) and (A, P)
        Lengths and directions of the last steps.
    sy_new : ndarray of shape (A,)
        Inner products of the steps and what they changed in the gradients.
    kept : ndarray of shape (A,), bool
        Whether a pair is kept.
    out : ndarray of shape (A, P)
        Directions.
    """
    pairs, inverse, yy, sy, n_updates, scale = arrays
    of_grads, of_changes = np.empty(2 * PAIRS), np.empty(2 * PAIRS)
    inner, right, multiples = np.empty(PAIRS), np.empty(PAIRS), np.empty(2 * PAIRS)
    for a in range(len(grads)):
        at = n_updates[a] % PAIRS
        if kept[a]:
            n_updates[a] += 1
            _write_pair(
                grads[a], before[a], lengths[a], last[a], pairs[a, at], pairs[a, PAIRS + at]
            )
        _times_pairs(pairs[a], grads[a], pairs[a, PAIRS + at], of_grads, of_changes)
        if kept[a]:
            _remember(inverse[a], yy[a], of_changes, sy_new[a], at, inner)
            sy[a, at] = sy_new[a]
            scale[a] = sy_new[a] / yy[a, at, at]
        _times(inverse[a], of_grads, inner)
        _times(yy[a], inner, right)
        for i in range(PAIRS):
            right[i] = scale[a] * (right[i] - of_grads[PAIRS + i]) + sy[a, i] * inner[i]
            multiples[PAIRS + i] = -scale[a] * inner[i]
        _times(inverse[a].T, right, multiples)
        _descend(pairs[a], multiples, scale[a], grads[a], out[a])


@jit_in_any_order
def _write_pair(grad, before, length, last, step, change):
    for p in range(len(grad)):
        step[p] = length * last[p]
        change[p] = grad[p] - before[p]


@jit_in_any_order
def _times_pairs(pairs, grad, change, of_grad, of_change):
    """Write the pairs (2 m, P) times a gradient, and times its change."""
    for i in range(len(pairs)):
        row, first, second = pairs[i], 0.0, 0.0
        for p in range(len(row)):
            first += row[p] * grad[p]
            second += row[p] * change[p]
        of_grad[i], of_change[i] = first, second


@jit_in_any_order
def _remember(inverse, yy, of_change, sy, at, room):
    """Write what the pair at a place is in the products of pairs."""
    for i in range(PAIRS):
        yy[i, at] = yy[at, i] = of_change[PAIRS + i]
        inverse[i, at] = inverse[at, i] = 0.0
    of_change[at] = 0.0
    _times(inverse, of_change, room)
    for i in range(PAIRS):
        inverse[i, at] = -room[i] / sy
    inverse[at, at] = 1 / sy


@jit_in_any_order
def _times(matrix, vector, out):
    """Write a matrix (m, m) times the first numbers of a vector."""
    for i in range(PAIRS):
        total = 0.0
        for j in range(PAIRS):
            total += matrix[i, j] * vector[j]
        out[i] = total


@jit_in_any_order
def _descend(pairs, multiples, scale, grad, out):
    """Write minus the inverse Hessian times a gradient."""
    for p in range(len(out)):
        out[p] = -scale * grad[p]
    for i in range(0, len(pairs), 4):  # four rows for each time that the sum is read
        m0, m1, m2, m3 = multiples[i], multiples[i + 1], multiples[i + 2], multiples[i + 3]
        r0, r1, r2, r3 = pairs[i], pairs[i + 1], pairs[i + 2], pairs[i + 3]
        for p in range(len(out)):
            out[p] -= (m0 * r0[p] + m1 * r1[p]) + (m2 * r2[p] + m3 * r3[p])


# -- on disk ------------------------------------------------------------------------------------


def _make() -> tuple[Callable[..., None], ...]:
    key = fingerprint(_numba_math, _numba_kernels, _lbfgs_memory, sys.modules[__name__])

    def add_penalties(params, l2, n_penalised, values, grads):
        _ = key
        _add_penalties(params, l2, n_penalised, values, grads)

    def add_losses_gradients(rows, block, share, first_row, params, where, values, grads):
        _ = key
        _add_losses_gradients(rows, block, share, first_row, params, where, values, grads)

    def directions(arrays, grads, before, lengths, last, sy_new, kept, out):
        _ = key
        _directions(arrays, grads, before, lengths, last, sy_new, kept, out)

    functions = add_penalties, add_losses_gradients, directions
    return tuple(kept_on_disk(function, key) for function in functions)


add_penalties, add_losses_gradients, directions = _make()
