"""
Two small CNNs: what they see, and what moving an image does to them
====================================================================

A convolution looks at every place of an image with the same few weights. So a digit that moves
takes its feature maps along, unchanged. What the classifier makes of them depends on what comes
after the convolutions: this example fits two nets that differ there alone, looks inside one of
them, and then moves the images under both and under an MLP.
"""

# %%
# Digits on a larger sheet
# ------------------------
#
# The 8 by 8 digits of scikit-learn fill their frame. Four empty pixels on each side give them
# room to move, and every training image lies in the middle.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from sknets import CNNClassifier, MLPClassifier
from sknets.datasets import fetch_mnist


def add_margin(images, width):
    """Return the images with so many empty pixels on each side."""
    return np.pad(images, ((0, 0), (width, width), (width, width)))


digits = load_digits()
images = add_margin(digits.images.astype(np.float32) / 16, width=4)
X_train, X_test, y_train, y_test = train_test_split(
    images, digits.target, stratify=digits.target, random_state=0
)
print(f"training images: {X_train.shape}")

# %%
# Two nets and an MLP
# -------------------
#
# Both CNNs have two convolutional layers with 8 and 32 channels. The first halves its maps twice
# and hands *all places* of the rest to its dense layers. The second takes the largest value of
# each map (a pooling window larger than the map is the whole of it): it knows *what* it has seen,
# not *where*.


def make_nets(max_iter):
    """Return the three classifiers, whose training is alike."""
    training = {
        "learning_rate_init": 0.005,
        "max_iter": max_iter,
        "random_state": 0,
        "device": "cpu",
    }
    cnn = {"conv_channels": (8, 32), "kernel_size": (3, 5), "hidden_layer_sizes": (32,)}
    return {
        "CNN, all places": CNNClassifier(**cnn, pool_size=2, **training),
        "CNN, largest of each map": CNNClassifier(**cnn, pool_size=(2, 99), **training),
        "MLP": MLPClassifier((64,), **training),
    }


def as_input(name, X):
    """Return the images as this net takes them: the MLP's are flat rows."""
    return X.reshape(len(X), -1) if name == "MLP" else X


