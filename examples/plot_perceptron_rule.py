r"""
=====================================
Rosenblatt's rule, a sample at a time
=====================================

The oldest learning rule for a linear classifier looks at one point after another. Write labels as
:math:`\pm 1` and start from :math:`w = 0, b = 0`. A point with :math:`y\,(w^T x + b) \le 0` is a
mistake, and the rule moves the line towards getting it right: :math:`w \leftarrow w + y\,x` and
:math:`b \leftarrow b + y`. At all other points it does nothing. If some line separates the classes,
the mistakes come to an end; otherwise they never do. Both can be watched here, with
:class:`~sknets.linear_model.Perceptron` on Fisher's irises.
"""

# %%
# The line after each mistake
# ---------------------------
#
# The sepals of two kinds of iris, length and width, can be told apart by a straight line.
# ``partial_fit`` goes once through the rows that it is given, so a call with a single row is one
# application of the rule. Where it was a mistake, the weights have moved.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris
from sklearn.preprocessing import scale
from sklearn.svm import SVC
from sklearn.utils import shuffle

from sknets.linear_model import LogisticRegression, Perceptron

iris = load_iris()


def load_pair(first, second, columns):
    """Return two kinds of iris, in random order, as classes 0 and 1."""
    chosen = np.isin(iris.target, [first, second])
    X, y = iris.data[chosen][:, columns], (iris.target[chosen] == second).astype(int)
    return shuffle(X, y, random_state=2)


raw, y = load_pair(0, 1, [0, 1])
X = scale(raw)

clf = Perceptron(device="cpu")
weights = np.zeros(3)  # two coefficients and the intercept
mistakes = []  # (pass, row, weights before, weights after)
for epoch in range(1, 21):
    for row in range(len(X)):
        clf.partial_fit(X[[row]], y[[row]], classes=[0, 1])
        moved = np.append(clf.coef_[0], clf.intercept_)
        if not np.array_equal(moved, weights):
            mistakes.append((epoch, row, weights, moved))
            weights = moved
    if mistakes[-1][0] < epoch:
        break  # a whole pass without a mistake: from here on nothing changes

print(f"{len(X)} points, {len(mistakes)} mistakes, none in pass {epoch}")
print(f"accuracy on these points: {clf.score(X, y):.2f}")

# %%
# Each picture shows one mistake: ringed is the point that was on the wrong side of the dashed line,
# solid is the line that the rule made of it. A step takes no account of the other points, so the
# line swings; a point may have to be learnt twice, as points 56 and 64 are. Yet a second pass is
# enough.

BLUE, ORANGE = "#0072B2", "#D55E00"
POINTS = [(BLUE, "o"), (ORANGE, "^")]
side = np.array([-3.5, 3.5])


def draw_points(ax, X, y, names):
    """Draw two classes in two colours and shapes."""
    for label, (colour, marker) in enumerate(POINTS):
        rows = X[y == label]
        ax.scatter(*rows.T, s=12, c=colour, marker=marker, alpha=0.7, label=names[label])


def draw_line(ax, weights, **look):
    """Draw where w0 * x0 + w1 * x1 + b = 0."""
    w0, w1, b = weights
    if abs(w1) > abs(w0):
        ax.plot(side, -(w0 * side + b) / w1, **look)
    else:
        ax.plot(-(w1 * side + b) / w0, side, **look)


fig, axes = plt.subplots(3, 3, figsize=(8, 8.4), sharex=True, sharey=True, layout="constrained")
for number, (ax, mistake) in enumerate(zip(axes.flat, mistakes, strict=True), start=1):
    epoch, row, before, after = mistake
    draw_points(ax, X, y, iris.target_names)
    if before.any():
        draw_line(ax, before, color="0.4", linestyle="--")
    draw_line(ax, after, color="black", linewidth=2)
    ax.scatter(*X[row], s=130, facecolors="none", edgecolors="black", linewidths=2)
    ax.set(title=f"{number}: pass {epoch}, point {row + 1}", xlim=side, ylim=side, aspect="equal")
axes[0, 0].legend(loc="upper right", fontsize="small", handletextpad=0.1)
fig.supxlabel("sepal length (standard deviations)")
fig.supylabel("sepal width (standard deviations)")
fig.suptitle("Nine mistakes turn the line until it separates the two")
plt.show()

# %%
# How many mistakes?
# ------------------
#
# Novikoff's theorem (1962): with a line that separates the points by :math:`\gamma`, and no point
# farther than :math:`R` from the origin, there are at most :math:`(R / \gamma)^2` mistakes, in
# however many passes over however many points. Lengths are those of :math:`(x, 1)` and :math:`(w,
# b)`, as the intercept is one more weight.
#
# The bound says that the place of the origin matters. In centimetres, all flowers are far from it
# on the same side: there :math:`R` is larger, and :math:`\gamma` smaller, as the line has to pass
# far from the origin, which takes a large :math:`b`. So scaling the columns is not cosmetics. The
# bound is for the worst order of the worst points; these here need far fewer mistakes.

