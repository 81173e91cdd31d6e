"""Run every check of the project: `python tests/run_checks.py [--static | pytest's arguments]`.

The one list of checks. Pre-commit, the README's test command and the workflow call this file.
`--static` runs no tests but those of the docstrings, and builds no site; any other argument goes to
pytest.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PYTHON = (sys.executable, "-m")
STATIC_CHECKS = {
    "lint": (*PYTHON, "ruff", "check", "."),
    "format": (*PYTHON, "ruff", "format", "--check", "."),
    "types": (*PYTHON, "mypy"),
    # import-linter has no "python -m" form of its own
    "layers": (sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"),
    "changelog": (*PYTHON, "towncrier", "build", "--draft", "--version", "next"),
    "hooks": (*PYTHON, "pre_commit", "validate-config", ".pre-commit-config.yaml"),
}
# numpydoc validation, doctests and the code of README and pages are tests; the first two are quick
# enough to come before a commit too.
DOCSTRINGS = (*PYTHON, "pytest", "-q", "tests/test_docstrings.py", "sknets")
# The site: every page, the API reference and the links between them. The examples get their pages
# but are not run: `python docs/build.py` does that.
SITE = {"site": (sys.executable, "docs/build.py", "--no-gallery")}
# A worker is one thread (tests/conftest.py).
TESTS = (*PYTHON, "pytest", "-n", "2")


def failed_checks(checks: dict[str, tuple[str, ...]]) -> list[str]:
    """Run checks that are no tests, all of them, and return the names of those that failed."""
    failed = []
    for name, command in checks.items():
        print(f"--- {name}", flush=True)
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(name)
    return failed


def main(arguments: list[str]) -> int:
    """Run the checks and return the exit status, 0 where all passed."""
    static_only = arguments == ["--static"]
    failed = failed_checks(STATIC_CHECKS if static_only else STATIC_CHECKS | SITE)
    if failed:
        print("FAILED:", ", ".join(failed), flush=True)
    if static_only:
        print("--- docstrings", flush=True)
        return bool(failed) or subprocess.run(DOCSTRINGS, cwd=ROOT).returncode
    print("--- tests", flush=True)
    status = subprocess.run([*TESTS, *arguments], cwd=ROOT).returncode
    if failed:  # said again below a long log; without failures pytest's line stays the last
        print("FAILED:", ", ".join(failed), flush=True)
    return status or bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
