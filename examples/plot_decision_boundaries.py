"""
Decision boundaries, sknets' over scikit-learn's
================================================

Four classifiers on three sets of points that can be looked at: a straight line by mistakes
(:class:`~sknets.linear_model.Perceptron`), a straight line by likelihood
(:class:`~sknets.linear_model.LogisticRegression`), a curve
(:class:`~sknets.neural_network.MLPClassifier`), and a module of one's own
(:class:`~sknets.neural_network.NetClassifier`). The first three have namesakes in scikit-learn,
and take the same parameters to the same boundaries.
"""

# %%
# A module of one's own
# ---------------------
#
# The fourth net is a sum of bumps, :math:`\sum_j a_j \exp(-\gamma_j \|x - c_j\|^2)` for each
# class, whose centres, widths and heights are all learnt. scikit-learn has no such net; its nearest
# relative is a support vector machine with the RBF kernel, whose bumps sit on training points and
# share one width.

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from sklearn import linear_model, neural_network
from sklearn.datasets import make_circles, make_classification, make_moons
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

import sknets


class Bumps(nn.Module):
    """Logits that are sums of Gaussian bumps."""

    def __init__(self, n_features, n_classes, n_bumps=12):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(n_bumps, n_features))
        self.log_gamma = nn.Parameter(torch.zeros(n_bumps))
        self.heights = nn.Linear(n_bumps, n_classes)

    def forward(self, x):
        distances = (x[:, None] - self.centres).square().sum(-1)  # (rows, bumps)
        return self.heights(torch.exp(-self.log_gamma.exp() * distances))


# %%
# The same program twice
# ----------------------
#
# Each pair has the same parameters. ``shuffle=False`` lets both perceptrons go through the rows in
# the order they have; the MLPs draw the same initial weights and the same shuffles from the same
# ``random_state``.

perceptron = {"shuffle": False}
mlp = {
    "hidden_layer_sizes": (32, 32),
    "learning_rate_init": 0.01,
    "alpha": 0.3,
    "max_iter": 1000,
    "random_state": 0,
}
bumps = sknets.NetClassifier(Bumps, learning_rate_init=0.03, alpha=1, max_iter=1000, random_state=0)
pairs = {
    "Perceptron": (sknets.Perceptron(**perceptron), linear_model.Perceptron(**perceptron)),
    "LogisticRegression": (sknets.LogisticRegression(), linear_model.LogisticRegression()),
    "MLPClassifier": (sknets.MLPClassifier(**mlp), neural_network.MLPClassifier(**mlp)),
    "NetClassifier(Bumps)": (bumps, SVC()),
}

blobs, labels = make_classification(
    300, n_features=2, n_redundant=0, n_clusters_per_class=1, class_sep=1.2, random_state=1
)
noise = np.random.default_rng(0).normal(scale=0.6, size=blobs.shape)
points = {
    "moons": make_moons(300, noise=0.25, random_state=0),
    "circles": make_circles(300, noise=0.15, factor=0.5, random_state=0),
    "two blobs": (blobs + noise, labels),
}

# %%
# The boundaries
# --------------
#
# Colour is sknets' probability of a class (a perceptron has none: only its decision is drawn). The
# thin black line is sknets' boundary, the broad line under it scikit-learn's.


def class_1(classifier, X):
    """Return the probability of class 1, or 0 and 1 where there are decisions alone."""
    if hasattr(classifier, "predict_proba"):
        return classifier.predict_proba(X)[:, 1]
    return classifier.predict(X).astype(float)


def margin(classifier, X):
    """Return a number that is 0 on the boundary."""
    if hasattr(classifier, "decision_function"):
        return classifier.decision_function(X)
    return class_1(classifier, X) - 0.5


side = np.linspace(-3, 3, 200)
x0, x1 = np.meshgrid(side, side)
grid = np.column_stack([x0.ravel(), x1.ravel()])
shades = LinearSegmentedColormap.from_list("classes", ["#8FC1E8", "#FFFFFF", "#FBB97A"])
marks = [("#00466E", "o"), ("#B34700", "^")]

fig, axes = plt.subplots(3, 4, figsize=(9, 7.4), sharex=True, sharey=True, layout="constrained")
for row, (source, (X, y)) in zip(axes, points.items(), strict=True):
    X = StandardScaler().fit_transform(X)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    for ax, (name, (ours, theirs)) in zip(row, pairs.items(), strict=True):
        ours.fit(X_train, y_train)
        theirs.fit(X_train, y_train)
        same = np.mean(ours.predict(grid) == theirs.predict(grid))
        accuracies = [100 * model.score(X_test, y_test) for model in (ours, theirs)]
        print(
            f"{source:9} {name:21}{100 * same:5.1f} % of the plane alike; "
            f"test accuracy {accuracies[0]:.0f} %, scikit-learn {accuracies[1]:.0f} %"
        )

        values = class_1(ours, grid).reshape(x0.shape)
        ax.pcolormesh(x0, x1, values, cmap=shades, vmin=0, vmax=1, rasterized=True)
        for label, (colour, marker) in enumerate(marks):
            drawn = X_train[y_train == label]
            ax.scatter(*drawn.T, s=8, c=colour, marker=marker, alpha=0.6, linewidths=0)
        for model, width, colour in ((theirs, 6, "#CC79A7"), (ours, 1.3, "black")):
            level = margin(model, grid).reshape(x0.shape)
            ax.contour(x0, x1, level, levels=[0], colors=colour, linewidths=width)
        ax.text(
            0.03,
            0.03,
            f"{accuracies[0]:.0f} %",
            transform=ax.transAxes,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 2, "alpha": 0.8},
        )
        ax.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[-2, 0, 2], yticks=[-2, 0, 2], aspect="equal")
    row[0].set_ylabel(f"{source}\n$x_1$ (standard deviations)")
for ax, name in zip(axes[0], pairs, strict=True):
    ax.set_title(name, fontsize=10)
for ax in axes[-1]:
    ax.set_xlabel("$x_0$ (standard deviations)", fontsize=9)
keys = [
    Line2D([], [], color="#CC79A7", linewidth=6, label="scikit-learn (SVC in the last column)"),
    Line2D([], [], color="black", linewidth=1.3, label="sknets, with its test accuracy"),
]
fig.legend(handles=keys, loc="outside lower center", ncols=2)
fig.suptitle("Namesakes draw one line: sknets' boundary runs inside scikit-learn's")
plt.show()

# %%
# A straight line is what it is, whoever fits it: no better than guessing on the circles. Away from
# the points the bumps die out and leave the last net to its intercepts. Around the moons it is then
# undecided (white), where an MLP is as sure as ever; around the circles it goes by the outer class.
#
# How equal is equal?
# -------------------
#
# The lines coincide because the numbers do: what is left is rounding.

for name in ("Perceptron", "LogisticRegression", "MLPClassifier"):
    ours, theirs = pairs[name]
    if name == "MLPClassifier":
        weights = zip(ours.coefs_, theirs.coefs_, strict=True)
    else:
        weights = [(ours.coef_, theirs.coef_)]
    largest = max(np.abs(a - b).max() for a, b in weights)
    print(f"{name:20} largest difference of two weights: {largest:.1e}")
