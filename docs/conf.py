"""How sphinx builds the site; `python docs/build.py` runs it."""

import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]  # this checkout's sknets, and the modules beside this

from generate import write_pages  # noqa: E402

import sknets  # noqa: E402
from sknets._core._documentation import DOCUMENTATION_URL  # noqa: E402

# ---------------------------------------------------------------- the project

project = "sknets"
author = "The sknets developers"
copyright = author
version = release = sknets.__version__

# ---------------------------------------------------------------- what is read

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "generated/benchmarks.md"]  # the latter is a part of speed.md
nitpicky = True
smartquotes = False  # a value such as "lbfgs" can be copied as it stands
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
highlight_language = "none"  # of blocks that name none, such as drawings

autodoc_typehints = "none"  # types stand in the docstrings
toc_object_entries_show_parents = "hide"  # the side bar has room for a method's name alone
autodoc_member_order = "alphabetical"
numpydoc_show_class_members = False  # the API pages list the methods that are ours

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"^(?!plot_)",  # plain scripts are no pages
    "write_computation_times": False,
    "within_subsection_order": "gallery.ByLesson",
    "doc_module": ("sknets",),
    "reference_url": {"sknets": None},
    "backreferences_dir": "generated/backreferences",
    "inspect_global_variables": False,
    "image_srcset": ["2x"],  # sharp on dense screens
    "matplotlib_animations": False,
    "abort_on_example_error": False,
    "show_memory": False,
    "remove_config_comments": True,
}

# ---------------------------------------------------------------- what is written

html_theme = "pydata_sphinx_theme"
html_title = "sknets"
html_baseurl = DOCUMENTATION_URL
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "sknets"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "show_nav_level": 1,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {
    "index": [],
    "get_started": [],
    "design": [],
    "speed": [],
    "generated/changelog": [],
}

linkcheck_ignore = [DOCUMENTATION_URL]  # may not be published yet

# ---------------------------------------------------------------- other projects' names

# Their pages have had these addresses for years; an inventory would need a network for every build.
ELSEWHERE = {
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{name}.html",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{name}.html",
    "joblib": "https://joblib.readthedocs.io/en/stable/generated/{name}.html",
    "functools": "https://docs.python.org/3/library/functools.html#{name}",
}


def link_elsewhere(
    app: Sphinx, env: object, node: pending_xref, content: nodes.Element
) -> nodes.reference | None:
    """Return a link to the page of a name of another project; None for names of none."""
    name = node.get("reftarget", "")
    address = ELSEWHERE.get(name.partition(".")[0])
    if node.get("refdomain") != "py" or address is None:
        return None
    link = nodes.reference("", "", internal=False, refuri=address.format(name=name))
    link += content
    return link


def setup(app: Sphinx) -> None:
    """Write the generated pages, and resolve names of other projects."""
    write_pages()
    app.connect("missing-reference", link_elsewhere)
