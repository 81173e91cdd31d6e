"""What all estimators share: the fit template, parameter constraints, prediction."""

from sknets._base._classifier import (
    DEVICE_CONSTRAINTS,
    BaseClassifier,
    ProbabilisticMixin,
    TrainingData,
)
from sknets._base._network import TRAINING_CONSTRAINTS, BaseNetwork

__all__ = [
    "DEVICE_CONSTRAINTS",
    "TRAINING_CONSTRAINTS",
    "BaseClassifier",
    "BaseNetwork",
    "ProbabilisticMixin",
    "TrainingData",
]
