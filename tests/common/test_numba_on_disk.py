"""Compiled code that is kept on disk is that of the sources as they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sknets

pytestmark = pytest.mark.slow

PROGRAM = """
import warnings
from sklearn.datasets import load_iris
from sknets import LogisticRegression, MLPClassifier

warnings.simplefilter("ignore")
estimators = {{
    "net": MLPClassifier((4,), max_iter=3, random_state=0, device="cpu", compile={compile!r}),
    "logistic": LogisticRegression(max_iter=3, device="cpu", compile={compile!r}),
}}
clf = estimators[{name!r}].fit(*load_iris(return_X_y=True))
print(clf.history_["train_loss"][-1])
"""

# A line of a file, and another that makes the loss larger.
CHANGES = {
    "net": (
        "_numba_kernels.py",
        "weights[i] -= rate * first[i]",
        "weights[i] -= 0 * rate * first[i]",
    ),
    "logistic": (
        "_numba_logistic.py",
        "loss += float(share[j]) * (log(sums[j]) - own[j])",
        "loss += float(share[j]) * (1 + log(sums[j]) - own[j])",
    ),
}


def run(folder, code, **environment):
    """Return the number that a program prints, with the copy of the package in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_kept_on_disk_is_of_the_code_as_it_is(name, tmp_path):
    shutil.copytree(Path(sknets.__file__).parent, tmp_path / "sknets")
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    program = PROGRAM.format(name=name, compile="numba")
    first = run(tmp_path, program, **cache)
    assert list((tmp_path / "cache").rglob("*.nbi"))
    assert run(tmp_path, program, **cache) == first
    file, line, changed = CHANGES[name]
    path = tmp_path / "sknets" / "_engine" / file
    code = path.read_text()
    assert code.count(line) == 1
    path.write_text(code.replace(line, changed))
    assert run(tmp_path, program, **cache) > first + 1e-3


@pytest.mark.parametrize("name", CHANGES)
def test_it_works_where_nothing_can_be_kept(name, tmp_path):
    wanted = run(tmp_path, PROGRAM.format(name=name, compile=False))
    program = PROGRAM.format(name=name, compile="numba")
    nowhere = "from numba.core import caching; caching.CacheImpl._locator_classes = []"
    (tmp_path / "sitecustomize.py").write_text(nowhere)
    with pytest.raises(AssertionError, match="no locator available"):  # as Numba says it
        run(tmp_path, "import numba; numba.njit(cache=True)(lambda: 0)")
    assert run(tmp_path, program) == pytest.approx(wanted, rel=1e-9)
    assert run(tmp_path, program, NUMBA_DISABLE_JIT="1") == pytest.approx(wanted, rel=1e-9)
