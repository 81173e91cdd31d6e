r"""
=============================================
Backpropagation, checked by small differences
=============================================

A network learns by stepping against the derivative of its loss by each of its weights.
*Backpropagation* computes all these derivatives in two or three times the time that the loss takes.
It is the chain rule, and easy to get slightly wrong: the network then still learns, but less well.
Here it is written out for a small network in a dozen lines, and checked in three ways: by moving a
weight a little, by PyTorch, and by a step of :class:`~sknets.neural_network.MLPClassifier`.
"""

# %%
# A small network, forward and backward
# -------------------------------------
#
# Rows of :math:`X` are samples. With one hidden layer,
#
# .. math::
#
#    H = \tanh(X W_1 + b_1), \qquad Z = H W_2 + b_2, \qquad
#    L = \frac{1}{n} \sum_i \Big( \log \sum_k e^{Z_{ik}} - Z_{i y_i} \Big).
#
# The loss :math:`L` is the mean log loss: minus the logarithm of the probability given to the class
# that is right. Going backward, from the loss to the input, each line takes the derivative by the
# output of a layer and makes of it the derivatives by the layer's weights and by its input:
#
# .. math::
#
#    \frac{\partial L}{\partial Z} &= \tfrac{1}{n}(P - Y), \\
#    \frac{\partial L}{\partial W_2} &= H^T \frac{\partial L}{\partial Z}, \\
#    \frac{\partial L}{\partial H} &= \frac{\partial L}{\partial Z} W_2^T, \\
#    \frac{\partial L}{\partial W_1} &=
#       X^T \Big( \frac{\partial L}{\partial H} \odot (1 - H^2) \Big),
#
# where :math:`P` are the probabilities and :math:`Y` has a 1 in the column of each row's class. The
# derivative by a bias is a sum over the rows.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_iris
from sklearn.preprocessing import scale

from sknets.neural_network import MLPClassifier

X, y = load_iris(return_X_y=True)
X = scale(X)
rows = np.arange(len(X))
Y = np.eye(3)[y]


def compute_loss(weights, X):
    """Return the mean log loss."""
    W1, b1, W2, b2 = weights
    Z = np.tanh(X @ W1 + b1) @ W2 + b2
    return np.mean(np.log(np.exp(Z).sum(axis=1)) - Z[rows, y])


def backpropagate(weights, X, forgetful=False):
    """Return the derivative of the loss by each array of weights."""
    W1, b1, W2, b2 = weights
    H = np.tanh(X @ W1 + b1)  # (n_samples, n_hidden)
    Z = H @ W2 + b2  # (n_samples, n_classes)
    P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    dZ = (P - Y) / len(X)
    dH = dZ @ W2.T
    dA = dH if forgetful else dH * (1 - H**2)  # the slope of tanh
    return [X.T @ dA, dA.sum(axis=0), H.T @ dZ, dZ.sum(axis=0)]


rng = np.random.RandomState(0)
weights = [rng.normal(size=shape) for shape in [(4, 8), (8,), (8, 3), (3,)]]
gradient = backpropagate(weights, X)
print(f"loss {compute_loss(weights, X):.4f}, {sum(W.size for W in weights)} derivatives")

# %%
# The check
# ---------
#
# A derivative says what the loss does when a weight moves a little, so move each weight by
# :math:`h` and look. Forward differences, :math:`(L(w + h) - L(w)) / h`, are wrong by a term in
# proportion to :math:`h`; central ones, :math:`(L(w + h) - L(w - h)) / 2h`, by one in proportion to
# :math:`h^2`. But both subtract two numbers that are nearly equal: the rounding error of the loss
# remains, and is divided by :math:`h`.
#
# A third way subtracts nothing. Where a formula takes complex numbers, :math:`L(w + ih)` has the
# imaginary part :math:`h L'(w)`, but for a term in proportion to :math:`h^3`.

WAYS = {
    "forward": lambda loss_at, h: (loss_at(h) - loss_at(0.0)) / h,
    "central": lambda loss_at, h: (loss_at(h) - loss_at(-h)) / (2 * h),
    "complex": lambda loss_at, h: loss_at(1j * h).imag / h,
}


def differentiate(weights, X, h, way):
    """Return the derivative by each weight, found from the loss alone."""
    results = []
    for number, W in enumerate(weights):
        derivative = np.empty(W.shape)
        for place in np.ndindex(W.shape):

            def loss_at(step, number=number, W=W, place=place):
                moved = W.astype(np.result_type(W, step))
                moved[place] += step
                return compute_loss([*weights[:number], moved, *weights[number + 1 :]], X)

            derivative[place] = WAYS[way](loss_at, h)
        results.append(derivative)
    return results


def largest_error(estimate, exact):
    """Return the largest difference of a derivative, as a part of the largest derivative."""
    pairs = zip(estimate, exact, strict=True)
    return max(np.abs(a - b).max() for a, b in pairs) / max(np.abs(b).max() for b in exact)


