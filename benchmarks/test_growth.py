"""Cost against the number of rows, features and units."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.neural_network
import torch

from benchmarks.data import classification
from benchmarks.limits import dense_limits
from benchmarks.race import OURS, Contender, Outcome, race
from benchmarks.report import Curve, threads_text
from sknets.linear_model import LogisticRegression, Perceptron
from sknets.neural_network import MLPClassifier

_BATCH = 200
_TRAINING = {"batch_size": _BATCH, "tol": 0.0, "random_state": 0}


def _race_sizes(benchmark: Any, runs: dict[str, Callable[[], Any]], rounds: int) -> Outcome:
    """Race the sizes against each other, the first of them timed by pytest-benchmark too."""
    return race(benchmark, [Contender(name, run) for name, run in runs.items()], rounds)


_OURS: dict[str, Callable[[], Any]] = {
    # As many passes as a short fit takes: what a fit costs once is not part of a row's time.
    "MLP": lambda: MLPClassifier((100,), max_iter=10, device="cpu", **_TRAINING),
    "Perceptron": lambda: Perceptron(max_iter=10, tol=None, device="cpu"),
    # So few iterations that each is one pass: where rounding is the limit, one can be fifty.
    "LogisticRegression": lambda: LogisticRegression(max_iter=8, tol=1e-12, device="cpu"),
}


@pytest.mark.parametrize("name", _OURS)
def test_time_a_row_is_flat(benchmark, results, size, threads, name):
    sizes = size([10_000, 30_000, 100_000, 300_000, 1_000_000], [500, 1_000])
    X, y = classification(sizes[-1], 20, 3)
    clfs = {n: _OURS[name]() for n in sizes}
    runs = {str(n): functools.partial(clf.fit, X[:n], y[:n]) for n, clf in clfs.items()}
    outcome = _race_sizes(benchmark, runs, rounds=size(5, 1))
    passes = {n: int(np.max(clf.n_iter_)) for n, clf in clfs.items()}
    times = [1e6 * outcome.median(str(n)) / n / passes[n] for n in sizes]
    spread = max(times) / min(times)
    results.add_claim(
        f"{name}, time a row from n = {sizes[0]} to {sizes[-1]}, on {threads_text(threads)}",
        f"largest over smallest {spread:.2f}",
        "≤ 1.2",
        spread <= 1.2,
    )
    results.add_curve(Curve(f"{name} on {threads_text(threads)}", "rows", sizes, {OURS: times}))


@pytest.mark.parametrize("axis", ["features", "width"])
def test_width(benchmark, results, size, threads, axis):
    n, epochs = size((10_000, 2), (500, 1))
    sizes = size([10, 30, 100, 300, 1_000], [10, 30])
    contenders: dict[str, Callable[[], Any]] = {}
    for value in sizes:
        n_features, hidden = (value, 100) if axis == "features" else (20, value)
        X, y = classification(n, n_features, 3)
        for name, fit in _fits(X, y, hidden, epochs).items():
            contenders[f"{name} {value}"] = fit
    outcome = _race_sizes(benchmark, contenders, rounds=size(3, 1))
    names = list(dict.fromkeys(key.rsplit(" ", 1)[0] for key in contenders))
    times = {
        name: [1e6 * outcome.median(f"{name} {value}") / n / epochs for value in sizes]
        for name in names
    }
    fixed = "20 features" if axis == "width" else "width 100"
    results.add_curve(Curve(f"MLP, {fixed}, on {threads_text(threads)}", axis, sizes, times))


def _fits(X: np.ndarray, y: np.ndarray, hidden: int, epochs: int) -> dict[str, Callable[[], Any]]:
    """Return the fits of one size."""
    settings = {**_TRAINING, "hidden_layer_sizes": (hidden,), "max_iter": epochs}
    ours = MLPClassifier(**settings, device="cpu")
    theirs = sklearn.neural_network.MLPClassifier(**settings)
    widths = (X.shape[1], hidden, 3)
    limits = dense_limits(len(X), widths, _BATCH, epochs, torch.float32, threads=1)
    return {
        OURS: functools.partial(ours.fit, X, y),
        "scikit-learn": functools.partial(theirs.fit, X, y),
        **{limit.name: limit.run for limit in limits},
    }
