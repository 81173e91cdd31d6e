"""Torch alone: layers, activations, pooling, initialisers and losses.

Everything here works on tensors and plain `nn.Module` objects, knows no estimator, and can be used
in any torch program.
"""

from sknets._nn._activations import ACTIVATIONS, Activation, get_activation
from sknets._nn._cnn import CNN
from sknets._nn._conv_plan import LayerShape, check_input_shape, layer_shapes
from sknets._nn._initialisers import init_glorot_uniform_
from sknets._nn._losses import (
    LOSSES,
    TASKS,
    HingeLoss,
    LogLoss,
    Loss,
    OwnLoss,
    Task,
    TaskLoss,
    make_loss,
    weighted_mean,
)
from sknets._nn._mlp import MLP
from sknets._nn._normalization import NORMALIZATIONS
from sknets._nn._optimisers import (
    OPTIMISERS,
    SGD,
    Adam,
    Optimiser,
    OptimiserRecord,
    make_optimiser,
)
from sknets._nn._pooling import POOLINGS, make_pooling
from sknets._nn._schedules import Adaptive, InverseScaling, Schedule, make_schedule
from sknets._nn._update_rules import adam_, adam_rate, sgd_, sgd_rate

__all__ = [
    "ACTIVATIONS",
    "CNN",
    "LOSSES",
    "MLP",
    "NORMALIZATIONS",
    "OPTIMISERS",
    "POOLINGS",
    "SGD",
    "TASKS",
    "Activation",
    "Adam",
    "Adaptive",
    "HingeLoss",
    "InverseScaling",
    "LayerShape",
    "LogLoss",
    "Loss",
    "Optimiser",
    "OptimiserRecord",
    "OwnLoss",
    "Schedule",
    "Task",
    "TaskLoss",
    "adam_",
    "adam_rate",
    "check_input_shape",
    "get_activation",
    "init_glorot_uniform_",
    "layer_shapes",
    "make_loss",
    "make_optimiser",
    "make_pooling",
    "make_schedule",
    "sgd_",
    "sgd_rate",
    "weighted_mean",
]
