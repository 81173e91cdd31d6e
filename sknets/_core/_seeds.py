"""Random numbers: one source per fit, and torch's random functions led to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch.overrides import TorchFunctionMode

# An integer seed must fit in an int32 for scikit-learn's estimators and in an int64 for torch.
_MAX_SEED = np.iinfo(np.int32).max


def make_random_state(random_state: Any) -> np.random.RandomState:
    """Return the one source of random numbers of a fit.

    ``None`` takes fresh entropy from the operating system, so that NumPy's global generator is
    neither read nor moved; an integer or a ``RandomState`` means what it means in scikit-learn.
    """
    if random_state is None:
        return np.random.RandomState()
    return check_random_state(random_state)


def make_generator(
    random_state: np.random.RandomState, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a torch generator on `device`, seeded by one draw of `random_state`."""
    generator = torch.Generator(device=device)
    generator.manual_seed(int(random_state.randint(_MAX_SEED)))
    return generator


def _dropout_mask(x: torch.Tensor, shape: Any, p: float, generator: torch.Generator) -> Any:
    mask = torch.empty(shape, dtype=x.dtype, device=x.device)
    return mask.bernoulli_(1 - p, generator=generator)


def _seeded_dropout(n_spatial: int | None) -> Callable[..., torch.Tensor]:
    """Make a replacement of ``torch.nn.functional.dropout{1,2,3}d`` that takes a generator.

    With `n_spatial` set, whole channels are dropped: the mask has size 1 on the last
    `n_spatial` axes.
    """

    def dropout(
        input: torch.Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
        *,
        generator: torch.Generator,
    ) -> torch.Tensor:
        if not training or p == 0:
            return input
        shape = list(input.shape)
        if n_spatial is not None:
            shape[-n_spatial:] = [1] * n_spatial
        mask = _dropout_mask(input, shape, p, generator)
        if p < 1:
            mask.div_(1 - p)
        return input.mul_(mask) if inplace else input * mask

    return dropout


_functional = torch.nn.functional
_REPLACED: dict[Any, Callable[..., Any]] = {
    _functional.dropout: _seeded_dropout(None),
    _functional.dropout1d: _seeded_dropout(1),
    _functional.dropout2d: _seeded_dropout(2),
    _functional.dropout3d: _seeded_dropout(3),
}

_TAKES_GENERATOR: frozenset[Any] = frozenset(
    {
        torch.rand,
        torch.randn,
        torch.randint,
        torch.randperm,
        torch.normal,
        torch.bernoulli,
        torch.multinomial,
        torch.Tensor.bernoulli,
        torch.Tensor.bernoulli_,
        torch.Tensor.multinomial,
        torch.Tensor.normal_,
        torch.Tensor.uniform_,
        torch.Tensor.random_,
        torch.Tensor.exponential_,
        torch.Tensor.cauchy_,
        torch.Tensor.geometric_,
        torch.Tensor.log_normal_,
        torch.nn.init.uniform_,
        torch.nn.init.normal_,
        torch.nn.init.trunc_normal_,
        torch.nn.init.xavier_uniform_,
        torch.nn.init.xavier_normal_,
        torch.nn.init.kaiming_uniform_,
        torch.nn.init.kaiming_normal_,
        torch.nn.init.orthogonal_,
        torch.nn.init.sparse_,
    }
)


def _rand_like(x: torch.Tensor, *, generator: torch.Generator, **options: Any) -> torch.Tensor:
    return torch.empty_like(x, **options).uniform_(generator=generator)


def _randn_like(x: torch.Tensor, *, generator: torch.Generator, **options: Any) -> torch.Tensor:
    return torch.empty_like(x, **options).normal_(generator=generator)


_REPLACED[torch.rand_like] = _rand_like
_REPLACED[torch.randn_like] = _randn_like


class SeededRandom(TorchFunctionMode):
    """Within this context torch's random functions draw from `generator`.

    The mode belongs to the thread that enters it, so two fits in two threads do not disturb each
    other and torch's global generators stay untouched. It covers dropout, ``torch.rand*``, the
    in-place ``Tensor.*_`` draws and ``torch.nn.init``; draws made inside compiled kernels
    (``rrelu``, dropout inside attention and recurrent layers) are out of its reach.

    Parameters
    ----------
    generator : torch.Generator
        On the device where the random numbers are needed.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, with the generator where it draws random numbers."""
        kwargs = kwargs or {}
        if func in _REPLACED:
            return _REPLACED[func](*args, **kwargs, generator=self.generator)
        if func in _TAKES_GENERATOR and kwargs.get("generator") is None:
            kwargs = {**kwargs, "generator": self.generator}
        return func(*args, **kwargs)
