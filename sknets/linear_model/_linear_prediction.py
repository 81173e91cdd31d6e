"""What a classifier with ``coef_`` and ``intercept_`` can do once it is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sknets._core import SeededRandom, in_numpy
from sknets._data import (
    LabelCodec,
    as_numpy,
    as_tensor_view,
    input_dtype,
    make_rows,
    namespace_of,
)
from sknets._engine._dense_forward import DenseForward

# Fitted arrays that are on the device of X after a fit on tensors.
_ARRAYS = ("coef_", "intercept_", "n_iter_")


class LinearPredictionMixin:
    """Predicts with ``coef_`` (K, F), dense or CSR, and ``intercept_`` (K,).

    K is 1 for two classes. The two arrays are the only copy of the weights; ``module_`` is made
    over their memory.
    """

    @property
    def module_(self: Any) -> nn.Linear:
        """The fitted model as a plain module over the memory of ``coef_`` and ``intercept_``.

        It takes rows (n, F) and gives logits (n, K). Changing its parameters in place changes the
        estimator, and the other way round, unless ``coef_`` is sparse.
        """
        if "coef_" not in self.__dict__:
            raise AttributeError(f"This {type(self).__name__} has no module_ before it is fitted.")
        weight, bias = _tensor_of(self.coef_), _tensor_of(self.intercept_)
        with SeededRandom(torch.Generator()):  # not torch's global one, for values soon replaced
            module = nn.Linear(weight.shape[1], weight.shape[0])
        module.weight, module.bias = nn.Parameter(weight), nn.Parameter(bias)
        return module.eval()

    def _get_ready(self: Any) -> None:
        """Follow ``classes_`` where it was set by hand, as ``coef_`` may be, after a fit or not."""
        codec = self.__dict__.get("_codec")
        if codec is None or codec.classes is not self.classes_:
            self.classes_ = np.asarray(self.classes_)
            self._codec = LabelCodec(self.classes_, multilabel=False, sparse_output=False)
        if "_namespace" not in self.__dict__:
            coef = self.classes_ if sparse.issparse(self.coef_) else self.coef_
            self._namespace = namespace_of(coef)
        shape: tuple[int, ...] = getattr(self.coef_, "shape", ())
        n_outputs = self._codec.n_outputs
        if len(shape) != 2 or shape[0] != n_outputs:
            raise ValueError(
                f"coef_ must have shape ({n_outputs}, n_features) for {len(self.classes_)} "
                f"classes, got {tuple(shape)}."
            )

    def _logits_in_blocks(self: Any, X: Any) -> Iterator[tuple[int, int, Tensor]]:
        """Yield logits (b, K) of blocks of a checked X.

        They are on its device and in the wider of the two dtypes.
        """
        bias = _tensor_of(self.intercept_)
        if sparse.issparse(X) or sparse.issparse(self.coef_):
            yield 0, X.shape[0], _sparse_logits(X, self.coef_, bias)
            return
        weight = _tensor_of(self.coef_)
        device = X.device if isinstance(X, Tensor) else torch.device("cpu")
        dtype = torch.promote_types(input_dtype(X), weight.dtype)
        if device.type == "mps" or not dtype.is_floating_point:
            dtype = weight.dtype
        rows = make_rows(X, dtype=dtype, device=device, once=True)
        weight, bias = weight.to(device, dtype), bias.to(device, dtype)
        if in_numpy(weight):
            yield from DenseForward([(weight, bias)]).in_blocks(rows)
            return
        for start in range(0, rows.n, rows.block_rows):
            stop = min(start + rows.block_rows, rows.n)
            yield start, stop, torch.addmm(bias, rows.slice(start, stop), weight.T)

    def densify(self: Any) -> Any:
        """Turn ``coef_`` into a dense array, which it is after a fit.

        Returns
        -------
        object
            The fitted estimator itself.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(self)
        if sparse.issparse(self.coef_):
            self.coef_ = self.coef_.toarray()
        return self

    def sparsify(self: Any) -> Any:
        """Turn ``coef_`` into a CSR array, which is smaller if most weights are zero.

        Worth it after a fit with an L1 penalty, where more than half of the weights are zero.
        ``intercept_`` stays dense.

        Returns
        -------
        object
            The fitted estimator itself.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(self)
        if not sparse.issparse(self.coef_):
            self.coef_ = sparse.csr_array(np.asarray(as_numpy(self.coef_)))
        return self

    def __getstate__(self: Any) -> dict[str, Any]:
        """Return the state with weights that need no accelerator to load."""
        own: Any = super().__getstate__()
        state = dict(own)
        for name in _ARRAYS:
            if isinstance(state.get(name), Tensor):
                state[name] = state[name].cpu()
        return state


def _tensor_of(array: Any) -> Tensor:
    """Return a fitted array as a tensor over the same memory where that is possible."""
    if sparse.issparse(array):
        return torch.from_numpy(array.toarray())
    array = as_numpy(array) if not isinstance(array, Tensor) else array
    return array if isinstance(array, Tensor) else as_tensor_view(np.asarray(array))


def _sparse_logits(X: Any, coef: Any, bias: Tensor) -> Tensor:
    """Multiply where X or the coefficients are CSR; neither is densified."""
    X = X.cpu().numpy() if isinstance(X, Tensor) else X
    coef = coef if sparse.issparse(coef) else np.asarray(as_numpy(coef))
    product = X @ coef.T
    if sparse.issparse(product):
        product = product.toarray()
    return torch.from_numpy(product + bias.cpu().numpy())
