"""The time to import sknets, beside the time to import what it stands on."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.race import OURS, Contender, race

_ROOT = Path(__file__).parent.parent


def _run(statement: str) -> None:
    subprocess.run([sys.executable, "-c", statement], cwd=_ROOT, check=True)


@pytest.mark.parametrize(
    ("ours", "theirs", "target"),
    [
        ("import sknets", "import sklearn, torch", 1.25),
        (
            "from sknets.neural_network import MLPClassifier",
            "import torch; from sklearn.neural_network import MLPClassifier",
            None,
        ),
    ],
    ids=["package", "class"],
)
def test_import(benchmark, results, size, ours, theirs, target):
    outcome = race(
        benchmark,
        [
            Contender(OURS, functools.partial(_run, ours)),
            Contender("theirs", functools.partial(_run, theirs)),
        ],
        rounds=size(9, 1),
    )
    ratio = outcome.median(OURS) / outcome.median("theirs")
    results.add_claim(
        f"`{ours}` over `{theirs}`",
        f"{ratio:.2f} ({outcome.median(OURS):.2f} s over {outcome.median('theirs'):.2f} s)",
        "" if target is None else f"≤ {target}",
        None if target is None else ratio <= target,
    )
