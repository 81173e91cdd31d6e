"""X as rows: any memory gives the same tensors, and none is copied whole."""

import mmap

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import sparse

from sknets._data import SubsetRows, as_tensor_view, is_memory_mapped, make_rows

CPU = torch.device("cpu")
X = np.arange(35, dtype=np.float64).reshape(7, 5)
INDEX = np.array([6, 0, 3, 3])


def on_disk(tmp_path, array):
    path = tmp_path / "array.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


KINDS = {
    "array": lambda folder: X,
    "integers": lambda folder: X.astype(np.uint8),
    "fortran": lambda folder: np.asfortranarray(X),
    "reversed": lambda folder: X[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda folder: X.astype(">f8"),
    "longdouble": lambda folder: X.astype(np.longdouble),
    "tensor": lambda folder: torch.from_numpy(X),
    "memory map": lambda folder: on_disk(folder, X),
    "memory map of bytes": lambda folder: on_disk(folder, X.astype(np.uint8)),
    "memory map by columns": lambda folder: on_disk(folder, np.asfortranarray(X)),
    "big-endian memory map": lambda folder: on_disk(folder, X.astype(">i2")),
    "reversed memory map": lambda folder: on_disk(folder, X[::-1].copy())[::-1],
    "csr_array": lambda folder: sparse.csr_array(X),
    "csr_matrix": lambda folder: sparse.csr_matrix(X),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_x(kind, dtype, tmp_path):
    rows = make_rows(KINDS[kind](tmp_path), dtype=dtype, device=CPU)
    assert (rows.n, rows.n_features, len(rows)) == (7, 5, 7)
    assert rows.is_sparse == kind.startswith("csr")
    for part, expected in (
        (rows.take(INDEX), X[INDEX]),
        (rows.take(torch.from_numpy(INDEX)), X[INDEX]),
        (rows.take(np.array([], dtype=int)), X[:0]),
        (rows.slice(2, 5), X[2:5]),
        (rows.slice(0, 7), X),
    ):
        assert part.dtype == rows.dtype == dtype
        assert part.device == rows.device == CPU
        assert_array_equal(part.numpy(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_subset_numbers_its_own_rows(kind, tmp_path):
    rows = make_rows(KINDS[kind](tmp_path), dtype=torch.float64, device=CPU)
    subset = SubsetRows(rows, np.array([5, 1, 4]))
    assert len(subset) == 3
    assert_array_equal(subset.take(np.array([2, 0])), X[[4, 5]])
    assert_array_equal(subset.slice(1, 3), X[[1, 4]])


def aligned_array(shape):
    return torch.zeros(shape, dtype=torch.float64).numpy()  # torch allocates at 64 bytes


def test_aligned_memory_is_shared(tmp_path):
    array = aligned_array((128, 8))
    on_disk = np.memmap(tmp_path / "x", dtype=np.float64, shape=(128, 8), mode="w+")
    for given in (array, torch.from_numpy(array), on_disk):
        part = make_rows(given, dtype=torch.float64, device=CPU).slice(64, 128)
        assert np.shares_memory(part.numpy(), np.asarray(given))


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_lie_alike_wherever_x_came_from(offset, order):
    flat = aligned_array(128 * 8 + 8)[offset : offset + 128 * 8]
    rows = make_rows(flat.reshape(128, 8, order=order), dtype=torch.float64, device=CPU)
    for part in (rows.slice(0, 64), rows.slice(3, 9), rows.take(np.arange(5))):
        assert part.data_ptr() % 64 == 0
        assert part.is_contiguous()


def test_read_only_memory_is_viewed_without_a_warning():
    array = X.copy()
    array.flags.writeable = False
    view = as_tensor_view(array)
    assert view.data_ptr() == array.ctypes.data
    assert_array_equal(as_tensor_view(array[:0]), X[:0])


def test_a_view_keeps_its_memory_alive():
    array = X.copy()
    array.flags.writeable = False
    view = as_tensor_view(array)
    del array
    spoil = [np.full_like(X, -1) for _ in range(50)]
    assert_array_equal(view, X)
    assert len(spoil) == 50


def test_what_counts_as_a_memory_map(tmp_path):
    mapped = on_disk(tmp_path, X)
    with (tmp_path / "array.npy").open("rb") as file:
        raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for array in (mapped, mapped[2:], np.asarray(mapped), mapped.T, np.frombuffer(raw, np.uint8)):
        assert is_memory_mapped(array)
    for array in (X, X[2:], np.array(mapped), np.frombuffer(bytes(8), np.uint8)):
        assert not is_memory_mapped(array)


def test_blocks_take_some_tens_of_megabytes():
    wide = sparse.csr_array((3, 10_000_000))
    assert make_rows(wide, dtype=torch.float64, device=CPU).block_rows == 1
    rows = make_rows(X, dtype=torch.float32, device=CPU)
    assert 2**24 <= rows.block_rows * rows.n_features * 4 <= 2**26


@pytest.mark.parametrize("kind", KINDS)
def test_rows_move_to_another_device(kind, tmp_path):
    rows = make_rows(KINDS[kind](tmp_path), dtype=torch.float64, device=CPU)
    for moved in (rows.to(CPU), SubsetRows(rows, np.arange(7)).to(CPU)):
        assert moved.dtype == torch.float64
        assert_array_equal(moved.take(INDEX), rows.take(INDEX))
        assert_array_equal(moved.slice(1, 4), rows.slice(1, 4))
