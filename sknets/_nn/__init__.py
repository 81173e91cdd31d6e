"""Torch alone: layers, activations, pooling, initialisers and losses.

Everything here works on tensors and plain `nn.Module` objects, knows no estimator, and can be used
in any torch program.
"""

from ._activations import ACTIVATIONS, Activation, get_activation
from ._cnn import CNN
from ._conv_plan import LayerShape, check_input_shape, layer_shapes
from ._initialisers import init_glorot_uniform_
from ._losses import LOSSES, TASKS, HingeLoss, LogLoss, Loss, Task, make_loss, weighted_mean
from ._mlp import MLP
from ._normalization import NORMALIZATIONS
from ._optimisers import OPTIMISERS, SGD, Adam, OptimiserRecord, make_optimiser
from ._pooling import POOLINGS, make_pooling
from ._schedules import Adaptive, InverseScaling, Schedule, make_schedule

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
    "OptimiserRecord",
    "Schedule",
    "Task",
    "check_input_shape",
    "get_activation",
    "init_glorot_uniform_",
    "layer_shapes",
    "make_loss",
    "make_optimiser",
    "make_pooling",
    "make_schedule",
    "weighted_mean",
]
