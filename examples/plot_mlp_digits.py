"""
=========================================================
A multi-layer perceptron: layers, activations, and epochs
=========================================================

Handwritten digits of 8 by 8 pixels, and a network of dense layers. How many layers, of how many
units? Which activation between them? When should training end? And what does the network still get
wrong? Each question has a picture. All answers are taken from validation images; the test images
are looked at once, at the end.
"""

# %%
# Three parts of the data
# -----------------------
#
# Few images are trained on, so that there is something to see.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split

from sknets.neural_network import MLPClassifier

X, y = load_digits(return_X_y=True)
X_rest, X_test, y_rest, y_test = train_test_split(
    X / 16, y, test_size=797, stratify=y, random_state=0
)
X_train, X_val, y_train, y_val = train_test_split(
    X_rest, y_rest, train_size=500, stratify=y_rest, random_state=0
)
print(f"{len(X_train)} to train, {len(X_val)} to validate, {len(X_test)} to test")


def fit(hidden_layer_sizes, activation="relu", n_epochs=40, random_state=0):
    """Return a network trained for `n_epochs`, with the validation images watched."""
    clf = MLPClassifier(
        hidden_layer_sizes,
        activation,
        learning_rate_init=0.005,
        batch_size=50,
        max_iter=n_epochs,
        n_iter_no_change=np.inf,  # all epochs, whatever the loss does
        random_state=random_state,
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # we choose the epochs
        return clf.fit(X_train, y_train, X_val=X_val, y_val=y_val)


# %%
# Layers and activations
# ----------------------
#
# ``hidden_layer_sizes`` lists the units of each hidden layer; an activation bends what comes out of
# each. Of each kind three networks are trained that start from other random weights; in the picture
# a mark is their mean and its bar their range. Too few units cannot tell the digits apart; more
# than enough do no harm here.

layers = {
    "1 of 8": (8,),
    "1 of 32": (32,),
    "1 of 128": (128,),
    "2 of 64": (64, 64),
    "6 of 32": (32,) * 6,
}
looks = {
    "relu": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    "tanh": {"color": "#0072B2", "marker": "s", "linestyle": "--"},
    "gelu": {"color": "#009E73", "marker": "^", "linestyle": "-."},
    "logistic": {"color": "black", "marker": "D", "linestyle": ":"},
}
fits = {
    (name, activation): [fit(sizes, activation, random_state=seed) for seed in range(3)]
    for name, sizes in layers.items()
    for activation in looks
}

fig, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
for shift, (activation, look) in zip((-0.24, -0.08, 0.08, 0.24), looks.items(), strict=True):
    errors = np.array(
        [[min(c.history_["validation_loss"]) for c in fits[name, activation]] for name in layers]
    )
    places = np.arange(len(layers)) + shift
    ax.plot(places, errors.mean(axis=1), **look | {"linestyle": ""}, label=activation)
    ax.vlines(places, errors.min(axis=1), errors.max(axis=1), color=look["color"])
ax.set(
    title="32 units are enough for the digits; six layers stop the logistic function",
    xlabel="hidden layers and their units",
    ylabel="validation loss of the best epoch",
    yscale="log",
)
ax.set_xticks(range(len(layers)), layers)
ax.set_yticks([0.15, 0.2, 0.3, 0.5, 1, 2], ["0.15", "0.2", "0.3", "0.5", "1", "2"])
ax.set_yticks([], minor=True)
ax.grid(axis="y", alpha=0.3)
ax.legend(title="activation", frameon=False, loc="upper center")
plt.show()

# %%
# Why deep networks left the logistic function
# --------------------------------------------
#
# Going backward through a layer, the derivative is multiplied by the slope of the activation. The
# logistic function's is at most 1/4, so after six layers little is left for the first: its weights
# hardly move. The slope of tanh is 1 in the middle, and that of relu is 1 wherever it is not 0.

fig, axes = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True, layout="constrained")
for ax, name in zip(axes, ("1 of 32", "6 of 32"), strict=True):
    for activation, look in looks.items():
        curve = fits[name, activation][0].loss_curve_
        ax.plot(np.arange(1, 41), curve, **look | {"marker": ""}, linewidth=2, label=activation)
    ax.set(title=f"Hidden layers: {name}", xlabel="epoch", yscale="log")
