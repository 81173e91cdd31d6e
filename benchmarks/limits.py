"""The limit: the bare products that a fit cannot avoid, and nothing else."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from benchmarks.race import LIMIT, TORCH_LIMIT, Contender

Step = Callable[[], None]


def dense_limits(
    n: int,
    widths: Sequence[int],
    batch_size: int,
    epochs: int,
    dtype: torch.dtype,
    threads: int,
) -> list[Contender]:
    """Return the products of all epochs of a dense net, by torch and by NumPy.

    `widths` goes from the features to the logits. The gradient by the features is not needed.
    """
    full, rest = divmod(n, batch_size)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype) / shape[0]

    def epochs_of(multiply: Callable[..., Any], like: Callable[..., Any]) -> Step:
        weights = [like(a, b) for a, b in itertools.pairwise(widths)]
        step = _dense_step(multiply, batch_size, weights, like)
        last = _dense_step(multiply, rest, weights, like) if rest else None

        def run() -> None:
            for _ in range(epochs):
                for _ in range(full):
                    step()
                if last is not None:
                    last()

        return run

    by_torch = epochs_of(torch.mm, random)
    by_numpy = epochs_of(np.dot, lambda *shape: random(*shape).numpy())
    return _of_libraries(by_torch, by_numpy, threads)


def linear_limits(
    X: Tensor, n_outputs: int, passes: int, threads: int, **how: Any
) -> list[Contender]:
    """Return `passes` times the two products of a loss and gradient over all rows of X."""
    weight = torch.randn(X.shape[1], n_outputs, dtype=X.dtype)
    residual = torch.empty(X.shape[0], n_outputs, dtype=X.dtype)
    memory = (X, weight, residual, torch.empty_like(weight))

    def passes_of(multiply: Callable[..., Any], rows: Any, w: Any, r: Any, grad: Any) -> Step:
        def run() -> None:
            for _ in range(passes):
                multiply(rows, w, out=r)
                multiply(rows.T, r, out=grad)

        return run

    by_torch = passes_of(torch.mm, *memory)
    by_numpy = passes_of(np.dot, *(tensor.numpy() for tensor in memory))
    return _of_libraries(by_torch, by_numpy, threads, **how)


def _of_libraries(by_torch: Step, by_numpy: Step, threads: int, **how: Any) -> list[Contender]:
    """Return runs of the limit by both libraries, at the thread count of the race and on one.

    The fastest of them counts: a limit that is too slow would flatter us. Small products are slower
    on many threads, and either library may know the processor better.
    """

    def on_one_thread(run: Step) -> Step:
        def limited() -> None:
            torch.set_num_threads(1)
            try:
                with threadpool_limits(1):
                    run()
            finally:
                torch.set_num_threads(threads)

        return limited

    runs = {TORCH_LIMIT: by_torch, f"{LIMIT}, NumPy": by_numpy}
    if threads > 1:
        runs |= {f"{name}, one thread": on_one_thread(run) for name, run in runs.items()}
    return [Contender(name, run, **how) for name, run in runs.items()]


def _dense_step(multiply: Callable[..., Any], batch: int, weights: list[Any], like: Any) -> Step:
    """Return the products of one step into memory that is there; `like` makes some of a shape."""
    widths = [weights[0].shape[0], *(w.shape[1] for w in weights)]
    outputs = [like(batch, width) for width in widths]
    deltas = [like(batch, width) for width in widths]
    gradients = [like(*weight.shape) for weight in weights]

    def step() -> None:
        for i, weight in enumerate(weights):
            multiply(outputs[i], weight, out=outputs[i + 1])
        for i in reversed(range(len(weights))):
            multiply(outputs[i].T, deltas[i + 1], out=gradients[i])
            if i:
                multiply(deltas[i + 1], weights[i].T, out=deltas[i])

    return step


def convolution_epoch(module: nn.Module, batch: Tensor, n_batches: int, dtype: torch.dtype) -> Step:
    """Return the convolutions and products of an epoch of `module`, forward and backward.

    Torch's convolutions allocate their outputs. They run in the faster of the two memory formats.
    """
    shapes: list[tuple[nn.Module, Tensor, Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda m, args, out: shapes.append((m, args[0], out)))
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        module(batch)
    for hook in hooks:
        hook.remove()
    steps = [
        _convolution_step(shapes, dtype, layout)
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    step = min(steps, key=_seconds)

    def run() -> None:
        with torch.no_grad():
            for _ in range(n_batches):
                step()

    return run


def _seconds(step: Step, repeats: int = 3) -> float:
    """Return the time of some repeats, after a first one."""
    step()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return time.perf_counter() - start


def _convolution_step(
    shapes: Sequence[tuple[nn.Module, Tensor, Tensor]],
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> Step:
    """Return the work of one step, layer after layer."""
    works: list[Step] = []
    for i, (layer, x, out) in enumerate(shapes):
        if isinstance(layer, nn.Conv2d):
            works.append(_convolution(layer, x, out, dtype, layout, need_input=i > 0))
        else:
            works.append(_product(layer, x, out, dtype))

    def step() -> None:
        for work in works:
            work()

    return step


def _product(layer: nn.Linear, x: Tensor, out: Tensor, dtype: torch.dtype) -> Step:
    x, y, delta = x.to(dtype), out.to(dtype), torch.randn_like(out, dtype=dtype)
    weight = layer.weight.detach().to(dtype)
    gradient, back = torch.empty_like(weight), torch.empty_like(x)

    def work() -> None:
        torch.mm(x, weight.T, out=y)
        torch.mm(delta.T, x, out=gradient)
        torch.mm(delta, weight, out=back)

    return work


def _convolution(
    layer: nn.Conv2d,
    x: Tensor,
    out: Tensor,
    dtype: torch.dtype,
    layout: torch.memory_format,
    *,
    need_input: bool,
) -> Step:
    x = x.to(dtype, memory_format=layout)
    weight = layer.weight.detach().to(dtype, memory_format=layout)
    delta = torch.randn_like(out, dtype=dtype).contiguous(memory_format=layout)
    stride, padding, dilation = layer.stride, layer.padding, layer.dilation

    def work() -> None:
        torch.conv2d(x, weight, None, stride, padding, dilation)
        torch.ops.aten.convolution_backward(
            *(delta, x, weight, None, stride, padding, dilation, False, [0, 0], 1),
            [need_input, True, False],
        )

    return work
