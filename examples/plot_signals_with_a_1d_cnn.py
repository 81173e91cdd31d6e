"""
Signals: a 1-D CNN that finds an event, wherever it comes
=========================================================

Somewhere in a noisy recording a tone comes and goes. Does its pitch rise, fall or stay? A dense net
has to learn the answer anew for each place at which the tone may begin.
:class:`~sknets.neural_network.CNNClassifier` slides the same few kernels along the signal and asks
only whether one of them has found something, anywhere.
"""

# %%
# Three kinds of events
# ---------------------
#
# All three tones have the same length and loudness, and begin anywhere with any phase. Rising and
# falling tones even have the same spectrum: it is the order in time that tells them apart.

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknets import CNNClassifier, LogisticRegression, MLPClassifier

LENGTH, EVENT = 128, 40  # samples of a recording, and of the tone in it
PITCHES = {"rising": (0.05, 0.25), "falling": (0.25, 0.05), "steady": (0.15, 0.15)}
COLOURS = {"rising": "#D55E00", "falling": "#0072B2", "steady": "#009E73"}
KINDS = list(PITCHES)


def make_recordings(n_samples, noise, rng):
    """Return recordings (n_samples, LENGTH), their kinds as 0, 1, 2, and where the tones begin."""
    y = rng.integers(3, size=n_samples)
    starts = rng.integers(0, LENGTH - EVENT + 1, size=n_samples)
    phases = rng.uniform(0, 2 * np.pi, size=(n_samples, 1))
    pitches = np.array([np.linspace(*PITCHES[kind], EVENT) for kind in KINDS])  # cycles a sample
    tones = np.sin(2 * np.pi * np.cumsum(pitches, axis=1)[y] + phases)
    tones *= np.sin(np.linspace(0, np.pi, EVENT)) ** 2  # it swells and dies away
    X = rng.normal(scale=noise, size=(n_samples, LENGTH))
    X[np.arange(n_samples)[:, None], starts[:, None] + np.arange(EVENT)] += tones
    return X.astype(np.float32), y, starts


rng = np.random.default_rng(0)
X_train, y_train, _ = make_recordings(2000, 0.35, rng)
X_test, y_test, starts_test = make_recordings(1000, 0.35, rng)
shown = [np.flatnonzero(y_test == label)[0] for label in range(3)]


def shade_event(ax, row):
    """Draw where the tone is."""
    start = starts_test[row]
    ax.axvspan(start, start + EVENT - 1, color=COLOURS[KINDS[y_test[row]]], alpha=0.2, linewidth=0)


fig, axes = plt.subplots(3, 1, figsize=(8, 4.6), sharex=True, sharey=True, layout="constrained")
for ax, row in zip(axes, shown, strict=True):
    shade_event(ax, row)
    ax.plot(X_test[row], color="black", linewidth=0.9)
    ax.set_ylabel(KINDS[y_test[row]])
    ax.margins(x=0)
axes[-1].set_xlabel("time (samples)")
fig.suptitle("A tone (shaded) in noise: rising, falling or steady?")
plt.show()

# %%
# The net
# -------
#
# A table of shape (n_samples, length) holds signals of one channel; no ``input_shape`` is needed.
# Two convolutional layers: the first has eight kernels of 15 samples, the second combines what they
# find. Its pooling window is as long as the signal: each of its channels says how strongly it was
# excited on average, at whatever time, and the logits are weighted sums of that.

cnn = CNNClassifier(
    (8, 16),
    kernel_size=(15, 11),
    pool=("max", "avg"),
    pool_size=(2, LENGTH),
    hidden_layer_sizes=(),
    learning_rate_init=0.02,
    max_iter=500,
    tol=0.005,
    n_iter_no_change=5,
    random_state=0,
    device="cpu",
)
dense = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "MLP": make_pipeline(
        StandardScaler(), MLPClassifier((64,), max_iter=500, random_state=0, device="cpu")
    ),
}
cnn.fit(X_train, y_train)
tones = {"CNN": cnn.score(X_test, y_test)}
for name, model in dense.items():
    tones[name] = model.fit(X_train, y_train).score(X_test, y_test)
for name, accuracy in tones.items():
    print(f"{name:20} test accuracy {accuracy:.3f}")

# %%
# What the kernels listen to
# --------------------------
#
# The spectrum of each of the eight kernels. Nobody told the net of pitches, yet most kernels have
# become filters for a band of them: short waves, in tune with some moment of the tones.

kernels = cnn.module_.features.conv1.weight.detach()[:, 0].numpy()  # (8, 15)
frequencies = np.fft.rfftfreq(256)
spectra = np.abs(np.fft.rfft(kernels, 256))
spectra /= spectra.max(axis=1, keepdims=True)
order = np.argsort(frequencies[spectra.argmax(axis=1)])

fig, axes = plt.subplots(2, 8, figsize=(9, 3.6), sharex="row", sharey="row", layout="constrained")
for (top, bottom), channel in zip(axes.T, order, strict=True):
    top.plot(kernels[channel], color="black", linewidth=1.5)
    top.axhline(0, color="grey", linewidth=0.6)
    bottom.fill_between(frequencies, spectra[channel], color="#0072B2", alpha=0.35, linewidth=0)
    bottom.plot(frequencies, spectra[channel], color="#0072B2")
    bottom.axvspan(0.05, 0.25, color="#E69F00", alpha=0.2, linewidth=0)
    top.set_title(f"channel {channel}", fontsize=9)
    top.set(xticks=[0, 14], xlim=(0, 14))
    bottom.set(xticks=[0, 0.25, 0.5], xticklabels=["0", "¼", "½"], xlim=(0, 0.5), ylim=(0, 1.1))
