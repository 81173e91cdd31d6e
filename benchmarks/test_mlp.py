"""Dense nets, on the closed-form path and on the generic one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sklearn.neural_network
import torch
from sklearn.base import clone

import sknets.neural_network
from benchmarks.contenders import (
    BATCH_SIZE,
    Job,
    each_way,
    exact_epochs,
    fit_skorch,
    fit_tutorial_loop,
    log_loss_of,
    make_mlp,
    way,
)
from benchmarks.data import adult, classification, digits
from benchmarks.limits import dense_limits
from benchmarks.race import NOT_COMPILED, OURS, Agreement, Contender

_BATCH = BATCH_SIZE


def _entrants(
    X: np.ndarray,
    y: np.ndarray,
    hidden: Sequence[int],
    epochs: int,
    dropout: float = 0.0,
    batch_norm: bool = False,
    compile: bool | str = False,
) -> list[Contender]:
    """Return ours, skorch and the loop, on the same net, data and epochs."""
    n_classes = int(y.max()) + 1
    make_module = functools.partial(
        *(make_mlp, X.shape[1], hidden, n_classes, torch.from_numpy(X[:1]).dtype),
        dropout=dropout,
        batch_norm=batch_norm,
    )
    ours = sknets.neural_network.MLPClassifier(
        **exact_epochs(hidden, epochs),
        dropout=dropout,
        normalization="batch" if batch_norm else None,
        device="cpu",
        compile=compile,
    )
    quality, job = log_loss_of(X, y), Job(make_module, X, y, epochs, _BATCH)
    entrants = [
        Contender(OURS, lambda: ours.fit(X, y), quality),
        Contender("skorch", lambda: fit_skorch(job), quality),
        Contender("tutorial loop", lambda: fit_tutorial_loop(job), quality),
    ]
    return entrants + _not_compiled(ours, X, y, quality)


def _not_compiled(clf: Any, X: np.ndarray, y: np.ndarray, quality: Any) -> list[Contender]:
    """Return the same fit without compiled code, if there is some."""
    if not clf.compile:
        return []
    plain = clone(clf).set_params(compile=False)
    return [Contender(NOT_COMPILED, lambda: plain.fit(X, y), quality)]


def _sklearn(X: np.ndarray, y: np.ndarray, hidden: Sequence[int], epochs: int) -> Contender:
    theirs = sklearn.neural_network.MLPClassifier(**exact_epochs(hidden, epochs))
    return Contender("scikit-learn", lambda: theirs.fit(X, y), log_loss_of(X, y))


@each_way
@pytest.mark.parametrize(
    ("hidden", "targets"),
    [
        ((100,), {"scikit-learn": 3, "skorch": 7, "tutorial loop": 5, "limit": 0.5}),
        ((64, 32, 16), {"scikit-learn": 2.8, "skorch": 7, "tutorial loop": 5, "limit": 0.33}),
        ((256, 256), {"scikit-learn": 2, "skorch": 2.2, "tutorial loop": 2, "limit": 0.65}),
    ],
    ids=["100", "64-32-16", "256-256"],
)
def test_digits(run_race, size, threads, hidden, targets, compile):
    X, y = digits()
    epochs = size(30, 5)
    widths = (X.shape[1], *hidden, 10)
    run_race(
        f"MLP digits, hidden {hidden}, {epochs} epochs, float32{way(compile)}",
        [
            *_entrants(X, y, hidden, epochs, compile=compile),
            _sklearn(X, y, hidden, epochs),
            *dense_limits(len(X), widths, _BATCH, epochs, torch.float32, threads),
        ],
        rounds=7,
        agreement=Agreement("training log loss", rel=0.25, abs=0.02),
        targets=targets,
    )


@each_way
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_many_rows(run_race, size, threads, dtype, compile):
    n, epochs = size(50_000, 2_000), 4
    X, y = classification(n, 20, 3, dtype)
    torch_dtype = torch.from_numpy(X[:1]).dtype
    run_race(
        f"MLP {n}×20, 3 classes, hidden (100,), {epochs} epochs, {np.dtype(dtype).name}"
        f"{way(compile)}",
        [
            *_entrants(X, y, (100,), epochs, compile=compile),
            _sklearn(X, y, (100,), epochs),
            *dense_limits(n, (20, 100, 3), _BATCH, epochs, torch_dtype, threads),
        ],
        rounds=5,
        agreement=Agreement("training log loss", rel=0.05),
        targets={"scikit-learn": 2.5, "skorch": 8, "tutorial loop": 6, "limit": 0.3},
    )


@pytest.mark.parametrize(
    ("dense", "compile"),
    [(True, False), (False, False), (True, "numba")],
    ids=["dense", "CSR", "dense-numba"],
)
def test_adult(run_race, size, dense, compile):
    X, y = adult(size(None, 1_000), dense=dense)
    settings = {"random_state": 0, "max_iter": size(200, 5)}
    ours = sknets.neural_network.MLPClassifier(**settings, device="cpu", compile=compile)
    theirs = sklearn.neural_network.MLPClassifier(**settings)
    # Stopped at their own judgement: the loss that the stop is judged by, over the last epoch.
    run_race(
        f"MLP adult {X.shape[0]}×{X.shape[1]} {'dense' if dense else 'CSR'}, defaults, own stop"
        f"{way(compile)}",
        [
            Contender(OURS, lambda: ours.fit(X, y), lambda clf: clf.loss_),
            Contender("scikit-learn", lambda: theirs.fit(X, y), lambda clf: clf.loss_),
            *_not_compiled(ours, X, y, lambda clf: clf.loss_),
        ],
        rounds=3,
        agreement=Agreement("loss at the stop", rel=0.03),
        targets={"scikit-learn": 2.5},
        warmup=False,
    )


@pytest.mark.parametrize(
    ("name", "extras"),
    [("dropout 0.2", {"dropout": 0.2}), ("batch norm", {"batch_norm": True})],
    ids=["dropout", "batch-norm"],
)
def test_generic_path(run_race, size, name, extras):
    X, y = digits()
    epochs = size(30, 5)
    run_race(
        f"MLP digits, hidden (100,), {name}, {epochs} epochs, float32",
        _entrants(X, y, (100,), epochs, **extras),
        rounds=7,
        agreement=Agreement("training log loss", rel=0.25, abs=0.02),
        targets={"skorch": 3, "tutorial loop": 2},
    )
