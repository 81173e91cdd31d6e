"""Stacks where memory runs out."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from torch import nn

from sknets import MLPClassifier, NetClassifier, VectorizedGridSearchCV

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
]


class Hungry(nn.Linear):
    """A net that runs out of memory some times before it does not."""

    failures: list = []

    def forward(self, x):
        if self.training and self.failures:
            raise self.failures.pop()
        return super().forward(x)


def search(kind=VectorizedGridSearchCV, **settings):
    net = NetClassifier(Hungry, max_iter=3, device="cpu")
    grid = {"random_state": [0, 1, 2, 3], "alpha": [1e-4, 1.0]}
    return kind(net, grid, cv=2, refit=False, **settings)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_stack_is_halved_where_memory_runs_out(error, monkeypatch):
    X, y = load_iris(return_X_y=True)
    theirs = search(GridSearchCV).fit(X, y)
    monkeypatch.setattr(Hungry, "failures", [error, error])
    ours = search().fit(X, y)
    assert {place for row in ours.vectorization_ for place in row} == {
        f"stack {i} (4 nets)" for i in (1, 2, 3, 4)
    }
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], atol=1e-9
    )


def test_a_net_too_large_on_its_own_fails_alone(monkeypatch):
    X, y = load_iris(return_X_y=True)
    monkeypatch.setattr(Hungry, "failures", [MemoryError("too large")])
    with pytest.warns(FitFailedWarning, match="too large"):
        ours = search(max_stack_bytes=1, error_score=-1.0).fit(X, y)
    scores = [ours.cv_results_[f"split{i}_test_score"] for i in (0, 1)]
    assert np.sum(np.concatenate(scores) == -1.0) == 1


def test_max_stack_bytes_bounds_the_stacks():
    X, y = load_iris(return_X_y=True)
    sizes = []
    for n_bytes in (10_000, 100_000, "auto"):
        places = search(max_stack_bytes=n_bytes).fit(X, y).vectorization_
        sizes.append(max(int(place.split("(")[1].split()[0]) for row in places for place in row))
    assert sizes[0] < sizes[1] < sizes[2] == 16


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_normalised_nets_are_estimated_too(normalization):
    X, y = load_iris(return_X_y=True)
    net = MLPClassifier(max_iter=2, normalization=normalization, device="cpu")
    grid = {"random_state": [0, 1, 2, 3]}
    search = VectorizedGridSearchCV(net, grid, cv=2, refit=False, max_stack_bytes=10_000)
    places = search.fit(X, y).vectorization_
    assert {place for row in places for place in row} == {f"stack {i} (1 net)" for i in range(1, 9)}
