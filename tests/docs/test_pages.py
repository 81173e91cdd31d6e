"""The code of every page runs, prints what the page says, and the links between pages hold."""

import importlib.util
import os
import re
from pathlib import Path

import matplotlib as mpl
import pytest

from tests.docs._blocks import read_blocks, run_blocks, same_output

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MADE = {"_build", "api", "auto_examples", "generated"}  # by the build
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if path.relative_to(DOCS).parts[0] not in MADE]
WITH_CODE = [path for path in PAGES if read_blocks(path)]
GUIDE = [path for path in PAGES if path.parent.name == "user_guide" and path.stem != "index"]


def name_of(path):
    return str(path.relative_to(DOCS))


@pytest.mark.parametrize("path", WITH_CODE, ids=name_of)
def test_code_runs_and_prints_what_the_page_says(path, tmp_path, monkeypatch):
    if "array_api_dispatch" in path.read_text(encoding="utf-8"):
        assert os.environ["SCIPY_ARRAY_API"] == "1"  # tests/conftest.py
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    run_blocks(path)


def test_front_page_leads_to_a_fitted_pipeline(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names, printed = run_blocks(DOCS / "index.md")
    accuracy = float(re.search(r"0\.\d+", printed[0])[0])
    assert accuracy > 0.95
    assert names["model"].score(names["X_test"], names["y_test"]) == pytest.approx(
        accuracy, abs=0.005
    )


def test_every_topic_of_the_user_guide_shows_code():
    assert len(GUIDE) >= 11
    assert set(GUIDE) <= set(WITH_CODE)


@pytest.mark.parametrize("path", GUIDE, ids=name_of)
def test_pages_of_the_user_guide_answer_the_same_questions(path):
    page = path.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert {"Parameters that matter", "Cost", "Limits"} <= set(headings)
    assert headings[0] in {"Model", "Rule"}
    index = (path.parent / "index.md").read_text(encoding="utf-8")
    assert f"({path.name})" in index


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_between_pages_hold(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        goal = (path.parent / target).resolve()
        made = goal.is_relative_to(DOCS) and goal.relative_to(DOCS).parts[0] in MADE
        assert target.startswith("https://") or made or goal.is_file(), target


def test_linked_examples_are_there():
    for path in PAGES:
        for name in re.findall(r"auto_examples/(plot_\w+)", path.read_text(encoding="utf-8")):
            assert (ROOT / "examples" / f"{name}.py").is_file(), f"{path}: {name}"


def test_every_example_has_its_place_in_the_gallery():
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    names = [path.name for path in (ROOT / "examples").glob("plot_*.py")]
    assert {name.removesuffix(".py") for name in names} <= set(gallery.ORDER)
    ordered = sorted([*names, "plot_a_new_one.py"], key=gallery.ByLesson("examples"))
    assert ordered[0] == "plot_two_gaussians.py"
    assert ordered[-1] == "plot_a_new_one.py"


# -- the mechanism -------------------------------------------------------------------------------

PAGE = """\
```python
a = 1
print(a, "of", 10)
```

```text
1 of ...
```

Words.

```bash
exit 1
```

```python
print(a + 1)
```

Words between: not what the code prints.

```text
a drawing
```
"""


def test_blocks_share_names_and_their_output_is_compared(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    first, second = read_blocks(path)
    assert (first.line, first.output) == (2, "1 of ...\n")
    assert second.output is None
    assert run_blocks(path)[1] == ["1 of 10\n", "2\n"]
    path.write_text(PAGE.replace("1 of ...", "2 of ..."), encoding="utf-8")
    with pytest.raises(AssertionError, match=r"page\.md:2 prints\n1 of 10"):
        run_blocks(path)


@pytest.mark.parametrize(
    ("want", "got", "same"),
    [
        ("0.96", "0.97", True),
        ("0.96", "0.91", False),
        ("a 0.96\n(3,)", "a  0.95\n(3,)\n", True),
        ("0.96 of 3", "0.96 of 4", False),
        ("40 epochs, 0.96", "39 epochs, 0.95", True),
        ("40 epochs, 0.96", "90 epochs, 0.96", False),
        ("40 epochs, 0.96", "40 epochs, 0.5", False),
        ("40 nets", "41 nets", False),
        ("1.0", "0.99", True),
        ("version 1.2.3", "version 1.2.4", False),
    ],
)
def test_output_is_the_same_up_to_a_few_rows_of_accuracy(want, got, same):
    assert same_output(want, got) is same
