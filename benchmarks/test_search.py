"""Searches: all candidates and folds in stacks, against scikit-learn's search."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import sklearn.linear_model
import sklearn.neural_network
import torch
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, ShuffleSplit
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier  # noqa: TID251 - a contender
from torch import nn

from benchmarks.contenders import BATCH_SIZE, each_way, exact_epochs, make_mlp, way
from benchmarks.data import digits, mnist, table
from benchmarks.race import NOT_COMPILED, OURS, Agreement, Contender, race
from benchmarks.report import Curve, threads_text
from sknets.linear_model import LogisticRegression, Perceptron
from sknets.model_selection import VectorizedGridSearchCV, VectorizedRandomizedSearchCV
from sknets.neural_network import MLPClassifier

_BATCH = BATCH_SIZE


def mean_score(search: Any) -> float:
    """Return the mean over all candidates of their scores."""
    return float(search.cv_results_["mean_test_score"].mean())


def _contender(name: str, search: Any, X: np.ndarray, y: np.ndarray) -> Contender:
    return Contender(name, lambda: clone(search).fit(X, y), mean_score)


def _skorch(X: np.ndarray, y: np.ndarray, hidden: tuple[int, ...], epochs: int) -> Any:
    """Return skorch's net with its defaults, except for what makes it the same job."""
    make_module = functools.partial(
        make_mlp, X.shape[1], hidden, int(y.max()) + 1, torch.from_numpy(X[:1]).dtype
    )
    return NeuralNetClassifier(
        make_module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        max_epochs=epochs,
        batch_size=_BATCH,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


@each_way
@pytest.mark.parametrize(
    ("hidden", "targets"),
    [
        ((100,), {"scikit-learn": 4.5, "skorch": 12}),
        ((64, 32, 16), {"scikit-learn": 3, "skorch": 12}),
    ],
    ids=["100", "64-32-16"],
)
def test_search_mlp(run_race, size, hidden, targets, compile):
    X, y = digits()
    epochs, folds = size((30, 5), (15, 2))
    rates, alphas = [1e-3, 3e-3, 1e-2], [1e-5, 1e-4, 1e-3]
    grid = {"learning_rate_init": rates, "alpha": alphas}
    net = _skorch(X, y, hidden, epochs)
    # scikit-learn divides its penalty by the rows of a batch.
    skorch_grid = {"lr": rates, "optimizer__weight_decay": [alpha / _BATCH for alpha in alphas]}
    training = exact_epochs(hidden, epochs)
    mlp = MLPClassifier(**training, device="cpu", compile=compile)
    ours = VectorizedGridSearchCV(mlp, grid, cv=folds)
    plain = clone(ours).set_params(estimator__compile=False)
    theirs = GridSearchCV(
        sklearn.neural_network.MLPClassifier(**training), grid, cv=folds, n_jobs=2
    )
    run_race(
        f"Search, MLP digits {hidden}, 3 rates × 3 alphas × {folds} folds, {epochs} epochs"
        f"{way(compile)}",
        [
            _contender(OURS, ours, X, y),
            _contender("scikit-learn", theirs, X, y),
            _contender("skorch", GridSearchCV(net, skorch_grid, cv=folds), X, y),
            *([_contender(NOT_COMPILED, plain, X, y)] if compile else []),
        ],
        rounds=3,
        # skorch draws other weights.
        agreement=Agreement("mean test accuracy", abs=size(0.02, 0.1)),
        targets=targets,
    )


def _logistic_data(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return X / 16, y
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@each_way
@pytest.mark.parametrize("name", ["breast cancer", "digits"])
def test_search_logistic(run_race, size, name, compile):
    X, y = _logistic_data(name)
    n_values, folds = size((20, 10), (3, 3))
    grid = {"C": np.logspace(-4, 4, n_values)}  # the range of LogisticRegressionCV
    logistic = LogisticRegression(device="cpu", compile=compile)
    ours = VectorizedGridSearchCV(logistic, grid, cv=folds)
    plain = clone(ours).set_params(estimator__compile=False)
    theirs = GridSearchCV(sklearn.linear_model.LogisticRegression(), grid, cv=folds, n_jobs=2)
    run_race(
        f"Search, LogisticRegression {name} {X.shape[0]}×{X.shape[1]}, {n_values} C × "
        f"{folds} folds, default tol, float64{way(compile)}",
        [
            _contender(OURS, ours, X, y),
            _contender("scikit-learn", theirs, X, y),
            *([_contender(NOT_COMPILED, plain, X, y)] if compile else []),
        ],
        rounds=size(7, 2),
        # Both take the same steps; rounding may put a row or two on the other side.
        agreement=Agreement("mean test accuracy", abs=1e-4),
        targets={"scikit-learn": 5},
    )


def test_search_perceptron(run_race, size):
    X, y = mnist(size(6_000, 1_000))
    grid = {"eta0": [0.1, 1.0, 10.0], "tol": [1e-2, 1e-3, 1e-4]}
    ours = VectorizedGridSearchCV(Perceptron(max_iter=10, device="cpu"), grid, cv=3)
    theirs = GridSearchCV(sklearn.linear_model.Perceptron(max_iter=10), grid, cv=3, n_jobs=2)
    run_race(
        f"Search, Perceptron MNIST {len(X)}×784, 3 rates × 3 tols × 3 folds, float32",
        [_contender(OURS, ours, X, y), _contender("scikit-learn", theirs, X, y)],
        rounds=3,
        agreement=Agreement("mean test accuracy", abs=0.03),
        targets={},
    )


def test_search_randomized(run_race, size):
    X, y = table("satimage")
    n_candidates, epochs = size((200, 10), (4, 1))
    settings = {"learning_rate_init": loguniform(1e-4, 1e-1), "alpha": loguniform(1e-6, 1e-1)}
    training = exact_epochs((50,), epochs)
    given = {"n_iter": n_candidates, "cv": 3, "random_state": 0}
    ours = VectorizedRandomizedSearchCV(MLPClassifier(**training, device="cpu"), settings, **given)
    theirs = RandomizedSearchCV(
        sklearn.neural_network.MLPClassifier(**training), settings, n_jobs=2, **given
    )
    run_race(
        f"Randomized search, MLP satimage {X.shape[0]}×{X.shape[1]} (50,), {n_candidates} "
        f"candidates × 3 folds, {epochs} epochs, float32",
        [_contender(OURS, ours, X, y), _contender("scikit-learn", theirs, X, y)],
        rounds=3,
        agreement=Agreement("mean test accuracy", abs=2e-3),
        targets={"scikit-learn": 3},
        warmup=False,
    )


def test_cost_a_net(benchmark, results, size, threads):
    """Time one net of a stack of 1 to 64: it falls as the stack grows."""
    X, y = digits()
    epochs, sizes = size((30, [1, 2, 4, 8, 16, 32, 64]), (2, [1, 2]))
    fold = ShuffleSplit(1, test_size=100, random_state=0)
    names = {f"hidden {hidden}": hidden for hidden in [(100,), (64, 32, 16)]}
    contenders = []
    for name, hidden in names.items():
        net = MLPClassifier(**exact_epochs(hidden, epochs), device="cpu")
        for n in sizes:
            grid = {"learning_rate_init": np.geomspace(1e-4, 1e-2, n)}
            search = VectorizedGridSearchCV(net, grid, cv=fold, refit=False)
            contenders.append(_contender(f"{name} {n}", search, X, y))
    outcome = race(benchmark, contenders, rounds=size(3, 1))
    n_rows = epochs * (len(X) - 100)
    times = {
        name: [1e6 * outcome.median(f"{name} {n}") / n / n_rows for n in sizes] for name in names
    }
    for name, column in times.items():
        results.add_claim(
            f"Search of MLPs, {name}: cost a net, from a stack of {sizes[0]} to one of "
            f"{sizes[-1]}, on {threads_text(threads)}",
            f"divided by {column[0] / column[-1]:.2f}",
            "falls",
            column[-1] < column[0],
        )
    title = f"Search of MLPs on digits, on {threads_text(threads)}"
    results.add_curve(Curve(title, "nets in the stack", sizes, times))
