"""Nets of a search that begin with the same weights: what comes out is each net's own."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sknets import MLPClassifier, VectorizedGridSearchCV
from tests.parity._data import first_digits
from tests.parity._same_results import search_both_ways, search_estimators, stacked_share

# Few epochs, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RATES = {"learning_rate_init": [1e-3, 1e-2, 1e-1]}


@pytest.fixture(scope="module")
def data():
    return first_digits(160)


def net(**settings):
    return MLPClassifier((8,), **{"random_state": 0, "max_iter": 4, "device": "cpu", **settings})


@pytest.fixture(scope="module")
def fitted(data):
    """The nets of three rates and two folds, as a scorer sees them."""
    search = VectorizedGridSearchCV(net(), RATES, cv=2, refit=False)
    estimators = search_estimators(search, *data)
    assert len(estimators) == 6
    assert stacked_share(search) == 1
    return estimators


def test_weights_have_memory_of_their_own(fitted):
    for one, other in itertools.combinations(fitted, 2):
        before = [p.detach().clone() for p in other.module_.parameters()]
        with torch.no_grad():
            for p in one.module_.parameters():
                p.add_(1.0)
        assert all(map(torch.equal, before, other.module_.parameters()))


def test_modules_are_as_after_a_fit(fitted, data):
    alone = clone(fitted[0]).fit(*data).module_
    for estimator in fitted:
        module = estimator.module_
        assert repr(module) == repr(alone)
        assert [*module.state_dict()] == [*alone.state_dict()]
        assert not any(layer.training for layer in module.modules())
        for p, q in zip(module.parameters(), alone.parameters(), strict=True):
            assert (p.dtype, p.requires_grad, p.grad) == (q.dtype, q.requires_grad, q.grad)
            assert p.is_contiguous()
            assert p.untyped_storage().nbytes() == p.nbytes


def test_hooks_are_of_one_net(fitted, data):
    called = []
    for i, estimator in enumerate(fitted):
        estimator.module_.register_forward_hook(lambda *args, i=i: called.append(i))
        estimator.module_.layers[0].register_forward_hook(lambda *args, i=i: called.append(i))
    fitted[3].predict(data[0])
    assert called == [3, 3]


CASES = {
    "shuffles": RATES,
    "no shuffles": {**RATES, "shuffle": [True, False]},
    "seeds of several kinds": {"random_state": [0, np.int64(1), True, 3], **RATES},
    "validation sets": {"early_stopping": [True, False], "validation_fraction": [0.1, 0.2]},
    "masks": {"dropout": [0.0, 0.2, (0.2,), [0.5]], "alpha": [1e-4, 1.0]},
    "masks of arrays": {"dropout": [np.array([0.3]), np.array([0.3 + 1e-10]), np.array([0.4])]},
    "masks and validation sets": {
        "dropout": [0.0, 0.2],
        "early_stopping": [True, False],
        "random_state": [0, 1],
    },
}


@pytest.mark.parametrize("grid", CASES.values(), ids=CASES)
def test_equals_fits_one_by_one(data, grid):
    ours, theirs = search_both_ways(net(), grid, *data)
    assert stacked_share(ours) == 1
    np.testing.assert_allclose(
        ours.predict_proba(data[0]), theirs.predict_proba(data[0]), atol=1e-9
    )


def test_nets_without_a_seed_differ(data):
    search = VectorizedGridSearchCV(
        net(random_state=None), {"alpha": [1e-4, 2e-4]}, cv=2, refit=False
    )
    weights = [e.coefs_[0].ravel() for e in search_estimators(search, *data)]
    assert stacked_share(search) == 1
    for one, other in itertools.combinations(weights, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.5


def test_a_subclass_makes_its_own_modules(data):
    class Scaled(MLPClassifier):
        """Its first weights depend on a setting that the library knows nothing of."""

        def __init__(self, scale=1.0, random_state=0, max_iter=3, device="cpu"):
            super().__init__((8,), random_state=random_state, max_iter=max_iter, device=device)
            self.scale = scale

        def _build_module(self, *args):
            module = super()._build_module(*args)
            with torch.no_grad():
                module.layers[0].weight.mul_(self.scale)
            return module

    search_both_ways(Scaled(), {"scale": [0.1, 1.0, 10.0]}, *data)


def test_rates_are_told_apart_however_they_are_printed(data):
    rates = [np.array([0.12]), np.array([0.38]), np.array([0.41])]
    with np.printoptions(precision=1, suppress=True):
        search = VectorizedGridSearchCV(net(), {"dropout": rates}, cv=2, refit=False)
        found = [e.module_.layers.dropout1.p for e in search_estimators(search, *data)]
    assert sorted(found) == [0.12, 0.12, 0.38, 0.38, 0.41, 0.41]
