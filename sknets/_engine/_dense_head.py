"""The dense layers of a net that has other layers before them."""

from __future__ import annotations

from torch import Tensor

from sknets._engine._dense import DenseStep


class DenseHead(DenseStep):
    """A dense step that gives back the gradient by its rows.

    Its losses are those of autograd, which have no upper bound, for such a net is also trained by
    autograd: in stacks.
    """

    bounds_losses = False

    def input_gradient_(self, out: Tensor) -> Tensor:
        """Write the gradient by the last batch's rows (B, F) to `out` and return it."""
        operand = self._products.operand
        delta = self._programs[len(out)].first_delta
        self._products.multiply(delta, operand(self.layers[0].weight), out=operand(out))
        return out
