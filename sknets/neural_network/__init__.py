"""Networks as scikit-learn classifiers."""

from sknets.neural_network._cnn import CNNClassifier
from sknets.neural_network._mlp import MLPClassifier
from sknets.neural_network._net import NetClassifier

__all__ = ["CNNClassifier", "MLPClassifier", "NetClassifier"]
