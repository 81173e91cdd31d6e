"""Optimisers by name, with the update rules of scikit-learn's networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sknets._nn._update_rules import Rate, adam_, adam_rate, sgd_, sgd_rate


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
        self.update_at(*self.next_rates(1))

    def next_rates(self, n: int) -> list[float]:
        """Return the rates of the next `n` updates, and count these as done."""
        raise NotImplementedError

    def update_at(self, rate: Rate) -> None:
        """Make an update at a rate of `next_rates`.

        It asks nothing else of Python that changes from one update to the next: where the rate is a
        tensor, a graph of its kernels can be launched again.
        """
        raise NotImplementedError

    def memory(self, param: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of a parameter's shape that are remembered of it."""
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

    def next_rates(self, n: int) -> list[float]:
        """Return the rates of the next `n` updates, and count these as done."""
        (group,) = self.param_groups
        return [min(sgd_rate(group["lr"], param.dtype) for param in group["params"])] * n

    def update_at(self, rate: Rate) -> None:
        """Make an update at a rate of `next_rates`."""
        (group,) = self.param_groups
        for param in group["params"]:
            (velocity,) = self.memory(param)
            sgd_(
                param.detach(),
                param.grad,
                velocity,
                rate=rate,
                momentum=group["momentum"],
                nesterov=group["nesterov"],
            )

    def memory(self, param: Tensor) -> tuple[Tensor, ...]:
        """Return the velocity of a parameter."""
        state = self.state.setdefault(param, {})
        if not state:
            state["velocity"] = torch.zeros_like(param.detach())
        return (state["velocity"],)


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
        self._changes: dict[Tensor, Tensor] = {}  # memory of updates at rates that are tensors

    def update(self) -> None:
        """Change every parameter in place by its gradient."""
        (group,) = self.param_groups
        for param in group["params"]:
            state = self._state(param)
            state["step"] += 1
            self._apply(param, state, adam_rate(group["lr"], state["step"], group["betas"]), None)

    def next_rates(self, n: int) -> list[float]:
        """Return the rates of the next `n` updates, bias corrections included, and count these."""
        (group,) = self.param_groups
        states = [self._state(param) for param in group["params"]]
        done = states[0]["step"]
        for state in states:
            state["step"] = done + n
        lr, betas = group["lr"], group["betas"]
        return [adam_rate(lr, step, betas) for step in range(done + 1, done + n + 1)]

    def update_at(self, rate: Rate) -> None:
        """Make an update at a rate of `next_rates`."""
        (group,) = self.param_groups
        for param in group["params"]:
            if param not in self._changes:
                self._changes[param] = torch.empty_like(param.detach())
            self._apply(param, self._state(param), rate, self._changes[param])

    def memory(self, param: Tensor) -> tuple[Tensor, ...]:
        """Return the first and the second moment of a parameter."""
        state = self._state(param)
        return state["first"], state["second"]

    def _apply(self, param: Any, state: dict[str, Any], rate: Rate, change: Tensor | None) -> None:
        (group,) = self.param_groups
        adam_(
            param.detach(),
            param.grad,
            state["first"],
            state["second"],
            rate=rate,
            betas=group["betas"],
            eps=group["eps"],
            change=change,
        )

    def _state(self, param: Tensor) -> dict[str, Any]:
        state = self.state.setdefault(param, {})
        if not state:
            state["step"] = 0
            state["first"] = torch.zeros_like(param.detach())
            state["second"] = torch.zeros_like(param.detach())
        return state


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
