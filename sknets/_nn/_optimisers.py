"""Optimisers by name, with the update rules of scikit-learn's networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor


class SGD(torch.optim.Optimizer):
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

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update every parameter from its gradient."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for param in group["params"]:
                state = self.state[param]
                if not state:
                    state["velocity"] = torch.zeros_like(param)
                velocity = state["velocity"].mul_(momentum).add_(param.grad, alpha=-lr)
                if group["nesterov"]:
                    param.add_(velocity, alpha=momentum).add_(param.grad, alpha=-lr)
                else:
                    param.add_(velocity)


class Adam(torch.optim.Adam):
    """Adam with the epsilon of the paper's efficient form, in one fused kernel a step.

    Kingma and Ba (2015, end of section 2) move the bias corrections into the learning rate, which
    leaves epsilon uncorrected; scikit-learn does that too, while ``torch.optim.Adam`` corrects the
    second moment before it adds epsilon. Dividing epsilon by the correction makes them equal.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(list(params), lr=lr, betas=betas, eps=eps, fused=True)
        for group in self.param_groups:
            group.setdefault("paper_eps", eps)
            group.setdefault("n_steps", 0)

    def step(self, closure: Any = None) -> Any:
        """Update every parameter from its gradient."""
        for group in self.param_groups:
            group["n_steps"] += 1
            correction = 1 - group["betas"][1] ** group["n_steps"]
            group["eps"] = group["paper_eps"] / correction**0.5
        return super().step(closure)


@dataclass(frozen=True)
class OptimiserRecord:
    """How a solver's name becomes an optimiser.

    Attributes
    ----------
    make : callable (params, **options) -> torch.optim.Optimizer
        The class.
    options : mapping of str to str
        The option of `make` that each parameter of an estimator sets.
    scheduled : bool
        Whether ``learning_rate`` and ``power_t`` have an effect, as in scikit-learn.
    """

    make: Callable[..., torch.optim.Optimizer]
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


def make_optimiser(
    solver: str, params: Iterable[Tensor], settings: Mapping[str, Any]
) -> torch.optim.Optimizer:
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
