"""Run by test_inputs_memory.py: fit and predict on big input with little memory left to allocate.

The limit is on private writable memory (RLIMIT_DATA): pages of a file that is only read are free,
a copy of them is not. Prints a JSON object: for each case, None or the error it ended in.
"""

import json
import resource
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from tests.common._estimators import fresh, public_estimators

MAP_BYTES = 200 << 20
MAP_LIMIT = 120 << 20
CSR_SHAPE = (400, 200_000)  # 320 MB in float32
CSR_LIMIT = 200 << 20
HUGE_SHAPE = (20_000, 200_000)  # 16 GB in float32


def allocated() -> int:
    """Return the bytes of private writable memory of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmData:")[1].split()[0])


@contextmanager
def at_most_more(n_bytes: int) -> Iterator[None]:
    """Let the block allocate `n_bytes` more than there are now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (allocated() + n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def make_map(folder: Path, dtype: str, order: str) -> np.ndarray:
    """Write a table of about `MAP_BYTES` to a file and return it as a read-only memory map."""
    n_features = 1000
    n = MAP_BYTES // (n_features * np.dtype(dtype).itemsize)
    path = folder / f"{dtype}-{order}.npy"
    array = np.lib.format.open_memmap(
        path, mode="w+", dtype=dtype, shape=(n, n_features), fortran_order=order == "F"
    )
    array[:] = np.arange(n_features) % 3
    array[:, 0] = np.arange(n) % 2
    array.flush()
    del array
    return np.load(path, mmap_mode="r")


def make_csr(shape: tuple[int, int]) -> sparse.csr_array:
    """Return a matrix with ten entries a row; the first column tells the class."""
    n, n_features = shape
    columns = np.random.RandomState(0).randint(1, n_features, size=(n, 10))
    columns[:, 0] = 0
    columns.sort(axis=1)
    values = np.ones((n, 10), dtype=np.float32)
    values[:, 0] = np.arange(n) % 2
    indptr = np.arange(0, 10 * n + 1, 10)
    return sparse.csr_array((values.ravel(), columns.ravel(), indptr), shape=shape)


def fit_and_predict(estimator: Any, X: Any, y: np.ndarray) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    fitted = estimator.fit(X, y)
    if len(fitted.predict(X)) != X.shape[0]:
        raise AssertionError("a prediction is missing")


def quick(estimator: Any, batch_size: int = 500) -> Any:
    """Return the estimator with a fit of one or two passes over X."""
    known = estimator.get_params()
    settings: dict[str, Any] = {
        "max_iter": 1,
        "hidden_layer_sizes": (2,),
        "conv_channels": (1,),
        "stride": 8,
    }
    if known.get("batch_size", "auto") != "auto":
        settings["batch_size"] = batch_size
    return fresh(estimator, **{k: v for k, v in settings.items() if k in known})


def attempt(case: Callable[[], None]) -> str | None:
    started = perf_counter()
    try:
        case()
    except BaseException:  # whatever it is, the test has to see it
        return traceback.format_exc()
    finally:
        print(f"{perf_counter() - started:.1f} s", file=sys.stderr)
    return None


def maps(names: list[str]) -> Iterator[tuple[str, str | None]]:
    with tempfile.TemporaryDirectory() as folder:
        for dtype, order in (("f4", "C"), ("u1", "C"), ("f4", "F"), (">f8", "C")):
            X = make_map(Path(folder), dtype, order)
            y = np.arange(len(X)) % 2
            for name, estimator in public_estimators():
                # Every estimator sees rows in the same way; one is enough for odd layouts.
                if name not in names or ((dtype, order) != ("f4", "C") and name != "MLPClassifier"):
                    continue

                def case(estimator: Any = estimator, X: Any = X, y: Any = y) -> None:
                    small = quick(estimator)
                    fit_and_predict(small, X[:2000], y[:2000])  # threads and arenas start here
                    with at_most_more(MAP_LIMIT):
                        fit_and_predict(small, X, y)

                yield f"{name} {dtype} {order}", attempt(case)


def matrices(names: list[str], shape: tuple[int, int]) -> Iterator[tuple[str, str | None]]:
    X = make_csr(shape)
    y = np.arange(shape[0]) % 2
    for name, estimator in public_estimators():
        if name in names:

            def case(estimator: Any = estimator, name: str = name) -> None:
                # A convolution multiplies a batch's size by its channels and by padding.
                small = quick(estimator, batch_size=4 if name == "CNNClassifier" else 20)
                with at_most_more(CSR_LIMIT):
                    fit_and_predict(small, X, y)

            yield name, attempt(case)


if __name__ == "__main__":
    kind, *names = sys.argv[1:]
    cases = {
        "maps": lambda: maps(names),
        "matrices": lambda: matrices(names, CSR_SHAPE),
        "huge": lambda: matrices(names, HUGE_SHAPE),
    }
    print(json.dumps(dict(cases[kind]())))
