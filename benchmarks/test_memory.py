"""Memory of fits and predictions on a memory map that is larger than what they may need."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import threads_text

_ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="anonymous memory is read from Linux's /proc"
)


@pytest.fixture(scope="module")
def make_rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """Return a function that writes n x 50 float32 rows and their labels, and gives the paths."""
    folder = tmp_path_factory.mktemp("rows")
    made: dict[int, tuple[Path, Path]] = {}

    def make(n: int) -> tuple[Path, Path]:
        if n not in made:
            made[n] = (folder / f"X{n}.npy", folder / f"y{n}.npy")
            _write_rows(n, *made[n])
        return made[n]

    yield make
    for path in folder.iterdir():
        path.unlink()


def _write_rows(n: int, path_X: Path, path_y: Path) -> None:
    """Write the rows a block at a time; the labels are those of a plane, with noise."""
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(path_X, mode="w+", dtype=np.float32, shape=(n, 50))
    y = np.empty(n, dtype=np.int64)
    plane = rng.standard_normal(50, dtype=np.float32)
    for start in range(0, n, 100_000):
        block = rng.standard_normal((min(100_000, n - start), 50), dtype=np.float32)
        X[start : start + len(block)] = block
        y[start : start + len(block)] = block @ plane + 3 * rng.standard_normal(len(block)) > 0
    X.flush()
    np.save(path_y, y)


def _measure(task: str, model: str, paths: tuple[Path, Path], threads: int) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.memory", task, model, *map(str, paths)]
    done = subprocess.run(
        [*command, str(threads)], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("model", ["MLPClassifier", "LogisticRegression", "Perceptron"])
def test_fit_of_a_memory_map(benchmark, results, size, threads, make_rows, model):
    n = size(2_000_000, 20_000)
    paths = make_rows(n)
    figures = benchmark.pedantic(_measure, args=("fit", model, paths, threads), rounds=1)
    grown = (figures["peak"] - figures["before"]) / 1e6
    benchmark.extra_info.update(figures)
    results.add_claim(
        f"{model}.fit of a float32 memory map {n}×50 on {threads_text(threads)}, beyond its pages",
        f"{grown:.0f} MB (the process in all: {figures['peak'] / 1e6:.0f} MB)",
        "≤ 300 MB",
        grown <= 300,
    )


@pytest.mark.parametrize("model", ["MLPClassifier", "LogisticRegression"])
def test_predict_proba_in_batches(benchmark, results, size, threads, make_rows, model):
    small, large = size((200_000, 2_000_000), (10_000, 20_000))

    def beyond_result(n: int) -> float:
        figures = _measure("predict_proba", model, make_rows(n), threads)
        return (figures["peak"] - figures["before"] - figures["result"]) / 1e6

    at_large = benchmark.pedantic(beyond_result, args=(large,), rounds=1)
    at_small = beyond_result(small)
    results.add_claim(
        f"{model}.predict_proba on {threads_text(threads)}, memory beyond its result",
        f"{at_small:.0f} MB for {small} rows, {at_large:.0f} MB for {large}",
        "does not grow (by more than 20 MB)",
        at_large - at_small <= 20,
    )
