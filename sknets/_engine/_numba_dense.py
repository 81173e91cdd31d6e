"""Many steps of dense nets in one call, compiled by Numba; imported only where that is asked for.

Between the products of a small net, Python and torch's kernels take longer than the products do.
Here nothing is between them: rows are multiplied, losses differentiated and weights changed in
compiled code, which lets go of the interpreter, so that other nets train beside it. The
products are those of SciPy's BLAS.

The formulas are those of `_dense`, `adam_` and `sgd_`, with sums in another order.

Shapes: B rows of a batch, F features, H units, K outputs, P parameters, L layers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sknets._engine import _numba_kernels, _numba_math
from sknets._engine._numba_disk import fingerprint, kept_on_disk
from sknets._engine._numba_kernels import (
    activate,
    adam,
    multiply,
    multiply_derivative,
    multiply_transposed,
    row_shares,
    sgd,
    sigmoid_loss,
    softmax_loss,
    squared_norm,
    sum_rows,
    transpose,
)

Array = np.ndarray[Any, np.dtype[Any]]

_jit = njit(nogil=True, error_model="numpy")


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
    """Weights, gradients and what the solver remembers, of M nets or of one.

    Attributes
    ----------
    weights, grads, first : ndarray of shape (M, P) or (P,)
        `first` is Adam's first moment, or the velocity.
    second : ndarray of the same shape
        Adam's second moment; else anything.
    """

    weights: Array
    grads: Array
    first: Array
    second: Array


class Rule(NamedTuple):
    """How the weights of M nets change.

    Attributes
    ----------
    is_adam : bool
        Else gradient descent.
    nesterov : bool
        Whether the momentum of gradient descent is Nesterov's.
    constants : ndarray of shape (M, 4) or (4,)
        Of Adam 1 - beta_1, beta_2, 1 - beta_2 and epsilon; else the momentum comes first.
    alpha : ndarray of shape (M,), or float
        Strength of the penalty.
    """

    is_adam: bool
    nesterov: bool
    constants: Array
    alpha: Any


class _Memory(NamedTuple):
    """Room for a batch.

    Attributes
    ----------
    hidden : ndarray of shape (L - 1, B * H)
        Outputs of the hidden layers, H units the widest.
    deltas : ndarray of shape (2, B * H)
        Gradients by the outputs of a hidden layer, and of the one below, in turns.
    layer : ndarray
        On the way forward the transposed weights of a layer; back, a part of their gradients.
    logits, residual : ndarray of shape (B * K)
        Logits by row, and gradients by them, by output.
    largest, sums, share : ndarray of shape (B,)
        The largest logit of each row, the sum of its exponentials, its share of the objective.
    """

    hidden: Array
    deltas: Array
    layer: Array
    logits: Array
    residual: Array
    largest: Array
    sums: Array
    share: Array


@_jit
def _train(x, target, weight, batch_size, net, state, rule, rates):
    """Train nets that see the same batches, one net after the other.

    Parameters
    ----------
    x : ndarray of shape (n, F)
        Rows, of the weights' dtype.
    target : ndarray of shape (1, n) or (K, n)
        Class numbers, or 0 and 1 for each output.
    weight : ndarray of shape (M, n) or (M, 0)
        Sample weights, if there are any.
    batch_size : int
        Rows of a batch; the last one may have fewer.
    net : Net
        What the parameters are.
    state : State
        Of M nets; changed in place.
    rule : Rule
        Of M nets.
    rates : ndarray of shape (M, n_batches)
        Of each step, corrections of the bias included.

    Returns
    -------
    losses : ndarray of shape (M,)
        Sum over the batches of each net's objective before the step, times the rows.
    """
    memory = _make_memory(min(batch_size, len(x)), net, x.dtype)
    losses = np.zeros(len(rates))
    for i in range(len(rates)):
        one = State(state.weights[i], state.grads[i], state.first[i], state.second[i])
        of_one = Rule(rule.is_adam, rule.nesterov, rule.constants[i], rule.alpha[i])
        for step in range(rates.shape[1]):
            here = slice(step * batch_size, min((step + 1) * batch_size, len(x)))
            batch = x[here], target[:, here], weight[i, here]
            loss = _step(net, one, of_one, batch, rates[i, step], memory)
            losses[i] += loss * (here.stop - here.start)
    return losses


@_jit
def _step(net, state, rule, batch, rate, memory):
    """Change the weights by the gradient of a batch, and return its objective before that."""
    x, target, weight = batch
    n, f = len(x), x.dtype.type
    inverse = row_shares(weight, memory.share[:n])
    _forward(net, state.weights, x, memory)
    loss = _output_gradient(net, state, memory, target)
    _backward(net, state, x, memory)
    if rule.alpha > 0:
        loss += 0.5 * rule.alpha * inverse * squared_norm(state.weights[: net.n_weights])
    _update(net, state, rule, f(rule.alpha * inverse), f(rate))
    return loss


@_jit
def _make_memory(n, net, dtype):
    n_outputs = net.widths[-1]
    widest = largest_layer = 0
    for layer in range(len(net.widths) - 1):
        largest_layer = max(largest_layer, net.widths[layer] * net.widths[layer + 1])
        widest = max(widest, net.widths[layer] if layer > 0 else 0)
    return _Memory(
        np.empty((len(net.widths) - 2, n * widest), dtype),
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
def _forward(net, vector, x, memory):
    """Write outputs of the hidden layers, and the logits without their bias."""
    n, last = len(x), len(net.widths) - 2
    below = x
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
    n, last, width = target.shape[1], len(net.widths) - 2, net.widths[-1]
    logits = memory.logits[: n * width].reshape(n, width)
    residual = memory.residual[: n * width].reshape(width, n)
    bias, share = _biases(net, state.weights, last), memory.share[:n]
    if net.is_softmax:
        largest, sums = memory.largest[:n], memory.sums[:n]
        loss = softmax_loss(logits, bias, target, share, residual, largest, sums)
    else:
        loss = sigmoid_loss(logits, bias, target, share, residual)
    sum_rows(residual, _biases(net, state.grads, last))
    return loss


@_jit
def _backward(net, state, x, memory):
    """Write all gradients but those of the last layer's biases."""
    n, last = len(x), len(net.widths) - 2
    residual = memory.residual[: n * net.widths[-1]].reshape(net.widths[-1], n)
    output = _of_layer(memory.hidden, last - 1, n, net)
    delta = _of_layer(memory.deltas, last - 1, n, net)
    np.dot(residual, output, _weights(net, state.grads, last))
    np.dot(residual.T, _weights(net, state.weights, last), delta)
    for layer in range(last - 1, -1, -1):
        bias_grad, grad = _biases(net, state.grads, layer), _weights(net, state.grads, layer)
        multiply_derivative(delta, output, bias_grad, net.activation)
        if layer == 0:
            multiply_transposed(x, delta, grad, memory.layer)
        else:
            output = _of_layer(memory.hidden, layer - 1, n, net)
            multiply_transposed(delta, output, grad, memory.layer)
            below = _of_layer(memory.deltas, layer - 1, n, net)
            np.dot(delta, _weights(net, state.weights, layer), below)
            delta = below


@_jit
def _of_layer(room, layer, n, net):
    """Return where a hidden layer has its outputs or their gradients, (B, H).

    There is a row for each layer, or there are two that layers take in turns.
    """
    width = net.widths[layer + 1]
    return room[layer % len(room), : n * width].reshape(n, width)


@_jit
def _update(net, state, rule, decay, rate):
    """Make a step; `decay` is what the penalty's gradient is of a weight."""
    n = net.n_weights
    for part, of_part in ((slice(0, n), decay), (slice(n, len(state.weights)), type(decay)(0))):
        weights, grads, first = state.weights[part], state.grads[part], state.first[part]
        if rule.is_adam:
            adam(weights, grads, first, state.second[part], rule.constants, of_part, rate)
        else:
            momentum, nesterov = rule.constants[0], rule.nesterov
            sgd(weights, grads, first, momentum, nesterov, of_part, rate)


def _make() -> Callable[..., Array]:
    key = fingerprint(_numba_math, _numba_kernels, sys.modules[__name__])

    def train(x, target, weight, batch_size, net, state, rule, rates):
        _ = key
        return _train(x, target, weight, batch_size, net, state, rule, rates)

    return kept_on_disk(train, key)


train = _make()
