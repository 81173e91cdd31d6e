"""Blocks of training steps as CUDA graphs.

A kernel of a small net takes a GPU a few microseconds, and Python and torch several times as long
to launch. A graph holds the kernels of many steps and is launched at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import torch
from torch import Tensor, nn

from sknets._core import capture_lock, is_out_of_memory
from sknets._engine._module_hooks import has_forward_hooks, has_gradient_hooks
from sknets._nn import CNN, MLP

MOST_BATCHES = 64
"""Batches whose steps one graph holds at most: to capture a step takes as long as to run it."""

# Blocks still to be run from which a capture pays: it takes up to 1.7 times as long as the block.
_FEWEST_LAUNCHES = 4

Call = Callable[[], Tensor]


class Graph(Protocol):
    """The kernels of a call, to be launched again; `CudaGraph`, or what stands in for it."""

    def capture(self, call: Call) -> Tensor:
        """Call it, without running its kernels, and return what it gives."""

    def launch(self) -> None:
        """Run the kernels, which read and write the memory that they did in the call."""


class CudaGraph:
    """A graph of CUDA's.

    Parameters
    ----------
    device : torch.device
        Of all tensors.
    generator : torch.Generator or None
        What the call draws from; each launch draws on where the last one has ended.
    """

    def __init__(self, device: torch.device, generator: torch.Generator | None) -> None:
        self._device = device
        self._generator = generator
        with torch.cuda.device(device):
            self._graph = torch.cuda.CUDAGraph()
            if generator is not None:
                self._graph.register_generator_state(generator)

    def capture(self, call: Call) -> Tensor:
        """Call it, without running its kernels, and return what it gives."""
        device, generator = self._device, self._generator
        before = None if generator is None else generator.clone_state()
        current, pool = torch.cuda.current_stream(device), torch.cuda.graph_pool_handle()
        failures: list[BaseException] = []
        # To begin a capture waits for the device, which another one does not allow.
        with capture_lock, torch.cuda.device(device), _workspaces_of_its_own():
            try:
                # Other threads may use the device, or others, meanwhile.
                with torch.cuda.graph(
                    self._graph,
                    pool=pool,
                    stream=torch.cuda.Stream(device),
                    capture_error_mode="thread_local",
                ):
                    return _noting(failures, call)
            except BaseException as error:
                # torch leaves behind what the end of the capture would have put back.
                torch.cuda.set_stream(current)
                with suppress(RuntimeError):  # where it has ended
                    torch._C._cuda_endAllocateToPool(device.index, pool)
                if generator is not None and before is not None:
                    generator.graphsafe_set_state(before)
                if failures and failures[0] is not error:  # to end it then raises an error too
                    raise failures[0] from failures[0].__cause__
                raise

    def launch(self) -> None:
        """Run the kernels."""
        with torch.cuda.device(self._device):
            self._graph.replay()


@contextmanager
def _workspaces_of_its_own() -> Iterator[None]:
    """Let products take workspaces in the memory of a graph, and leave them to it."""
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


def _noting(failures: list[BaseException], call: Call) -> Tensor:
    try:
        return call()
    except BaseException as error:
        failures.append(error)
        raise


class BlockGraphs:
    """Runs blocks of training steps: kernel by kernel the first time, then as graphs.

    What a block does may depend on Python in nothing that changes: not in the learning rates, which
    are to lie in the device's memory, nor in where its batches lie.

    Parameters
    ----------
    make_graph : callable () -> Graph
        Makes an empty graph.

    Attributes
    ----------
    n_launches : int
        Blocks that ran as a graph.
    """

    def __init__(self, make_graph: Callable[[], Graph]) -> None:
        self._make_graph = make_graph
        self._captured: dict[Hashable, tuple[Graph, Tensor] | None] = {}
        self._is_usable = True
        self.n_launches = 0

    def run(self, key: Hashable, call: Call, n_left: int) -> Tensor:
        """Return what `call` gives for a block, a tensor that the next run may write to.

        Blocks of one key differ in nothing but the contents of memory. `n_left` says how many
        blocks are still to be run at most, with this one.
        """
        if key not in self._captured or not self._is_usable:
            self._captured[key] = None
            return call()  # which makes the memory that is used again
        captured = self._captured[key]
        if captured is None and n_left >= _FEWEST_LAUNCHES:
            captured = self._captured[key] = self._capture(call)
        if captured is None:
            return call()
        graph, result = captured
        graph.launch()
        self.n_launches += 1
        return result

    def _capture(self, call: Call) -> tuple[Graph, Tensor] | None:
        """Return a block's graph and its result; None, with a warning, where there is none."""
        graph = self._make_graph()
        try:
            return graph, graph.capture(call)
        except Exception as error:  # what runs kernel by kernel is no reason to end a fit
            if is_out_of_memory(error):
                raise
            warnings.warn(
                f"A CUDA graph of the training steps could not be made, and they run one by one, "
                f"slower: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            self._is_usable = False
            self._captured.clear()
            return None


def make_block_graphs(
    module: nn.Module, device: torch.device, generator: torch.Generator | None = None
) -> BlockGraphs | None:
    """Return graphs for the training of a net, or None where it cannot be captured.

    Captured is what launches the same kernels in every step, on a CUDA device: our own modules,
    made of torch's layers and ours, without hooks. What else a module's Python does would be left
    out.
    """
    if device.type != "cuda" or type(module) not in (MLP, CNN):
        return None
    known = ("torch.nn.modules.", "sknets._nn.")
    for layer in module.modules():
        if not type(layer).__module__.startswith(known) or "forward" in vars(layer):
            return None
    if has_forward_hooks(module) or has_gradient_hooks(module):
        return None
    return BlockGraphs(lambda: CudaGraph(device, generator))
