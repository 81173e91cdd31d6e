"""Wheel and sdist build, hold what they should, and the wheel works away from the checkout."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import sknets

ROOT = Path(__file__).resolve().parents[1]

FIT = """
import sys
from pathlib import Path
from sklearn.datasets import load_iris
import sknets
assert Path(sknets.__file__).is_relative_to(sys.argv[1]), sknets.__file__
X, y = load_iris(return_X_y=True)
print(sknets.__version__, sknets.LogisticRegression(max_iter=1000).fit(X, y).score(X, y))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the paths of the sdist and of the wheel, built offline from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def test_wheel_holds_the_package_alone(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "sknets").rglob("*.py")}
    assert sources <= names
    assert "sknets/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"sknets"}


def test_sdist_holds_what_its_tests_need(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", ".ci/run", "tests/conftest.py"} <= names
    assert "docs/images/compare_classifiers.png" in names


def test_installed_wheel_fits(built, tmp_path):
    home = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*install, "--target", str(home), str(built[1])], check=True)
    done = subprocess.run(
        [sys.executable, "-c", FIT, str(home)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    version, accuracy = done.stdout.split()
    assert version == sknets.__version__
    assert float(accuracy) > 0.95


def test_the_folders_for_users_are_attributes():
    """As in scikit-learn, ``import sknets`` is enough to name them."""
    code = "import sknets; sknets.datasets, sknets.linear_model, sknets.model_selection"
    subprocess.run([sys.executable, "-c", f"{code}, sknets.neural_network"], check=True)
