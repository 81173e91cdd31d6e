"""What all tests share: the environment they run in, and real data."""

import os

# scipy reads this when it is imported; without it scikit-learn's Array API checks are skipped.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
# torch and BLAS read this when they are imported. Tests run in several processes on few cores, and
# two processes of two threads on two cores take many times longer than two of one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils import Bunch


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _no_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide a GPU from tests that compare with scikit-learn and torch on the CPU, digit by digit."""
    item = request.node
    if not (item.get_closest_marker("gpu") or item.get_closest_marker("any_device")):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def _data_folder(name: str) -> Path:
    """Return the folder `name` of the data that SKNETS_DATA names, or skip the test."""
    root = os.environ.get("SKNETS_DATA")
    if not root:
        pytest.skip("needs real data: set SKNETS_DATA to the folder that holds it")
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"needs real data: SKNETS_DATA={root} has no folder {name}")
    return folder


@pytest.fixture(scope="session")
def mnist() -> Bunch:
    """Return the full MNIST as `sknets.datasets.fetch_mnist` gives it."""
    from sknets.datasets import fetch_mnist

    return fetch_mnist(data_home=_data_folder("MNIST").parent, download_if_missing=False)


@pytest.fixture(scope="session")
def tabular() -> Callable[[str], Bunch]:
    """Return a function from a table's name to its arrays: `X` (NaN for missing), `y`, `cat`, …"""

    def load(name: str) -> Bunch:
        with np.load(_data_folder("tabular") / f"{name}.npz", allow_pickle=False) as arrays:
            return Bunch(**arrays)

    return load


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Have more threads than a small net is worth, so that a limit would show."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
