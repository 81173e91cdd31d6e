"""Optimisers by name, with the update rules of scikit-learn's networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor


class Optimiser:
    """Update rule of parameters, with the groups and the state of a torch optimiser.

    It is none by class: making one imports torch's compiler, which takes seconds, and calling one
    passes hooks that cost more than the update of a small net. Where torch's class is needed, for
    callbacks, a thin one is put around it.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter
        What to update; each has its gradient in ``grad``.
    options : dict
        Settings, "lr" among them; kept in ``param_groups``.

    Attributes
    ----------
    param_groups : list of dict
        One group: "params" and the settings.
    state : dict
        What the rule remembers of each parameter.
    """

    def __init__(self, params: Iterable[Tensor], options: dict[str, Any]) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(params), **options}]
        self.state: dict[Tensor, dict[str, Any]] = {}

    def update(self) -> None:
        """Change every parameter in place by its gradient."""
        raise NotImplementedError

    def next_rates(self, n: int) -> list[float]:
        """Return the rates of the next `n` updates, for `update_at`, and count these as done."""
        raise NotImplementedError

    def update_at(self, rate: Tensor) -> None:
        """Make an update whose rate, one number, is read from the device's memory.

        It asks nothing of Python that changes from one update to the next, so that a graph of its
        kernels can be launched again. The update is that of `update`.
        """
        raise NotImplementedError

    def snapshot(self) -> list[dict[str, Any]]:
        """Return a copy of what is remembered of each parameter: moments, velocities, steps."""
        return [
            {name: v.clone() if isinstance(v, Tensor) else v for name, v in state.items()}
            for state in self.state.values()
        ]

    def restore(self, snapshot: list[dict[str, Any]]) -> None:
        """Put a snapshot's values back."""
        for state, values in zip(self.state.values(), snapshot, strict=True):
            state.update(values)

    def state_dict(self) -> dict[str, Any]:
        """Return settings and memories, without the parameters."""
        groups = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        params = [param for group in self.param_groups for param in group["params"]]
        return {"param_groups": groups, "state": [self.state.get(param, {}) for param in params]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take settings and memories of an optimiser of equal parameters; tensors are copied."""
        params = [param for group in self.param_groups for param in group["params"]]
        for group, options in zip(self.param_groups, state["param_groups"], strict=True):
            group.update(options)
        for param, memory in zip(params, state["state"], strict=True):
            self.state[param] = {
                name: value.to(param, copy=True) if isinstance(value, Tensor) else value
                for name, value in memory.items()
            }


class SGD(Optimiser):
    r"""Gradient descent with momentum, as in :class:`sklearn.neural_network.MLPClassifier`.

    The velocity holds the learning rate, v ← μ v − η g, and a step adds v, or μ v − η g once more
    with Nesterov's momentum. ``torch.optim.SGD`` keeps the learning rate out of the velocity, which
    differs as soon as a schedule changes it.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter
        What to update.
    lr : float, default=0.001
        The learning rate η.
    momentum : float, default=0.9
        The momentum μ, in [0, 1].
    nesterov : bool, default=True
        Whether to use Nesterov's momentum.

    References
    ----------
    I. Sutskever et al., "On the importance of initialization and momentum in deep learning",
    ICML 2013.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.001,
        momentum: float = 0.9,
        nesterov: bool = True,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov})

    def _velocity(self, param: Tensor) -> Tensor:
        state = self.state.setdefault(param, {})
        if not state:
            state["velocity"] = torch.zeros_like(param.detach())
        return state["velocity"]

    def next_rates(self, n: int) -> list[float]:
        """Return the rates of the next `n` updates."""
        return [self.param_groups[0]["lr"]] * n

    def update_at(self, rate: Tensor) -> None:
        """Make an update whose rate is read from the device's memory."""
        for group in self.param_groups:
            for param in group["params"]:
                sgd_at_(
                    param.detach(),
                    param.grad,
                    self._velocity(param),
                    rate,
                    momentum=group["momentum"],
                    nesterov=group["nesterov"],
                )

    def update(self) -> None:
        """Change every parameter in place by its gradient."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for param in group["params"]:
                # One that the dtype cannot hold is infinite enough.
                lr = min(lr, torch.finfo(param.dtype).max)
                weight, velocity = param.detach(), self._velocity(param)
                velocity.mul_(momentum).add_(param.grad, alpha=-lr)
                if group["nesterov"]:
                    weight.add_(velocity, alpha=momentum).add_(param.grad, alpha=-lr)
                else:
                    weight.add_(velocity)


def sgd_at_(
    weight: Tensor,
    grad: Tensor,
    velocity: Tensor,
    rate: Tensor,
    *,
    momentum: float | Tensor,
    nesterov: bool,
) -> None:
    """Apply a step of gradient descent in place; rates are a tensor that broadcasts to weights."""
    velocity.mul_(momentum).addcmul_(grad, rate, value=-1.0)
    if not nesterov:
        weight.add_(velocity)
    elif isinstance(momentum, Tensor):
        weight.addcmul_(velocity, momentum).addcmul_(grad, rate, value=-1.0)
    else:
        weight.add_(velocity, alpha=momentum).addcmul_(grad, rate, value=-1.0)


class Adam(Optimiser):
    """Adam with the epsilon of the paper's efficient form, in one fused kernel a step.

    Kingma and Ba (2015, end of section 2) move the bias corrections into the learning rate, which
    leaves epsilon uncorrected; scikit-learn does that too, while ``torch.optim.Adam`` corrects the
    second moment before it adds epsilon. So torch's kernel is given a corrected learning rate.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter
        What to update.
    lr : float, default=0.001
        The learning rate.
    betas : tuple of float, default=(0.9, 0.999)
        Decay rates of the two moments, in [0, 1).
    eps : float, default=1e-8
        Numerical stability.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

        self._changes: dict[Tensor, Tensor] = {}  # memory of `update_at`

    def _state(self, param: Tensor) -> dict[str, Any]:
        state = self.state.setdefault(param, {})
        if not state:
            state["step"] = 0
            state["first"] = torch.zeros_like(param.detach())
            state["second"] = torch.zeros_like(param.detach())
        return state

    def next_rates(self, n: int) -> list[float]:
        """Return the rates of the next `n` updates, with the bias corrections in them."""
        states = [self._state(param) for g in self.param_groups for param in g["params"]]
        done = states[0]["step"]
        for state in states:
            state["step"] = done + n
        group = self.param_groups[0]
        steps = range(done + 1, done + n + 1)
        return [adam_rate(group["lr"], step, group["betas"]) for step in steps]

    def update_at(self, rate: Tensor) -> None:
        """Make an update whose rate is read from the device's memory."""
        for group in self.param_groups:
            for param in group["params"]:
                state, weight = self._state(param), param.detach()
                if param not in self._changes:
                    self._changes[param] = torch.empty_like(weight)
                adam_at_(
                    weight,
                    param.grad,
                    state["first"],
                    state["second"],
                    self._changes[param],
                    rate,
                    betas=group["betas"],
                    eps=group["eps"],
                )

    def update(self) -> None:
        """Change every parameter in place by its gradient."""
        for group in self.param_groups:
            for param in group["params"]:
                state, weight = self._state(param), param.detach()
                state["step"] += 1
                adam_(
                    weight,
                    param.grad,
                    state["first"],
                    state["second"],
                    step=state["step"],
                    lr=group["lr"],
                    betas=group["betas"],
                    eps=group["eps"],
                )


