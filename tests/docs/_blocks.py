"""The code of a Markdown page, run as a reader would run it."""

import contextlib
import doctest
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DECIMAL = re.compile(r"\d+\.\d+(?![\d.])")
COUNT = re.compile(r"\d+(?= (?:epochs|mistakes|coefficients)\b)")
# Accuracies and the ends of training differ a little from one processor to the next.
TOLERANCE = 0.03
FACTOR = 1.5


def same_output(want: str, got: str) -> bool:
    """Whether the page shows what was printed.

    Decimal numbers may differ by 0.03, numbers of epochs, mistakes and coefficients by half, white
    space in any way, and "..." is anything.
    """
    want, got = _without(DECIMAL, want, got, lambda a, b: abs(a - b) <= TOLERANCE)
    want, got = _without(COUNT, want, got, lambda a, b: max(a, b) <= FACTOR * min(a, b))
    return doctest.OutputChecker().check_output(want, got, FLAGS)


@dataclass(frozen=True)
class Block:
    """Code of a page, and what the page says that it prints."""

    line: int  # the number of the code's first line in the page
    code: str
    output: str | None  # of the ```text block right behind it, if there is one


def _without(
    numbers: re.Pattern[str], want: str, got: str, close: Callable[[float, float], bool]
) -> tuple[str, str]:
    """Return both texts without their numbers if these are close, else as they were."""
    wanted, found = numbers.findall(want), numbers.findall(got)
    if len(wanted) != len(found):
        return want, got
    if not all(close(float(a), float(b)) for a, b in zip(wanted, found, strict=True)):
        return want, got
    return numbers.sub("#", want), numbers.sub("#", got)


def read_blocks(path: Path) -> list[Block]:
    """Return the Python blocks of a page in their order."""
    page = path.read_text(encoding="utf-8")
    fences = list(FENCE.finditer(page))
    blocks = []
    for i, fence in enumerate(fences):
        if fence[1] != "python":
            continue
        behind = fences[i + 1] if i + 1 < len(fences) else None
        shown = behind is not None and behind[1] == "text"
        between = page[fence.end() : behind.start()] if shown else ""
        output = behind[2] if shown and not between.strip() else None
        blocks.append(Block(page[: fence.start(2)].count("\n") + 1, fence[2], output))
    return blocks


def run_blocks(path: Path) -> tuple[dict, list[str]]:
    """Run the Python blocks of a page in one namespace.

    Returns
    -------
    names : dict
        What the code defined.
    printed : list of str
        What each block printed.

    Raises
    ------
    AssertionError
        If a block prints something else than the page shows.
    """
    names: dict = {"__name__": "__main__"}
    printed = []
    for block in read_blocks(path):
        code = compile("\n" * (block.line - 1) + block.code, str(path), "exec")
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        printed.append(out.getvalue())
        if block.output is not None:
            assert same_output(block.output, printed[-1]), (
                f"{path}:{block.line} prints\n{printed[-1]}\ninstead of\n{block.output}"
            )
    return names, printed
