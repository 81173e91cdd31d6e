"""Peak memory of a fit or a prediction, in a process of its own.

Run as ``python -m benchmarks.memory TASK MODEL X.npy y.npy THREADS``; prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

import sknets.linear_model
import sknets.neural_network

_MODELS: dict[str, Callable[[], Any]] = {
    "MLPClassifier": lambda: sknets.neural_network.MLPClassifier(
        (100,), max_iter=1, tol=0.0, random_state=0, device="cpu"
    ),
    "LogisticRegression": lambda: sknets.linear_model.LogisticRegression(device="cpu"),
    "Perceptron": lambda: sknets.linear_model.Perceptron(max_iter=1, tol=None, device="cpu"),
}


def anonymous_bytes() -> int:
    """Return the anonymous memory of this process: all but the pages of files."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return 1024 * int(line.split()[1])


@contextmanager
def sampled_peak(seconds: float = 0.002) -> Iterator[dict[str, int]]:
    """Sample the memory in a thread; the dict has `before` at once and `peak` on leaving."""
    figures = {"before": anonymous_bytes(), "peak": 0}
    done = threading.Event()

    def sample() -> None:
        while not done.is_set():
            figures["peak"] = max(figures["peak"], anonymous_bytes())
            time.sleep(seconds)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield figures
    finally:
        done.set()
        thread.join()
        figures["peak"] = max(figures["peak"], anonymous_bytes())


def measure(task: str, model: str, X: np.ndarray, y: np.ndarray) -> dict[str, int]:
    """Return the memory before and at the peak, and that of the result, in bytes."""
    clf = _MODELS[model]()
    few = np.array(X[:5_000])
    clf.fit(few, y[:5_000])  # what is loaded or started on first use is there now
    if task == "fit":
        with sampled_peak() as figures:
            clf.fit(X, y)
        return {**figures, "result": 0}
    clf.predict_proba(few)
    with sampled_peak() as figures:
        proba = clf.predict_proba(X)
    return {**figures, "result": proba.nbytes}


def main() -> None:
    """Measure what the command line says."""
    task, model, path_X, path_y, threads = sys.argv[1:]
    X, y = np.load(path_X, mmap_mode="r"), np.load(path_y)
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(int(threads)):
        torch.set_num_threads(int(threads))
        print(json.dumps(measure(task, model, X, y)))


if __name__ == "__main__":
    main()
