"""The pages that are made from something else: the API reference, the benchmarks, the changelog."""

import inspect
import re
from importlib import import_module
from pathlib import Path

from api_table import API, page_of

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

CHANGELOG_MARK = "<!-- towncrier release notes start -->\n"
# In the order of towncrier's types in pyproject.toml.
CHANGE_TYPES = ("added", "changed", "fixed", "removed")


def write_pages() -> None:
    """Write all generated pages below `docs/`; a page that has not changed is left alone."""
    pages = {f"{page}.rst": text for page, text in api_pages().items()}
    pages["generated/benchmarks.md"] = benchmarks_page()
    pages["generated/changelog.md"] = changelog_page()
    for old in [*(DOCS / "api").glob("*.rst"), *(DOCS / "generated").glob("*.md")]:
        if str(old.relative_to(DOCS)) not in pages:
            old.unlink()
    for name, text in pages.items():
        path = DOCS / name
        path.parent.mkdir(exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


# -- the API reference ---------------------------------------------------------------------------


def api_pages() -> dict[str, str]:
    """Return the reST of the index and of the page of every name in the table."""
    pages = {
        page_of(module, name): _object_page(module, name)
        for module, names in API.items()
        for name in names
    }
    return {"api/index": _index_page(), **pages}


def _index_page() -> str:
    lines = [
        _heading("API reference", "="),
        "The estimators and the searches can be imported from ``sknets`` itself too.",
    ]
    for module, names in API.items():
        rows = [
            f"   * - :py:obj:`~{module}.{name}`\n     - {_summary(module, name)}" for name in names
        ]
        lines += [
            _heading(module, "-"),
            _first_line(import_module(module)),
            ".. list-table::\n   :widths: 35 65\n\n" + "\n".join(rows),
        ]
    pages = [page_of(module, name) for module, names in API.items() for name in names]
    listed = "\n".join(f"   /{page}" for page in pages)
    lines.append(f".. toctree::\n   :hidden:\n\n{listed}")
    return "\n\n".join(lines) + "\n"


def _object_page(module: str, name: str) -> str:
    value = getattr(import_module(module), name)
    lines = [_heading(name, "="), f".. currentmodule:: {module}"]
    if inspect.isclass(value):
        own, inherited = _methods(value)
        lines.append(f".. autoclass:: {name}\n   :members: {', '.join(own)}")
        if inherited:
            listed = ", ".join(f"``{method}``" for method in inherited)
            lines.append(f"From scikit-learn it has: {listed}.")
    else:
        lines.append(f".. autofunction:: {name}")
    if any(_mentions(path, name) for path in (ROOT / "examples").glob("plot_*.py")):
        # Examples that import a name from `sknets` itself are filed under that name.
        lines.append(
            f".. minigallery:: sknets.{name} {module}.{name}\n   :add-heading: Examples with {name}"
        )
    return "\n\n".join(lines) + "\n"


def _methods(cls: type) -> tuple[list[str], list[str]]:
    """Return the public methods and properties that are ours, and those of scikit-learn."""
    own, inherited = [], []
    for name, value in inspect.getmembers(cls):
        value = value.fget if isinstance(value, property) else value
        if name.startswith("_") or not callable(value):
            continue
        home = getattr(inspect.unwrap(value), "__module__", None) or ""
        (own if home.startswith("sknets") else inherited).append(name)
    return own, inherited


def _mentions(path: Path, name: str) -> bool:
    return re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")) is not None


def _summary(module: str, name: str) -> str:
    return _first_line(getattr(import_module(module), name))


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def _heading(text: str, underline: str) -> str:
    return f"{text}\n{underline * len(text)}"


# -- benchmarks and changelog --------------------------------------------------------------------


def benchmarks_page() -> str:
    """Return how speed is measured and what was measured last, as parts of one page."""
    folder = ROOT / "benchmarks"
    measured = (
        "# Results\n\nNo whole run is recorded yet: `python -m pytest benchmarks` writes "
        "`benchmarks/RESULTS.md`, and the next build of this page shows it.\n"
    )
    if (folder / "RESULTS.md").is_file():
        measured = (folder / "RESULTS.md").read_text(encoding="utf-8")
    how = (folder / "README.md").read_text(encoding="utf-8")
    return f"{_lower(_led_elsewhere(how))}\n{_lower(_led_elsewhere(measured))}"


def _led_elsewhere(markdown: str) -> str:
    """Return a text from `benchmarks/` with links that hold in `docs/speed.md`.

    Links from one text to the other become their words, since both are on that page; pictures that
    are not there are left out.
    """
    markdown = re.sub(r"\[(\w+\.md)\]\(\1\)", r"`benchmarks/\1`", markdown)

    def picture(found: re.Match[str]) -> str:
        words, name = found.groups()
        there = (ROOT / "benchmarks" / name).is_file()
        return f"![{words}](../benchmarks/{name})" if there else ""

    return re.sub(r"!\[([^\]]*)\]\((?!https?:)([^)]+)\)", picture, markdown)


def _lower(markdown: str) -> str:
    """Return the page with every heading one level lower, to stand inside another page."""
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [re.sub(r"^(#+ )", r"#\1", part, flags=re.MULTILINE) for part in parts[::2]]
    return "".join(parts)


def changelog_page() -> str:
    """Return the changelog with the changes that are not released yet on top."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = changelog.partition(CHANGELOG_MARK)[2]  # what stands above is for those who write
    page = ["# Changelog", "What users notice, newest first."]
    unreleased = []
    for kind in CHANGE_TYPES:
        fragments = sorted((ROOT / "changelog.d").glob(f"*.{kind}.md"))
        entries = [f"- {path.read_text(encoding='utf-8').strip()}" for path in fragments]
        if entries:
            unreleased += [f"### {kind.capitalize()}", "\n".join(entries)]
    if unreleased:
        page += ["## Not released yet", *unreleased]
    if released.strip():
        page.append(released.strip())
    return "\n\n".join(page) + "\n"
