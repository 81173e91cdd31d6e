"""Searches over settings, with scikit-learn's interface."""

from sknets.model_selection._grid import VectorizedGridSearchCV
from sknets.model_selection._randomized import VectorizedRandomizedSearchCV

__all__ = ["VectorizedGridSearchCV", "VectorizedRandomizedSearchCV"]
