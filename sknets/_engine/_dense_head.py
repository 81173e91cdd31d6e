"""The dense layers of a net that has other layers before them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sknets._engine._dense import DenseStep


class DenseHead(DenseStep):
    """A dense step that gives back the gradient by its rows.

    Its losses are those of autograd, which have no upper bound, for such a net is also trained by
    autograd: in stacks.
    """

    def input_gradient_(self, out: Tensor) -> Tensor:
        """Write the gradient by the last batch's rows (B, F) to `out` and return it."""
        operand = self._products.operand
        delta = self._programs[len(out)].first_delta
        self._products.multiply(delta, operand(self.layers[0].weight), out=operand(out))
        return out

    def _output_gradient(self, z: Tensor, residual: Tensor, target: tuple[Tensor, ...]) -> None:
        if self.task != "multiclass":
            super()._output_gradient(z, residual, target)
            return
        hot, index = target
        torch.log_softmax(z, -2, out=residual)
        torch.gather(residual, -2, index, out=self._kept[self._i])
        residual.exp_().sub_(hot)

    def _gains(self, kept: Tensor) -> Tensor:
        return kept if self.task == "multiclass" else F.softplus(kept).neg_()
