"""What an epoch of a dense net is made of, compiled by Numba; on arrays that are there already.

Arrays are copied by loops: an assignment takes longer, and seconds to compile, for the message of
an error of shapes.

Shapes: B rows of a batch, F features, I inputs and O outputs of a layer, H units, K outputs.
"""

from __future__ import annotations

import numpy as np

from sknets._engine._numba_math import (
    exp,
    jit_in_any_order,
    jit_in_order,
    log,
    log1p,
    sigmoid,
    tanh,
)
from sknets._engine._products import CUT_PRODUCT, SMALL_PRODUCT

IDENTITY, LOGISTIC, TANH, RELU = range(4)

_SMALL, _CUT = int(SMALL_PRODUCT), int(CUT_PRODUCT)


@jit_in_any_order
def row_shares(weight, share):
    """Write each row's share of the objective, and return one over the sum of the weights."""
    n = len(share)
    if len(weight) == 0:
        share[:] = 1 / n
        return 1 / n
    total = 0.0
    for i in range(n):
        total += weight[i]
    inverse = 1 / total if total > 0 else 0.0
    for i in range(n):
        share[i] = weight[i] * inverse
    return inverse


# -- products -----------------------------------------------------------------------------------


@jit_in_any_order
def multiply(rows, weights, out):
    """Write rows (B, I) times weights (I, O)."""
    n = len(rows)
    size = _part(n, weights.size)
    for start in range(0, n, size):
        stop = min(start + size, n)
        np.dot(rows[start:stop], weights, out[start:stop])


@jit_in_any_order
def multiply_transposed(left, right, out, room):
    """Write left (B, I), transposed, times right (B, O); `room` has as many numbers as that."""
    n = len(left)
    size = _part(n, out.size)
    np.dot(left[:size].T, right[:size], out)
    if size == n:
        return
    part = room[: out.size].reshape(out.shape)
    for start in range(size, n, size):
        stop = min(start + size, n)
        np.dot(left[start:stop].T, right[start:stop], part)
        for i in range(out.shape[0]):
            for j in range(out.shape[1]):
                out[i, j] += part[i, j]