axes[0, 0].set_ylabel("weight")
axes[1, 0].set_ylabel("amplitude\n(largest = 1)")
fig.supxlabel("above: time (samples); below: frequency (cycles a sample)", fontsize=10)
fig.suptitle("Eight learnt kernels: band-pass filters for the pitches of the tones (shaded)")
plt.show()

# %%
# Where the evidence is
# ---------------------
#
# Without the last pooling the same weights give logits for each moment, and the net's logits are
# their means over time (Zhou et al., "Learning deep features for discriminative localization",
# 2016). So a curve says how much each moment speaks for a kind. The net was trained on kinds alone,
# and yet it knows the place. Shown is the first recording of each kind that it gets right.


def evidence(X):
    """Return what each moment says for each kind: (n_samples, kinds, moments)."""
    features, last = cnn.module_.features, cnn.module_.classifier
    values = torch.from_numpy(X[:, None])
    with torch.no_grad():
        for name, layer in features.named_children():
            if name != "pool2":
                values = layer(values)  # (n_samples, channels, moments)
        return last(values.movedim(1, -1)).movedim(-1, 1).numpy()


moments = np.arange(LENGTH // 2) * 2 + 0.5  # the first pooling halved the time axis
speaks = evidence(X_test)
predicted = cnn.predict(X_test)
shown = [np.flatnonzero((y_test == label) & (predicted == label))[0] for label in range(3)]
fig, axes = plt.subplots(3, 1, figsize=(8, 5), sharex=True, sharey=True, layout="constrained")
for ax, row in zip(axes, shown, strict=True):
    shade_event(ax, row)
    for kind, line, values in zip(KINDS, ("-", "--", ":"), speaks[row], strict=True):
        ax.plot(moments, values, line, color=COLOURS[kind], label=f"for {kind}")
    ax.set_ylabel(KINDS[y_test[row]])
    ax.margins(x=0)
axes[-1].set_xlabel("time (samples)")
fig.supylabel("logit of a moment")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
fig.suptitle("The evidence for a tone's kind peaks inside the tone (shaded)")
plt.show()

difference = np.abs(speaks.mean(axis=-1) - cnn.decision_function(X_test)).max()
print(f"largest difference of the means from the net's own logits: {difference:.0e}")
peaks = moments[speaks[np.arange(len(X_test)), predicted].argmax(axis=1)]
inside = (peaks >= starts_test) & (peaks < starts_test + EVENT)
print(f"the strongest evidence lies inside the tone in {inside.mean():.1%} of the recordings")

# %%
# Real recordings, where they are at hand
# ---------------------------------------
#
# ``SKNETS_DATA`` may name a folder with two sets of the UCR and UEA archives: twelve cepstral
# coefficients of nine speakers who say the same vowel, and a day of Italy's demand for electricity
# in winter or summer, by the hour. There every recording begins at the same moment, and a linear
# model has nothing to search for: it does as well as a CNN. What slides along the time axis is
# worth its price where the event may come at any time.


def load_signals(path):
    """Return X_train, X_test, y_train, y_test; X is (n_samples, channels, length)."""
    stored = np.load(path)
    X, y, n_train = stored["X"], stored["y"], int(stored["n_train"])
    mean = X[:n_train].mean(axis=(0, 2), keepdims=True)
    scale = X[:n_train].std(axis=(0, 2), keepdims=True)
    X = (X - mean) / scale  # a channel's own mean and scale
    return X[:n_train], X[n_train:], y[:n_train], y[n_train:]


scores = {"tones at any time": tones}
folder = Path(os.environ.get("SKNETS_DATA", "")) / "signals"
for title, file in (("nine speakers", "japanese_vowels"), ("power demand", "italy_power")):
    path = folder / f"{file}.npz"
    if not path.exists():
        print(f"{title}: not at hand")
        continue
    X_a, X_b, y_a, y_b = load_signals(path)
    real = CNNClassifier((32, 32), kernel_size=5, input_shape=X_a.shape[1:], random_state=0)
    scores[title] = {"CNN": real.fit(X_a, y_a).score(X_b, y_b)}
    for name, model in dense.items():
        model.fit(X_a.reshape(len(X_a), -1), y_a)
        scores[title][name] = model.score(X_b.reshape(len(X_b), -1), y_b)

bars = {"CNN": ("#0072B2", ""), "MLP": ("#E69F00", "//"), "logistic regression": ("#999999", "..")}
fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
for place, (name, (colour, hatch)) in enumerate(bars.items()):
    heights = [results[name] for results in scores.values()]
    drawn = ax.bar(
        np.arange(len(scores)) + 0.27 * (place - 1),
        heights,
        width=0.25,
        color=colour,
        hatch=hatch,
        edgecolor="white",
        label=name,
    )
    ax.bar_label(drawn, fmt="%.2f", padding=2)
ax.set(
    xticks=range(len(scores)),
    xticklabels=list(scores),
    xlabel="recordings",
    ylabel="accuracy on the test recordings",
    ylim=(0, 1.1),
    title="A CNN pays where the event may come at any time",
)
fig.legend(loc="outside lower center", ncols=3)
plt.show()
