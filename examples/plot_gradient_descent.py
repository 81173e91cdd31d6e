r"""
=================================================
Gradient descent, mini-batches and learning rates
=================================================

Training walks downhill on the loss, step by step: :math:`w \leftarrow w - \eta\, \nabla L(w)`. Two
choices decide how well that goes. The *learning rate* :math:`\eta` is the length of the steps. The
*batch size* is the number of rows that the gradient of a step is computed from: all of them, some,
or a single one. Both are seen first on a loss of two weights, where the path can be drawn, then on
a network.
"""

# %%
# Two weights
# -----------
#
# Logistic regression without an intercept on two columns, one of them with three times the spread.
# Its loss is a bowl that is steep along one weight and shallow along the other. Gradient descent is
# four lines.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from sknets.datasets import make_two_gaussians
from sknets.linear_model import LogisticRegression
from sknets.neural_network import MLPClassifier

sample = make_two_gaussians(n_samples=256, means=[[-0.5, -0.4], [0.5, 0.4]], random_state=0)
X, y = sample.X * [1, 3], sample.y


def compute_loss(w):
    """Return the mean log loss; `w` has shape (2,) or (2, n)."""
    return np.mean(np.logaddexp(0, -((2 * y - 1) * (X @ w).T)), axis=-1)


def descend(rate, batch_size, n_epochs, start=(-1.5, 1.2)):
    """Return the weights before the first step and after each step."""
    rng = np.random.RandomState(0)
    path = [np.array(start)]
    for _ in range(n_epochs):
        for rows in np.split(rng.permutation(len(X)), len(X) // batch_size):
            w = path[-1]
            proba = 1 / (1 + np.exp(-X[rows] @ w))
            path.append(w - rate * X[rows].T @ (proba - y[rows]) / batch_size)
    return np.array(path)


# %%
# Too low, right, too high
# ------------------------
#
# How long may a step be? Near the minimum the loss is a parabola along each direction, with a
# curvature :math:`\lambda`, and a step takes the distance from the minimum times :math:`1 - \eta
# \lambda`. That shrinks as long as :math:`\eta < 2 / \lambda`, and the steepest direction sets the
# limit. Below it, the steep weight is right at once and the shallow one creeps; above it, the path
# jumps across the valley for ever.

best = LogisticRegression(C=np.inf, fit_intercept=False, device="cpu").fit(X, y).coef_[0]
proba = 1 / (1 + np.exp(-X @ best))
hessian = (X * (proba * (1 - proba))[:, None]).T @ X / len(X)
curvatures = np.linalg.eigvalsh(hessian)
limit = 2 / curvatures[-1]
print(f"curvatures {curvatures.round(2)}, so the learning rate must stay below {limit:.2f}")

w0, w1 = np.meshgrid(np.linspace(-2, 2.6, 150), np.linspace(-1.2, 1.6, 150))
surface = compute_loss(np.stack([w0.ravel(), w1.ravel()])).reshape(w0.shape)
levels = compute_loss(best) + np.geomspace(0.005, 3, 10)


def draw_path(ax, path, **look):
    """Draw a path over the lines of equal loss."""
    ax.contour(w0, w1, surface, levels=levels, colors="0.75", linewidths=0.8)
    ax.plot(*path.T, **look)
    ax.plot(*path[0], "s", color="black", markersize=6)
    ax.plot(*best, "*", color="black", markersize=11)
    ax.set(xlim=(-2, 2.6), ylim=(-1.2, 1.6), xlabel="weight $w_0$")


fig, axes = plt.subplots(1, 3, figsize=(8, 3.4), sharey=True, layout="constrained")
rates = {"Too low": 0.05 * limit, "Right": 0.6 * limit, "Too high": 1.3 * limit}
for ax, (name, rate), colour in zip(
    axes, rates.items(), ("#0072B2", "#009E73", "#D55E00"), strict=True
):
    path = descend(rate, batch_size=len(X), n_epochs=30)
    draw_path(ax, path, color=colour, marker="o", markersize=3)
    ax.set_title(rf"{name}: $\eta = {rate:.2f}$")
    print(f"{name}: loss {compute_loss(path[-1]) - compute_loss(best):.4f} above the least")
axes[0].set_ylabel("weight $w_1$")
fig.suptitle("Thirty steps from the square to the star: creep, arrive, jump across")
plt.show()

# %%
# All rows, some, one
# -------------------
#
# A step on all rows costs a pass over the data. The gradient of a few rows points in nearly the
# same direction, and costs little: in the same three passes, batches of 16 make 48 steps and single
# rows 768. The price is noise. Near the minimum the gradients of single rows do not vanish, only
# their mean does, and the path wanders about in a cloud whose size goes with the learning rate.

fig, axes = plt.subplots(1, 3, figsize=(8, 3.4), sharey=True, layout="constrained")
sizes = {"All rows": len(X), "Batches of 16": 16, "Single rows": 1}
for ax, (name, size), colour in zip(
    axes, sizes.items(), ("#0072B2", "#009E73", "#D55E00"), strict=True
):
    path = descend(0.2, batch_size=size, n_epochs=3)
    draw_path(ax, path, color=colour, marker="o", markersize=2, linewidth=1)
    ax.set_title(f"{name}: {len(path) - 1} steps")
axes[0].set_ylabel("weight $w_1$")
fig.suptitle("Three passes over the rows, one learning rate: more steps, more noise")
plt.show()

# %%
# A network on the digits
# -----------------------
#
# :class:`~sknets.neural_network.MLPClassifier` with ``solver="sgd"`` and no momentum is the descent
# above. Validation images given to ``fit`` are not trained on; ``history_`` has their loss after
# each epoch, a pass over the rows. A pass is a single step for the full batch, 32 steps for batches
# of 32 and 1000 for single rows. So small batches learn more from a pass. From a step, which is the
# more accurate the more rows it has seen, they learn less; in between lies what is fastest on a
# real machine, which computes 32 rows in little more time than one.

X, y = load_digits(return_X_y=True)
X_train, X_val, y_train, y_val = train_test_split(
    X / 16, y, train_size=1000, stratify=y, random_state=0
)
looks = {
    1000: {"color": "#0072B2", "linestyle": "-", "marker": "o", "label": "all 1000 rows"},
    32: {"color": "#009E73", "linestyle": "--", "marker": "s", "label": "batches of 32"},
    1: {"color": "#D55E00", "linestyle": "-.", "marker": "^", "label": "single rows"},
}


def fit(batch_size, rate, n_epochs=15):
    """Return the loss on the validation images after each epoch."""
    clf = MLPClassifier(
        (32,),
        solver="sgd",
        momentum=0.0,
        batch_size=batch_size,
        learning_rate_init=rate,
        max_iter=n_epochs,
        n_iter_no_change=np.inf,  # all epochs, whatever the loss does
        random_state=0,
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few epochs, on purpose
        clf.fit(X_train, y_train, X_val=X_val, y_val=y_val)
    return np.array(clf.history_["validation_loss"])


fig, (left, right) = plt.subplots(1, 2, figsize=(8, 4), sharey=True, layout="constrained")
for size, rate, n_epochs in [(1000, 0.5, 1000), (32, 0.3, 100), (1, 0.01, 15)]:
    curve = fit(size, rate, n_epochs)
    look = looks[size] | {"marker": ""}
    epochs = np.arange(1, n_epochs + 1)
    n_steps = epochs * int(np.ceil(1000 / size))
    left.plot(epochs, curve, **look)
    right.plot(n_steps, curve, **look)
    reached = np.argmax(curve < 0.2)
    print(f"{look['label']}: loss 0.2 after {epochs[reached]} passes, {n_steps[reached]} steps")
left.set(
    title="Loss by passes over the rows",
    xlabel="epochs",
    ylabel="loss on validation images",
    xscale="log",
    yscale="log",
)
right.set(title="Loss by steps", xlabel="steps", xscale="log")
left.legend(frameon=False)
fig.suptitle("Small batches learn more from a pass, large ones from a step")
plt.show()

# %%
# Which learning rate?
# --------------------
#
# Each batch size has its own best rate, not far below those at which training fails. To the left of
# it nothing is wrong but the speed. There the curves are the same curve, shifted: drawn against the
# rate divided by the batch size, they coincide. Thirty-two steps of single rows and one step of a
# batch of 32 with 32 times the rate go the same way, as long as neither is too long. So when you
# change ``batch_size``, change ``learning_rate_init`` with it, or find both by a search.

rates = np.logspace(-3.5, 1, 10)
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 4), sharey=True, layout="constrained")
for size, look in looks.items():
    losses = [fit(size, rate)[-1] for rate in rates]
    print(f"{look['label']}: best learning rate {rates[np.argmin(losses)]:.2g}")
    left.plot(rates, losses, **look)
    right.plot(rates / size, losses, **look)
left.set(
    title="Too low, right, too high",
    xlabel="learning rate",
    ylabel="loss after 15 epochs",
    xscale="log",
    yscale="log",
)
right.set(title="The slow sides coincide", xlabel="learning rate / batch size", xscale="log")
left.legend(frameon=False)
fig.suptitle("A batch of n rows needs n times the learning rate, until that is too high")
plt.show()
