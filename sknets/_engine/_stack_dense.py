"""Gradients of a stack of dense nets, in closed form."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sknets._core import fill_dropout_mask_
from sknets._engine._dense import DenseStep
from sknets._engine._dense_program import DenseLayer
from sknets._engine._flat import FlatParameters
from sknets._engine._stack import Member
from sknets._nn import Activation


class StackedDenseStep(DenseStep):
    """A dense step whose nets draw their dropout masks from generators of their own."""

    name = "closed form, stacked"
    members: Sequence[Member]
    n_real: list[int]

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
    *,
    template: FlatParameters,
    linears: Sequence[nn.Linear],
    activation: Activation,
    task: str,
) -> StackedDenseStep:
    """Return the step of some members' weights `flat` (M, P), with gradients into `grad`.

    Parameters
    ----------
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
    )
    step.members = members
    return step
