import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.utils import gen_batches, shuffle

from sknets._data import Batches, SubsetRows, make_rows

CPU = torch.device("cpu")
N_ROWS = 23


class SmallBlocks:
    """Rows that are handed out a few at a time, as those of a large X are."""

    def __init__(self, rows, n):
        self._rows, self.block_rows = rows, n

    def __getattr__(self, name):
        return getattr(self._rows, name)


def make_batches(
    batch_size=5, *, seed=None, weighted=True, block=None, to=lambda X: X, multilabel=False
):
    """Batches of rows that hold their own number, as target and weight too."""
    number = np.arange(N_ROWS, dtype=float)
    X = np.column_stack([number, -number])
    rows = make_rows(to(X), dtype=torch.float64, device=CPU)
    rows = rows if block is None else SmallBlocks(rows, block)
    target = torch.arange(N_ROWS)
    target = torch.stack([target, -target], 1) if multilabel else target
    return Batches(
        rows,
        target,
        torch.from_numpy(number + 0.5) if weighted else None,
        batch_size=batch_size,
        random_state=None if seed is None else np.random.RandomState(seed),
    )


def encode(target):
    return (target if target.ndim == 1 else target.T,)


def collect(batches):
    return [(x.clone(), target[0].clone(), weight) for x, target, weight in batches.epoch(encode)]


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23])
@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("block", [None, 1, 10])
def test_every_row_comes_once_an_epoch_with_its_target_and_weight(batch_size, seed, block):
    batches = make_batches(batch_size, seed=seed, block=block)
    for _ in range(3):
        parts = collect(batches)
        assert [len(x) for x, *_ in parts] == batches.sizes
        assert len(parts) == len(batches)
        for x, target, weight in parts:
            assert torch.equal(x[:, 0].long(), target)
            assert torch.equal(x[:, 1], -x[:, 0])
            assert torch.equal(weight, x[:, 0] + 0.5)
        seen = torch.cat([target for _, target, _ in parts])
        assert torch.equal(seen.sort().values, torch.arange(N_ROWS))
        assert (seed is None) == torch.equal(seen, torch.arange(N_ROWS))


@pytest.mark.parametrize("block", [None, 7])
def test_the_order_is_scikit_learns_epoch_after_epoch(block):
    batches = make_batches(4, seed=3, block=block)
    reference, index = np.random.RandomState(3), np.arange(N_ROWS)
    orders = []
    for _ in range(4):
        index = shuffle(index, random_state=reference)
        orders.append(index.tolist())
        expected = [index[part] for part in gen_batches(N_ROWS, 4)]
        actual = [target.numpy() for _, target, _ in collect(batches)]
        assert [a.tolist() for a in actual] == [e.tolist() for e in expected]
    assert orders[0] != orders[1]


def test_sizes():
    assert make_batches(5).sizes == [5, 5, 5, 5, 3]
    assert make_batches(23).sizes == [23]
    assert len(make_batches(5)) == 5


def test_without_weights_there_are_none():
    assert [weight for *_, weight in collect(make_batches(5, weighted=False))] == [None] * 5


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("to", [sparse.csr_array, sparse.csr_matrix, np.asfortranarray])
def test_other_layouts_give_the_same_batches(to, seed):
    expected = collect(make_batches(5, seed=seed))
    for (x, target, weight), other in zip(
        collect(make_batches(5, seed=seed, to=to, block=6)), expected, strict=True
    ):
        assert torch.equal(x, other[0])
        assert torch.equal(target, other[1])
        assert torch.equal(weight, other[2])


def test_a_row_of_labels_stays_together():
    for x, target, _ in collect(make_batches(5, seed=0, multilabel=True, block=6)):
        assert target.shape == (2, len(x))
        assert torch.equal(target.T, x.long())


def test_a_subset_of_rows():
    X = np.arange(12.0).reshape(6, 2)
    index = np.array([5, 1, 3])
    rows = SubsetRows(make_rows(X, dtype=torch.float64, device=CPU), index)
    batches = Batches(
        rows, torch.tensor([5, 1, 3]), None, batch_size=2, random_state=np.random.RandomState(0)
    )
    for x, target, _ in collect(batches):
        np.testing.assert_array_equal(x, X[target.numpy()])


def test_rows_in_order_are_views_of_x():
    X = np.arange(20.0).reshape(10, 2)
    rows = make_rows(X, dtype=torch.float64, device=CPU)
    batches = Batches(rows, torch.arange(10), None, batch_size=4, random_state=None)
    for i, (x, *_) in enumerate(batches.epoch(encode)):
        assert np.shares_memory(x.numpy(), X[4 * i : 4 * i + 4])


def test_targets_are_encoded_a_block_at_a_time():
    counts = []
    batches = make_batches(2, seed=0, block=7)
    list(batches.epoch(lambda target: counts.append(len(target)) or (target,)))
    assert counts == [6, 6, 6, 5]


def test_a_batch_may_exceed_a_block():
    assert [len(x) for x, *_ in collect(make_batches(9, seed=0, block=4))] == [9, 9, 5]
