"""Linear classifiers, named as in scikit-learn."""

from sknets.linear_model._logistic import LogisticRegression

__all__ = ["LogisticRegression"]
