"""RESULTS.md: what was measured, on what machine, beside what was aimed at."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_info

from benchmarks.growth_picture import draw_growth
from benchmarks.race import LIMIT, NOT_COMPILED, OURS, TORCH_LIMIT, Outcome

_COLUMNS = (
    *("scikit-learn", "skorch", "tutorial loop", "loop on the device", NOT_COMPILED),
    *(LIMIT, TORCH_LIMIT),
)
_HEADINGS = {LIMIT: "share of the limit", TORCH_LIMIT: "share of torch's limit"}
_SOMETIMES = ("loop on the device", NOT_COMPILED)
_PACKAGES = ("sknets", "scikit-learn", "torch", "skorch", "numpy", "scipy", "pytest-benchmark")


@dataclass(frozen=True)
class RaceRow:
    """A race and the ratios it should reach, by contender."""

    workload: str
    threads: int
    outcome: Outcome
    targets: Mapping[str, float]


@dataclass(frozen=True)
class Claim:
    """A figure that is not a ratio of a race, what it should be, and whether it is."""

    what: str
    value: str
    target: str
    met: bool | None


@dataclass(frozen=True)
class Curve:
    """Microseconds a row and pass by contender, against a size."""

    title: str
    axis: str
    sizes: Sequence[int]
    microseconds: Mapping[str, Sequence[float]]


@dataclass
class Results:
    """All that a run has measured."""

    races: list[RaceRow] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.races or self.claims or self.curves)

    def add_race(
        self, workload: str, threads: int, outcome: Outcome, targets: Mapping[str, float]
    ) -> None:
        """Keep a race, but not the fitted estimators."""
        outcome = replace(outcome, results={})
        self.races.append(RaceRow(workload, threads, outcome, targets))

    def add_claim(self, what: str, value: str, target: str, met: bool | None) -> None:
        """Keep a figure; `met` is None where there is no target."""
        self.claims.append(Claim(what, value, target, met))

    def add_curve(self, curve: Curve) -> None:
        """Keep a curve."""
        self.curves.append(curve)

    def add(self, others: Results) -> None:
        """Keep what others have measured, after what is there."""
        self.races += others.races
        self.claims += others.claims
        self.curves += others.curves
        self.absent |= others.absent

    def add_absent(self, test: str, reason: str) -> None:
        """Keep what was not measured, and why."""
        self.absent[test] = reason


def write_report(results: Results, folder: Path) -> None:
    """Write RESULTS.md, and growth.png if there are curves."""
    parts = ["# Results", _machine(folder.resolve())]
    for threads in sorted({row.threads for row in results.races}):
        rows = [row for row in results.races if row.threads == threads]
        parts += [f"## Races on {threads_text(threads)}", _races(rows)]
    if results.claims:
        parts += ["## Other figures", _claims(results.claims)]
    if results.curves:
        draw_growth(results.curves, folder / "growth.png")
        parts += ["## Cost against size", "![Cost against size](growth.png)"]
        parts += [_curve(curve) for curve in results.curves]
    if results.absent:
        lines = [f"- `{test}`: {reason}" for test, reason in results.absent.items()]
        parts += ["## Not measured", "\n".join(lines)]
    (folder / "RESULTS.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def threads_text(count: int) -> str:
    """Return "1 thread", "2 threads", …"""
    return f"{count} thread{'s' if count > 1 else ''}"


def _machine(folder: Path) -> str:
    readme = os.path.relpath(Path(__file__).resolve().parent / "README.md", folder)
    versions = [("Python", platform.python_version()), *_versions()]
    return "\n".join(
        [
            f"Written by pytest; [README.md]({readme}) says how.",
            "",
            f"- Date: {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}",
            f"- Machine: {_cpu()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB of memory",
            *_gpus(),
            f"- Versions: {', '.join(f'{name} {version}' for name, version in versions)}",
            f"- Thread pools: {_pools()}",
        ]
    )


def _versions() -> list[tuple[str, str]]:
    found = []
    for package in _PACKAGES:
        try:
            found.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            found.append((package, getattr(__import__(package), "__version__", "unknown")))
    return found


def _pools() -> str:
    """Return the libraries that have threads, and the processor that a BLAS has kernels for."""
    pools = set()
    for pool in threadpool_info():
        kernels = pool.get("architecture")
        words = [pool["internal_api"], pool["version"], f"({kernels})" if kernels else None]
        pools.add(" ".join(word for word in words if word))
    return ", ".join(sorted(pools)) + "; each set to the number of threads of the table"


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _gpus() -> list[str]:
    if not torch.cuda.is_available():
        return []
    found = torch.cuda.get_device_properties(0)
    return [f"- GPU: {found.name}, {found.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"]


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _races(rows: Iterable[RaceRow]) -> str:
    rows = list(rows)
    found = {name for row in rows for name in row.outcome.seconds}
    columns = [name for name in _COLUMNS if name in found or name not in _SOMETIMES]
    header = ["workload", "ms", *(_HEADINGS.get(name, name) for name in columns)]
    body = []
    for row in rows:
        ratios = row.outcome.ratios()
        cells = [_ratio(ratios.get(name), row.targets.get(name)) for name in columns]
        body.append([row.workload, f"{1e3 * row.outcome.median(OURS):.3g}", *cells])
    note = (
        "A contender's median time over ours, and in brackets what it should be at least; **bold** "
        "where it is less. The share of the limit is the time of the bare products over ours: by "
        "the fastest library, and by torch's own."
    )
    return f"{note}\n\n{_table(header, body)}"


def _ratio(ratio: float | None, target: float | None) -> str:
    if ratio is None:
        return ""
    if target is None:
        return f"{ratio:.2f}"
    return f"{ratio:.2f} (≥ {target:g}) ✓" if ratio >= target else f"**{ratio:.2f}** (≥ {target:g})"


def _claims(claims: Iterable[Claim]) -> str:
    marks = {True: "✓", False: "**missed**", None: ""}
    body = [[c.what, c.value, c.target, marks[c.met]] for c in claims]
    return _table(["what", "measured", "target", "met"], body)


def _curve(curve: Curve) -> str:
    body = [
        [
            f"{size:,}".replace(",", " "),
            *(f"{times[i]:.3g}" for times in curve.microseconds.values()),
        ]
        for i, size in enumerate(curve.sizes)
    ]
    table = _table([curve.axis, *curve.microseconds], body)
    return f"{curve.title}, microseconds a row and pass:\n\n{table}"


def _table(header: Sequence[Any], body: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
