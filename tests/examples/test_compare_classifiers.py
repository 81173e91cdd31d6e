"""The main job runs, prints who won, and saves a picture."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "compare_classifiers.py"
QUICK = ["--rows", "400", "--epochs", "2"]
CLASSIFIERS = {
    ("DummyClassifier", "scikit-learn"),
    ("Perceptron", "scikit-learn"),
    ("Perceptron", "sknets"),
    ("LogisticRegression", "scikit-learn"),
    ("LogisticRegression", "sknets"),
    ("MLPClassifier", "scikit-learn"),
    ("MLPClassifier", "sknets"),
    ("CNNClassifier", "sknets"),
}


def run(*arguments):
    """Run the example from the project's folder, as the README says, and return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # a newcomer sees no warnings
    return done.stdout


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Return what a quick run on the digits printed, and the picture's path."""
    picture = tmp_path_factory.mktemp("pictures") / "new" / "digits.png"
    return run(*QUICK, "--device", "cpu", "--output", str(picture)), picture


def table(printed):
    """Return {(name, library): [accuracy, fit seconds, rows a second, epochs, won…]}."""
    rows = (line.split() for line in printed.splitlines())
    return {tuple(row[:2]): row[2:] for row in rows if tuple(row[:2]) in CLASSIFIERS}


def test_table_has_every_classifier(digits):
    rows = table(digits[0])
    assert set(rows) == CLASSIFIERS
    for accuracy, seconds, speed, *_ in rows.values():
        assert 0 <= float(accuracy) <= 1
        assert float(seconds) >= 0
        assert float(speed.replace(",", "")) > 0
    assert {
        rows[key][3] for key in CLASSIFIERS if key[0] in ("MLPClassifier", "CNNClassifier")
    } == {"2"}


def test_linear_classifiers_learnt(digits):
    rows = table(digits[0])
    for name in ("Perceptron", "LogisticRegression"):
        assert float(rows[name, "sknets"][0]) > 0.8
    assert float(rows["DummyClassifier", "scikit-learn"][0]) < 0.2


def test_one_of_two_namesakes_won_in_each_column(digits):
    rows = table(digits[0])
    for name in ("Perceptron", "LogisticRegression", "MLPClassifier"):
        ours, theirs = (" ".join(rows[name, library][4:]) for library in ("sknets", "scikit-learn"))
        for word, column, sign in (("accuracy", 0, 1), ("fit", 1, -1), ("predict", 2, 1)):
            a, b = (
                sign * float(rows[name, library][column].replace(",", ""))
                for library in ("sknets", "scikit-learn")
            )
            assert not (word in ours and word in theirs)
            if a != b:
                assert word in (ours if a > b else theirs)


def test_picture(digits):
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    printed, picture = digits
    assert re.search(r"^Picture: (.*)$", printed, re.MULTILINE)[1] == str(picture)
    height, width, _ = plt.imread(picture).shape
    assert height > 300
    assert width > 600


def test_no_progress_bar_in_a_pipe(digits):
    assert "\x1b" not in digits[0]


def test_progress_bar_on_a_terminal(tmp_path):
    mine, theirs = pty.openpty()
    command = [sys.executable, str(SCRIPT), *QUICK, "--output", str(tmp_path / "picture.png")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        command, stdout=theirs, stderr=subprocess.PIPE, env=environment
    ) as process:
        os.close(theirs)
        printed = b""
        while True:
            try:
                chunk = os.read(mine, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            printed += chunk
        errors = process.stderr.read()
    os.close(mine)
    assert process.returncode == 0, errors
    assert re.search(rb"\d/8", printed)
    assert b"CNNClassifier (sknets)" in printed


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_mnist(mnist, device, tmp_path):
    printed = run(
        "--data", "mnist", "--rows", "4000", "--epochs", "4", "--device", device,
        "--output", str(tmp_path / "mnist.png"),
    )  # fmt: skip
    assert float(table(printed)["CNNClassifier", "sknets"][0]) > 0.8
