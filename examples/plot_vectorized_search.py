"""
Sixty settings of a network in one computation
==============================================

:class:`~sknets.model_selection.VectorizedGridSearchCV` is scikit-learn's grid search with all nets
trained together: sixty settings times three folds are one stack of 180 nets. Each has the initial
weights, shuffles and stop that it would have alone, so the scores are those of ``GridSearchCV``.
The picture shows the surface that it finds: too low a learning rate has not learnt in thirty
epochs, too high a one jumps about, and a strong penalty holds the weights back.
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from sknets import MLPClassifier, VectorizedGridSearchCV

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# The search. Changing ``GridSearchCV`` to ``VectorizedGridSearchCV`` is the only edit.

grid = {
    "learning_rate_init": np.logspace(-4.5, -0.5, 10),
    "alpha": np.logspace(-4, 1, 6),
}
net = MLPClassifier((64,), max_iter=30, random_state=0, device="cpu")
search = VectorizedGridSearchCV(net, grid, cv=3)
started = time.perf_counter()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # thirty epochs, on purpose
    search.fit(X_train, y_train)
seconds = time.perf_counter() - started

print(f"{len(search.cv_results_['params'])} settings, 3 folds: {seconds:.1f} s")
print(f"where they ran: {search.vectorization_[0][0]}")
print(f"best: {search.best_params_}")
print(f"accuracy on the test set: {search.score(X_test, y_test):.3f}")

# %%
# The surface of mean test accuracies.

surface = search.cv_results_["mean_test_score"].reshape(6, 10)  # (alpha, learning rate)
rates, alphas = grid["learning_rate_init"], grid["alpha"]

figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
drawn = axes.imshow(surface, cmap="cividis", aspect="auto", origin="lower")
for (row, column), accuracy in np.ndenumerate(surface):
    light = accuracy > surface.min() + 0.6 * np.ptp(surface)
    color = "black" if light else "white"
    axes.text(column, row, f"{accuracy:.2f}", ha="center", va="center", fontsize=9, color=color)
row, column = np.unravel_index(surface.argmax(), surface.shape)
axes.plot(column, row, "s", ms=30, mfc="none", mec="red", mew=2)
axes.set(
    xticks=range(10),
    xticklabels=[f"{rate:.1g}" for rate in rates],
    yticks=range(6),
    yticklabels=[f"{alpha:.1g}" for alpha in alphas],
    xlabel="learning_rate_init",
    ylabel="alpha, the strength of the penalty",
    title="The best of sixty settings (red) lies on a ridge of learning rates",
)
figure.colorbar(drawn, label="mean accuracy on three folds")
plt.show()