fig, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
looks = {"centimetres": (ORANGE, "--", raw), "standardised": (BLUE, "-", X)}
for name, (colour, style, rows) in looks.items():
    # tol=None: all the passes; shuffle=False: the rows in the order they have.
    net = Perceptron(shuffle=False, tol=None, max_iter=1000, device="cpu").fit(rows, y)
    made = np.cumsum(net.history_["n_mistakes"])
    ax.plot(np.arange(len(made)) + 1, made, color=colour, linestyle=style, linewidth=2)
    last = np.flatnonzero(net.history_["n_mistakes"])[-1] + 1
    ax.plot(last, made[-1], "o", color=colour)
    ax.annotate(
        f"{name}: {made[-1]} mistakes,\nthe last in pass {last}",
        (last, made[-1]),
        (0, 12),
        textcoords="offset points",
        ha="center" if last > 10 else "left",
        color=colour,
    )
    separating = SVC(kernel="linear", C=1e4).fit(rows, y)
    u = np.append(separating.coef_[0], separating.intercept_)
    extended = np.column_stack([rows, np.ones(len(rows))])
    gamma = np.min((2 * y - 1) * (extended @ u)) / np.linalg.norm(u)
    radius = np.linalg.norm(extended, axis=1).max()
    bound = (radius / gamma) ** 2
    print(f"{name}: R = {radius:.2f}, gamma = {gamma:.4f}, at most {bound:,.0f}, made {made[-1]}")
ax.set(
    title="The same flowers, far from the origin, cost a hundred times the mistakes",
    xlabel="pass over the rows",
    ylabel="mistakes so far",
    xscale="log",
    yscale="log",
    ylim=(1, 1e4),
)
plt.show()

# %%
# A set that is not separable
# ---------------------------
#
# No line separates *versicolor* from *virginica*. Each pass makes mistakes, and each mistake moves
# the line by a whole step, for ever: the line that you have is the one you happened to stop at.
# (The rows come in a new order in each pass here, as in ``fit``: with an integer for
# ``random_state``, ``partial_fit`` would take the same order each time.)
#
# That is why :meth:`Perceptron.fit <sknets.linear_model.Perceptron.fit>` stops by ``tol``, when the
# mean loss of a pass has not fallen for five passes.
#
# Two ways out: the mean of the weights over the passes settles, and logistic regression has a loss
# with one minimum and goes there.

X, y = load_pair(1, 2, [0, 1])
X = scale(X)
clf = Perceptron(random_state=np.random.RandomState(0), device="cpu")
path, accuracy, mean_accuracy = [], [], []
for _ in range(100):
    clf.partial_fit(X, y, classes=[0, 1])
    path.append(np.append(clf.coef_[0], clf.intercept_))
    accuracy.append(clf.score(X, y))
    mean = np.mean(path, axis=0)
    mean_accuracy.append(np.mean((X @ mean[:2] + mean[2] > 0) == y))
logistic = LogisticRegression(C=np.inf, device="cpu").fit(X, y)

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
draw_points(left, X, y, iris.target_names[1:])
for number, weights in enumerate(path[-20:]):
    label = "perceptron, last 20 passes" if number == 0 else None
    draw_line(left, weights, color="0.6", linewidth=0.8, zorder=0, label=label)
draw_line(left, mean, color="#CC79A7", linewidth=2.5, label="their mean, 100 passes")
optimum = np.append(logistic.coef_[0], logistic.intercept_)
draw_line(left, optimum, color="black", linewidth=2, linestyle="--", label="logistic regression")
left.set(
    title="Every pass ends with another line",
    xlabel="sepal length (standard deviations)",
    ylabel="sepal width (standard deviations)",
    xlim=side,
    ylim=side,
)
passes = np.arange(1, 101)
right.plot(passes, accuracy, color="0.6", linewidth=0.8, marker=".", markersize=3)
right.plot(passes, mean_accuracy, color="#CC79A7", linewidth=2.5)
right.axhline(logistic.score(X, y), color="black", linewidth=2, linestyle="--")
right.set(
    title="and with another accuracy",
    xlabel="pass over the rows",
    ylabel="accuracy on these rows",
)
fig.legend(loc="outside lower center", ncols=3, frameon=False)
fig.suptitle("Where no line separates, the rule does not settle; the mean of its weights does")
plt.show()
