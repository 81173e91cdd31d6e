"""The address of the documentation, and the "?" of an estimator's HTML repr that leads there."""

DOCUMENTATION_URL = "https://sknets.github.io/sknets/"


class DocumentedMixin:
    """Leads from an estimator's HTML repr to its page; the pages are named by ``docs/``."""

    _doc_link_module = "sknets"
    _doc_link_template = f"{DOCUMENTATION_URL}api/{{estimator_module}}.{{estimator_name}}.html"
