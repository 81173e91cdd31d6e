"""scikit-learn's neural networks on PyTorch."""

from sknets import datasets as datasets
from sknets.linear_model import LogisticRegression, Perceptron
from sknets.model_selection import VectorizedGridSearchCV, VectorizedRandomizedSearchCV
from sknets.neural_network import CNNClassifier, MLPClassifier, NetClassifier

__version__ = "0.1.0.dev0"

__all__ = [
    "CNNClassifier",
    "LogisticRegression",
    "MLPClassifier",
    "NetClassifier",
    "Perceptron",
    "VectorizedGridSearchCV",
    "VectorizedRandomizedSearchCV",
    "__version__",
]
