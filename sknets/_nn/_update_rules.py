"""What an optimiser does to weights in one step, for one net or a stack of them.

A rate is a number, or a tensor that broadcasts to the weights: what lies in the device's memory can
change without Python, and differ between the nets of a stack.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

Rate = float | Tensor


def sgd_rate(lr: float, dtype: torch.dtype) -> float:
    """Return a learning rate that the dtype holds: its largest number is infinite enough."""
    return min(lr, _largest(dtype))


@cache  # every step asks, and torch makes the answer anew
def _largest(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).max


def sgd_(
    weight: Tensor,
    grad: Tensor,
    velocity: Tensor,
    *,
    rate: Rate,
    momentum: Rate,
    nesterov: bool,
) -> None:
    """Apply a step of gradient descent in place, to the weights and to the velocity."""
    _add_(velocity.mul_(momentum), grad, rate, sign=-1.0)
    if not nesterov:
        weight.add_(velocity)
        return
    _add_(weight, velocity, momentum)
    _add_(weight, grad, rate, sign=-1.0)


def _add_(to: Tensor, values: Tensor, factor: Rate, *, sign: float = 1.0) -> None:
    if isinstance(factor, Tensor):
        to.addcmul_(values, factor, value=sign)
    else:
        to.add_(values, alpha=sign * factor)


def adam_rate(lr: Any, step: int, betas: tuple[float, float]) -> Any:
    """Return learning rates with the bias corrections of step number `step` in them."""
    return lr * math.sqrt(1.0 - betas[1] ** step) / (1.0 - betas[0] ** step)


def adam_(
    weight: Tensor,
    grad: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    rate: Rate,
    betas: tuple[float, float],
    eps: float,
    change: Tensor | None = None,
) -> None:
    """Apply a step of Adam in place, to the weights and to both moments.

    The rate is that of `adam_rate`: torch's kernel is told that infinitely many steps are done, so
    that it corrects nothing itself. It takes one number. Where the rate is a tensor it writes the
    step of rate 1, to which the step is proportional, to `change`, of the weights' shape.
    """
    target, lr = weight, rate
    if isinstance(rate, Tensor):
        assert change is not None
        target, lr = change.zero_(), 1.0
    torch._fused_adam_(
        [target],
        [grad],
        [first],
        [second],
        [],
        [_infinity(weight.device)],
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=0.0,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )
    if isinstance(rate, Tensor):
        weight.addcmul_(target, rate)


@cache
def _infinity(device: torch.device) -> Tensor:
    return torch.tensor(math.inf, dtype=torch.float32, device=device)
