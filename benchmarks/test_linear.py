"""Perceptron and logistic regression."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.linear_model
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

import sknets.linear_model
from benchmarks.data import classification, digits, mnist
from benchmarks.limits import linear_limits
from benchmarks.race import LIMIT, OURS, Agreement, Contender


def _pair(
    name: str,
    X: np.ndarray,
    y: np.ndarray,
    quality: Callable[[Any], float],
    calls: int = 1,
    **params: Any,
) -> list[Contender]:
    """Return our estimator and scikit-learn's of the same name and parameters."""
    ours = getattr(sknets.linear_model, name)(**params, device="cpu")
    theirs = getattr(sklearn.linear_model, name)(**params)
    return [
        Contender(OURS, lambda: ours.fit(X, y), quality, calls),
        Contender("scikit-learn", lambda: theirs.fit(X, y), quality, calls),
    ]


def _objective(X: np.ndarray, y: np.ndarray) -> Callable[[Any], float]:
    """Return a function from a fit at C=1 to scikit-learn's objective, over the rows."""

    def quality(clf: Any) -> float:
        logits = torch.from_numpy(X @ clf.coef_.T + clf.intercept_)
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        loss = log_loss(y, logits.softmax(1).numpy(), normalize=False)
        return (loss + 0.5 * float((clf.coef_**2).sum())) / len(X)

    return quality


def _mean_accuracy(X: np.ndarray, y: np.ndarray, n_seeds: int) -> Callable[[Any], float]:
    """Return a function from an estimator to its training accuracy, over shuffles.

    A perceptron's last weights are better or worse by several percent with every shuffle.
    """

    def quality(clf: Any) -> float:
        seeds = range(n_seeds)
        fits = [clone(clf).set_params(random_state=seed).fit(X, y) for seed in seeds]
        return float(np.mean([fit.score(X, y) for fit in fits]))

    return quality


def test_perceptron_mnist(run_race, size):
    X, y = mnist(size(20_000, 1_000))
    run_race(
        f"Perceptron MNIST {len(X)}×784, 5 epochs, n_jobs=None, float32",
        _pair("Perceptron", X, y, _mean_accuracy(X, y, 5), max_iter=5, tol=None),
        rounds=5,
        agreement=Agreement("training accuracy over five shuffles", abs=0.03),
        targets={"scikit-learn": 3.5},
    )


@pytest.mark.parametrize(("name", "target"), [("digits", 1), ("iris", 0.5)])
def test_perceptron_small(run_race, size, name, target):
    X, y = digits() if name == "digits" else load_iris(return_X_y=True)
    run_race(
        f"Perceptron {name} {X.shape[0]}×{X.shape[1]}, default parameters",
        _pair("Perceptron", X, y, _mean_accuracy(X, y, 20), calls=size(5, 1)),
        rounds=7,
        agreement=Agreement("training accuracy over twenty shuffles", abs=0.05),
        targets={"scikit-learn": target},
    )


def test_logistic_mnist(run_race, size, threads):
    X, y = mnist(size(20_000, 1_000))
    X = X.astype(np.float64)
    pair = _pair("LogisticRegression", X, y, _objective(X, y), max_iter=size(100, 20))

    def evaluations(fits: dict[str, Any]) -> float:
        return min(fits[c.name].n_iter_.max() for c in pair) / passes

    passes = size(10, 2)
    limits = linear_limits(torch.from_numpy(X), 10, passes, threads, scale=evaluations)
    run_race(
        f"LogisticRegression lbfgs, MNIST {len(X)}×784, float64, same tol",
        [*pair, *limits],
        rounds=3,
        agreement=Agreement("objective", rel=5e-3),
        targets={"scikit-learn": 2.5, LIMIT: 0.5},
        warmup=False,
    )


def test_logistic_many_rows(run_race, size):
    n = size(1_000_000, 10_000)
    X, y = classification(n, 20, 2, np.float64)
    ours = _fastest(
        X, y, sknets.linear_model.LogisticRegression, ["lbfgs", "newton-cholesky"], device="cpu"
    )
    theirs = _fastest(
        *(X, y, sklearn.linear_model.LogisticRegression),
        ["lbfgs", "newton-cholesky", "newton-cg", "liblinear"],
    )
    run_race(
        f"LogisticRegression {n}×20 binary, best solver each: {ours.solver} against "
        f"{theirs.solver}, float64",
        [
            Contender(OURS, lambda: ours.fit(X, y), _objective(X, y)),
            Contender("scikit-learn", lambda: theirs.fit(X, y), _objective(X, y)),
        ],
        rounds=5,
        agreement=Agreement("objective", rel=1e-4),
        targets={"scikit-learn": 2},
    )


def _fastest(
    X: np.ndarray, y: np.ndarray, make: Callable[..., Any], solvers: list[str], **params: Any
) -> Any:
    """Return the estimator with the solver that was fastest in two fits."""

    def seconds(clf: Any) -> float:
        times = []
        for _ in range(2):
            start = time.perf_counter()
            clf.fit(X, y)
            times.append(time.perf_counter() - start)
        return min(times)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return min((make(solver=solver, **params) for solver in solvers), key=seconds)


@pytest.mark.parametrize("load", [load_breast_cancer, load_iris], ids=["breast cancer", "iris"])
def test_logistic_small(run_race, size, load):
    X, y = load(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    name = load.__name__.removeprefix("load_").replace("_", " ")
    run_race(
        f"LogisticRegression {name} {X.shape[0]}×{X.shape[1]} standardised, default parameters",
        _pair("LogisticRegression", X, y, _objective(X, y), calls=size(10, 1)),
        rounds=7,
        agreement=Agreement("objective", rel=5e-3),
        targets={"scikit-learn": 0.9},
    )
