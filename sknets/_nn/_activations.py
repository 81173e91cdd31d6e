"""Activation functions by name, each with the derivative that a closed-form backward pass needs.

A record serves two readers: a module is built from ``module()``, and an engine that keeps its own
buffers calls ``forward(x, out=...)`` and ``multiply_derivative_(grad, kept)``, one kernel each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

aten = torch.ops.aten

LEAKY_SLOPE = 0.01
# Klambauer et al., "Self-Normalizing Neural Networks", 2017, equation 14.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


class Forward(Protocol):
    """Write ``f(x)`` into ``out`` (which may be ``x`` itself), or into a new tensor."""

    def __call__(self, x: Tensor, /, *, out: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Activation:
    """One elementwise function y = f(x).

    Attributes
    ----------
    name : str
        The name users write.
    module : callable () -> nn.Module
        Makes the layer.
    forward : callable (x, *, out=None) -> Tensor
        Computes f(x) without autograd; ``out=x`` works in place.
    multiply_derivative_ : callable (grad, kept) -> Tensor
        Multiplies ``grad`` by f'(x) in place and returns it. ``kept`` is y = f(x), or x where
        ``needs_input`` says so.
    needs_input : bool
        Whether the derivative is written in terms of the input x: then x must not be overwritten.
    is_monotone : bool
        Whether f never falls as x grows: then the largest f(x) is f of the largest x.
    """

    name: str
    module: Callable[[], nn.Module]
    forward: Forward
    multiply_derivative_: Callable[[Tensor, Tensor], Tensor]
    needs_input: bool = False
    is_monotone: bool = True


def _identity(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    if out is None or out is x:
        return x
    return out.copy_(x)


def _keep(grad: Tensor, y: Tensor) -> Tensor:
    return grad


def _relu(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    return x.relu_() if out is x else torch.clamp_min(x, 0.0, out=out)


def _from_aten(name: str, *args: float) -> Forward:
    """Forward function ``name(x, *args)`` of ATen, with its ``out=`` overload."""
    plain, with_out = getattr(aten, name).default, getattr(aten, name).out

    def forward(x: Tensor, /, *, out: Tensor | None = None) -> Tensor:
        return plain(x, *args) if out is None else with_out(x, *args, out=out)

    return forward


def _softsign(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    return torch.div(x, torch.abs(x).add_(1.0), out=out)


def _sigmoid_derivative_(grad: Tensor, y: Tensor) -> Tensor:
    return aten.sigmoid_backward.grad_input(grad, y, grad_input=grad)


def _tanh_derivative_(grad: Tensor, y: Tensor) -> Tensor:
    return aten.tanh_backward.grad_input(grad, y, grad_input=grad)


def _relu_derivative_(grad: Tensor, y: Tensor) -> Tensor:
    return aten.threshold_backward.grad_input(grad, y, 0.0, grad_input=grad)


def _leaky_relu_derivative_(grad: Tensor, y: Tensor) -> Tensor:
    return aten.leaky_relu_backward.grad_input(grad, y, LEAKY_SLOPE, True, grad_input=grad)


def _elu_derivative_(grad: Tensor, y: Tensor, *, alpha: float, scale: float) -> Tensor:
    return aten.elu_backward.grad_input(grad, alpha, scale, 1.0, True, y, grad_input=grad)


def _gelu_derivative_(grad: Tensor, x: Tensor) -> Tensor:
    return aten.gelu_backward.grad_input(grad, x, grad_input=grad)


def _silu_derivative_(grad: Tensor, x: Tensor) -> Tensor:
    return aten.silu_backward.grad_input(grad, x, grad_input=grad)


def _mish_derivative_(grad: Tensor, x: Tensor) -> Tensor:
    return grad.copy_(aten.mish_backward(grad, x))


def _softplus_derivative_(grad: Tensor, x: Tensor) -> Tensor:
    return aten.softplus_backward.grad_input(grad, x, 1.0, 20.0, grad_input=grad)


def _softsign_derivative_(grad: Tensor, y: Tensor) -> Tensor:
    # f'(x) = 1 / (1 + |x|)², and 1 - |y| = 1 / (1 + |x|).
    return grad.mul_(torch.abs(y).neg_().add_(1.0).square_())


_RECORDS = (
    Activation("identity", nn.Identity, _identity, _keep),
    Activation("logistic", nn.Sigmoid, torch.sigmoid, _sigmoid_derivative_),
    Activation("tanh", nn.Tanh, torch.tanh, _tanh_derivative_),
    Activation("relu", nn.ReLU, _relu, _relu_derivative_),
    Activation(
        "leaky_relu",
        partial(nn.LeakyReLU, LEAKY_SLOPE),
        _from_aten("leaky_relu", LEAKY_SLOPE),
        _leaky_relu_derivative_,
    ),
    Activation("elu", nn.ELU, _from_aten("elu"), partial(_elu_derivative_, alpha=1.0, scale=1.0)),
    Activation(
        "selu",
        nn.SELU,
        _from_aten("elu", SELU_ALPHA, SELU_SCALE),
        partial(_elu_derivative_, alpha=SELU_ALPHA, scale=SELU_SCALE),
    ),
    Activation(
        "gelu", nn.GELU, _from_aten("gelu"), _gelu_derivative_, needs_input=True, is_monotone=False
    ),
    Activation(
        "silu", nn.SiLU, _from_aten("silu"), _silu_derivative_, needs_input=True, is_monotone=False
    ),
    Activation(
        "mish", nn.Mish, _from_aten("mish"), _mish_derivative_, needs_input=True, is_monotone=False
    ),
    Activation(
        "softplus", nn.Softplus, _from_aten("softplus"), _softplus_derivative_, needs_input=True
    ),
    Activation("softsign", nn.Softsign, _softsign, _softsign_derivative_),
)

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {record.name: record for record in _RECORDS}
)


def get_activation(name: str) -> Activation:
    """The record of an activation's name.

    Raises
    ------
    ValueError
        If there is no activation of this name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {name!r}.")
    return ACTIVATIONS[name]
