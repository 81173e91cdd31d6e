"""Networks fitted in stacks."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import clone
from torch import nn

from sknets._base._classifier import TrainingData
from sknets._base._numba_rules import uses_numba
from sknets._base._stack_members import Starts, finish, is_closed, make_member
from sknets._base._stacking import CannotStack, StackedFit, Stacker
from sknets._base._training import (
    make_loss_of,
    make_smoothed_loss,
    resolve_batch_size,
    wanted_batch_size,
)
from sknets._core import (
    Threads,
    attribute_keys,
    free_bytes,
    is_out_of_memory,
)
from sknets._data import as_tensor_view
from sknets._engine import (
    MOST_BATCHES,
    FlatParameters,
    MakeStep,
    Member,
    ModuleNotMapped,
    NumbaEpochs,
    Stack,
    StackedModuleStep,
    check_modules,
    make_conv_step,
    make_stacked_dense_step,
    run_parts,
    useful_parts,
    useful_threads,
)
from sknets._nn import OPTIMISERS, Loss, get_activation

# On a CPU, what nets of a stack take per thread, so that a kernel finds most of what the last one
# has written in the caches. Fewer nets than so many cost more in Python than the caches save.
_CACHED_BYTES = 25_000_000
_FEWEST_NETS = 12

# Numbers that the largest convolution gives for a batch, from which a net on a CPU trains faster by
# the closed form alone than in a stack by autograd.
_STACKED_NUMBERS = 60_000


class NetworkStacker(Stacker):
    """Stacks networks that train by epochs.

    Dense nets have their gradients in closed form; any other module runs through
    ``torch.func.vmap``, and one by one where that cannot run it.
    """

    def why_not(self, estimator: Any) -> str | None:
        """Return why an estimator's settings cannot be part of any stack."""
        if estimator.solver not in OPTIMISERS:
            return f"solver={estimator.solver!r} does not train by mini-batches"
        if callable(estimator.loss):
            return "its loss is a function of the user's own"
        if estimator.precision == "bf16":
            return 'precision="bf16" rounds otherwise in stacks'
        if estimator.compile and not uses_numba(estimator):
            return "compile=True compiles one net at a time"
        return None

    def check_data(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> TrainingData:
        """Check and encode all rows as the estimator's ``fit`` would."""
        rows = estimator._flatten(X, reset=True)
        return estimator._check_training_data(rows, y, sample_weight, multilabel=True)

    def key(self, fit: StackedFit) -> Hashable:
        """Return what decides a net's structure, and its number of steps an epoch."""
        estimator = fit.estimator
        n_train = len(fit.rows)
        if estimator.early_stopping:
            n_train -= int(np.ceil(estimator.validation_fraction * n_train))
        size = wanted_batch_size(estimator)
        # Folds of slightly different length are padded, as long as they take as many steps.
        steps = (size, -(-n_train // size))
        rule = (estimator.loss, estimator.solver, bool(estimator.nesterovs_momentum))
        where = (str(estimator.device), estimator.precision, uses_numba(estimator))
        return (estimator._structure(), *steps, *rule, *where)

    def bytes_of_a_fit(self, fit: StackedFit) -> int:
        """Estimate the memory that one net takes while it trains."""
        estimator, data = clone(fit.estimator), fit.data
        vars(estimator).update(vars(fit.estimator))
        try:
            random_state = np.random.RandomState(0)
            module = estimator._build_module(data.rows.n_features, data.codec, random_state)
            module.to(data.precision.dtype)
            inside = _numbers_inside(estimator._engine_module(module), data.rows.slice(0, 1).cpu())
        except Exception:  # its fit will say what is wrong
            return 1
        n_weights = sum(p.numel() for p in module.parameters())
        per_row = 2 * data.rows.n_features + 3 * inside
        # Weights, gradients, moments, a change, a copy; of a batch rows, activations, gradients.
        size = min(wanted_batch_size(estimator), len(fit.rows))
        numbers = 6 * n_weights + size * per_row
        if data.device.type == "cuda":  # targets of a block that graphs are made of, twice
            numbers += 2 * min(MOST_BATCHES * size, len(fit.rows)) * (data.codec.n_outputs + 2)
        return numbers * data.rows.dtype.itemsize

    def useful_size(self, fit: StackedFit, n_bytes: int, n_threads: int) -> int | None:
        """Return how many fits make the fastest stack; None where more are always better."""
        if fit.data.device.type != "cpu":
            return None
        return max(2, n_threads) * max(_FEWEST_NETS, _CACHED_BYTES // n_bytes)

    def predict_all(self, estimators: Sequence[Any], X: Any) -> list[Any]:
        """Return what each estimator's ``predict`` gives for X, which reaches a device once."""
        device = next(estimators[0].module_.parameters()).device
        is_plain = type(X) is np.ndarray and X.dtype in (np.float32, np.float64)
        goes = device.type == "cuda" and is_plain and not get_config()["array_api_dispatch"]
        if goes and X.nbytes <= free_bytes(device) // 2:
            X = as_tensor_view(X).to(device)
        return super().predict_all(estimators, X)

    def run(self, fits: Sequence[StackedFit], after_epoch: Callable[[], None]) -> None:
        """Train the nets of one stack."""
        starts = Starts()
        members, begun, ready = [], [], []
        for fit in fits:
            try:
                member, start = make_member(fit, starts)
            except Exception as error:  # a bad value of one candidate does not touch the others
                if is_out_of_memory(error):
                    raise
                fit.error = error
                continue
            members.append(member)
            begun.append(start)
            ready.append(fit)
        if not members:
            return
        modules = [*{id(start.flat): start.flat.module for start in begun}.values()]
        _check_same_structure(modules)
        stacks = _make_stacks(ready, members, modules[0])
        try:
            if not is_closed(modules[0], ready[0].estimator):
                with _without_vmaps_warning():
                    check_modules(modules)
                    stacks[0].run(after_epoch)
            elif len(stacks) == 1:
                stacks[0].run(after_epoch)
            else:
                most = max(member.settings["max_epochs"] for member in members)
                n_threads = max(1, torch.get_num_threads() // len(stacks))
                run_parts([stack.run for stack in stacks], most, after_epoch, n_threads=n_threads)
        except ModuleNotMapped as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason"
            raise CannotStack(f"torch.func.vmap cannot run its module: {reason}") from error
        for fit, member, start in zip(ready, members, begun, strict=True):
            try:
                resolve_batch_size(fit.estimator, len(member.rows))  # for its warning
                finish(fit, member, start, stacks[0].engine)
            except Warning as error:  # where warnings are errors, it is this fit's alone
                fit.error = error


@contextmanager
def _without_vmaps_warning() -> Iterator[None]:
    """Keep to ourselves that torch runs an operation of a module net by net: results are right."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


def _numbers_inside(module: nn.Module, row: torch.Tensor) -> int:
    """Return how many numbers the layers of a module give for one row."""
    total = 0

    def count(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        total += output.numel() if isinstance(output, torch.Tensor) else 0

    leaves = [layer for layer in module.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in leaves]
    try:
        parameter = next(module.parameters())
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one row is the search's idea, not the user's
            module.eval()(row.to(parameter.device, parameter.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _shapes(module: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in module.state_dict(keep_vars=True).items()]


def _check_same_structure(modules: Sequence[nn.Module]) -> None:
    """Raise if modules that settings say to be equal are not, as a factory may give."""
    first = _shapes(modules[0])
    if any(_shapes(module) != first for module in modules):
        raise CannotStack("its factory gives modules of different shapes")


def _make_stacks(
    fits: Sequence[StackedFit], members: Sequence[Member], module: nn.Module
) -> list[Stack]:
    """Return the fits as one stack, or as equal parts of one that are to run at once."""
    n_parts = 1
    if fits[0].data.device.type == "cpu" and is_closed(module, fits[0].estimator):
        size = min(wanted_batch_size(fits[0].estimator), max(len(m.rows) for m in members))
        n_parts = useful_parts(module, size, len(members))
        if uses_numba(fits[0].estimator):  # which lets go of the interpreter
            n_parts = min(torch.get_num_threads(), len(members))
    # Nets that train on as many rows, or on the same ones, are in one part.
    order = sorted(range(len(fits)), key=lambda i: (len(members[i].rows), id(fits[i].rows)))
    return [
        _make_stack([fits[i] for i in part], [members[i] for i in part], module)
        for part in np.array_split(order, n_parts)
    ]


def _make_stack(fits: Sequence[StackedFit], members: Sequence[Member], module: nn.Module) -> Stack:
    """Return the stack of fits; its template is a copy of the first one's module."""
    first, data = fits[0].estimator, fits[0].data
    try:
        copied = copy.deepcopy(module)
    except Exception as error:  # the copying is the module's own code
        raise CannotStack(f"its module cannot be copied: {error}") from error
    size = min(wanted_batch_size(first), max(len(m.rows) for m in members))
    template = FlatParameters(first._engine_module(copied.to(data.device)))
    loss = make_loss_of(first, copied, data.codec)
    if is_closed(copied, first):
        make_step: MakeStep = partial(
            make_stacked_dense_step,
            template=template,
            linears=copied.linears,
            activation=get_activation(copied.activation),
            task=loss.task,
        )
    else:
        _check_gains(template, loss, size)
        make_step = partial(
            StackedModuleStep,
            template=template,
            attributes=attribute_keys(template.module),
            make_loss=partial(make_smoothed_loss, first.loss, loss.task),
        )
    by_numba = None
    if uses_numba(first):
        by_numba = NumbaEpochs(template, loss.task, batch_size=size, solver=first.solver)
    return Stack(
        members,
        data.rows,
        data.target,
        template=template,
        make_step=make_step,
        solver=first.solver,
        batch_size=size,
        n_threads=_threads_of_a_stack(copied, data.rows.n_features, size, len(members)),
        by_numba=by_numba,
    )


def _check_gains(template: FlatParameters, loss: Loss, batch_size: int) -> None:
    """Raise where nets are faster one by one: convolutions in closed form, of large batches."""
    alone = make_conv_step(
        template.module, loss, template, alpha=0.0, generator=None, autocast=None
    )
    if alone is not None and alone.numbers_of_a_row * batch_size > _STACKED_NUMBERS:
        raise CannotStack(f"its convolutions are faster alone in batches of {batch_size}")


def _threads_of_a_stack(
    module: nn.Module, n_features: int, batch_size: int, n_nets: int
) -> Threads:
    """Return the threads of a stack: its kernels are as large as all nets together, its products
    as small as those of one. Threads of both kinds at once would fight for the cores.
    """
    blas = useful_threads(module, n_features, batch_size).blas
    kernels = useful_threads(module, n_features, n_nets * batch_size).torch
    return Threads(torch=1 if blas is None else kernels, blas=blas)
