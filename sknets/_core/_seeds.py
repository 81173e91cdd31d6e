"""Random numbers: one source per fit, and torch's random functions led to it."""

from __future__ import annotations

import math
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


# Fills a tensor with random numbers and returns it.
Fill = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def _seeded_dropout(n_spatial: int | None) -> Callable[..., torch.Tensor]:
    """Make a replacement of ``torch.nn.functional.dropout{1,2,3}d`` that draws from a source.

    With `n_spatial` set, whole channels are dropped: the mask has size 1 on the last
    `n_spatial` axes.
    """

    def dropout(
        input: torch.Tensor,
        p: float | tuple[float, ...] = 0.5,
        training: bool = True,
        inplace: bool = False,
        *,
        source: SeededRandom,
    ) -> torch.Tensor:
        if not training or p == 0:
            return input
        shape = list(input.shape)
        if n_spatial is not None:
            shape[-n_spatial:] = [1] * n_spatial
        fill = (
            [_filled_with_mask(rate) for rate in p]
            if isinstance(p, tuple)
            else (_filled_with_mask(p))
        )
        mask = source.draw(fill, shape, input.dtype, input.device)
        return input.mul_(mask) if inplace else input * mask

    return dropout


def _filled_with_mask(p: float) -> Fill:
    return lambda mask, generator: fill_dropout_mask_(mask, p, generator)


# Where a rate is this far from 0 and 1, a 65536th is fine enough to count it in.
_COUNTED_RATES = (0.01, 0.99)


