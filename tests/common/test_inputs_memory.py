"""Memory maps are not copied whole, and sparse rows are densified a batch at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.common._estimators import public_estimators

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="limits memory by Linux's RLIMIT_DATA and /proc"
)
NAMES = [name for name, _ in public_estimators()]
LAYOUTS = {"u1 C": "uint8", "f4 F": "float32 by columns", ">f8 C": "big-endian float64"}


def probe(kind, names):
    """Run the cases of `kind` in a process of little memory; return name -> error or None."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.common._memory_probe", kind, *names],
        cwd=Path(__file__).parents[2],
        # Freed blocks go back to the system at once, so that the limit is on what is in use.
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 20)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def maps():
    return probe("maps", NAMES)


@pytest.fixture(scope="module")
def matrices():
    return probe("matrices", NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_memory_map_is_not_copied_whole(name, maps):
    assert maps[f"{name} f4 C"] is None


@pytest.mark.parametrize("layout", LAYOUTS, ids=LAYOUTS.get)
def test_a_memory_map_of_other_numbers_is_converted_a_block_at_a_time(layout, maps):
    assert maps[f"MLPClassifier {layout}"] is None


@pytest.mark.parametrize("name", NAMES)
def test_sparse_rows_are_never_dense_all_at_once(name, matrices):
    assert matrices[name] is None


def test_a_matrix_of_16_gb_in_dense_form_fits_a_linear_model():
    assert probe("huge", ["LogisticRegression"]) == {"LogisticRegression": None}


@pytest.mark.slow
def test_a_matrix_of_16_gb_in_dense_form_fits_a_net():
    assert probe("huge", ["MLPClassifier"]) == {"MLPClassifier": None}
