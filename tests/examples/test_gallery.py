"""Every program of the gallery runs without a warning and draws pictures that can be read."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WATCH = Path(__file__).with_name("_watch.py")
PROGRAMS = sorted((ROOT / "examples").glob("plot_*.py"))
QUICK = {"plot_backpropagation", "plot_two_gaussians"}  # the others run on demand

PAGE_WIDTH = 800  # pixels
SMALLEST_LETTERS = 9  # pixels, of an em


def watch(program, folder):
    """Run a program in a folder; return how it ended and what it drew."""
    report = folder / "report.json"
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(WATCH), str(program), str(report)],
        capture_output=True,
        text=True,
        timeout=280,
        env=environment,
        cwd=folder,
    )
    return done, json.loads(report.read_text()) if report.exists() else None


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow)
        for path in PROGRAMS
    ],
)
def drawn(request, tmp_path_factory):
    """What one program drew. A program that fails, fails here."""
    folder = tmp_path_factory.mktemp("gallery")
    done, report = watch(request.param, folder)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["report.json"]  # it leaves no files behind
    return report


def test_pictures_are_shown(drawn):
    assert drawn["pictures"]
    assert not drawn["left_open"], "figures that no plt.show() comes after"
    assert all(picture["axes"] for picture in drawn["pictures"])


def test_axes_are_labelled_and_titled(drawn):
    for number, picture in enumerate(drawn["pictures"], start=1):
        assert not picture["labels_missing"], f"picture {number}"
        assert not picture["titles_missing"], f"picture {number}"


def test_pictures_read_at_page_width(drawn):
    for number, picture in enumerate(drawn["pictures"], start=1):
        assert picture["outside"] <= 1, f"picture {number} is cut off"
        scale = min(1, PAGE_WIDTH / picture["width"])
        assert picture["smallest_letters"] * scale >= SMALLEST_LETTERS, f"picture {number}"


BAD_PICTURE = """
import matplotlib.pyplot as plt
figure, (left, right) = plt.subplots(1, 2, figsize=(16, 2))
left.plot([1, 2])
left.set_xlabel("a label " * 20)
right.set_title("a title", fontsize=9)
plt.show()
plt.figure()
"""


def test_a_bad_picture_is_seen(tmp_path):
    program = tmp_path / "plot_bad.py"
    program.write_text(BAD_PICTURE)
    done, report = watch(program, tmp_path)
    assert done.returncode == 0, done.stderr
    (picture,) = report["pictures"]
    assert picture["labels_missing"] == [
        "axes 0 '', y",
        "axes 1 'a title', x",
        "axes 1 'a title', y",
    ]
    assert picture["titles_missing"] == [0]
    assert picture["outside"] > 1
    assert picture["smallest_letters"] / 2 < SMALLEST_LETTERS
    assert report["left_open"] == 1


def test_a_warning_is_seen(tmp_path):
    program = tmp_path / "plot_warns.py"
    program.write_text("import warnings\nwarnings.warn('a picture is late', stacklevel=1)\n")
    done, _ = watch(program, tmp_path)
    assert done.returncode != 0
    assert "a picture is late" in done.stderr


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_text_is_what_sphinx_gallery_reads(path):
    source = path.read_text(encoding="utf-8")
    lines = ast.get_docstring(ast.parse(source)).splitlines()
    rule = re.compile(r"([^\w\s])\1+")
    overlined = bool(rule.fullmatch(lines[0]))
    title, underline = lines[overlined : overlined + 2]
    assert rule.fullmatch(underline)
    assert len(underline) >= len(title)
    if overlined:
        assert lines[0] == underline
    assert "\n# %%\n" in source
    comments = [line for line in source.splitlines() if line.startswith("#")]
    # A comment is no string literal: its formulas have single backslashes.
    assert not [line for line in comments if re.search(r"\\\\[a-zA-Z]", line)]