def fill_dropout_mask_(
    mask: torch.Tensor, rate: float, generator: torch.Generator | None
) -> torch.Tensor:
    """Fill a mask with zeros, a share `rate` of it, and with what keeps the mean at 1.

    On the CPU, where torch draws one number an element and takes six nanoseconds for it, elements
    share the 64 bits of a draw: eight where the rate is a multiple of 1 / 256, else four. The rate
    is then that of the nearest multiple of 2 ** -16, and the elements kept are scaled by it, so
    that the mean is exact.
    """
    low, high = _COUNTED_RATES
    if mask.device.type != "cpu" or not low <= rate <= high:
        mask.bernoulli_(1 - rate, generator=generator)
        return mask.div_(1 - rate) if rate < 1 else mask
    kind, n_values = (torch.int16, 2**16)
    if (rate * 2**8).is_integer():
        kind, n_values = (torch.int8, 2**8)
    n_kept = round((1 - rate) * n_values)
    words = torch.empty(-(-mask.numel() * kind.itemsize // 8), dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)  # all 64 bits
    numbers = words.view(kind)[: mask.numel()].view(mask.shape)  # from -n_values / 2 on
    torch.lt(numbers, n_kept - n_values // 2, out=mask)
    return mask.mul_(n_values / n_kept)


# What SELU tends to below zero, which is where alpha dropout puts what it drops.
_SELU_LIMIT = 1.7580993408473766


def _seeded_alpha_dropout(*, by_channel: bool) -> Callable[..., torch.Tensor]:
    """Make a replacement of ``alpha_dropout`` or ``feature_alpha_dropout``."""

    def alpha_dropout(
        input: torch.Tensor,
        p: float = 0.5,
        training: bool = False,
        inplace: bool = False,
        *,
        source: SeededRandom,
    ) -> torch.Tensor:
        if not training or p == 0:
            return input
        if p == 1:
            return input * 0.0
        shape = list(input.shape)
        if by_channel:
            shape[2:] = [1] * len(shape[2:])
        kept = source.draw(
            lambda mask, g: mask.bernoulli_(1 - p, generator=g), shape, input.dtype, input.device
        )
        scale = 1 / math.sqrt((_SELU_LIMIT**2 * p + 1) * (1 - p))
        dropped = _SELU_LIMIT * scale * (p - 1 + kept)
        return input.mul_(kept * scale).add_(dropped) if inplace else input * kept * scale + dropped

    return alpha_dropout


def _seeded_gumbel_softmax(
    logits: torch.Tensor,
    tau: float = 1,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    source: SeededRandom,
) -> torch.Tensor:
    """Replace ``gumbel_softmax``; `eps` has no effect there either."""
    drawn = source.draw(
        lambda x, g: x.exponential_(generator=g), list(logits.shape), logits.dtype, logits.device
    )
    soft = ((logits - drawn.log()) / tau).softmax(dim)
    if not hard:
        return soft
    index = soft.max(dim, keepdim=True)[1]
    one_hot = torch.zeros_like(soft).scatter(dim, index, 1.0)
    return one_hot - soft.detach() + soft


_functional = torch.nn.functional
_REPLACED: dict[Any, Callable[..., Any]] = {
    _functional.dropout: _seeded_dropout(None),
    _functional.dropout1d: _seeded_dropout(1),
    _functional.dropout2d: _seeded_dropout(2),
    _functional.dropout3d: _seeded_dropout(3),
    _functional.alpha_dropout: _seeded_alpha_dropout(by_channel=False),
    _functional.feature_alpha_dropout: _seeded_alpha_dropout(by_channel=True),
    _functional.gumbel_softmax: _seeded_gumbel_softmax,
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


def _seeded_like(fill: Fill) -> Callable[..., torch.Tensor]:
    """Make a replacement of ``torch.rand_like`` or ``randn_like`` that draws from a source."""

    def draw_like(
        x: torch.Tensor,
        *,
        source: SeededRandom,
        dtype: torch.dtype | None = None,
        device: Any = None,
        requires_grad: bool = False,
        **layout: Any,
    ) -> torch.Tensor:
        drawn = source.draw(fill, list(x.shape), dtype or x.dtype, device or x.device)
        return drawn.requires_grad_() if requires_grad else drawn

    return draw_like


_REPLACED[torch.rand_like] = _seeded_like(lambda x, g: x.uniform_(generator=g))
_REPLACED[torch.randn_like] = _seeded_like(lambda x, g: x.normal_(generator=g))


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

    def draw(
        self, fill: Any, shape: list[int], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """Return a new tensor that `fill` has filled."""
        return fill(torch.empty(shape, dtype=dtype, device=device), self.generator)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, with the generator where it draws random numbers."""
        kwargs = kwargs or {}
        if func in _REPLACED:
            return _REPLACED[func](*args, **kwargs, source=self)
        if func in _TAKES_GENERATOR and kwargs.get("generator") is None:
            return self._call_seeded(func, args, kwargs)
        return func(*args, **kwargs)

    def _call_seeded(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return func(*args, **{**kwargs, "generator": self.generator})


class _DrawEach(torch.autograd.Function):
    """A tensor of random numbers a net, from inside the ``torch.func.vmap`` over the nets."""

    @staticmethod
    def forward(number: torch.Tensor, draw_all: Callable[[], torch.Tensor]) -> torch.Tensor:
        raise RuntimeError("random numbers of many nets are drawn within vmap, got none around")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: Any, number: Any, draw_all: Any) -> tuple[torch.Tensor, int]:
        return draw_all(), 0


class SeededRandomOfEach(SeededRandom):
    """`SeededRandom` within ``torch.func.vmap``: every net draws from a generator of its own.

    A net gets the numbers that it would get alone. Covered are dropout, whose rate may be a tuple
    with one a net, ``torch.rand_like`` and ``torch.randn_like``.

    Parameters
    ----------
    generators : list of torch.Generator
        One a net.
    number : Tensor
        Any argument of the mapped function that has an entry a net.

    Raises
    ------
    NotImplementedError
        On entering another random function.
    """

    def __init__(self, generators: list[torch.Generator], number: torch.Tensor) -> None:
        super().__init__(generators[0])
        self.generators = generators
        self.number = number

    def draw(
        self, fill: Any, shape: list[int], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """Return a new tensor, batched by vmap, whose part of each net `fill` has filled.

        A list has a `fill` a net.
        """
        n_nets = len(self.generators)
        fills = fill if isinstance(fill, list) else [fill] * n_nets

        def draw_all() -> torch.Tensor:
            drawn = torch.empty((n_nets, *shape), dtype=dtype, device=device)
            for part, generator, each in zip(drawn, self.generators, fills, strict=True):
                each(part, generator)
            return drawn

        return _DrawEach.apply(self.number, draw_all)

    def _call_seeded(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = getattr(func, "__name__", str(func))
        raise NotImplementedError(f"the module draws random numbers by {name}")
