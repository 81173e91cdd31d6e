r"""
================================================
A training loop by hand, and its three-line twin
================================================

Training a network in PyTorch means writing a loop. Here is such a loop, complete, for a reader who
has not seen one; then the same training with :class:`~sknets.neural_network.MLPClassifier`. The
same does not mean alike: the two stop in the same epoch with the same weights, up to the rounding
of the last digits.
"""

# %%
# The data
# --------
#
# Both programs train on the handwritten digits, in double precision.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from torch import nn

from sknets.neural_network import MLPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)
RATE, BATCH, ALPHA = 0.05, 50, 0.1  # learning rate, rows a step, strength of the penalty

# %%
# By hand: the network
# --------------------
#
# Two layers with weights, and a ReLU between them. The last layer gives ten *logits* a picture.
# Softmax would make probabilities of them; the loss function below does that itself.
#
# The weights start at random: in each layer uniform between :math:`\pm \sqrt{6 / (n_\text{in} +
# n_\text{out})}`, as Glorot and Bengio proposed (2010), so that signals neither fade nor swell from
# layer to layer.


def make_net(rng):
    """Return a network with random weights."""
    net = nn.Sequential(nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 10)).double()
    with torch.no_grad():
        for layer in (net[0], net[2]):
            bound = np.sqrt(6 / (layer.in_features + layer.out_features))
            weight = rng.uniform(-bound, bound, (layer.in_features, layer.out_features))
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(rng.uniform(-bound, bound, layer.out_features)))
    return net


# %%
# By hand: the loop
# -----------------
#
# An *epoch* is one pass over the rows, in a new random order, a few rows at a time: a *mini-batch*.
# For each, PyTorch computes the logits, the loss and, by ``backward()``, the derivative of the loss
# by every weight; the optimiser takes a step against it. ``zero_grad()`` is there because
# derivatives would add up otherwise. The loss is the mean log loss plus a penalty on large weights.
#
# The loop ends after ten epochs in a row in which the loss has not fallen by at least ``tol``.


def train(net, X, y, rng, after_epoch, tol=1e-4, patience=10, max_epochs=200):
    """Train `net` in place and return the loss of each epoch."""
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, nesterov=True)
    loss_of = nn.CrossEntropyLoss()
    order, curve, best, n_idle = np.arange(len(X)), [], np.inf, 0
    for _ in range(max_epochs):
        order = order[rng.permutation(len(order))]
        total = 0.0
        for start in range(0, len(order), BATCH):
            rows = torch.from_numpy(order[start : start + BATCH])
            optimiser.zero_grad()
            penalty = sum(layer.weight.square().sum() for layer in (net[0], net[2]))
            loss = loss_of(net(X[rows]), y[rows]) + ALPHA / 2 * penalty / len(rows)
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows)
        curve.append(total / len(order))
        after_epoch(net)
        n_idle = n_idle + 1 if curve[-1] > best - tol else 0
        best = min(best, curve[-1])
        if n_idle > patience:
            break
    return curve


def copy_weights(net):
    """Return weights and biases, for the comparison below."""
    return [parameter.detach().numpy().copy() for parameter in net.parameters()]


rng = np.random.RandomState(0)
net = make_net(rng)
initial, snapshots = copy_weights(net), []
curve = train(net, X_train, y_train, rng, lambda net: snapshots.append(copy_weights(net)))
with torch.no_grad():
    predicted = net(torch.from_numpy(X_test)).argmax(dim=1).numpy()

# %%
# In three lines
# --------------
#
# The constructor says what the loop above is made of, and everything unsaid is scikit-learn's
# default: momentum 0.9, ``tol``, the ten epochs of patience. ``device="cpu"`` because a GPU would
# compute in single precision.

settings = {"solver": "sgd", "learning_rate_init": RATE, "batch_size": BATCH, "alpha": ALPHA}
clf = MLPClassifier((30,), **settings, random_state=0, device="cpu")
clf.fit(X_train, y_train)

# %%
# Are they the same?
# ------------------

hand, ours = copy_weights(net), copy_weights(clf.module_)
names = ["weights 1", "biases 1", "weights 2", "biases 2"]
for name, a, b in zip(names, hand, ours, strict=True):
    print(f"{name:10s} {a.shape!s:9s} largest {np.abs(a).max():.3f}, largest difference ", end="")
    print(f"{np.abs(a - b).max():.1e}")
print(f"epochs     by hand {len(curve)}, sknets {clf.n_iter_}")
print(f"last loss  by hand {curve[-1]:.12f}, sknets {clf.loss_:.12f}")
same = np.array_equal(predicted, clf.predict(X_test))
print(f"accuracy   by hand {np.mean(predicted == y_test):.4f}, sknets ", end="")
print(f"{clf.score(X_test, y_test):.4f}; the same predictions: {same}")

# %%
# The picture compares them on the way as well. A fit with a smaller ``max_iter`` and the same
# ``random_state`` is the beginning of the long one, so it gives the weights after so many epochs.
# The two programs add up their sums in another order, and so differ by rounding from the first step
# on. Training lets such differences grow, but here by little.

at = np.unique(np.geomspace(1, len(curve), 14).round().astype(int))
differences, moves = [], []
for n_epochs in at:
    part = MLPClassifier((30,), **settings, max_iter=n_epochs, random_state=0, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few epochs, on purpose
        part.fit(X_train, y_train)
    hand, ours = snapshots[n_epochs - 1], copy_weights(part.module_)
    differences.append(max(np.abs(a - b).max() for a, b in zip(hand, ours, strict=True)))
    moves.append(max(np.abs(a - b).max() for a, b in zip(hand, initial, strict=True)))

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.9), layout="constrained")
epochs = np.arange(1, len(curve) + 1)
left.plot(epochs, curve, color="#56B4E9", linewidth=7, label="by hand")
left.plot(epochs, clf.loss_curve_, color="black", linewidth=1.5, label="MLPClassifier")
left.set(title="One loss curve", xlabel="epoch", ylabel="training loss", ylim=(0, None))
left.legend(frameon=False)
right.plot(at, moves, "--^", color="#0072B2", label="from the initial weights")
right.plot(at, differences, "-o", color="#D55E00", label="between the two programs")
right.axhline(np.finfo(float).eps, color="0.4", linestyle=":", label="spacing of numbers at 1")
right.set(
    title="Largest difference of a weight",
    xlabel="epoch",
    ylabel="difference",
    xscale="log",
    yscale="log",
    ylim=(1e-17, 1e2),
)
right.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.6))
fig.suptitle("The loop and the three lines differ by rounding alone")
plt.show()
