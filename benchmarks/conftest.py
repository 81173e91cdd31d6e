"""Options, thread counts, and the report at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from threadpoolctl import threadpool_limits

from benchmarks.race import Agreement, Contender, Outcome, race
from benchmarks.report import Results, write_report

_RESULTS = pytest.StashKey[Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sknets", "benchmarks of sknets")
    group.addoption("--quick", action="store_true", help="tiny sizes, to see that all runs")
    group.addoption(
        "--threads",
        default=str(_n_cores()),
        help="threads of torch, BLAS and OpenMP; several counts with commas, as in 1,2",
    )
    group.addoption(
        "--report-to",
        type=Path,
        default=None,
        help="folder of RESULTS.md and growth.png; the default is benchmarks, after a whole run",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = Results()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "threads" in metafunc.fixturenames:
        counts = [int(count) for count in metafunc.config.getoption("--threads").split(",")]
        metafunc.parametrize(
            "threads", counts, indirect=True, ids=[f"threads={count}" for count in counts]
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Keep what is skipped, or fails, and why."""
    report = yield
    if report.skipped:
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        item.config.stash[_RESULTS].add_absent(item.name, reason)
    elif report.failed and report.when == "call":
        item.config.stash[_RESULTS].add_absent(item.name, "failed")
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report of a whole run, or of any run that names a folder for it."""
    config = session.config
    results = config.stash[_RESULTS]
    folder = config.getoption("--report-to")
    if folder is None and _is_whole_run(session):
        folder = Path(__file__).parent
    if folder is not None and results:
        folder.mkdir(parents=True, exist_ok=True)
        write_report(results, folder)
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\nWrote {folder / 'RESULTS.md'}")


def _is_whole_run(session: pytest.Session) -> bool:
    """Whether all workloads ran at their full size: a part must not replace the whole."""
    option = session.config.option
    partial = option.quick or option.keyword or option.collectonly or session.testsfailed
    named = any("::" in arg or arg.endswith(".py") for arg in session.config.args)
    return not partial and not named


def _n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture
def results(request: pytest.FixtureRequest) -> Results:
    """Return what has been measured so far."""
    return request.config.stash[_RESULTS]


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set the thread count of torch, BLAS and OpenMP, and put it back."""
    count = request.param
    before = torch.get_num_threads()
    with threadpool_limits(count):
        torch.set_num_threads(count)
        yield count
    torch.set_num_threads(before)


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Callable[[Any, Any], Any]:
    """Return a function that chooses between the full size and the quick one."""
    quick = request.config.getoption("--quick")
    return lambda full, tiny: tiny if quick else full


@pytest.fixture
def run_race(
    request: pytest.FixtureRequest, benchmark: Any, threads: int, results: Results
) -> Callable[..., Outcome]:
    """Return a function that runs a race and keeps its row of the report."""
    quick = request.config.getoption("--quick")

    def run(
        workload: str,
        contenders: Sequence[Contender],
        rounds: int,
        agreement: Agreement | None,
        targets: Mapping[str, float],
        *,
        warmup: bool = True,
    ) -> Outcome:
        outcome = race(
            benchmark,
            contenders,
            2 if quick else rounds,
            agreement,
            warmup=warmup and not quick,
        )
        benchmark.extra_info.update(workload=workload, threads=threads, ratios=outcome.ratios())
        results.add_race(workload, threads, outcome, targets)
        return outcome

    return run
