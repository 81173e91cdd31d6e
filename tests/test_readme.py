"""The README's code runs, its commands are there, and its links lead somewhere."""

import re
import subprocess
from pathlib import Path

import matplotlib as mpl
import pytest

from tests.docs._blocks import read_blocks, run_blocks

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_code_blocks_run(tmp_path, monkeypatch):
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    names, printed = run_blocks(ROOT / "README.md")
    accuracy = float(printed[0])
    assert accuracy > 0.95
    # Rows that are said to be images are convolved as images, not as signals of eight channels.
    assert names["cnn"].input_shape_ == (1, 8, 8)
    assert names["cnn"].best_validation_score_ > 0.95


def test_import_change_is_the_whole_change():
    removed, added = re.search(r"```diff\n-(.*)\n\+(.*)\n```", README).groups()
    assert removed.replace("sklearn", "sknets") == added
    assert added in read_blocks(ROOT / "README.md")[0].code.splitlines()


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_links(target):
    assert target.startswith("https://") or (ROOT / target).exists()


def test_commands_run_what_exists():
    files = set(re.findall(r"python (\S+\.py)", README))
    assert files == {
        "examples/compare_classifiers.py",
        "tests/run_checks.py",
        "docs/build.py",
    }
    assert all((ROOT / file).is_file() for file in files)


def test_ci_finds_the_test_command():
    marked = re.search(r"<!-- test-command -->\n```bash\n(.*?)\n```", README, re.DOTALL)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    awk = re.search(r"command=\$\((awk .*?README\.md\")\)", script, re.DOTALL)[1]
    found = subprocess.run(
        ["bash", "-c", f"root={ROOT}; {awk}"], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == marked[1].strip()