@jit_in_any_order
def _part(n, work):
    """Return of how many rows BLAS does not pack the factors; `work` is that of a row."""
    n_parts = -(-work * n // _SMALL) if _SMALL < work * n <= _CUT else 1
    return -(-n // n_parts)


@jit_in_any_order
def transpose(matrix, out):
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            out[j, i] = matrix[i, j]


# -- activations --------------------------------------------------------------------------------


@jit_in_any_order
def activate(z, bias, activation):
    """Add the bias to the rows of z (B, H), and put the activation's values in their place."""
    zero = z.dtype.type(0)
    for i in range(len(z)):
        row = z[i]
        for j in range(len(bias)):
            row[j] += bias[j]
        if activation == RELU:
            for j in range(len(row)):
                row[j] = zero if row[j] < zero else row[j]
        elif activation == TANH:
            for j in range(len(row)):
                row[j] = tanh(row[j])
        elif activation == LOGISTIC:
            for j in range(len(row)):
                row[j] = sigmoid(row[j])


@jit_in_any_order
def multiply_derivative(delta, output, bias_grad, activation):
    """Multiply delta (B, H) by the activation's derivative, and write the sum of its rows."""
    f = delta.dtype.type
    d, y = delta.reshape(-1), output.reshape(-1)
    if activation == RELU:
        for i in range(len(d)):
            d[i] = d[i] if y[i] > f(0) else f(0)
    elif activation == TANH:
        for i in range(len(d)):
            d[i] *= f(1) - y[i] * y[i]
    elif activation == LOGISTIC:
        for i in range(len(d)):
            d[i] *= y[i] * (f(1) - y[i])
    bias_grad[:] = 0
    n = len(delta) // 4 * 4
    for i in range(0, n, 4):  # four rows for each time that the sum is read
        r0, r1, r2, r3 = delta[i], delta[i + 1], delta[i + 2], delta[i + 3]
        for j in range(len(bias_grad)):
            bias_grad[j] += (r0[j] + r1[j]) + (r2[j] + r3[j])
    for i in range(n, len(delta)):
        for j in range(len(bias_grad)):
            bias_grad[j] += delta[i, j]


# -- the objective ------------------------------------------------------------------------------
# As in scikit-learn, no output counts for more than the loss of a probability of eps.


@jit_in_any_order
def softmax_loss(logits, bias, target, share, residual, largest, sums):
    """Return the loss, and write its gradients by the logits.

    Parameters
    ----------
    logits : ndarray of shape (B, K)
        Without their bias (K,).
    target : ndarray of shape (1, B)
        Class numbers.
    share : ndarray of shape (B,)
        What each row counts.
    residual : ndarray of shape (K, B)
        Where the gradients go; sums over classes then run along whole rows, which vectorises.
    largest, sums : ndarray of shape (B,)
        Room.
    """
    f = logits.dtype.type
    eps = np.finfo(logits.dtype).eps
    _add_bias_by_output(logits, bias, residual)
    largest_of_columns(residual, largest)
    exponentials(residual, largest, sums)
    loss = 0.0
    for j in range(len(share)):
        inverse = f(1) / sums[j]
        proba = residual[target[0, j], j] * inverse
        loss -= share[j] * log(eps if proba < eps else proba)
        sums[j] = inverse * share[j]
    for k in range(len(residual)):
        row = residual[k]
        for j in range(len(row)):
            row[j] *= sums[j]
    for j in range(len(share)):
        residual[target[0, j], j] -= share[j]
    return loss


@jit_in_any_order
def largest_of_columns(matrix, out):
    """Write the largest numbers of the columns of a matrix (K, B) to a vector (B,)."""
    out[:] = -np.inf
    for k in range(len(matrix)):
        row = matrix[k]
        for j in range(len(row)):
            out[j] = row[j] if row[j] > out[j] else out[j]


@jit_in_any_order
def exponentials(z, shift, sums):
    """Write the exponentials of z (K, B) less a shift (B,) in their place, and their sums (B,)."""
    sums[:] = 0
    for k in range(len(z)):
        row = z[k]
        for j in range(len(row)):
            row[j] = exp(row[j] - shift[j])
            sums[j] += row[j]


@jit_in_any_order
def sigmoid_loss(logits, bias, target, share, residual):
    """Return the loss, and write its gradients by the logits.

    As `softmax_loss`, but for the target (K, B) of 0 and 1, one for each output.
    """
    f = logits.dtype.type
    largest_loss = -np.log(np.finfo(logits.dtype).eps)
    _add_bias_by_output(logits, bias, residual)
    loss = 0.0
    for k in range(len(residual)):
        row = residual[k]
        for j in range(len(row)):
            z, hot = row[j], f(target[k, j])
            wrong = -z if target[k, j] else z  # the logit of what the row is not
            of_row = log1p(exp(-abs(wrong))) + (f(0) if wrong < 0 else wrong)
            loss += share[j] * (largest_loss if of_row > largest_loss else of_row)
            row[j] = (sigmoid(z) - hot) * share[j]
    return loss


@jit_in_any_order
def _add_bias_by_output(logits, bias, out):
    for k in range(len(bias)):
        for j in range(len(logits)):
            out[k, j] = logits[j, k] + bias[k]


@jit_in_any_order
def sum_rows(matrix, out):
    for k in range(len(matrix)):
        total = matrix.dtype.type(0)
        for j in range(matrix.shape[1]):
            total += matrix[k, j]
        out[k] = total


@jit_in_any_order
def squared_norm(vector):
    total = vector.dtype.type(0)
    for i in range(len(vector)):
        total += vector[i] * vector[i]
    return total


# -- the solver ---------------------------------------------------------------------------------


@jit_in_order  # a gradient's square may overflow where 1 - beta_2 times it does not
def adam(weights, grads, first, second, constants, decay, rate):
    """Make a step of Adam; the constants are 1 - beta_1, beta_2, 1 - beta_2 and epsilon.

    The penalty's gradient by a weight is the weight times `decay`.
    """
    minus_1, beta_2, minus_2, eps = constants[0], constants[1], constants[2], constants[3]
    for i in range(len(weights)):
        grad = grads[i] + decay * weights[i]
        first[i] += minus_1 * (grad - first[i])
        second[i] = beta_2 * second[i] + (minus_2 * grad) * grad
        weights[i] -= rate * first[i] / (np.sqrt(second[i]) + eps)


@jit_in_order
def sgd(weights, grads, velocity, momentum, nesterov, decay, rate):
    """Make a step of gradient descent, with the penalty as in `adam`."""
    for i in range(len(weights)):
        grad = grads[i] + decay * weights[i]
        velocity[i] = momentum * velocity[i] - rate * grad
        if nesterov:
            weights[i] += momentum * velocity[i] - rate * grad
        else:
            weights[i] += velocity[i]
