"""Initial weights, drawn as scikit-learn draws them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from sknets._nn._activations import get_activation


def init_glorot_uniform_(
    module: nn.Module, random_state: np.random.RandomState, activation: str = "relu"
) -> nn.Module:
    """Draw every dense and convolutional layer's weights, then its biases, in place.

    Layers come in order of definition. Each draws in float64 from the uniform distribution on
    ±sqrt(6 / (fan_in + fan_out)), or ±sqrt(2 / (fan_in + fan_out)) when the activation is
    "logistic": first a matrix (fan_in, fan_out), then fan_out biases. So a dense net has the
    weights that `sklearn.neural_network.MLPClassifier` draws from the same state. A kernel's fans
    are its channels times its positions, and its matrix has a column for each output channel.
    Other layers keep their values.

    Parameters
    ----------
    module : nn.Module
        Net whose `nn.Linear`, `nn.Conv1d`, `nn.Conv2d` and `nn.Conv3d` layers are drawn.
    random_state : np.random.RandomState
        Where the numbers come from.
    activation : str, default="relu"
        Name of the hidden layers' activation.

    Returns
    -------
    nn.Module
        The same module.

    References
    ----------
    X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.
    """
    factor = 2.0 if get_activation(activation).name == "logistic" else 6.0
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            _draw_(layer.weight, layer.bias, random_state, factor)
    return module


@torch.no_grad()
def _draw_(
    weight: torch.Tensor,  # (out, in) or (out, in, *kernel)
    bias: torch.Tensor | None,  # (out,)
    random_state: np.random.RandomState,
    factor: float,
) -> None:
    n_out, n_in, *kernel = weight.shape
    positions = math.prod(kernel)
    bound = np.sqrt(factor / (n_in * positions + n_out * positions))
    coef = random_state.uniform(-bound, bound, (n_in * positions, n_out))
    weight.copy_(torch.from_numpy(coef.T).reshape(weight.shape))
    if bias is not None:
        bias.copy_(torch.from_numpy(random_state.uniform(-bound, bound, n_out)))
