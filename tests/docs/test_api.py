"""The API reference holds every public name, and an estimator's HTML repr leads to its page."""

import importlib
import inspect
import re
import sys
import tomllib
from pathlib import Path

import pytest
from sklearn.datasets import load_iris
from sklearn.utils import estimator_html_repr

import sknets
from sknets._core._documentation import DOCUMENTATION_URL
from tests.test_docstrings import public_modules

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generate():
    """The module that writes the generated pages."""
    sys.path.insert(0, str(ROOT / "docs"))
    yield importlib.import_module("generate")
    sys.path.remove(str(ROOT / "docs"))


def test_table_holds_all_public_names_and_no_other(generate):
    modules = [name for name in public_modules() if name != "sknets"]
    public = {name: set(importlib.import_module(name).__all__) for name in modules}
    assert {module: set(names) for module, names in generate.API.items()} == public
    listed = [name for names in generate.API.values() for name in names]
    assert {*sknets.__all__} - {"__version__"} <= {*listed}
    assert len(listed) == len(set(listed))


def test_every_name_has_a_page_and_every_page_is_listed(generate):
    pages = generate.api_pages()
    index = pages.pop("api/index")
    assert len(pages) == sum(map(len, generate.API.values()))
    for name, page in pages.items():
        assert re.search(rf"^   /{re.escape(name)}$", index, re.MULTILINE)
        module, _, member = name.removeprefix("api/").rpartition(".")
        assert page.startswith(f"{member}\n")
        assert f".. currentmodule:: {module}\n" in page


def test_page_of_a_class_documents_its_own_methods(generate):
    page = generate.api_pages()["api/sknets.neural_network.MLPClassifier"]
    members = re.search(r":members: (.*)", page)[1].split(", ")
    assert {"fit", "partial_fit", "predict", "predict_proba", "coefs_"} <= set(members)
    assert "get_params" not in members
    assert "``get_params``" in page


def documented_estimators():
    """An instance of every public class that is an estimator or a search."""
    net = sknets.MLPClassifier()
    made = {
        "NetClassifier": lambda cls: cls(lambda n_features, n_classes: None),
        "VectorizedGridSearchCV": lambda cls: cls(net, {"alpha": [1.0]}),
        "VectorizedRandomizedSearchCV": lambda cls: cls(net, {"alpha": [1.0]}),
    }
    for name in sknets.__all__:
        cls = getattr(sknets, name)
        if inspect.isclass(cls):
            yield pytest.param(made.get(name, lambda cls: cls())(cls), id=name)


@pytest.mark.parametrize("estimator", list(documented_estimators()))
def test_question_mark_leads_to_the_page(estimator, generate):
    link = estimator._get_doc_link()
    assert link.startswith(DOCUMENTATION_URL)
    page = link.removeprefix(DOCUMENTATION_URL).removesuffix(".html")
    assert page in generate.api_pages()
    assert page.endswith(f".{type(estimator).__name__}")
    assert f'href="{link}"' in estimator_html_repr(estimator)


def test_question_mark_of_a_fitted_estimator():
    X, y = load_iris(return_X_y=True)
    fitted = sknets.LogisticRegression(max_iter=1000).fit(X, y)
    page = f"{DOCUMENTATION_URL}api/sknets.linear_model.LogisticRegression.html"
    assert f'href="{page}"' in estimator_html_repr(fitted)


def test_an_estimator_of_somebody_elses_does_not_lead_here():
    class Mine(sknets.MLPClassifier):
        pass

    assert Mine()._get_doc_link() == ""


def test_the_address_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["urls"]["Documentation"] == DOCUMENTATION_URL


# -- the other generated pages -------------------------------------------------------------------


def test_benchmarks_page_has_results_or_says_that_there_are_none(generate, tmp_path, monkeypatch):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "README.md").write_text("# How\n\n```\n# no heading\n```\n[RESULTS.md](RESULTS.md)")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    page = generate.benchmarks_page()
    assert "## How\n" in page
    assert "\n# no heading\n" in page
    assert "(RESULTS.md)" not in page
    assert "No whole run is recorded yet" in page
    results = (
        "# Results\n\n[README.md](README.md) says how.\n\n## Machine\n\n![Growth](growth.png)\n"
    )
    (folder / "RESULTS.md").write_text(results)
    page = generate.benchmarks_page()
    assert "No whole run" not in page
    assert "### Machine\n" in page
    assert "`benchmarks/README.md` says how" in page
    assert "Growth" not in page  # the picture is not there
    (folder / "growth.png").write_bytes(b"")
    assert "![Growth](../benchmarks/growth.png)" in generate.benchmarks_page()


def test_changelog_page_has_unreleased_changes_on_top(generate, tmp_path, monkeypatch):
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "changelog.d" / "+a.fixed.md").write_text("A mend.\n")
    (tmp_path / "changelog.d" / "+b.added.md").write_text("A thing.\n")
    head = f"# Changelog\n\nHow to add.\n\n{generate.CHANGELOG_MARK}"
    (tmp_path / "CHANGELOG.md").write_text(
        f"{head}\n## 0.1.0 (2026-01-01)\n\n### Added\n\n- All.\n"
    )
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    page = generate.changelog_page()
    assert "How to add" not in page
    order = ["## Not released yet", "### Added\n\n- A thing.", "### Fixed\n\n- A mend.", "## 0.1.0"]
    assert sorted(order, key=page.index) == order


def test_change_types_are_towncriers(generate):
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    types = [kind["directory"] for kind in config["tool"]["towncrier"]["type"]]
    assert list(generate.CHANGE_TYPES) == types
