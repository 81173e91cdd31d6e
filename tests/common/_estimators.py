"""Small, quick instances of every public estimator, for claims that hold for all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from sklearn.base import clone
from torch import nn

# A fit ends after a fixed number of epochs and without a ConvergenceWarning: no epoch improves by
# as much as `tol`, so that training stops `n_iter_no_change` epochs after the first.
_EPOCHS = {"tol": 1e3, "n_iter_no_change": 20, "learning_rate_init": 0.02, "batch_size": 20}
_COMMON = {"random_state": 0, "device": "cpu"}

# name -> (module, class, parameters)
_INSTANCES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "MLPClassifier": (
        "sknets.neural_network",
        "MLPClassifier",
        {"hidden_layer_sizes": (8,), **_EPOCHS},
    ),
    "MLPClassifier-numba": (
        "sknets.neural_network",
        "MLPClassifier",
        {"hidden_layer_sizes": (8,), "compile": "numba", **_EPOCHS},
    ),
    "MLPClassifier-lbfgs": (
        "sknets.neural_network",
        "MLPClassifier",
        {"hidden_layer_sizes": (8,), "solver": "lbfgs", "tol": 1e-2},
    ),
    "NetClassifier": ("sknets.neural_network", "NetClassifier", {**_EPOCHS}),
    "CNNClassifier": (
        "sknets.neural_network",
        "CNNClassifier",
        {"conv_channels": (4,), "hidden_layer_sizes": (8,), **_EPOCHS},
    ),
    "LogisticRegression": ("sknets.linear_model", "LogisticRegression", {}),
    "LogisticRegression-numba": (
        "sknets.linear_model",
        "LogisticRegression",
        {"compile": "numba"},
    ),
    "LogisticRegression-adam": (
        "sknets.linear_model",
        "LogisticRegression",
        {"solver": "adam", **_EPOCHS},
    ),
    "Perceptron": ("sknets.linear_model", "Perceptron", {"tol": 1e3, "n_iter_no_change": 10}),
}


class _SmallNet:
    """A factory of modules whose repr, unlike a function's, is the same in every process."""

    def __call__(self, n_features: int | tuple[int, ...], n_classes: int) -> nn.Module:
        """Return a net of one hidden layer, as a factory for NetClassifier."""
        assert isinstance(n_features, int)
        return nn.Sequential(nn.Linear(n_features, 8), nn.ReLU(), nn.Linear(8, n_classes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SmallNet)

    def __hash__(self) -> int:
        return hash(_SmallNet)

    def __repr__(self) -> str:
        return "small_net"


small_net = _SmallNet()


def public_estimators() -> list[tuple[str, Any]]:
    """Return (name, unfitted instance) of every public estimator, on the CPU and seeded.

    A name is the class's, with a solver after a hyphen where a class is there more than once.
    """
    found = []
    for name, (module, class_name, params) in _INSTANCES.items():
        cls = getattr(importlib.import_module(module), class_name)
        args = (small_net,) if class_name == "NetClassifier" else ()
        found.append((name, cls(*args, **params, **_COMMON)))
    return found


def each_estimator(
    *, having: str | None = None, that: Callable[[Any], bool] = lambda _: True
) -> pytest.MarkDecorator:
    """Parametrise a test by ``estimator``: a fresh instance of each.

    Of each that has the method `having` and of which `that` holds.
    """
    return pytest.mark.parametrize(
        "estimator",
        [
            pytest.param(estimator, id=name)
            for name, estimator in public_estimators()
            if (having is None or hasattr(estimator, having)) and that(estimator)
        ],
    )


def runs_on_gpus(estimator: Any) -> bool:
    """Whether there is a way to train an estimator on a GPU."""
    return getattr(estimator, "compile", False) != "numba"


def takes_callbacks(estimator: Any) -> bool:
    """Whether an estimator takes skorch's callbacks, as networks do that train by epochs."""
    params = estimator.get_params()
    by_epochs = "callbacks" in params and params["solver"] != "lbfgs"
    return by_epochs and params["compile"] != "numba"


def fresh(estimator: Any, **params: Any) -> Any:
    """Return an unfitted copy with some parameters changed; parametrised instances are shared."""
    return clone(estimator).set_params(**params)
