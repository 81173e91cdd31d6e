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

from sknets._engine._numba_kernels import (
    activate,
    adam,
    descend,
    gather,
    multiply,
    multiply_derivative,
    multiply_transposed,
    share_out,
    sigmoids,
    softmax,
    squared_norm,
    sum_rows,
    transpose,
)

Array = np.ndarray[Any, np.dtype[Any]]

_jit = njit(nogil=True, cache=True, error_model="numpy")


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
def train_epoch(x, numbers, target, weight, batch_size, net, state, rule, alpha, rates):
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
        gather(x, numbers[start:stop], memory.x)
        inverse = share_out(weight[start:stop], memory.share[:n])
        _forward(net, state.weights, memory, n)
        loss = _output_gradient(net, state, memory, target[start:stop])
        _backward(net, state, memory, n)
        if alpha > 0:
            loss += 0.5 * alpha * inverse * squared_norm(state.weights[: net.n_weights])
        _update(net, state, rule, f(alpha * inverse), f(rates[step]))
        total += loss * n
    return total / len(numbers)


@_jit
def _make_memory(n, net, dtype):
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
def _weights(net, vector, layer):
    """Return what of a vector are the weights of a layer, as they lie in it."""
    n_inputs, n_outputs = net.widths[layer], net.widths[layer + 1]
    start = net.weights[layer]
    part = vector[start : start + n_inputs * n_outputs]
    if layer == 0:
        return part.reshape(n_inputs, n_outputs)
    return part.reshape(n_outputs, n_inputs)


@_jit
def _biases(net, vector, layer):
    start = net.biases[layer]
    return vector[start : start + net.widths[layer + 1]]


@_jit
def _forward(net, vector, memory, n):
    """Write outputs of the hidden layers, and the logits without their bias."""
    last = len(net.widths) - 2
    below = memory.x[:n]
    for layer in range(last + 1):
        weights, width = _weights(net, vector, layer), net.widths[layer + 1]
        if layer > 0:  # a copy the other way round takes less time than what BLAS does instead
            by_input = memory.layer[: weights.size].reshape(weights.shape[1], width)
            transpose(weights, by_input)
            weights = by_input
        if layer == last:
            multiply(below, weights, memory.logits[: n * width].reshape(n, width))
        else:
            output = _of_layer(memory.hidden, layer, n, net)
            multiply(below, weights, output)
            activate(output, _biases(net, vector, layer), net.activation)
            below = output


@_jit
def _output_gradient(net, state, memory, target):
    """Write the gradients by the logits and the last biases; return the loss of the batch."""
    n, last, width = len(target), len(net.widths) - 2, net.widths[-1]
    logits = memory.logits[: n * width].reshape(n, width)
    residual = memory.residual[: n * width].reshape(width, n)
    bias, share = _biases(net, state.weights, last), memory.share[:n]
    if net.is_softmax:
        largest, sums = memory.largest[:n], memory.sums[:n]
        loss = softmax(logits, bias, target, share, residual, largest, sums)
    else:
        loss = sigmoids(logits, bias, target, share, residual)
    sum_rows(residual, _biases(net, state.grads, last))
    return loss


@_jit
def _backward(net, state, memory, n):
    """Write all gradients but those of the last layer's biases."""
    last = len(net.widths) - 2
    residual = memory.residual[: n * net.widths[-1]].reshape(net.widths[-1], n)
    output = _of_layer(memory.hidden, last - 1, n, net)
    delta = _of_layer(memory.deltas, last - 1, n, net)
    np.dot(residual, output, _weights(net, state.grads, last))
    np.dot(residual.T, _weights(net, state.weights, last), delta)
    for layer in range(last - 1, -1, -1):
        bias_grad, grad = _biases(net, state.grads, layer), _weights(net, state.grads, layer)
        multiply_derivative(delta, output, bias_grad, net.activation)
        if layer == 0:
            multiply_transposed(memory.x[:n], delta, grad, memory.layer)
        else:
            output = _of_layer(memory.hidden, layer - 1, n, net)
            multiply_transposed(delta, output, grad, memory.layer)
            below = _of_layer(memory.deltas, layer - 1, n, net)
            np.dot(delta, _weights(net, state.weights, layer), below)
            delta = below


@_jit
def _of_layer(room, layer, n, net):
    """Return where a hidden layer has its outputs or their gradients, (B, H)."""
    width = net.widths[layer + 1]
    return room[layer % len(room), : n * width].reshape(n, width)


@_jit
def _update(net, state, rule, decay, rate):
    """Make a step; `decay` is what the penalty's gradient is of a weight."""
    n = net.n_weights
    for part, of_part in ((slice(0, n), decay), (slice(n, len(state.weights)), type(decay)(0))):
        weights, grads, first = state.weights[part], state.grads[part], state.first[part]
        if rule.is_adam:
            adam(weights, grads, first, state.second[part], rule, of_part, rate)
        else:
            descend(weights, grads, first, rule, of_part, rate)
