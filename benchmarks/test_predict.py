"""Probabilities of one row and of many."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import sklearn.neural_network
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

import sknets.neural_network
from benchmarks.contenders import Job, fit_skorch, make_mlp
from benchmarks.data import classification
from benchmarks.race import OURS, Agreement, Contender


@pytest.mark.parametrize(
    ("n", "targets"),
    [(1, {"scikit-learn": 0.9, "skorch": 3}), (100_000, {"scikit-learn": 1.5, "skorch": 3})],
    ids=["one row", "many rows"],
)
def test_predict_proba(run_race, size, n, targets):
    n = size(n, min(n, 2_000))
    X_train, y_train = classification(2_000, 64, 10)
    X = np.tile(X_train, (n // 2_000 + 1, 1))[:n]
    settings = {"hidden_layer_sizes": (100,), "max_iter": 2, "random_state": 0}
    ours = sknets.neural_network.MLPClassifier(**settings, device="cpu")
    theirs = sklearn.neural_network.MLPClassifier(**settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours.fit(X_train, y_train)
        theirs.fit(X_train, y_train)
    make_module = functools.partial(make_mlp, 64, (100,), 10)
    net = fit_skorch(Job(make_module, X_train, y_train, 1, 200))
    _give_weights(theirs, net.module_)

    entrants = {OURS: ours, "scikit-learn": theirs, "skorch": net}
    run_race(
        f"predict_proba, MLP 64-100-10, {n} row{'s' if n > 1 else ''}, float32",
        [
            Contender(name, functools.partial(model.predict_proba, X), _mean_largest, _calls(n))
            for name, model in entrants.items()
        ],
        rounds=7,
        agreement=Agreement("mean of the largest probability", abs=1e-3),
        targets=targets,
    )


def _calls(n: int) -> int:
    return 300 if n == 1 else 1


def _mean_largest(proba: np.ndarray) -> float:
    return float(proba.max(axis=1).mean())


@torch.no_grad()
def _give_weights(clf: sklearn.neural_network.MLPClassifier, module: nn.Module) -> None:
    """Copy scikit-learn's weights into the module, so that all have the same net."""
    layers = [layer for layer in module if isinstance(layer, nn.Linear)]
    for layer, coef, intercept in zip(layers, clf.coefs_, clf.intercepts_, strict=True):
        layer.weight.copy_(torch.from_numpy(coef.T))
        layer.bias.copy_(torch.from_numpy(intercept))
