"""An epoch of a dense net in one call, compiled by Numba; imported only where that is asked for.

Between the products of a small net, Python and torch's kernels take longer than the products do.
Here nothing is between them: rows are gathered and multiplied, losses differentiated and weights
changed in compiled code, which lets go of the interpreter, so that other nets train beside it. The
products are those of SciPy's BLAS.

The formulas are those of `_dense`, `adam_` and `sgd_`, with sums in another order.

Shapes: B rows of a batch, F features, H units, K outputs, P parameters, L layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sknets._engine._numba_math import exp, sigmoid, tanh
from sknets._engine._products import CUT_PRODUCT, SMALL_PRODUCT

Array = np.ndarray[Any, np.dtype[Any]]

IDENTITY, LOGISTIC, TANH, RELU = range(4)

# Sums may be taken in any order, which vectorises them. Numbers that are not finite have to stay
# what they are, so that they are found.
_jit = njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})

_SMALL, _CUT = int(SMALL_PRODUCT), int(CUT_PRODUCT)


class Net(NamedTuple):
    """Where a net has its parameters in a vector, and what it computes.

    Attributes
    ----------
    widths : ndarray of shape (L + 1,)
        Features, units of each hidden layer, outputs.
    weights, biases : ndarray of shape (L,)
        Where those of each layer begin. Weights of the first lie by input, (F, H), those of the
        others by output.
    n_weights : int
        Parameters that the penalty falls on, which come first.
    activation : int
        Of the hidden layers, of which there is one at least.
    is_softmax : bool
        Whether a row has one of K classes; else each output has a probability of its own.
    """

    widths: Array
    weights: Array
    biases: Array
    n_weights: int
    activation: int
    is_softmax: bool


class State(NamedTuple):
    """Weights, gradients and what the solver remembers.

    Attributes
    ----------
    weights, grads, first : ndarray of shape (P,)
        `first` is Adam's first moment, or the velocity.
    second : ndarray of shape (P,)
        Adam's second moment; else anything.
    """

    weights: Array
    grads: Array
    first: Array
    second: Array


class Rule(NamedTuple):
    """How the weights change; numbers are of the weights' dtype.

    Attributes
    ----------
    is_adam : bool
        Else gradient descent.
    rest_1, beta_2, rest_2, eps : floating
        Of Adam; ``rest`` is 1 - beta.
    momentum : floating
        Of gradient descent.
    nesterov : bool
        Whether it is Nesterov's.
    """

    is_adam: bool
    rest_1: Any
    beta_2: Any
    rest_2: Any
    eps: Any
    momentum: Any
    nesterov: bool


class _Memory(NamedTuple):
    """Room for a batch.

    Attributes
    ----------
    x : ndarray of shape (B, F)
        The rows.
    hidden : ndarray of shape (L - 1, B * H)
        Outputs of the hidden layers.
    deltas : ndarray of shape (2, B * H)
        Gradients by the outputs of a hidden layer, and of the one below.
    layer : ndarray
        The weights of a layer, transposed, or a part of their gradients.
    logits, residual : ndarray of shape (B * K)
        Logits by row, and gradients by them, by output.
    largest, sums, share : ndarray of shape (B,)
        The largest logit of each row, the sum of its exponentials, its share of the objective.
    """

    x: Array
    hidden: Array
    deltas: Array
    layer: Array
    logits: Array
    residual: Array
    largest: Array
    sums: Array
    share: Array


@_jit
def train_epoch(x, numbers, target, weight, batch_size, net, state, rule, alpha, rates):  # type: ignore[no-untyped-def]  # Numba finds the types, here and below
    """Train on every batch and return the epoch's mean objective.

    Parameters
    ----------
    x : ndarray of shape (n_all, F)
        Rows, of the weights' dtype.
    numbers : ndarray of shape (n,)
        Those to train on, in their order.
    target : ndarray of shape (n, 1) or (n, K)
        Class numbers, or 0 and 1 for each output; in that order.
    weight : ndarray of shape (n,) or (0,)
        Sample weights in that order, if there are any.
    batch_size : int
        Rows of a batch.
    net : Net
        What the parameters are.
    state : State
        Changed in place.
    rule : Rule
        How.
    alpha : float
        Strength of the penalty.
    rates : ndarray of shape (n_batches,)
        Of each step, corrections of the bias included.

    Returns
    -------
    loss : float
        Of the weights before each step, a batch counting by its rows.
    """
    f = x.dtype.type
    memory = _make_memory(min(batch_size, len(numbers)), net, x.dtype)
    total = 0.0
    for step in range(len(rates)):
        start = step * batch_size
        stop = min(start + batch_size, len(numbers))
        n = stop - start
        _gather(x, numbers[start:stop], memory.x)
        inverse = _share_out(weight[start:stop], memory.share[:n])
        _forward(net, state.weights, memory, n)
        if net.is_softmax:
            loss = _softmax(net, state, target[start:stop], memory)
        else:
            loss = _sigmoids(net, state, target[start:stop], memory)
        _backward(net, state, memory, n)
        if alpha > 0:
            loss += 0.5 * alpha * inverse * _squared_norm(state.weights[: net.n_weights])
        _update(net, state, rule, f(alpha * inverse), f(rates[step]))
        total += loss * n
    return total / len(numbers)


@_jit
def _make_memory(n, net, dtype):  # type: ignore[no-untyped-def]
    widths = net.widths
    n_outputs = widths[-1]
    n_features = widths[0]
    widest = np.max(widths[1:-1])
    largest_layer = np.max(widths[:-1] * widths[1:])
    return _Memory(
        np.empty((n, n_features), dtype),
        np.empty((len(widths) - 2, n * widest), dtype),
        np.empty((2, n * widest), dtype),
        np.empty(largest_layer, dtype),
        np.empty(n * n_outputs, dtype),
        np.empty(n * n_outputs, dtype),
        np.empty(n, dtype),
        np.empty(n, dtype),
        np.empty(n, dtype),
    )


@_jit
def _share_out(weight, share):  # type: ignore[no-untyped-def]
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


@_jit
def _squared_norm(vector):  # type: ignore[no-untyped-def]
    total = vector.dtype.type(0)
    for i in range(len(vector)):
        total += vector[i] * vector[i]
    return total


# -- layers -------------------------------------------------------------------------------------


@_jit
def _weights(net, vector, layer):  # type: ignore[no-untyped-def]
    """Return what of a vector are the weights of a layer, as they lie in it."""
    n_inputs, n_outputs = net.widths[layer], net.widths[layer + 1]
    start = net.weights[layer]
    part = vector[start : start + n_inputs * n_outputs]
    if layer == 0:
        return part.reshape(n_inputs, n_outputs)
    return part.reshape(n_outputs, n_inputs)


@_jit
def _biases(net, vector, layer):  # type: ignore[no-untyped-def]
    start = net.biases[layer]
    return vector[start : start + net.widths[layer + 1]]


@_jit
def _forward(net, vector, memory, n):  # type: ignore[no-untyped-def]
    """Write outputs of the hidden layers, and the logits without their bias."""
    last = len(net.widths) - 2
    below = memory.x[:n]
    for layer in range(last + 1):
        weights, width = _weights(net, vector, layer), net.widths[layer + 1]
        if layer > 0:  # a copy the other way round takes less time than what BLAS does instead
            by_input = memory.layer[: weights.size].reshape(weights.shape[1], width)
            _transpose(weights, by_input)
            weights = by_input
        if layer == last:
            _multiply(below, weights, memory.logits[: n * width].reshape(n, width))
        else:
            output = _of_layer(memory.hidden, layer, n, net)
            _multiply(below, weights, output)
            _activate(output, _biases(net, vector, layer), net.activation)
            below = output


@_jit
def _backward(net, state, memory, n):  # type: ignore[no-untyped-def]
    """Write all gradients but those of the last layer's biases."""
    last = len(net.widths) - 2
    residual = memory.residual[: n * net.widths[-1]].reshape(net.widths[-1], n)
    output = _of_layer(memory.hidden, last - 1, n, net)
    delta = _of_layer(memory.deltas, last - 1, n, net)
    np.dot(residual, output, _weights(net, state.grads, last))
    np.dot(residual.T, _weights(net, state.weights, last), delta)
    for layer in range(last - 1, -1, -1):
        bias_grad, grad = _biases(net, state.grads, layer), _weights(net, state.grads, layer)
        _multiply_derivative(delta, output, bias_grad, net.activation)
        if layer == 0:
            _multiply_transposed(memory.x[:n], delta, grad, memory.layer)
        else:
            output = _of_layer(memory.hidden, layer - 1, n, net)
            _multiply_transposed(delta, output, grad, memory.layer)
            below = _of_layer(memory.deltas, layer - 1, n, net)
            np.dot(delta, _weights(net, state.weights, layer), below)
            delta = below