def adam_(
    weight: Tensor,
    grad: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Apply step number `step` of Adam in place, to the weights and to both moments."""
    rate = adam_rate(lr, step, betas)
    _uncorrected_adam_(weight, grad, first, second, lr=rate, betas=betas, eps=eps)


def adam_at_(
    weight: Tensor,
    grad: Tensor,
    first: Tensor,
    second: Tensor,
    change: Tensor,
    rate: Tensor,
    *,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Apply a step of Adam in place, at rates that are a tensor, those of `adam_rate`.

    The step is proportional to the rate: the kernel writes that of rate 1 to `change`.
    """
    change.zero_()
    _uncorrected_adam_(change, grad, first, second, lr=1.0, betas=betas, eps=eps)
    weight.addcmul_(change, rate)


def adam_rate(lr: Any, step: int, betas: tuple[float, float]) -> Any:
    """Return learning rates with the bias corrections of step number `step` in them."""
    return lr * math.sqrt(1.0 - betas[1] ** step) / (1.0 - betas[0] ** step)


def _uncorrected_adam_(
    weight: Tensor,
    grad: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Apply a step of torch's kernel, told that infinitely many are done: it corrects nothing."""
    torch._fused_adam_(
        [weight],
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


@cache
def _infinity(device: torch.device) -> Tensor:
    return torch.tensor(math.inf, dtype=torch.float32, device=device)


@dataclass(frozen=True)
class OptimiserRecord:
    """How a solver's name becomes an optimiser.

    Attributes
    ----------
    make : callable (params, **options) -> Optimiser
        The class.
    options : mapping of str to str
        The option of `make` that each parameter of an estimator sets.
    scheduled : bool
        Whether ``learning_rate`` and ``power_t`` have an effect, as in scikit-learn.
    """

    make: Callable[..., Optimiser]
    options: Mapping[str, str]
    scheduled: bool


OPTIMISERS: Mapping[str, OptimiserRecord] = MappingProxyType(
    {
        "adam": OptimiserRecord(
            lambda params, *, beta_1, beta_2, **options: Adam(
                params, betas=(beta_1, beta_2), **options
            ),
            MappingProxyType(
                {
                    "learning_rate_init": "lr",
                    "beta_1": "beta_1",
                    "beta_2": "beta_2",
                    "epsilon": "eps",
                }
            ),
            scheduled=False,
        ),
        "sgd": OptimiserRecord(
            SGD,
            MappingProxyType(
                {
                    "learning_rate_init": "lr",
                    "momentum": "momentum",
                    "nesterovs_momentum": "nesterov",
                }
            ),
            scheduled=True,
        ),
    }
)
"""A record a solver; estimators read their parameters' names from it."""


def make_optimiser(solver: str, params: Iterable[Tensor], settings: Mapping[str, Any]) -> Optimiser:
    """Build the optimiser of a solver's name.

    Parameters
    ----------
    solver : str
        A key of `OPTIMISERS`.
    params : iterable of torch.nn.Parameter
        What to update.
    settings : mapping
        An estimator's parameters by name; those of the record are used.
    """
    record = OPTIMISERS[solver]
    options = {option: settings[name] for name, option in record.options.items()}
    return record.make(params, **options)