axes[0].set_ylabel("training loss")
axes[0].legend(frameon=False)
fig.suptitle("With six layers the logistic function hardly starts to learn")
plt.show()

# %%
# The best epoch
# --------------
#
# A network gets ever surer of the images that it trains on, as long as it does. On others its loss
# has a minimum: past it, the few mistakes are made with more and more confidence. The accuracy
# counts mistakes without asking how sure they were, and does not fall.
#
# The same ``random_state`` with fewer epochs is the beginning of the same training, so a second fit
# up to the best epoch ends with the weights of that epoch.

long = fit((64, 64, 64), n_epochs=150)
validation_loss = np.array(long.history_["validation_loss"])
best_epoch = 1 + validation_loss.argmin()
best = fit((64, 64, 64), n_epochs=best_epoch)
print(f"validation loss at epoch {best_epoch}: {validation_loss.min():.6f}")
print(f"of the second fit, at its end: {best.history_['validation_loss'][-1]:.6f}")

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.9), layout="constrained")
epochs = np.arange(1, 151)
left.plot(epochs, long.loss_curve_, "--", color="#0072B2", label="training")
left.plot(epochs, validation_loss, "-", color="#D55E00", linewidth=2, label="validation")
left.plot(best_epoch, validation_loss.min(), "o", color="black", label=f"best: {best_epoch}")
left.set(title="Loss", xlabel="epoch", ylabel="mean log loss", ylim=(0, 0.4))
left.legend(frameon=False)
right.plot(epochs, long.history_["validation_score"], "-", color="#D55E00", linewidth=2)
right.axvline(best_epoch, color="black", linewidth=1)
right.set(title="Accuracy on the validation images", xlabel="epoch", ylabel="accuracy")
right.set_ylim(0.85, 1)
fig.suptitle(f"From epoch {best_epoch} on the validation loss rises; the accuracy does not show it")
plt.show()

# %%
# ``early_stopping=True`` does this in one fit, by the accuracy on the validation images: it stops
# when that has not risen for ten epochs, and keeps the weights of the best.

early = MLPClassifier(
    (64, 64, 64),
    learning_rate_init=0.005,
    batch_size=50,
    early_stopping=True,
    random_state=0,
    device="cpu",
).fit(X_train, y_train, X_val=X_val, y_val=y_val)
print(f"stopped after epoch {early.n_iter_}, best accuracy {early.best_validation_score_:.3f}")

# %%
# What is still wrong
# -------------------
#
# Rows of the confusion matrix are what the image shows, columns what the network says. Beside it
# are the mistakes that it is surest of.

proba = best.predict_proba(X_test)
predicted = proba.argmax(axis=1)  # the labels are 0 to 9
wrong = np.flatnonzero(predicted != y_test)
surest = wrong[np.argsort(-proba[wrong].max(axis=1))[:6]]
print(f"accuracy on the test images: {best.score(X_test, y_test):.3f}, {len(wrong)} mistakes")

fig = plt.figure(figsize=(8, 5), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[5, 2.6])
ax = left.subplots()
display = ConfusionMatrixDisplay.from_predictions(
    y_test, predicted, ax=ax, cmap="Blues", colorbar=False
)
for cell in display.text_.flat:
    cell.set_visible(cell.get_text() != "0")
ax.set(title="Confusion matrix", xlabel="network says", ylabel="image shows")
for ax, row in zip(right.subplots(3, 2).flat, surest, strict=True):
    ax.imshow(X_test[row].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"{y_test[row]} taken for {predicted[row]}", fontsize=10)
    ax.set_axis_off()
right.suptitle("Surest mistakes")
fig.suptitle(f"{len(wrong)} of {len(X_test)} test images are taken for another digit")
plt.show()
