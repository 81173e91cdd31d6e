r"""
=====================================
Rosenblatt's rule, a sample at a time
=====================================

The oldest learning rule for a linear classifier looks at one point after another. Write labels as
:math:`\pm 1` and start from :math:`w = 0, b = 0`. Where :math:`y\,(w^T x + b) \le 0` the point is
on the wrong side, and the rule moves the line towards it: :math:`w \leftarrow w + y\,x`, :math:`b
\leftarrow b + y`. Everywhere else it does nothing. If some line separates the classes, this ends
after a number of mistakes that does not depend on how many points there are. Otherwise it never
ends. Both are watched here, with :class:`~sknets.linear_model.Perceptron`.
"""

# %%
# The line after each mistake
# ---------------------------
#
# ``partial_fit`` takes the rows it is given, once, so a call with one row is one application of the
# rule. Whether it was a mistake is seen by the weights: they move only then.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sknets.datasets import make_two_gaussians
from sknets.linear_model import LogisticRegression, Perceptron

sample = make_two_gaussians(n_samples=60, means=[[-1.0, -1.2], [1.6, 1.0]], random_state=2)
# Leave out the points near the best line, so that it separates the rest.
clear = np.abs(sample.X @ sample.coef + sample.intercept) > 1.0
agree = (sample.X @ sample.coef + sample.intercept > 0) == (sample.y == 1)
X, y = sample.X[clear & agree], sample.y[clear & agree]

clf = Perceptron(device="cpu")
mistakes = []  # (row, weights before, weights after)
weights = np.zeros(3)
for epoch in range(20):
    n_before = len(mistakes)
    for row in range(len(X)):
        clf.partial_fit(X[[row]], y[[row]], classes=[0, 1])
        new = np.append(clf.coef_[0], clf.intercept_)
        if not np.array_equal(new, weights):
            mistakes.append((row, weights, new))
            weights = new
    if len(mistakes) == n_before:
        break
print(f"{len(X)} points, {len(mistakes)} mistakes, none in pass {epoch + 1}")
