"""The check of links between built pages finds those that lead nowhere."""

import importlib.util
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[2] / "docs" / "build.py"
ADDRESS = "https://example.org/site/"


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build_site", BUILD)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path):
    (tmp_path / "guide").mkdir()
    (tmp_path / "_static").mkdir()
    (tmp_path / "guide" / "page.html").write_text('<h2 id="cost">Cost</h2><a href="../">up</a>')
    (tmp_path / "picture one.png").write_bytes(b"")
    (tmp_path / "_static" / "template.html").write_text('<a href="{{ nowhere }}">x</a>')
    return tmp_path


@pytest.mark.parametrize(
    "tag",
    [
        '<a href="guide/page.html">',
        '<a href="guide/page.html#cost">',
        '<a href="#here">',
        f'<a href="{ADDRESS}guide/page.html#cost">',
        f'<a href="{ADDRESS}">',
        '<a href="guide/page.html#:~:text=alpha">',
        '<a href="https://scikit-learn.org/no/such/page">',
        '<a href="mailto:a@example.org">',
        '<img src="picture%20one.png">',
        '<img src="data:image/png;base64,xyz">',
    ],
)
def test_a_link_that_holds(tag, build, site):
    (site / "index.html").write_text(f'<p id="here">{tag}</p>')
    assert build.broken_links(site, ADDRESS) == []


@pytest.mark.parametrize(
    ("tag", "target"),
    [
        ('<a href="guide/none.html">', "guide/none.html"),
        ('<a href="guide/page.html#price">', "guide/page.html#price"),
        ('<a href="#there">', "#there"),
        (f'<a href="{ADDRESS}api/none.html">', f"{ADDRESS}api/none.html"),
        ('<a href="guide">', "guide"),
        ('<img src="none.png">', "none.png"),
        ('<img srcset="picture%20one.png 1x, none.png 2x">', "none.png"),
    ],
)
def test_a_link_that_leads_nowhere(tag, target, build, site):
    (site / "index.html").write_text(f'<p id="here">{tag}</p>')
    assert build.broken_links(site, ADDRESS) == [f"index.html: {target}"]
