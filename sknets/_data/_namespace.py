"""Where arrays come from and go back to: NumPy, torch or another Array API library."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn import get_config

from sknets._core import is_present
from sknets._core._sklearn import get_namespace_and_device, move_to


@dataclass(frozen=True)
class Namespace:
    """The library and the device of the arrays that a user gave.

    With scikit-learn's ``array_api_dispatch`` off, everything a user gets is NumPy's.

    Attributes
    ----------
    name : str
        "numpy", "torch", "array_api_strict", ...
    device : object
        The library's own device object, or None for NumPy.
    module : str
        Where to import the library's Array API namespace from.
    """

    name: str
    device: Any
    module: str

    @property
    def xp(self) -> Any:
        """The library's Array API namespace; kept by name, so that this object pickles."""
        return importlib.import_module(self.module)

    def export(self, tensor: torch.Tensor) -> Any:
        """Return the values of a tensor as an array of this namespace, on its device.

        Where that device is absent (a model loaded on another machine), they stay on theirs.
        """
        tensor = tensor.detach()
        if self.name == "torch":
            return tensor.to(self.device) if is_present(self.device) else tensor
        array = tensor.cpu().numpy()
        return array if self.name == "numpy" else self.xp.asarray(array, device=self.device)

    def export_labels(self, labels: np.ndarray) -> Any:
        """Return predicted labels; those that are no numbers stay in NumPy."""
        if self.name == "numpy" or labels.dtype.kind not in "biuf":
            return labels
        return self.xp.asarray(labels, device=self.device)


NUMPY = Namespace("numpy", None, "numpy")


def namespace_of(X: Any) -> Namespace:
    """Return the namespace in which the outputs for `X` have to be."""
    if not get_config()["array_api_dispatch"]:
        return NUMPY
    xp, is_array_api, device = get_namespace_and_device(X)
    name = xp.__name__.rsplit(".", 1)[-1]
    if not is_array_api or name == "numpy":
        return NUMPY
    return Namespace(name, device, xp.__name__)


def as_numpy(array: Any) -> Any:
    """Return `array` in NumPy if it is a tensor or another library's array; else as it is."""
    if isinstance(array, torch.Tensor):
        return array.detach().cpu().numpy()
    if array is None or not get_config()["array_api_dispatch"]:
        return array
    _, is_array_api, _ = get_namespace_and_device(array)
    return move_to(array, xp=np, device="cpu") if is_array_api else array
