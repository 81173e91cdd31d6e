"""Options, thread counts, and the report at the end."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
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
    group.addoption("--part-to", type=Path, default=None, help="file for what one workload gave")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = Results()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "threads" in metafunc.fixturenames:
        counts = [int(count) for count in metafunc.config.getoption("--threads").split(",")]
        metafunc.parametrize(
            "threads", counts, indirect=True, ids=[f"threads={count}" for count in counts]
        )


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run each workload in a process of its own, so that none depends on what the last has left.

    How fast a process is given memory, for one, depends on what it has given back before. One
    workload alone runs here, and so do all of a quick run, and where pytest-benchmark is to write a
    record of them.
    """
    option = session.config.option
    in_one_process = option.quick or option.collectonly or option.benchmark_json
    if in_one_process or len(session.items) < 2:
        return None
    results = session.config.stash[_RESULTS]
    with tempfile.TemporaryDirectory() as folder:
        for item in session.items:
            part = Path(folder) / "part"
            command = [sys.executable, "-m", "pytest", item.nodeid, "-q", "--no-header"]
            command += ["--threads", option.threads, "--part-to", str(part)]
            code = subprocess.run(command, cwd=session.config.rootpath, check=False).returncode
            failure = f"its process ended with {code}" if code else None
            if part.exists():
                given = pickle.loads(part.read_bytes())
                part.unlink()
            else:
                given = Results(absent={item.name: failure or "it gave no result"})
            results.add(given)
            report = _report(item, failure, given.absent.get(item.name))
            item.ihook.pytest_runtest_logreport(report=report)
    return True


def _report(item: pytest.Item, failure: str | None, absence: str | None) -> pytest.TestReport:
    """Return how a workload ended that ran in another process."""
    outcome, longrepr = "passed", failure
    if failure is not None:
        outcome = "failed"
    elif absence is not None:
        path, line, _ = item.location
        outcome, longrepr = "skipped", (path, line or 0, absence)
    return pytest.TestReport(item.nodeid, item.location, {}, outcome, longrepr, "call")


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
    part = config.getoption("--part-to")
    if part is not None:
        part.write_bytes(pickle.dumps(results))
        return
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
