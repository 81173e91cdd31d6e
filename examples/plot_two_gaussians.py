r"""
==================================================
What logistic regression learns from two Gaussians
==================================================

Two classes are drawn from :math:`N(\mu_0, I)` and :math:`N(\mu_1, I)`, one as likely as the other.
Bayes' rule then says exactly how probable class 1 is at a point :math:`x`: it is :math:`1 / (1 +
e^{-(w^T x + b)})` with :math:`w = \mu_1 - \mu_0` and :math:`b = (\|\mu_0\|^2 - \|\mu_1\|^2) / 2`.
That is the form that :class:`~sknets.linear_model.LogisticRegression` fits, so what it learns can
be laid beside the truth. The last part looks at the loss that leads it there, and at others that
would not.
"""

# %%
# A sample whose truth is known
# -----------------------------
#
# :func:`~sknets.datasets.make_two_gaussians` gives the sample together with the true weights and
# the accuracy that no classifier exceeds.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from sknets.datasets import make_two_gaussians
from sknets.linear_model import LogisticRegression

means = [[-1.0, -1.0], [1.0, 0.5]]
train = make_two_gaussians(n_samples=300, means=means, random_state=0)
test = make_two_gaussians(n_samples=50_000, means=means, random_state=1)

# %%
# The fit
# -------
#
# Without a penalty (``C=np.inf``) the fitted weights are the maximum likelihood estimates, which
# tend to the true ones as the sample grows.

clf = LogisticRegression(C=np.inf).fit(train.X, train.y)

print(f"weights    true {train.coef}  learnt {clf.coef_[0].round(2)}")
print(f"intercept  true {train.intercept:.2f}  learnt {clf.intercept_[0]:.2f}")
print(f"accuracy   best {train.bayes_accuracy:.3f}  reached {clf.score(test.X, test.y):.3f}")

# %%
# The two posteriors
# ------------------
#
# Colour is the probability of class 1, lines are its levels 0.1, 0.5 and 0.9. On the left it is the
# truth, on the right what was learnt from the 300 points shown.


def true_posterior(X):
    """Return the probability of class 1 by Bayes' rule."""
    return 1 / (1 + np.exp(-(X @ train.coef + train.intercept)))


side = np.linspace(-4.0, 4.5, 200)
x0, x1 = np.meshgrid(side, side)
grid = np.column_stack([x0.ravel(), x1.ravel()])
panels = {
    "True posterior": true_posterior(grid),
    "Learnt posterior": clf.predict_proba(grid)[:, 1],
}

# Blue and orange stay apart for every kind of colour vision; points differ in shape too.
shades = LinearSegmentedColormap.from_list("posterior", ["#9CC9E8", "#FFFFFF", "#FBC98A"])
points = [("#00466E", "o"), ("#B34700", "^")]
lines = {"levels": [0.1, 0.5, 0.9], "colors": "black", "linestyles": ["--", "-", "--"]}
limits = side[[0, -1]]

fig, axes = plt.subplots(1, 2, figsize=(8, 4.1), sharex=True, sharey=True, layout="constrained")
for ax, (title, proba) in zip(axes, panels.items(), strict=True):
    proba = proba.reshape(x0.shape)
    image = ax.pcolormesh(x0, x1, proba, cmap=shades, vmin=0, vmax=1, rasterized=True)
    for label, (colour, marker) in enumerate(points):
        rows = train.X[train.y == label]
        ax.scatter(*rows.T, s=12, c=colour, marker=marker, alpha=0.6, label=f"class {label}")
    contours = ax.contour(x0, x1, proba, **lines)
    ax.clabel(contours, fmt="%.1f", manual=[(-3.2, 2.5), (-2.4, 2.9), (-1.9, 3.7)])
    ax.set(title=title, xlabel="$x_0$ (standard deviations)", xlim=limits, ylim=limits)
    ax.set_aspect("equal")
axes[0].set_ylabel("$x_1$ (standard deviations)")
axes[0].legend(loc="upper right")
fig.colorbar(image, ax=axes, label="probability of class 1", shrink=0.8)
fig.suptitle("From 300 points, nearly the true boundary and nearly its steepness")
plt.show()

# %%
# More points, closer weights
# ---------------------------
#
# The inverse of the Fisher information, :math:`\sum_i p_i (1 - p_i) \tilde x_i \tilde x_i^T` with
# :math:`\tilde x = (x, 1)`, is the covariance that the estimates have for large samples. The errors
# of fits to samples of growing size follow its prediction, which falls with the square root of the
# size.