def fit_all(nets, X, y):
    """Fit each net for so many epochs, converged or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return {name: net.fit(as_input(name, X), y) for name, net in nets.items()}


nets = fit_all(make_nets(max_iter=25), X_train, y_train)
for name, net in nets.items():
    n_weights = sum(p.numel() for p in net.module_.parameters())
    accuracy = net.score(as_input(name, X_test), y_test)
    print(f"{name:25} {n_weights:6} weights, test accuracy {accuracy:.3f}")

# %%
# Shapes, layer by layer
# ----------------------
#
# ``module_`` is an ordinary :class:`torch.nn.Module`: its convolutional part can be walked through
# layer by layer. A shape is (images, channels, height, width).

for name in ("CNN, all places", "CNN, largest of each map"):
    values = torch.from_numpy(X_test[:1, None])
    print(f"\n{name}\n{'image':12} {tuple(values.shape)}")
    with torch.no_grad():
        for layer_name, layer in nets[name].module_.features.named_children():
            values = layer(values)
            print(f"{layer_name:12} {tuple(values.shape)}")

# %%
# Filters, feature maps, and what moves
# -------------------------------------
#
# The first layer's eight filters, what each makes of a digit, and what it makes of the same digit
# three pixels to the right. The maps move by three pixels and are otherwise the same numbers.


def shift(images, pixels):
    """Return the images moved to the right; the empty paper that leaves there comes in again."""
    return np.roll(images, pixels, axis=-1)


def feature_maps(net, image):
    """Return what the first convolution and its activation make of an image."""
    features = net.module_.features
    with torch.no_grad():
        maps = features.activation1(features.conv1(torch.from_numpy(image[None, None])))
    return maps[0].numpy()


cnn = nets["CNN, largest of each map"]
filters = cnn.module_.features.conv1.weight.detach()[:, 0].numpy()  # (8, 3, 3)
image = X_test[np.flatnonzero(y_test == 4)[0]]
moved = shift(image, 3)
maps, moved_maps = feature_maps(cnn, image), feature_maps(cnn, moved)
print(f"largest difference: {np.abs(shift(maps, 3) - moved_maps).max():.1e}")

fig, axes = plt.subplots(3, 9, figsize=(9, 3.6), layout="constrained")
axes[0, 0].axis("off")
strongest = np.abs(filters).max()
for ax, weights in zip(axes[0, 1:], filters, strict=True):
    drawn = ax.imshow(weights, cmap="PuOr", vmin=-strongest, vmax=strongest)
for row, picture, channels in ((1, image, maps), (2, moved, moved_maps)):
    axes[row, 0].imshow(picture, cmap="gray_r")
    for ax, channel in zip(axes[row, 1:], channels, strict=True):
        ax.imshow(channel, cmap="cividis", vmin=0, vmax=maps.max())
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
for channel, ax in enumerate(axes[0, 1:]):
    ax.set_title(f"channel {channel}", fontsize=9)
for ax, label in zip(axes[:, 0], ("", "image", "moved by 3"), strict=True):
    ax.set_ylabel(label)
axes[0, 1].set_ylabel("filter")
fig.colorbar(drawn, ax=axes[0], label="weight")
fig.suptitle("The image moves, and its feature maps move with it")
plt.show()

# %%
# What moving the images does to the classifiers
# ----------------------------------------------
#
# All test images are moved by the same number of pixels, and the nets, which saw centred digits
# alone, are scored again. Where MNIST is at hand (see :func:`~sknets.datasets.fetch_mnist`), a
# second panel repeats it there, on ten thousand training images.


def load_mnist():
    """Return MNIST with a margin: X_train, X_test, y_train, y_test."""
    mnist = fetch_mnist(download_if_missing=False)
    images = add_margin(mnist.images.astype(np.float32) / 255, width=2)
    train, test = mnist.train_indices[:10_000], mnist.test_indices[:1000]
    return images[train], images[test], mnist.target[train], mnist.target[test]


data = {"digits": (nets, X_test, y_test, np.arange(-4, 5))}
try:
    X_mnist, X_mnist_test, y_mnist, y_mnist_test = load_mnist()
except OSError:
    print("MNIST is not at hand: the digits alone.")
else:
    mnist_nets = fit_all(make_nets(max_iter=4), X_mnist, y_mnist)
    data["MNIST"] = (mnist_nets, X_mnist_test, y_mnist_test, np.arange(-6, 7))

looks = {
    "CNN, largest of each map": {"color": "#0072B2", "marker": "o"},
    "CNN, all places": {"color": "#E69F00", "marker": "s"},
    "MLP": {"color": "#000000", "marker": "^", "linestyle": "--"},
}
fig, axes = plt.subplots(1, len(data), figsize=(9, 4.4), squeeze=False, layout="constrained")
for ax, (source, (classifiers, X, y, steps)) in zip(axes[0], data.items(), strict=True):
    for name, look in looks.items():
        scores = [classifiers[name].score(as_input(name, shift(X, pixels)), y) for pixels in steps]
        ax.plot(steps, scores, label=name, **look)
        print(f"{source:6} {name:25} {np.round(scores, 2)}")
    ax.axhline(0.1, color="grey", linestyle=":", label="guessing")
    ax.set(title=source, xlabel="pixels to the right", ylabel="accuracy", ylim=(0, 1.02))
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
fig.suptitle("Trained on centred digits: the MLP is lost after two pixels, a pooled CNN is not")
plt.show()

# %%
# The MLP has a weight for each pixel, so a moved digit is a new picture to it. The convolutions of
# the first CNN still find the strokes, but its dense layers expect them in their places. The second
# CNN hardly minds. What it loses, it loses in the first pooling, whose two by two windows lie on a
# fixed lattice: a move by an even number of pixels moves whole windows, while an odd one cuts the
# strokes in another way, which the coarse strokes of the 8 by 8 digits do not survive as well as
# the finer ones of MNIST.
