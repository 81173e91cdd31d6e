"""
Mixed columns, a rare class, and probabilities to be trusted
============================================================

A network is one step of a scikit-learn pipeline like any other: numbers are scaled, categories
become indicator columns, gaps are filled, all inside the cross-validation. When one class is rare,
``class_weight="balanced"`` makes the net find more of it. This example shows what that costs (its
probabilities are no longer true), why, and how :class:`~sklearn.calibration.CalibratedClassifierCV`
gets them back.
"""

# %%
# The data
# --------
#
# Adult, the census of 1994 with 32 561 people of whom a quarter earned more than 50 000 dollars, is
# read where it is at hand: ``SKNETS_DATA`` names a folder that has ``tabular/adult.npz``. Otherwise
# scikit-learn's diabetes patients do as well, if less smoothly, for being only 442: the rare class
# is the fifth whose disease progressed most.

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.impute import SimpleImputer
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    precision_recall_curve,
    precision_score,
    recall_score,
)
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sknets import MLPClassifier


def load_adult(path):
    """Return a frame of numbers and categories, and whether the income is above 50 000."""
    stored = np.load(path)
    frame = pd.DataFrame(stored["X"], columns=stored["feature_names"])
    categories = list(frame.columns[stored["cat"]])
    return frame.astype(dict.fromkeys(categories, "category")), stored["y"]


def load_fast_progress():
    """Return the diabetes patients, and whether they are in the worst fifth."""
    frame, progress = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    rare = progress > np.quantile(progress, 0.8)
    return frame.astype({"sex": "category"}), rare.to_numpy().astype(int)


adult = Path(os.environ.get("SKNETS_DATA", "")) / "tabular" / "adult.npz"
X, y = load_adult(adult) if adult.exists() else load_fast_progress()
print(X.dtypes.astype(str).value_counts().to_string())
print(f"{len(X)} rows, {X.isna().any(axis=1).sum()} of them with gaps; rare class: {y.mean():.1%}")

# %%
# The pipelines
# -------------
#
# Four classifiers behind the same columns. They differ in nothing but the weights and what is done
# about them.

numbers = make_pipeline(SimpleImputer(), StandardScaler())
categories = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=20)
columns = make_column_transformer(
    (numbers, make_column_selector(dtype_include="number")),
    (categories, make_column_selector(dtype_include="category")),
)
settings = {
    "hidden_layer_sizes": (32,),
    "alpha": 0.1,
    "tol": 1e-3,
    "n_iter_no_change": 3,
    "random_state": 0,
}
plain = MLPClassifier(**settings)
balanced = MLPClassifier(**settings, class_weight="balanced")
calibrated = CalibratedClassifierCV(balanced, method="sigmoid", ensemble=False, cv=3)

folds = StratifiedKFold(5, shuffle=True, random_state=0)


def probability(classifier):
    """Return each row's probability of the rare class, from a fit that has not seen the row."""
    pipeline = make_pipeline(columns, classifier)
    return cross_val_predict(pipeline, X, y, method="predict_proba", cv=folds)[:, 1]


proba = {
    "plain": probability(plain),
    "balanced": probability(balanced),
    "balanced, then calibrated": probability(calibrated),
}

# %%
# Undone by hand
# --------------
#
# "balanced" gives a row of the rare class the weight :math:`n / 2n_1` and any other
# :math:`n / 2n_0`. The net then learns the odds of a population in which the classes are equally
# common: the true odds times :math:`n_0 / n_1`. So dividing by that ratio undoes it. In logits it
# is a shift, which sigmoid calibration has no difficulty to learn.

ratio = np.sum(y == 0) / np.sum(y == 1)
p = proba["balanced"]
proba["balanced, odds divided"] = p / (p + ratio * (1 - p))

print(f"{'':26} mean  recall  precision  balanced acc.  Brier score")
for name, p in proba.items():
    found = p > 0.5
    print(
        f"{name:26} {p.mean():.2f}  {recall_score(y, found):6.2f}  {precision_score(y, found):9.2f}"
        f"  {balanced_accuracy_score(y, found):13.2f}  {brier_score_loss(y, p):11.3f}"
    )

# %%
# What the probabilities are worth
# --------------------------------
#
# Rows are sorted into ten bins by their probability. If it can be trusted, the share of rare rows
# in a bin is the bin's mean probability.

looks = {
    "plain": {"color": "#000000", "marker": "o", "linestyle": "-"},
    "balanced": {"color": "#D55E00", "marker": "s", "linestyle": "-"},
    "balanced, then calibrated": {"color": "#0072B2", "marker": "^", "linestyle": "-"},
    "balanced, odds divided": {"color": "#56B4E9", "marker": "v", "linestyle": "--"},
}

fig, ax = plt.subplots(figsize=(7.5, 5), layout="constrained")
ax.plot([0, 1], [0, 1], ":", color="grey", label="to be trusted")
for name, p in proba.items():
    share, mean = calibration_curve(y, p, n_bins=10, strategy="quantile")
    ax.plot(mean, share, label=name, **looks[name])
ax.set(
    title="Balanced weights promise too much; calibration keeps the promise",
    xlabel="mean probability in the bin",
    ylabel="share of the rare class in the bin",
)
ax.legend()
plt.show()

# %%
# What the weights bought
# -----------------------
#
# Every threshold on the probability gives a precision and a recall. The curves of all four nearly
# coincide: weights did not make a better net. They moved the point at which "more probable than
# not" cuts the curve. A threshold on the plain net's probabilities gets there too
# (:class:`~sklearn.model_selection.TunedThresholdClassifierCV` chooses one), and leaves the
# probabilities as they were.

fig, ax = plt.subplots(figsize=(7.5, 5), layout="constrained")
for name, p in proba.items():
    precision, recall, thresholds = precision_recall_curve(y, p)
    half = np.searchsorted(thresholds, 0.5)
    label = f"{name} (average precision {average_precision_score(y, p):.2f})"
    mark = {"markevery": [half], "markersize": 10, "markeredgecolor": "white"}
    ax.plot(recall, precision, linewidth=1, label=label, **mark, **looks[name])
ax.set(
    title="Class weights move the point at probability 0.5 (marks), not the curve",
    xlabel="recall: share of the rare class that is found",
    ylabel="precision: share of what is found that is rare",
    xlim=(-0.02, 1.02),
    ylim=(0, 1.02),
)
ax.legend(loc="lower left")
plt.show()
