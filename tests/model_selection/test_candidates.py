"""Candidates that no comparison of values tells apart: each is still its own."""

import functools

import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from torch import nn

from sknets.neural_network import NetClassifier
from tests.model_selection._pairs import both, mlp

# Few epochs on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Small(nn.Sequential):
    """A module with factories that are methods of its class."""

    def __init__(self, n_features, n_classes, width):
        super().__init__(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, n_classes))

    @classmethod
    def narrow(cls, n_features, n_classes):
        return cls(n_features, n_classes, 2)

    @classmethod
    def wide(cls, n_features, n_classes):
        return cls(n_features, n_classes, 9)


def module(width, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Small(4, 3, width)


def net(module, **settings):
    quick = {"max_iter": 6, "random_state": 0, "learning_rate_init": 0.02, "device": "cpu"}
    return NetClassifier(module, **{**quick, **settings})


def noted(transformer):
    transformer.note = "an attribute that no clone has"
    return transformer


def shared_columns():
    columns = [0, 1]
    parts = [("scaled", StandardScaler(), columns), ("other", MinMaxScaler(), columns)]
    return ColumnTransformer(parts)


STEPS = {
    "fitted": lambda X: [MinMaxScaler(), StandardScaler().fit(X)],
    "noted": lambda X: [noted(StandardScaler()), MinMaxScaler()],
    "one list twice": lambda X: [shared_columns(), MinMaxScaler()],
    "lambdas": lambda X: [FunctionTransformer(lambda X: 2 * X), FunctionTransformer(lambda X: -X)],
    "passed through": lambda X: ["passthrough", StandardScaler()],
}


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("settings", [{}, {"scoring": "f1_macro"}, {"verbose": 2}])
def test_any_transformers_are_candidates(data, kind, settings):
    X, y = data
    pipeline = Pipeline([("first", StandardScaler()), ("net", mlp())])
    search = both(pipeline, {"first": STEPS[kind](X)}, X, y, cv=3, **settings)
    assert len({place for row in search.vectorization_ for place in row}) == 2


@pytest.mark.parametrize(
    "modules",
    [
        [module(2), module(9)],
        [Small.narrow, Small.wide],
        [functools.partial(Small, width=2), functools.partial(Small, width=9)],
        [functools.partial(Small.narrow), functools.partial(Small.wide)],
    ],
    ids=["modules", "methods", "partial", "partial methods"],
)
@pytest.mark.parametrize("settings", [{}, {"scoring": "neg_log_loss"}])
def test_any_modules_are_candidates(data, modules, settings):
    search = both(net(None), {"module": modules, "alpha": [1e-4, 1.0]}, *data, cv=3, **settings)
    assert {place for row in search.vectorization_ for place in row} == {
        "stack 1 (6 nets)",
        "stack 2 (6 nets)",
    }


def test_modules_of_other_weights_do_not_share_a_stack(data):
    search = both(net(None), {"module": [module(5, seed=0), module(5, seed=1)]}, *data, cv=3)
    assert {*search.vectorization_[0]}.isdisjoint(search.vectorization_[1])


class Half(Pipeline):
    """Trains on every other row."""

    def fit(self, X, y, **params):
        return super().fit(X[::2], y[::2], **params)


def test_a_pipeline_with_a_fit_of_its_own_is_asked(data):
    search = both(
        Half([("scale", StandardScaler()), ("net", mlp())]), {"net__alpha": [1e-4, 1.0]}, *data
    )
    assert "a fit of its own" in search.vectorization_[0][0]
