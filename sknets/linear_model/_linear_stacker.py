"""What the stackers of linear models share: predictions of many models by one product."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sknets._base import BaseClassifier, Stacker
from sknets._data import assemble, check_features
from sknets.linear_model._linear_prediction import LinearPredictionMixin


class LinearStacker(Stacker):
    """Stacks estimators with ``coef_`` and ``intercept_``."""

    def predict_all(self, estimators: Sequence[Any], X: Any) -> list[Any]:
        """Return what each estimator's ``predict`` gives for X."""
        first = estimators[0]
        if not (type(X) is np.ndarray and all(_is_like(other, first) for other in estimators)):
            return super().predict_all(estimators, X)
        joint = copy.copy(first)
        joint.coef_ = np.concatenate([estimator.coef_ for estimator in estimators])
        joint.intercept_ = np.concatenate([estimator.intercept_ for estimator in estimators])
        n_outputs = len(first.coef_)

        def labels(logits: torch.Tensor) -> np.ndarray:
            decoded = first._codec.decode(logits.reshape(-1, n_outputs))
            return decoded.reshape(-1, len(estimators))

        X = check_features(first, X, reset=False)
        blocks = joint._logits_in_blocks(X)
        parts = ((start, stop, labels(logits)) for start, stop, logits in blocks)
        return list(assemble(parts, len(X)).T)


def _is_like(estimator: Any, first: Any) -> bool:
    """Whether an estimator predicts as the first one does, but for its weights."""
    kind = type(estimator)
    return (
        kind.predict is BaseClassifier.predict
        and kind._logits_in_blocks is LinearPredictionMixin._logits_in_blocks
        and estimator._codec is first._codec
        and type(estimator.coef_) is np.ndarray
        and estimator.coef_.dtype == first.coef_.dtype
    )
