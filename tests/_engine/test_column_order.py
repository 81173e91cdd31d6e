"""Columns that few rows have are found, and rows without them."""

import numpy as np
import pytest
import torch

from sknets._data import make_rows
from sknets._engine import all_columns, order_columns
from tests.parity._data import first_digits, rare_columns


def rows_of(X):
    return make_rows(X, dtype=torch.float64, device=torch.device("cpu"))


def test_rare_columns_come_first_and_rows_that_have_them_are_known():
    X, _ = rare_columns(2)
    order = order_columns(rows_of(X), 2)
    assert order.n_rare == 60
    assert set(order.columns[:60]) == set(range(0, 120, 2))
    np.testing.assert_array_equal(order.columns[60:], np.arange(1, 120, 2))
    np.testing.assert_array_equal(order.has_rare, X[:, ::2].any(axis=1))
    assert not order.is_identity


def test_the_fewest_products_of_digits():
    X, _ = first_digits(1797)
    order = order_columns(rows_of(X), 200)
    is_set, counts = X != 0, (X != 0).sum(axis=0)
    assert set(order.columns) == set(np.flatnonzero(counts))
    np.testing.assert_array_equal(
        order.has_rare, is_set[:, order.columns[: order.n_rare]].any(axis=1)
    )
    by_rarity = order.columns[np.argsort(counts[order.columns], kind="stable")]
    n_used = len(by_rarity)
    saved = [i * (~is_set[:, by_rarity[:i]].any(axis=1)).sum() for i in range(n_used)]
    assert order.n_rare * (~order.has_rare).sum() == max(saved) > 0.15 * len(X) * n_used


@pytest.mark.parametrize("n_factors", [0, 1])
def test_products_that_are_not_worth_it(n_factors):
    X, _ = first_digits(1797)
    X[0, :] = 1.0  # so that none is of zeros alone
    order = order_columns(rows_of(X), n_factors)
    assert order.is_identity
    assert order.n_rare == 0
    np.testing.assert_array_equal(order.columns, np.arange(64))
    assert not order.has_rare.any()


def test_a_share_that_is_not_worth_it():
    X, _ = rare_columns(2)
    X = np.hstack([X, np.ones((len(X), 1200))])[:5000]
    order = order_columns(rows_of(X), 1000)
    assert order.is_identity  # of 60 columns, 0.9 times, in 1320
    assert order_columns(rows_of(X[:, :600]), 1000).n_rare == 60


def test_columns_of_zeros():
    X, _ = first_digits(100)
    order = order_columns(rows_of(X), 0)
    np.testing.assert_array_equal(order.columns, np.flatnonzero(X.any(axis=0)))
    assert not order.is_identity
    np.testing.assert_array_equal(order_columns(rows_of(0 * X), 10).columns, [0])


def test_all_columns():
    X, _ = first_digits(20)
    order = all_columns(rows_of(X))
    assert order.is_identity
    assert len(order.columns) == 64
    assert order.has_rare.shape == (20,)