@_jit
def _of_layer(room, layer, n, net):  # type: ignore[no-untyped-def]
    """Return where a hidden layer has its outputs or their gradients, (B, H)."""
    width = net.widths[layer + 1]
    return room[layer % len(room), : n * width].reshape(n, width)


@_jit
def _multiply(rows, weights, out):  # type: ignore[no-untyped-def]
    """Write rows (B, I) times weights (I, O)."""
    n = len(rows)
    size = _part(n, weights.size)
    for start in range(0, n, size):
        stop = min(start + size, n)
        np.dot(rows[start:stop], weights, out[start:stop])


@_jit
def _multiply_transposed(left, right, out, room):  # type: ignore[no-untyped-def]
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


@_jit
def _part(n, work):  # type: ignore[no-untyped-def]
    """Return of how many rows BLAS does not pack the factors; `work` is that of a row."""
    n_parts = -(-work * n // _SMALL) if _SMALL < work * n <= _CUT else 1
    return -(-n // n_parts)


@_jit
def _transpose(matrix, out):  # type: ignore[no-untyped-def]
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            out[j, i] = matrix[i, j]


@_jit
def _gather(x, numbers, out):  # type: ignore[no-untyped-def]
    """Write the rows of x (n, F) that have these numbers."""
    for i in range(len(numbers)):
        row, to = x[numbers[i]], out[i]
        for j in range(len(row)):  # faster than an assignment
            to[j] = row[j]


@_jit
def _activate(z, bias, activation):  # type: ignore[no-untyped-def]
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


@_jit
def _multiply_derivative(delta, output, bias_grad, activation):  # type: ignore[no-untyped-def]
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
        a, b, c, e = delta[i], delta[i + 1], delta[i + 2], delta[i + 3]
        for j in range(len(bias_grad)):
            bias_grad[j] += (a[j] + b[j]) + (c[j] + e[j])
    for i in range(n, len(delta)):
        for j in range(len(bias_grad)):
            bias_grad[j] += delta[i, j]


# -- the objective ------------------------------------------------------------------------------
# As in scikit-learn, no output counts for more than the loss of a probability of eps.


@_jit
def _softmax(net, state, target, memory):  # type: ignore[no-untyped-def]
    """Write the gradients by the logits and the last biases; return the loss of the batch."""
    n, n_outputs = len(target), net.widths[-1]
    f = memory.share.dtype.type
    eps = np.finfo(memory.share.dtype).eps
    largest, sums, share = memory.largest[:n], memory.sums[:n], memory.share[:n]
    residual = _by_output(net, state, memory, n)
    largest[:] = residual[0]
    for k in range(1, n_outputs):
        row = residual[k]
        for j in range(n):
            largest[j] = row[j] if row[j] > largest[j] else largest[j]
    sums[:] = 0
    for k in range(n_outputs):
        row = residual[k]
        for j in range(n):
            row[j] = exp(row[j] - largest[j])
            sums[j] += row[j]
    loss = 0.0
    for j in range(n):
        inverse = f(1) / sums[j]
        proba = residual[target[j, 0], j] * inverse
        loss -= share[j] * np.log(eps if proba < eps else proba)
        sums[j] = inverse * share[j]
    for k in range(n_outputs):
        row = residual[k]
        for j in range(n):
            row[j] *= sums[j]
    for j in range(n):
        residual[target[j, 0], j] -= share[j]
    _sum_rows(residual, _biases(net, state.grads, len(net.widths) - 2))
    return loss


@_jit
def _sigmoids(net, state, target, memory):  # type: ignore[no-untyped-def]
    """Write the gradients by the logits and the last biases; return the loss of the batch."""
    n, n_outputs = len(target), net.widths[-1]
    f = memory.share.dtype.type
    largest_loss = -np.log(np.finfo(memory.share.dtype).eps)
    share, residual = memory.share[:n], _by_output(net, state, memory, n)
    loss = 0.0
    for k in range(n_outputs):
        row = residual[k]
        for j in range(n):
            z, hot = row[j], f(target[j, k])
            wrong = -z if target[j, k] else z  # the logit of what the row is not
            of_row = np.log1p(exp(-abs(wrong))) + (f(0) if wrong < 0 else wrong)
            loss += share[j] * (largest_loss if of_row > largest_loss else of_row)
            row[j] = (sigmoid(z) - hot) * share[j]
    _sum_rows(residual, _biases(net, state.grads, len(net.widths) - 2))
    return loss


@_jit
def _by_output(net, state, memory, n):  # type: ignore[no-untyped-def]
    """Return the logits with their bias, by output: (K, n), where the residual is to be."""
    n_outputs, bias = net.widths[-1], _biases(net, state.weights, len(net.widths) - 2)
    logits = memory.logits[: n * n_outputs].reshape(n, n_outputs)
    by_output = memory.residual[: n * n_outputs].reshape(n_outputs, n)
    for k in range(n_outputs):
        for j in range(n):
            by_output[k, j] = logits[j, k] + bias[k]
    return by_output


@_jit
def _sum_rows(matrix, out):  # type: ignore[no-untyped-def]
    for k in range(len(matrix)):
        total = matrix.dtype.type(0)
        for j in range(matrix.shape[1]):
            total += matrix[k, j]
        out[k] = total


# -- the solver ---------------------------------------------------------------------------------


@_jit
def _update(net, state, rule, decay, rate):  # type: ignore[no-untyped-def]
    """Make a step; `decay` is what the penalty's gradient is of a weight."""
    n = net.n_weights
    for part, of_part in ((slice(0, n), decay), (slice(n, len(state.weights)), type(decay)(0))):
        weights, grads, first = state.weights[part], state.grads[part], state.first[part]
        if rule.is_adam:
            _adam(weights, grads, first, state.second[part], rule, of_part, rate)
        else:
            _descend(weights, grads, first, rule, of_part, rate)


@_jit
def _adam(weights, grads, first, second, rule, decay, rate):  # type: ignore[no-untyped-def]
    for i in range(len(weights)):
        grad = grads[i] + decay * weights[i]
        first[i] += rule.rest_1 * (grad - first[i])
        second[i] = rule.beta_2 * second[i] + rule.rest_2 * grad * grad
        weights[i] -= rate * first[i] / (np.sqrt(second[i]) + rule.eps)


@_jit
def _descend(weights, grads, velocity, rule, decay, rate):  # type: ignore[no-untyped-def]
    for i in range(len(weights)):
        grad = grads[i] + decay * weights[i]
        velocity[i] = rule.momentum * velocity[i] - rate * grad
        if rule.nesterov:
            weights[i] += rule.momentum * velocity[i] - rate * grad
        else:
            weights[i] += velocity[i]
