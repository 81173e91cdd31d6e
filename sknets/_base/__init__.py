"""What all estimators share: the fit template, parameter constraints, prediction."""

from sknets._base._classifier import (
    DEVICE_CONSTRAINTS,
    BaseClassifier,
    ProbabilisticMixin,
    TrainingData,
)
from sknets._base._network import BaseNetwork
from sknets._base._numba_rules import check_numba_linear, check_numba_settings, uses_numba
from sknets._base._stacking import (
    CannotStack,
    StackedFit,
    Stacker,
    cut_stacks,
    run_stack,
    stacker_of,
    why_not_stacked,
)
from sknets._base._training_parameters import TRAINING_CONSTRAINTS

__all__ = [
    "DEVICE_CONSTRAINTS",
    "TRAINING_CONSTRAINTS",
    "BaseClassifier",
    "BaseNetwork",
    "CannotStack",
    "ProbabilisticMixin",
    "StackedFit",
    "Stacker",
    "TrainingData",
    "check_numba_linear",
    "check_numba_settings",
    "cut_stacks",
    "run_stack",
    "stacker_of",
    "uses_numba",
    "why_not_stacked",
]
