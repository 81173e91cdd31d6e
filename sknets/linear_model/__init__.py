"""Linear classifiers, named as in scikit-learn."""

from sknets.linear_model._logistic import LogisticRegression
from sknets.linear_model._perceptron import Perceptron

__all__ = ["LogisticRegression", "Perceptron"]