# %%
# The right step
# --------------
#
# On the left, errors fall with :math:`h`, twice as steeply for central differences, until rounding
# makes them rise again; the complex step alone goes down to the last digit. So backpropagation is
# right: 67 derivatives agree with the loss to 16 digits. The dotted line shows what a mistake looks
# like. A program that forgot the slope of tanh is wrong by the same amount whatever the step.
#
# On the right the same in single precision, the usual one on a GPU: rounding begins to win at a
# large :math:`h`, and four digits are the most that one sees. Check derivatives in double
# precision.

BLUE, ORANGE, PINK = "#0072B2", "#D55E00", "#CC79A7"
steps = np.logspace(-13, 0, 40)
wrong = backpropagate(weights, X, forgetful=True)
single = [W.astype(np.float32) for W in weights]
X_single = X.astype(np.float32)

errors = {
    way: [largest_error(differentiate(weights, X, float(h), way), gradient) for h in steps]
    for way in WAYS
}
bug = [largest_error(differentiate(weights, X, float(h), "central"), wrong) for h in steps]
rough = [
    largest_error(differentiate(single, X_single, float(h), "central"), gradient) for h in steps
]
for way, found in errors.items():
    print(f"{way}: smallest error {min(found):.0e}, at h = {steps[np.argmin(found)]:.0e}")
print(f"central, in single precision: {min(rough):.0e}, at h = {steps[np.argmin(rough)]:.0e}")

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 4.6), sharey=True, layout="constrained")
left.loglog(steps, bug, ":", color="black", linewidth=2, label="a mistake in backpropagation")
left.loglog(steps, errors["forward"], "--", color=BLUE, label="forward differences")
left.loglog(steps, errors["central"], "-", color=ORANGE, linewidth=2, label="central differences")
left.loglog(steps, np.maximum(errors["complex"], 1e-17), "-.", color=PINK, label="complex step")
right.loglog(steps, rough, "-", color="black", marker=".", label="central, single precision")
right.loglog(steps, errors["central"], "-", color=ORANGE, linewidth=2)
for ax, title in ((left, "Three ways, in double precision"), (right, "Two precisions")):
    ax.set(title=title, xlabel="step $h$")
left.set(ylabel="largest relative error", ylim=(1e-17, 1e3))
fig.legend(loc="outside lower center", ncols=3, frameon=False)
fig.suptitle("A step can be too large and too small; a mistake does not depend on it")
plt.show()

# %%
# Where is the mistake?
# ---------------------
#
# Weight by weight, what is right lies on the diagonal. The forgetful program gets the last layer
# right, as it never goes through tanh on the way there, and the first one wrong: the mistake is
# between the two.

measured = differentiate(weights, X, 1e-5, "central")
fig, axes = plt.subplots(1, 2, figsize=(8, 4.2), sharex=True, sharey=True, layout="constrained")
for ax, found, title in zip(axes, (gradient, wrong), ("Right", "Forgetful"), strict=True):
    for layer, colour, marker in ((1, BLUE, "o"), (2, ORANGE, "^")):
        parts = slice(2 * layer - 2, 2 * layer)
        x = np.concatenate([d.ravel() for d in measured[parts]])
        z = np.concatenate([d.ravel() for d in found[parts]])
        ax.plot(x, z, marker, color=colour, alpha=0.7, label=f"layer {layer}, weights and biases")
    ax.axline((0, 0), slope=1, color="0.5", linewidth=0.8, zorder=0)
    ax.set(title=title, xlabel="by central differences")
axes[0].set_ylabel("by backpropagation")
axes[0].legend(frameon=False, loc="upper left")
fig.suptitle("A derivative that is wrong leaves the diagonal, and shows its layer")
plt.show()

# %%
# PyTorch and sknets
# ------------------
#
# PyTorch writes the backward pass for you. ``MLPClassifier`` writes it out as above, for speed, and
# its derivatives can be seen from outside: a step of gradient descent with a learning rate of 1 on
# all rows moves the weights by just the derivative. ``coefs_`` and ``intercepts_`` share their
# memory with the network, so that the weights above can be written into them.

clf = MLPClassifier(
    (8,), "tanh", solver="sgd", learning_rate_init=1.0, momentum=0.0, alpha=0.0, device="cpu"
)
clf.partial_fit(X, y, classes=[0, 1, 2])  # makes the network


def their_weights():
    """Return weights and biases of each layer, in the order of `weights`."""
    return [clf.coefs_[0], clf.intercepts_[0], clf.coefs_[1], clf.intercepts_[1]]


for theirs, W in zip(their_weights(), weights, strict=True):
    theirs[:] = W

logits = clf.module_(torch.from_numpy(X))
torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()
first, second = clf.module_.linears  # PyTorch keeps weights as (n_out, n_in)
autograd = [first.weight.grad.mT, first.bias.grad, second.weight.grad.mT, second.bias.grad]
clf.partial_fit(X, y)
step = [W - theirs for theirs, W in zip(their_weights(), weights, strict=True)]

print(f"PyTorch: largest relative error {largest_error(map(np.asarray, autograd), gradient):.0e}")
print(f"sknets, {clf.engine_}: largest relative error {largest_error(step, gradient):.0e}")