sizes = np.array([100, 300, 1000, 3000, 10_000, 30_000])
truth = np.append(train.coef, train.intercept)
errors, predicted = [], []
for size in sizes:
    squares = []
    for seed in range(20):
        sample = make_two_gaussians(size, means=means, random_state=seed)
        fit = LogisticRegression(C=np.inf).fit(sample.X, sample.y)
        squares.append(np.sum((np.append(fit.coef_[0], fit.intercept_) - truth) ** 2))
    rows = np.column_stack([sample.X, np.ones(size)])
    proba = true_posterior(sample.X)
    information = rows.T @ (rows * (proba * (1 - proba))[:, None])
    errors.append(np.sqrt(np.mean(squares)))
    predicted.append(np.sqrt(np.trace(np.linalg.inv(information))))

fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
ax.loglog(sizes, predicted, "--", color="#0072B2", label="predicted by the Fisher information")
ax.loglog(sizes, errors, "o", color="#D55E00", label="root mean square of 20 fits")
ax.set(
    title="Ten times the points, a third of the error",
    xlabel="points in the sample",
    ylabel="distance from the true weights and intercept",
)
ax.legend()
plt.show()

# %%
# The loss, and the others
# ------------------------
#
# Write a point's label as :math:`\pm 1` and let :math:`t` be the label times :math:`w^T x + b`: the
# *margin*, positive where the point is on its right side. Its probability is :math:`1 / (1 +
# e^{-t})`, and minus the logarithm of that, :math:`\log(1 + e^{-t})`, is what logistic regression
# adds up. It never quite reaches zero, and far on the wrong side it grows like :math:`-t`, so one
# absurd point does not outvote all others.
#
# A count of errors would be the 0-1 loss, which has no slope to follow. The perceptron's loss lets
# a point rest as soon as it is right, the hinge loss of support vector machines once it is right by
# 1. The squared and the exponential loss punish without bound what is very wrong, and the squared
# one what is very right as well.

losses = {
    r"logistic, $\log(1 + e^{-t})$": (lambda t: np.log1p(np.exp(-t)), "#D55E00", "-", 3),
    "0-1 (errors)": (lambda t: np.where(t > 0, 0.0, 1.0), "black", ":", 2),
    "perceptron, $\\max(0, -t)$": (lambda t: np.maximum(0, -t), "#0072B2", "--", 2),
    "hinge, $\\max(0, 1 - t)$": (lambda t: np.maximum(0, 1 - t), "#CC79A7", "-.", 2),
    "squared, $(1 - t)^2$": (lambda t: (1 - t) ** 2, "#009E73", (0, (5, 1, 1, 1, 1, 1)), 1.5),
    "exponential, $e^{-t}$": (lambda t: np.exp(-t), "#56B4E9", (0, (8, 2)), 1.5),
}

# %%
# What does a loss lead to? Take a place where class 1 has probability 0.8, as many points of many
# samples lie there, and ask which score :math:`s = w^T x + b` costs least on average: :math:`0.8\,
# \ell(s) + 0.2\, \ell(-s)`. The logistic loss answers with the log-odds :math:`\log(0.8 / 0.2) =
# 1.39`: put back into :math:`1 / (1 + e^{-s})` they give 0.8. The squared loss answers :math:`2
# \cdot 0.8 - 1` and the exponential one half the log-odds: the probability can be had from them
# too, by another formula. The hinge loss answers 1 for 0.8 and for 0.6 alike, the perceptron's
# answers 0: which side, or not even that.

margins = np.linspace(-3, 3, 60_001)
share = 0.8
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 4.6), layout="constrained")
for name, (loss, colour, style, width) in losses.items():
    look = {"color": colour, "linestyle": style, "linewidth": width}
    left.plot(margins, loss(margins), label=name, **look)
    expected = share * loss(margins) + (1 - share) * loss(-margins)
    right.plot(margins, expected, **look)
    if "0-1" not in name:  # whose best answers are all scores above 0
        best = expected.argmin()
        print(f"{name.split(',')[0]:12s} best score {margins[best]:.2f}")
        right.plot(margins[best], expected[best], "o", color=colour, markeredgecolor="black")
log_odds = np.log(share / (1 - share))
right.axvline(log_odds, color="#D55E00", linewidth=1, alpha=0.5)
right.text(log_odds, 2.62, " log-odds ", color="#A04600", ha="center", backgroundcolor="white")
left.set(
    title="Loss of one point",
    xlabel="margin $t$: right side positive",
    ylabel="loss",
    xlim=(-3, 3),
    ylim=(-0.1, 4),
)
right.set(
    title="Mean loss where 0.8 are class 1",
    xlabel="score $s = w^T x + b$ (dots: the best)",
    ylabel="mean loss",
    xlim=(-3, 3),
    ylim=(-0.1, 3),
)
fig.legend(loc="outside lower center", ncols=3, frameon=False)
fig.suptitle("Only the logistic loss is least where the score is the log-odds")
plt.show()
