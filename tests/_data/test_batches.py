"""An epoch's batches: every row once, with its target and weight."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.utils import shuffle

from sknets._data import Batches, make_rows

N = 23
X = np.arange(2.0 * N).reshape(N, 2)
TARGET = torch.arange(N)
WEIGHT = torch.arange(N) / 10


def make_batches(X=X, weight=WEIGHT, *, batch_size=5, seed=None):
    rows = make_rows(X, dtype=torch.float64, device=torch.device("cpu"))
    random_state = None if seed is None else np.random.RandomState(seed)
    return Batches(rows, TARGET, weight, batch_size=batch_size, random_state=random_state)


def epoch(batches):
    """Return an epoch's batches, copied: the next block takes their memory."""
    return [
        (x.clone(), tuple(t.clone() for t in target), None if weight is None else weight.clone())
        for x, target, weight in batches.epoch(lambda target: (target, -target))
    ]


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("batch_size", [1, 5, 22, 23])
@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_array])
def test_every_row_comes_once_with_what_belongs_to_it(wrap, batch_size, seed):
    batches = make_batches(wrap(X), batch_size=batch_size, seed=seed)
    got = epoch(batches)
    assert [len(x) for x, *_ in got] == batches.sizes
    assert len(got) == len(batches)
    assert sum(batches.sizes) == N
    order = torch.cat([target for _, (target, _), _ in got])
    assert_array_equal(order.sort().values, TARGET)
    for x, (target, negative), weight in got:
        assert_array_equal(x, X[target.numpy()].reshape(-1, 2))
        assert_array_equal(negative, -target)
        assert_array_equal(weight, WEIGHT[target])


def test_without_a_source_the_order_is_kept():
    order = torch.cat([target for _, (target, _), _ in epoch(make_batches())])
    assert_array_equal(order, TARGET)


def test_shuffles_are_scikit_learns():
    batches = make_batches(seed=3)
    random_state, expected = np.random.RandomState(3), np.arange(N)
    for _ in range(3):
        expected = shuffle(expected, random_state=random_state)
        order = torch.cat([target for _, (target, _), _ in epoch(batches)])
        assert_array_equal(order, expected)


def test_no_weights():
    assert [weight for *_, weight in epoch(make_batches(weight=None, seed=0))] == [None] * 5


def test_batches_are_the_same_whatever_is_gathered_at_once(monkeypatch):
    whole = epoch(make_batches(seed=1))
    monkeypatch.setattr("sknets._data._rows._BLOCK_BYTES", 100)  # six rows
    parts = epoch(make_batches(seed=1))
    assert len(parts) == len(whole)
    for (x, (target, _), weight), (x_0, (target_0, _), weight_0) in zip(parts, whole, strict=True):
        assert_array_equal(x, x_0)
        assert_array_equal(target, target_0)
        assert_array_equal(weight, weight_0)
