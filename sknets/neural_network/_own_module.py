"""What can be told of a module of the user's before it trains."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def copy_of(module: nn.Module) -> nn.Module:
    """Return a copy that trains.

    Raises
    ------
    ValueError
        If the copy's parameters are not leaves of autograd's graph, as those of TorchScript.
    """
    copied = copy.deepcopy(module)
    if not all(p.is_leaf for p in copied.parameters()):
        raise ValueError(
            "module must have parameters that are leaves of autograd's graph in a copy too, got "
            f"{type(module).__name__}, whose are not, as those of TorchScript. Pass a callable "
            "that makes it, and fit anew where a fit would go on."
        )
    return copied


def check_parameters(module: nn.Module) -> None:
    """Raise a ValueError unless there are parameters to train, and all are real."""
    if not any(p.requires_grad for p in module.parameters()):
        raise ValueError(
            "module must have at least one parameter to train (requires_grad=True), got "
            f"{type(module).__name__} without one."
        )
    dtypes = {p.dtype for p in module.parameters() if p.is_complex()}
    if dtypes:
        raise ValueError(f"module must have real parameters, got some of {dtypes.pop()}.")


def probe(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Return the logits (2, n_logits) of a row of zeros and one of ones, in evaluation mode.

    Parameters
    ----------
    module : nn.Module
        Is left in the mode in which it was found.
    shape : tuple of int
        Of a row.

    Raises
    ------
    ValueError
        If the module cannot take such rows, or gives something else than logits.
    """
    parameter = next(module.parameters())
    was_training = module.training
    rows = torch.zeros((2, *shape), dtype=parameter.dtype, device=parameter.device)
    rows[1] = 1
    try:
        with torch.no_grad():
            logits = module.eval()(rows)
    except RuntimeError as error:
        raise ValueError(
            f"module must take rows of X, each of shape {shape}, in {rows.dtype} (the dtype of "
            f"X, or precision=), got an error from it for two such rows: {error}."
        ) from error
    finally:
        module.train(was_training)
    if not isinstance(logits, Tensor):
        raise ValueError(
            "module must give logits of shape (n_samples, n_classes), got a "
            f"{type(logits).__name__}."
        )
    if logits.ndim != 2 or len(logits) != 2:
        raise ValueError(
            "module must give logits of shape (n_samples, n_classes), got shape "
            f"{tuple(logits.shape)} for two samples."
        )
    return logits


@contextmanager
def outputs_of_sigmoids(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what layers of sigmoids give while the block runs the module."""
    outputs: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda *call: outputs.append(call[-1]))
        for layer in module.modules()
        if isinstance(layer, nn.Sigmoid)
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def are_probabilities(logits: Tensor) -> bool:
    """Whether the rows are numbers from 0 to 1 that add up to 1, which logits hardly are."""
    near = 1e-5
    sums = logits.sum(1)
    return bool((logits >= 0).all() and ((sums - 1).abs() < near).all())
