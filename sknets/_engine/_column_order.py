"""Columns of X that are zero in most rows, as many pixels of images are, and the rows without them.

A product with zeros is not computed: columns of nothing else are left out, and the rare ones
beside the rows that have none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sknets._data import Rows

Array = np.ndarray[Any, np.dtype[Any]]

# What has to be saved to be worth the calls that two parts take more: a share of the multiply-adds
# of a pass, and a number of them.
_LEAST_SHARE = 0.05
_LEAST_WORK = 2e6


@dataclass(frozen=True)
class ColumnOrder:
    """The columns to compute with.

    Attributes
    ----------
    columns : ndarray of int
        The columns that have a number other than zero in some row, the rare ones first; one at
        least.
    n_rare : int
        How many are rare.
    has_rare : ndarray of shape (n,), bool
        Whether a row has a number other than zero in some rare column.
    n_features : int
        Columns of X.
    """

    columns: Array
    n_rare: int
    has_rare: Array
    n_features: int

    @property
    def is_identity(self) -> bool:
        """Whether these are all columns, in the order of X."""
        return self.n_rare == 0 and len(self.columns) == self.n_features


def all_columns(rows: Rows) -> ColumnOrder:
    """Return all columns, none of which is rare."""
    return _without_rare(np.arange(rows.n_features), rows)


def _without_rare(columns: Array, rows: Rows) -> ColumnOrder:
    return ColumnOrder(columns, 0, np.zeros(rows.n, bool), rows.n_features)


def order_columns(rows: Rows, n_factors: int) -> ColumnOrder:
    """Return the columns that are not all zeros, the rare ones first if that pays.

    Parameters
    ----------
    rows : Rows
        X, dense.
    n_factors : int
        Rows of the left factor that X is multiplied with; 0 looks for no rare columns.
    """
    if rows.n * rows.n_features * n_factors < _LEAST_WORK:
        return _without_rare(_used_columns(rows), rows)
    counts = np.zeros(rows.n_features, np.int64)
    for _, is_set in _patterns(rows):
        counts += np.count_nonzero(is_set, axis=0)
    used = _at_least_one(counts)
    by_rarity = used[np.argsort(counts[used], kind="stable")]
    first = np.full(rows.n, len(used))  # place of the rarest column that a row has
    if counts[used].min() < rows.n:
        for here, is_set in _patterns(rows):
            of_rows = is_set[:, by_rarity]
            first[here] = np.where(of_rows.any(axis=1), of_rows.argmax(axis=1), len(used))
    n_rare = _number_of_rare(first, len(used), n_factors)
    columns = np.append(by_rarity[:n_rare], np.sort(by_rarity[n_rare:]))
    return ColumnOrder(columns, n_rare, first < n_rare, rows.n_features)


def _used_columns(rows: Rows) -> Array:
    """Return the columns that are not all zeros, one at least; of most X, a few rows say it."""
    used = np.zeros(rows.n_features, bool)
    for _, is_set in _patterns(rows):
        used |= is_set.any(axis=0)
        if used.all():
            break
    return _at_least_one(used)


def _at_least_one(is_used: Array) -> Array:
    used = np.flatnonzero(is_used)
    return used if len(used) else np.arange(1)


def _patterns(rows: Rows) -> Iterator[tuple[slice, Array]]:
    """Yield where rows are not zero, (b, F), for some rows after the other."""
    for start in range(0, rows.n, rows.block_rows):
        stop = min(start + rows.block_rows, rows.n)
        yield slice(start, stop), rows.slice(start, stop, aligned=False).numpy() != 0


def _number_of_rare(first: Array, n_columns: int, n_factors: int) -> int:
    """Return of how many columns it saves most to leave them out beside rows without them.

    `first` (n,) are the places of the rarest columns that rows have, among all by rarity.
    """
    n_rare = np.arange(n_columns)  # one column stays
    with_rarer = np.cumsum(np.bincount(first, minlength=n_columns + 1))
    n_without = len(first) - np.append(0, with_rarer[: n_columns - 1])
    saved = n_without * n_rare
    best = int(saved.argmax())
    least = max(_LEAST_SHARE * len(first) * n_columns, _LEAST_WORK / n_factors)
    return best if saved[best] >= least else 0
