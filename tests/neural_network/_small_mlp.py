"""An MLPClassifier of few epochs, and how to make it fail."""

from sknets.neural_network import MLPClassifier

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}
SOLVERS = {
    "adam": {},
    "adam, early stopping": {"early_stopping": True},
    "sgd": {"solver": "sgd"},
    "lbfgs": {"solver": "lbfgs"},
}


def diverge(clf, X, y):
    """Fit with steps so large that the loss overflows."""
    clf.set_params(learning_rate_init=1e308).fit(X, y)


# L-BFGS has no learning rate.
DIVERGES = {"adam": diverge, "sgd": diverge, "lbfgs": lambda clf, X, y: clf.fit(X * 1e300, y)}


def make(**settings):
    return MLPClassifier(**{**SMALL, "device": "cpu", **settings})


def fitted_attributes(estimator):
    """Names of all of them, properties included."""
    names = dir(estimator)
    return {n for n in names if n.endswith("_") and not n.startswith("_") and hasattr(estimator, n)}
