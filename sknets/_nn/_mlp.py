"""The dense net."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sknets._nn._activations import get_activation
from sknets._nn._normalization import check_normalization, make_dense_normalization
from sknets._nn._per_layer import expand_rates, expand_sizes


class MLP(nn.Module):
    """Multi-layer perceptron: dense layers with an activation between them, giving logits.

    A hidden layer is Linear, normalisation, activation, dropout; the output layer is Linear alone.

    Parameters
    ----------
    n_features : int
        Columns of the input.
    hidden_layer_sizes : tuple of int, or int
        Units of each hidden layer; ``()`` for none.
    n_outputs : int
        Logits a sample.
    activation : str, default="relu"
        A name in `ACTIVATIONS`.
    dropout : float or tuple of float, default=0.0
        Share of a hidden layer's outputs set to zero in training, in [0, 1); one value or one a
        hidden layer.
    normalization : {None, "batch", "layer"}, default=None
        Normalisation before each activation.
    drawn : bool, default=True
        Whether the dense layers get torch's initial values, from its global generator. Else they
        are float64 and hold anything, for the caller to draw; other layers keep torch's dtype.

    Attributes
    ----------
    layers : nn.Sequential
        The layers by name: ``dense1``, ``norm1``, ``activation1``, ``dropout1``, ``dense2``, …,
        ``output``.
    activation : str
        The activation's name.

    Raises
    ------
    ValueError
        If a size is less than 1, a name is unknown, or a rate is outside [0, 1).
    """

    def __init__(
        self,
        n_features: int,
        hidden_layer_sizes: Sequence[int] | int,
        n_outputs: int,
        activation: str = "relu",
        dropout: float | Sequence[float] = 0.0,
        normalization: str | None = None,
        *,
        drawn: bool = True,
    ) -> None:
        super().__init__()
        sizes = expand_sizes(hidden_layer_sizes, "hidden_layer_sizes")
        rates = expand_rates(dropout, len(sizes), "dropout", "hidden layers")
        make_activation = get_activation(activation).module
        check_normalization(normalization)
        make_linear = nn.Linear if drawn else _undrawn_linear

        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = n_features
        for i, (size, rate) in enumerate(zip(sizes, rates, strict=True), start=1):
            layers[f"dense{i}"] = make_linear(width, size)
            if normalization is not None:
                layers[f"norm{i}"] = make_dense_normalization(normalization, size)
            layers[f"activation{i}"] = make_activation()
            if rate > 0:
                layers[f"dropout{i}"] = nn.Dropout(rate)
            width = size
        layers["output"] = make_linear(width, n_outputs)
        self.layers = nn.Sequential(layers)
        self.activation = activation

    @property
    def linears(self) -> list[nn.Linear]:
        """The dense layers from input to output; ``coefs_[i]`` is ``linears[i].weight.T``."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    @property
    def plain_layers(self) -> list[tuple[nn.Linear, float]] | None:
        """The dense layers, each with the rate of the dropout behind it.

        None if the net is more than these with its activation between them: if it is normalised, or
        somebody has changed its layers.
        """
        activation = type(get_activation(self.activation).module())
        plain: list[tuple[nn.Linear, float]] = []
        n_active = 0
        for layer in self.layers:
            if type(layer) is nn.Linear and n_active == len(plain):
                plain.append((layer, 0.0))
            elif type(layer) is activation and n_active == len(plain) - 1:
                n_active += 1
            elif type(layer) is nn.Dropout and 0 < n_active == len(plain):
                plain[-1] = plain[-1][0], layer.p
            else:
                return None
        return plain if n_active == len(plain) - 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n_outputs) of rows (B, n_features)."""
        return self.layers(x)


class _UndrawnLinear(nn.Linear):
    def reset_parameters(self) -> None:
        """Leave the numbers as they are: half the time of making a layer goes into drawing them."""


def _undrawn_linear(n_in: int, n_out: int) -> nn.Linear:
    layer = _UndrawnLinear(n_in, n_out, dtype=torch.float64)
    layer.__class__ = nn.Linear  # type: ignore[assignment]  # narrower than declared
    return layer
