"""
Your own module in a grid search
================================

:class:`~sknets.neural_network.NetClassifier` makes any :class:`torch.nn.Module` a scikit-learn
classifier. What builds the module is a parameter like the learning rate, so a grid search can
compare architectures. Here it answers an old question: how deep may a plain network be, and what do
skip connections change?
"""

# %%
# The module
# ----------
#
# A block is a dense layer and a ReLU. With a skip connection it adds what it makes of :math:`x` to
# :math:`x`, times a learnt gain that starts at 0: at first the net is as good as shallow, and each
# block joins in as far as it helps (Bachlechner et al., "ReZero is all you need", 2021).

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sknets import NetClassifier, VectorizedGridSearchCV


class Block(nn.Module):
    """relu(W x + b), or x + gain * relu(W x + b) with a skip connection."""

    def __init__(self, width, skip):
        super().__init__()
        self.layer = nn.Linear(width, width)
        self.gain = nn.Parameter(torch.zeros(())) if skip else None

    def forward(self, x):
        out = torch.relu(self.layer(x))
        return out if self.gain is None else x + self.gain * out


class DeepNet(nn.Module):
    """A dense layer, so many blocks, and a dense layer to the logits."""

    def __init__(self, n_features, n_classes, depth, skip, width=32):
        super().__init__()
        self.first = nn.Linear(n_features, width)
        self.blocks = nn.Sequential(*(Block(width, skip) for _ in range(depth)))
        self.last = nn.Linear(width, n_classes)

    def forward(self, x):
        return self.last(self.blocks(torch.relu(self.first(x))))


# %%
# The search
# ----------
#
# ``fit`` calls ``module`` with the number of features and the number of classes. All else that the
# class wants is set with :func:`functools.partial`, one for each architecture. ``tol`` and
# ``n_iter_no_change`` end a training that no longer gets anywhere.
# :class:`~sknets.model_selection.VectorizedGridSearchCV` trains the nets of one architecture
# together: two learning rates on three folds are a stack of six.

depths = [1, 2, 4, 8, 16, 32]
grid = {
    "module": [partial(DeepNet, depth=d, skip=s) for s in (False, True) for d in depths],
    "learning_rate_init": [0.003, 0.01],
}
net = NetClassifier(DeepNet, tol=0.01, n_iter_no_change=5, random_state=0, device="cpu")

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
search = VectorizedGridSearchCV(net, grid, cv=3).fit(X_train, y_train)

best = search.best_params_["module"].keywords
print(f"{len(search.cv_results_['params'])} settings, 3 folds")
print(f"where the first setting ran: {search.vectorization_[0][0]}")
print(f"best: {best}, learning rate {search.best_params_['learning_rate_init']}")
print(f"accuracy on the test set: {search.score(X_test, y_test):.3f}")

# %%
# Depth, with and without skips
# -----------------------------
#
# For each architecture the better of the two learning rates; a bar is the spread of the folds.
#
# With torch's initial weights, a dense layer and a ReLU let through about :math:`1/\sqrt 6` of a
# signal's size. After sixteen of them all images look alike and no gradient finds its way back, so
# more epochs would not help. Through a skip connection the signal passes whole.


def best_by_depth(skip):
    """Return the mean score and its spread at each depth, at the better learning rate."""
    results = search.cv_results_
    scores = {}
    for setting, mean, spread in zip(
        results["params"], results["mean_test_score"], results["std_test_score"], strict=True
    ):
        keywords = setting["module"].keywords
        if keywords["skip"] == skip:
            depth = keywords["depth"]
            scores[depth] = max(scores.get(depth, (0, 0)), (mean, spread))
    return np.array([scores[depth] for depth in depths]).T


fig, ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
for skip, label, look in (
    (True, "with skip connections", {"color": "#0072B2", "marker": "o"}),
    (False, "plain", {"color": "#D55E00", "marker": "s", "linestyle": "--"}),
):
    means, spreads = best_by_depth(skip)
    ax.errorbar(depths, means, spreads, capsize=3, label=label, **look)
    print(f"{label:22} {np.round(means, 3)}")
ax.axhline(0.1, color="grey", linestyle=":", label="guessing")
ax.set_xscale("log", base=2)
ax.set(
    title="A plain net of sixteen blocks learns nothing; with skips depth does no harm",
    xlabel="blocks between the first and the last layer",
    ylabel="mean accuracy on three folds",
    xticks=depths,
    xticklabels=depths,
    ylim=(0, 1.02),
)
ax.legend(loc="center left")
plt.show()

# %%
# What the blocks contribute
# --------------------------
#
# ``module_`` is the fitted module, so its own parameters can be looked at. The 32 blocks of the
# deepest net all joined in, to much the same extent; a sign is as good as the other.

deep = net.set_params(module=partial(DeepNet, depth=32, skip=True), learning_rate_init=0.003)
deep.fit(X_train, y_train)
gains = [block.gain.item() for block in deep.module_.blocks]

fig, ax = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
ax.bar(np.arange(1, 33), gains, color="#0072B2")
ax.axhline(0, color="black", linewidth=0.8)
ax.set(
    title="All of the 32 gains started at 0; this is how far the blocks joined in",
    xlabel="block, from the input to the logits",
    ylabel="gain",
)
plt.show()
print(f"accuracy on the test set: {deep.score(X_test, y_test):.3f}")
