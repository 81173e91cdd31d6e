"""Gradients of a stack of dense nets, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from sknets._core import fill_dropout_mask_
from sknets._engine._dense import DenseStep
from sknets._engine._dense_program import DenseLayer
from sknets._engine._flat import FlatParameters
from sknets._engine._products import NumpyProducts, Operand, Products
from sknets._engine._stack_member import Member, label_smoothing_of
from sknets._nn import Activation

# On an accelerator, nets of a group on average from which a product a group is not too many.
_NETS_OF_A_PRODUCT = 8


class _SharedRows:
    """The products of a batch (G, B, F): the nets ``groups[g]`` multiply x[g].

    A product then finds its rows in the caches, where those of each net would not have room, and
    an accelerator has them in memory once.

    Parameters
    ----------
    products : Products
        What multiplies.
    groups : sequence of slice
        Nets that have the same rows.
    """

    def __init__(self, products: Products, groups: Sequence[slice]) -> None:
        self._products = products
        self._groups = groups

    def affine(self, bias: Tensor, weight: Tensor, out: Tensor) -> Callable[[Operand], Any]:
        """Return a function that writes ``x @ weight.T + bias``."""
        return self._each(self._products.affine, bias, weight, out)

    def weight_gradient(self, delta: Tensor, out: Tensor) -> Callable[[Operand], Any]:
        """Return a function that writes ``delta.T @ x``."""
        return self._each(self._products.weight_gradient, delta, out)

    def logits(self, bias: Tensor, weight: Tensor, out: Tensor) -> Callable[[Operand], Any]:
        """Return a function that writes ``weight @ x_t + bias``."""
        return self._each(self._products.logits, bias, weight, out)

    def _each(
        self, make: Callable[..., Callable[[Operand], Any]], *tensors: Tensor
    ) -> Callable[[Operand], Any]:
        """Return a function of x that runs, for each group, what `make` gives for its nets."""
        parts = [make(*(t[group] for t in tensors)) for group in self._groups]
        if not isinstance(self._products, NumpyProducts):  # whose products broadcast
            sizes = [group.stop - group.start for group in self._groups]
            parts = [_of_each(part, size) for part, size in zip(parts, sizes, strict=True)]

        def run(x: Operand) -> None:
            for g, part in enumerate(parts):
                part(x[g : g + 1])

        return run


def _of_each(part: Callable[[Tensor], Any], size: int) -> Callable[[Tensor], Any]:
    """Return a function of rows (1, B, F) that gives them to so many nets."""
    return lambda rows: part(rows.expand(size, -1, -1))


class StackedDenseStep(DenseStep):
    """A dense step whose nets draw their dropout masks from generators of their own."""

    name = "closed form, stacked"
    members: Sequence[Member]
    n_real: list[int]
    shares_rows = False

    @property
    def is_capturable(self) -> bool:
        """Whether no net draws: masks are drawn for as many rows as a net has in a batch."""
        return not any(layer.dropout for layer in self.layers)

    def share_rows(self, groups: Sequence[slice]) -> None:
        """Take each batch once for all nets of a group, where that is faster."""
        on_cpu = isinstance(self._products, NumpyProducts)
        if on_cpu or groups[-1].stop >= _NETS_OF_A_PRODUCT * len(groups):
            self._first_products = _SharedRows(self._products, groups)
            self.shares_rows = True

    def _draw_mask_(self, mask: Tensor, i: int) -> None:
        for part, member, n in zip(mask, self.members, self.n_real, strict=True):
            rate = member.settings["dropout"][i]
            if rate:  # alone, a layer without dropout draws nothing
                fill_dropout_mask_(part[:n], rate, member.generator)
                part[n:] = 0.0
            else:
                part.fill_(1.0)


def make_stacked_dense_step(
    members: Sequence[Member],
    flat: Tensor,
    grad: Tensor,
    state: list[Tensor],
    groups: Sequence[slice],
    *,
    template: FlatParameters,
    linears: Sequence[nn.Linear],
    activation: Activation,
    task: str,
) -> StackedDenseStep:
    """Return the step of some members' weights `flat` (M, P), with gradients into `grad`.

    Parameters
    ----------
    groups : sequence of slice
        Nets that have the same rows in every batch.
    template : FlatParameters
        Says where the weights of the dense layers `linears` lie.
    """
    n_penalised = len(template.penalised)
    layers = []
    for i, linear in enumerate(linears):
        weight, bias = linear.weight, linear.bias
        hidden = i < len(linears) - 1
        drops = hidden and any(m.settings["dropout"][i] > 0 for m in members)
        layers.append(
            DenseLayer(
                template.part(flat, weight),
                template.part(flat, bias),
                template.part(grad, weight),
                template.part(grad, bias),
                1.0 if drops else 0.0,
            )
        )
    step = StackedDenseStep(
        layers,
        activation,
        task,
        penalised=flat[:, :n_penalised],
        penalised_grad=grad[:, :n_penalised],
        alpha=flat.new_tensor([m.settings["alpha"] for m in members]),
        label_smoothing=label_smoothing_of(members, flat),
    )
    step.members = members
    step.share_rows(groups)
    return step
