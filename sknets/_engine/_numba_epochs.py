"""Epochs of dense nets in compiled code: what their parameters and rows are to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sknets._data import Batches, Rows
from sknets._engine._dense import has_closed_form
from sknets._engine._flat import FlatParameters
from sknets._engine._numba_extra import import_numba
from sknets._engine._stack_epoch import StackEpochs
from sknets._nn import MLP, Optimiser

Array = np.ndarray[Any, np.dtype[Any]]

NUMBA_ACTIVATIONS = ("identity", "logistic", "relu", "tanh")
"""Activations that there is compiled code for."""

# Rows of a stack that are gathered at once; they stay in the cache until the nets have seen them.
_BLOCK_BYTES = 2**20


def check_numba(module: nn.Module) -> None:
    """Raise if there is no compiled code for a module.

    Raises
    ------
    ImportError
        If Numba is not installed.
    ValueError
        If the module is not a plain `MLP`, or one with dropout, without hidden layers, or with an
        activation that there is no code for.
    """
    import_numba()
    plain = module.plain_layers if has_closed_form(module) else None
    is_covered = (
        plain is not None
        and len(plain) > 1
        and not any(rate for _, rate in plain)
        and module.activation in NUMBA_ACTIVATIONS
    )
    if not is_covered:
        raise ValueError(
            'The module must be a plain MLP with compile="numba": with hidden layers, without '
            f"dropout and normalisation, activated by one of {NUMBA_ACTIVATIONS}; got {module}."
        )


class NumbaEpochs:
    """Trains dense nets of one shape.

    Parameters
    ----------
    flat : FlatParameters
        Of a net of the shape, which `check_numba` does not refuse.
    task : {"multiclass", "binary", "multilabel"}
        Softmax of K logits, or a sigmoid of each.
    batch_size : int
        Rows of a batch.
    solver : {"adam", "sgd"}
        What changes the weights.
    """

    def __init__(self, flat: FlatParameters, task: str, *, batch_size: int, solver: str) -> None:
        from sknets._engine import _numba_dense  # Numba is not everywhere, and slow to import

        self._code = _numba_dense
        self._batch_size = batch_size
        self._is_adam = solver == "adam"
        self._net = _describe(flat, task)
        self._dtype = flat.vector.detach().numpy().dtype

    def make_rule(self, settings: Sequence[Mapping[str, Any]], alphas: Sequence[float]) -> Any:
        """Return how nets learn whose solvers have these settings and penalties.

        The settings are "betas" and "eps", or "momentum" and "nesterov".
        """
        rows = [self._constants(each) for each in settings]
        nesterov = not self._is_adam and bool(settings[0]["nesterov"])
        constants = np.array(rows, np.float64).astype(self._dtype)
        return self._code.Rule(self._is_adam, nesterov, constants, np.array(alphas, np.float64))

    def _constants(self, settings: Mapping[str, Any]) -> tuple[float, ...]:
        if not self._is_adam:
            return settings["momentum"], 0.0, 0.0, 0.0
        beta_1, beta_2 = settings["betas"]
        return 1 - beta_1, beta_2, 1 - beta_2, settings["eps"]

    def train(
        self,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None,
        state: tuple[Tensor, ...],
        rule: Any,
        rates: Array,
    ) -> Array:
        """Train nets on a block of batches that all of them see.

        Parameters
        ----------
        x : Tensor of shape (n, F)
            The rows, contiguous.
        target : Tensor of shape (1, n) or (K, n)
            What `encode` gives of their labels.
        weight : Tensor of shape (M, n) or None
            Their weights.
        state : tuple of Tensor of shape (M, P)
            Weights, gradients, and what the solver remembers: one or two of them.
        rule : Rule
            What `make_rule` gives for the nets.
        rates : ndarray of shape (M, n_batches)
            Of each step, corrections of the bias included.

        Returns
        -------
        losses : ndarray of shape (M,)
            Sum over the batches of each net's objective times the rows.
        """
        weights, grads, first, *second = (tensor.numpy() for tensor in state)
        rows = x.numpy()
        return self._code.train(
            rows,
            np.ascontiguousarray(target.numpy()),
            np.empty((len(rates), 0), rows.dtype) if weight is None else weight.numpy(),
            self._batch_size,
            self._net,
            self._code.State(weights, grads, first, second[0] if second else first),
            rule,
            np.ascontiguousarray(rates, np.float64),
        )


def encode(target: Tensor) -> tuple[Tensor]:
    """Return encoded labels (n,) or (n, K) as compiled code takes them: (1, n) or (K, n)."""
    by_output = target[None] if target.ndim == 1 else target.mT
    return (by_output.to(torch.int64),)


def make_numba_epoch(
    flat: FlatParameters,
    batches: Batches,
    optimiser: Optimiser,
    *,
    task: str,
    solver: str,
    alpha: float,
) -> Callable[[], float]:
    """Return a function that trains one net for an epoch and returns the mean objective.

    Parameters
    ----------
    flat : FlatParameters
        Of the net.
    batches : Batches
        On the CPU.
    optimiser : Optimiser
        Whose rates are used and whose state is changed.
    task, solver : str
        As in `NumbaEpochs`.
    alpha : float
        Strength of the L2 penalty.
    """
    (group,) = optimiser.param_groups
    epochs = NumbaEpochs(flat, task, batch_size=batches.batch_size, solver=solver)
    rule = epochs.make_rule([group], [alpha])

    def train() -> float:
        tensors = (flat.vector.detach(), flat.grad, *optimiser.memory(flat.vector))
        state = tuple(tensor[None] for tensor in tensors)
        total = 0.0
        for block in batches.whole_blocks(encode):
            rates = np.array([optimiser.next_rates(len(block.batches))])
            weight = None if block.weight is None else block.weight[None]
            (target,) = block.target
            total += float(epochs.train(block.x, target, weight, state, rule, rates)[0])
        return total / batches.rows.n

    return train


def make_numba_stack(
    numba: NumbaEpochs,
    epochs: StackEpochs,
    rows: Rows,
    target: Tensor,
    tensors: tuple[Tensor, ...],
) -> Callable[[Array], list[float]]:
    """Return a function that trains a stack for an epoch and returns the mean objectives.

    It takes the rates (n_batches, M) of each step and net. Nets that see the same rows train in one
    call, each with its weights in the caches.

    Parameters
    ----------
    numba : NumbaEpochs
        Trains nets of the shape.
    epochs : StackEpochs
        Says what rows each net sees.
    rows : Rows
        X, on the CPU.
    target : Tensor of shape (n_all, ...)
        Encoded labels of all rows of X.
    tensors : tuple of Tensor of shape (M, P)
        Weights, gradients, and what the solver remembers.
    """
    settings = [member.settings for member in epochs.members]
    rule = numba.make_rule(settings, [each["alpha"] for each in settings])
    size = epochs.batch_size * rows.n_features * rows.dtype.itemsize
    blocks = list(epochs.blocks(max(1, _BLOCK_BYTES // size)))
    n_rows = min(epochs.batch_size * (blocks[0].stop - blocks[0].start), epochs.rows.shape[1])
    memory = torch.empty(n_rows, rows.n_features, dtype=rows.dtype)

    def train(rates: Array) -> list[float]:
        losses = np.zeros(len(settings))
        for group, numbers, weights in epochs.by_group():
            state = tuple(tensor[group] for tensor in tensors)
            of_group = rule._replace(constants=rule.constants[group], alpha=rule.alpha[group])
            for block in blocks:
                here = epochs.columns(block)
                index = torch.from_numpy(numbers[here])
                weight = None if weights is None else weights[:, here].contiguous()
                (labels,) = encode(target[index])
                some = rates[block, group].T
                x = rows.take(index, out=memory[: len(index)])
                losses[group] += numba.train(x, labels, weight, state, of_group, some)
            losses[group] /= len(numbers)
        return losses.tolist()

    return train


def _describe(flat: FlatParameters, task: str) -> Any:
    """Return the `Net` of a dense module."""
    from sknets._engine import _numba_dense, _numba_kernels

    module = flat.module
    assert isinstance(module, MLP)
    linears = module.linears
    starts = [
        [flat.part(flat.vector.detach(), p).storage_offset() for p in parameters]
        for parameters in zip(*((linear.weight, linear.bias) for linear in linears), strict=True)
    ]
    widths = [linears[0].in_features, *(linear.out_features for linear in linears)]
    return _numba_dense.Net(
        np.array(widths),
        np.array(starts[0]),
        np.array(starts[1]),
        len(flat.penalised),
        getattr(_numba_kernels, module.activation.upper()),
        task == "multiclass",
    )
