"""The code of a Markdown page, run as a reader would run it."""

import contextlib
import doctest
import io
import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHECK = doctest.OutputChecker().check_output
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """Code of a page, and what the page says that it prints."""

    line: int  # the number of the code's first line in the page
    code: str
    output: str | None  # of the ```text block right behind it, if there is one


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
        If a block prints something else than the page shows ("..." stands for anything).
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
            assert CHECK(block.output, printed[-1], FLAGS), (
                f"{path}:{block.line} prints\n{printed[-1]}\ninstead of\n{block.output}"
            )
    return names, printed
