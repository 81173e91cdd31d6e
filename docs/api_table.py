"""The API reference: every public name, under the module to import it from.

`generate.py` writes a page for each, and `tests/docs/test_api.py` holds the table against what the
modules export.
"""

API = {
    "sknets.linear_model": ["LogisticRegression", "Perceptron"],
    "sknets.neural_network": ["MLPClassifier", "CNNClassifier", "NetClassifier"],
    "sknets.model_selection": ["VectorizedGridSearchCV", "VectorizedRandomizedSearchCV"],
    "sknets.datasets": ["fetch_mnist", "make_two_gaussians"],
}


def page_of(module: str, name: str) -> str:
    """Return the page of a public name, in the form that sphinx names documents."""
    return f"api/{module}.{name}"
