"""Blocks of rows: the same products from every kind of X."""

import numpy as np
import pytest
import torch
from scipy import sparse

from sknets._data import make_rows
from sknets._engine._row_blocks import (
    ArrayBlock,
    CsrBlock,
    DenseBlock,
    RowBlocks,
    SparseTensorBlock,
    blocks_of_rows,
    blocks_of_tensor,
)

CPU = torch.device("cpu")
N, F = 40, 6


@pytest.fixture
def X():
    rng = np.random.RandomState(0)
    return rng.standard_normal((N, F)) * (rng.uniform(size=(N, F)) < 0.4)


BLOCKS = {
    "dense": lambda X: DenseBlock(torch.from_numpy(X)),
    "array": lambda X: ArrayBlock(torch.from_numpy(X)),
    "csr": lambda X: CsrBlock(sparse.csr_array(X)),
    "torch csr": lambda X: SparseTensorBlock(sparse.csr_array(X), CPU),
}


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_products(X, kind, n_outputs):
    rng = np.random.RandomState(1)
    block = BLOCKS[kind](X)
    weights = rng.standard_normal((n_outputs, F))
    residual = rng.standard_normal((n_outputs, N))
    total = torch.ones(n_outputs, F, dtype=torch.float64)
    np.testing.assert_allclose(block.forward(torch.from_numpy(weights)), weights @ X.T, rtol=1e-12)
    block.backward_(torch.from_numpy(residual), total)
    np.testing.assert_allclose(total, 1 + residual @ X, rtol=1e-12)
    np.testing.assert_array_equal(block.dense(), X)


@pytest.mark.parametrize(
    "kind", [np.asarray, np.asfortranarray, sparse.csr_array, torch.from_numpy]
)
def test_blocks_of_rows_cover_every_row_once(X, kind):
    rows = make_rows(kind(X), dtype=torch.float64, device=CPU)
    parts = [block.dense() for _, block in blocks_of_rows(rows)]
    np.testing.assert_array_equal(torch.cat(parts), X)
    parts = [dense for _, dense in blocks_of_rows(rows).dense_blocks(width=10**9)]
    np.testing.assert_array_equal(torch.cat(parts), X)


def test_dense_blocks_are_views(X):
    tensor = torch.from_numpy(X)
    for rows, block in blocks_of_tensor(tensor, block_rows=7):
        assert block.dense().data_ptr() == tensor[rows].data_ptr()


def test_bytes_on_disk_are_converted_a_block_at_a_time(tmp_path):
    X = np.random.RandomState(0).randint(256, size=(N, F)).astype(np.uint8)
    np.save(tmp_path / "X.npy", X)
    rows = make_rows(np.load(tmp_path / "X.npy", mmap_mode="r"), dtype=torch.float32, device=CPU)
    assert rows.data.dtype == torch.uint8
    parts = [block.dense() for _, block in blocks_of_rows(rows)]
    assert parts[0].dtype == torch.float32
    np.testing.assert_array_equal(torch.cat(parts), X)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 100])
def test_threads_walk_every_row_once(X, n_threads):
    tensor = torch.from_numpy(X)
    blocks = RowBlocks(
        N,
        F,
        tensor.dtype,
        CPU,
        lambda start, stop: ArrayBlock(tensor[start:stop]),
        block_rows=7,
        n_threads=n_threads,
    )
    starts = []

    def work(part):
        total = torch.zeros(F, dtype=torch.float64)
        for rows, block in part:
            starts.append(rows.start)
            total += block.dense().sum(0)
        return (total,)

    (total,) = blocks.walk(work)
    assert sorted(starts) == list(range(0, N, 7))
    np.testing.assert_allclose(total, X.sum(0), rtol=1e-12)


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n_rows", "n_features", "n_outputs"),
    [(700, 900, 5), (1000, 40, 10), (7, 40, 10), (240, 32, 10), (500, 31, 3), (300, 50, 100)],
)
def test_products_in_parts(n_rows, n_features, n_outputs, dtype, layout):
    """With a part left over and without, and of sizes that are not cut."""
    rng = np.random.RandomState(0)
    X = layout(rng.standard_normal((n_rows, n_features)))
    weights = rng.standard_normal((n_outputs, n_features))
    block = ArrayBlock(torch.from_numpy(X.astype(dtype)))
    logits = block.forward(torch.from_numpy(weights.astype(dtype)))
    tolerance = {"rtol": 1e-10, "atol": 1e-8} if dtype is np.float64 else {"atol": 1e-3}
    np.testing.assert_allclose(logits, weights @ X.T, **tolerance)
    total = torch.zeros((n_outputs, n_features), dtype=logits.dtype)
    block.backward_(logits, total)
    tolerance["atol"] *= 100
    np.testing.assert_allclose(total, (weights @ X.T) @ X, **tolerance)
