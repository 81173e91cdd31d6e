"""Searches over settings, with scikit-learn's interface."""

from sknets.model_selection._search import VectorizedGridSearchCV, VectorizedRandomizedSearchCV

__all__ = ["VectorizedGridSearchCV", "VectorizedRandomizedSearchCV"]
