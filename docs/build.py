"""Build the site: `python docs/build.py [--no-gallery] [--output FOLDER]`.

Warnings are errors, and so is a link inside the site that leads nowhere. With `--no-gallery` the
examples get their pages, but are not run. Links to other sites are looked at on demand, with
`python -m sphinx -b linkcheck docs FOLDER`.
"""

import argparse
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # this checkout's sknets

from sknets._core._documentation import DOCUMENTATION_URL  # noqa: E402


class Page(HTMLParser):
    """The links of a page of HTML, and the places in it that links may lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag's links and of its name."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.targets.append(value)
            elif name == "srcset" and value:
                self.targets += [part.split()[0] for part in value.split(",")]
            elif name == "id" and value:
                self.places.add(value)


def broken_links(site: Path, address: str) -> list[str]:
    """Return a line for every link between the pages below `site` that leads nowhere.

    `address` is where the site will be: a link that begins with it, such as the "?" of an
    estimator's HTML repr, is one between pages too.
    """
    site = site.resolve()
    found = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    pages = {path: Page(path) for path in found}
    broken = set()
    for path, page in pages.items():
        for target in page.targets:
            own = target.startswith(address)
            parts = urlsplit(target.removeprefix(address) if own else target)
            if parts.scheme or parts.netloc:
                continue
            folder = site if own else path.parent
            goal = (folder / unquote(parts.path)).resolve() if parts.path else path
            goal = goal / "index.html" if goal.is_dir() else goal
            place = unquote(parts.fragment).partition(":~:text=")[0]  # what browsers search for
            missing = not goal.is_file()
            if not missing and place and goal in pages:
                missing = place not in pages[goal].places
            if missing:
                broken.add(f"{path.relative_to(site)}: {target}")
    return sorted(broken)


def main(arguments: list[str]) -> int:
    """Build and check the site, and return the exit status, 0 where all is well."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--no-gallery", action="store_true", help="do not run the examples")
    parser.add_argument("--output", type=Path, default=DOCS / "_build" / "html")
    settings = parser.parse_args(arguments)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    if settings.no_gallery:
        command += ["-D", "plot_gallery=0"]
    built = subprocess.run([*command, str(DOCS), str(settings.output)])
    if built.returncode:
        return built.returncode
    broken = broken_links(settings.output, DOCUMENTATION_URL)
    for line in broken:
        print(f"broken link in {line}", file=sys.stderr)
    if not broken:
        print(f"The site: {(settings.output / 'index.html').resolve()}")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
