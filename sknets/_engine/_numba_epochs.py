"""Epochs of dense nets in compiled code: what their parameters and rows are to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sknets._core import import_optional
from sknets._data import Batches, Rows, SubsetRows
from sknets._engine._flat import FlatParameters
from sknets._engine._stack_epoch import StackEpochs
from sknets._nn import MLP, Optimiser

Array = np.ndarray[Any, np.dtype[Any]]

NUMBA_ACTIVATIONS = ("identity", "logistic", "relu", "tanh")
"""Activations that there is compiled code for."""


def why_numba_cannot(rows: Rows) -> str | None:
    """Return what rows are if there is no compiled code for them.

    Raises
    ------
    ImportError
        If Numba is not installed.
    """
    import_optional("numba", extra="numba", purpose='compile="numba"')
    if rows.device.type != "cpu":
        return f'rows on {rows.device} (set device="cpu")'
    return "a sparse X" if _all_of(rows).is_sparse else None


def _all_of(rows: Rows) -> Rows:
    return _all_of(rows.rows) if isinstance(rows, SubsetRows) else rows


class NumbaEpochs:
    """Trains dense nets of one shape on rows of one X, an epoch of one net at a time.

    Parameters
    ----------
    flat : FlatParameters
        Of a net of the shape, with one hidden layer at least.
    rows : Rows
        Dense, on the CPU.
    task : {"multiclass", "binary", "multilabel"}
        Softmax of K logits, or a sigmoid of each.
    batch_size : int
        Rows of a batch.
    solver : {"adam", "sgd"}
        What changes the weights.
    """

    def __init__(
        self, flat: FlatParameters, rows: Rows, task: str, *, batch_size: int, solver: str
    ) -> None:
        from sknets._engine import _numba_dense  # Numba is not everywhere, and slow to import

        self._code = _numba_dense
        self._batch_size = batch_size
        self._is_adam = solver == "adam"
        self._net = _describe(flat, task)
        whole = _all_of(rows)
        self._x = whole.slice(0, whole.n, aligned=False).numpy()
        self._known: tuple[StackEpochs, Any] | None = None  # a stack, and how its nets learn

    def train(
        self,
        numbers: Array,
        target: Array,
        weight: Array | None,
        state: tuple[Array, ...],
        rule: Any,
        rates: Array,
    ) -> list[float]:
        """Train nets that see the same rows for an epoch.

        Parameters
        ----------
        numbers : ndarray of shape (n,)
            Rows of X, in their order.
        target : ndarray of shape (n,) or (n, K)
            Their encoded labels.
        weight : ndarray of shape (M, n) or None
            Their weights.
        state : tuple of ndarray of shape (M, P)
            Weights, gradients, and what the solver remembers: one or two of them.
        rule : Rule
            What `make_rule` gives for the nets.
        rates : ndarray of shape (M, n_batches)
            Of each step, corrections of the bias included.

        Returns
        -------
        losses : list of float
            Mean objective of the epoch, a net each.
        """
        weights, grads, first, *second = state
        losses = self._code.train_epoch(
            self._x,
            numbers,
            np.ascontiguousarray(target.reshape(len(target), -1), np.int64),
            np.empty((len(rates), 0), self._x.dtype) if weight is None else weight,
            self._batch_size,
            self._net,
            self._code.State(weights, grads, first, second[0] if second else first),
            rule,
            rates,
        )
        return losses.tolist()

    def make_rule(self, settings: Sequence[Mapping[str, Any]], alphas: Sequence[float]) -> Any:
        """Return how nets learn whose solvers have these settings and penalties.

        The settings are "betas" and "eps", or "momentum" and "nesterov".
        """
        rows = [self._constants(each) for each in settings]
        nesterov = not self._is_adam and bool(settings[0]["nesterov"])
        constants = np.array(rows, np.float64).astype(self._x.dtype)
        return self._code.Rule(self._is_adam, nesterov, constants, np.array(alphas, np.float64))

    def _constants(self, settings: Mapping[str, Any]) -> tuple[float, ...]:
        if not self._is_adam:
            return settings["momentum"], 0.0, 0.0, 0.0
        beta_1, beta_2 = settings["betas"]
        return 1 - beta_1, beta_2, 1 - beta_2, settings["eps"]

    def train_members(
        self, epochs: StackEpochs, target: Tensor, tensors: tuple[Tensor, ...], rates: Array
    ) -> list[float]:
        """Train all nets of a stack for an epoch, those that see the same rows in one call.

        Parameters
        ----------
        epochs : StackEpochs
            Says what rows each net sees.
        target : Tensor of shape (n_all, ...)
            Encoded labels of all rows of X.
        tensors : tuple of Tensor of shape (M, P)
            As the state in `train`.
        rates : ndarray of shape (n_batches, M)
            Of each step and net.

        Returns
        -------
        losses : list of float
            Mean objective of each net.
        """
        if self._known is None or self._known[0] is not epochs:
            settings = [member.settings for member in epochs.members]
            rule = self.make_rule(settings, [each["alpha"] for each in settings])
            self._known = epochs, rule
        _, rule = self._known
        rates_of_nets = np.ascontiguousarray(rates.T, np.float64)
        losses = []
        for group, numbers, weights in epochs.by_group():
            losses += self.train(
                numbers,
                target.numpy()[numbers],
                None if weights is None else np.ascontiguousarray(weights.numpy()),
                tuple(tensor[group].numpy() for tensor in tensors),
                rule._replace(constants=rule.constants[group], alpha=rule.alpha[group]),
                rates_of_nets[group],
            )
        return losses


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


def make_numba_epoch(
    flat: FlatParameters,
    batches: Batches,
    optimiser: Optimiser,
    *,
    task: str,
    alpha: float,
) -> Callable[[], float]:
    """Return a function that trains one net for an epoch and returns the mean objective.

    Parameters
    ----------
    flat : FlatParameters
        Of the net.
    batches : Batches
        Says which rows there are and in which order they come.
    optimiser : Optimiser
        Whose rates are used and whose state is changed.
    task, alpha
        As in `NumbaEpochs`.
    """
    rows = batches.rows
    solver = "adam" if "betas" in optimiser.param_groups[0] else "sgd"
    epochs = NumbaEpochs(flat, rows, task, batch_size=batches.batch_size, solver=solver)
    rule = epochs.make_rule(optimiser.param_groups, [alpha])
    target = batches.target.numpy()
    weight = None if batches.weight is None else batches.weight.numpy()

    def train() -> float:
        order = batches.next_order()
        state = (flat.vector.detach(), flat.grad, *optimiser.memory(flat.vector))
        (loss,) = epochs.train(
            rows.index[order] if isinstance(rows, SubsetRows) else order,
            target[order],
            None if weight is None else weight[order][None],
            tuple(tensor[None].numpy() for tensor in state),
            rule,
            np.array([optimiser.next_rates(len(batches.sizes))], np.float64),
        )
        return loss

    return train
