"""What all classifiers share: checked input, all-or-nothing fits, prediction and its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sknets._core import Precision, resolve_device, resolve_precision
from sknets._core._documentation import DocumentedMixin
from sknets._core._sklearn import ParameterNamesMixin, StrOptions
from sknets._data import (
    LabelCodec,
    Namespace,
    Rows,
    as_tensor_view,
    assemble,
    check_features,
    check_fits_dtype,
    check_labels,
    check_sample_weight,
    combine_weights,
    input_dtype,
    make_rows,
    namespace_of,
)

DEVICE_CONSTRAINTS: dict[str, list] = {
    "device": [str, torch.device],
    "precision": [StrOptions({"auto", "float32", "float64", "bf16"})],
}
"""The part of ``_parameter_constraints`` that says where and how to compute."""

# Set by scikit-learn's callbacks while a fit runs; it looks for them after an error too.
_CALLBACK_STATE = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")


@dataclass(frozen=True)
class TrainingData:
    """What ``fit`` was given, checked and encoded.

    Attributes
    ----------
    rows : Rows
        X, n rows.
    target : Tensor of shape (n,) or (n, n_labels)
        Class numbers (int64), or indicators (bool) where multilabel; on `device`.
    sample_weight : Tensor of shape (n,) or None
        Sample weights times class weights, in the dtype of the rows; on `device`.
    codec : LabelCodec
        From labels to targets and back.
    device : torch.device
        Where to compute.
    precision : Precision
        What to compute in.
    namespace : Namespace
        Where array attributes and outputs have to be.
    """

    rows: Rows
    target: torch.Tensor
    sample_weight: torch.Tensor | None
    codec: LabelCodec
    device: torch.device
    precision: Precision
    namespace: Namespace

    def to(self, device: torch.device) -> TrainingData:
        """Return the same data for computing on another device."""
        if device == self.device:
            return self
        weight = None if self.sample_weight is None else self.sample_weight.to(device)
        return replace(
            self,
            rows=self.rows.to(device),
            target=self.target.to(device),
            sample_weight=weight,
            device=device,
        )


class BaseClassifier(
    ParameterNamesMixin, DocumentedMixin, CallbackSupportMixin, ClassifierMixin, BaseEstimator
):
    """Base of all classifiers.

    A child has the parameters ``device`` and ``precision``, calls `_check_training_data` inside
    `_all_or_nothing` in its ``fit``, sets ``_codec``, ``_namespace`` and ``classes_`` by
    `_remember`, and implements `_logits_in_blocks`. One whose fits can be stacked names its
    `Stacker`.
    """

    _stacker: Any = None
    # Whether labels of dtype object are predicted as objects, as by some of scikit-learn's classes.
    _keeps_objects = False

    # -- for fit ---------------------------------------------------------------------------------

    def _check_training_data(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        class_weight: Any = None,
        codec: LabelCodec | None = None,
        classes: Any = None,
        multilabel: bool = False,
        reset: bool = True,
        precision: Precision | None = None,
        device: torch.device | None = None,
    ) -> TrainingData:
        """Check and encode what ``fit`` or ``partial_fit`` was given.

        Parameters
        ----------
        codec : LabelCodec or None, default=None
            Of an earlier fit, to which y must keep; None learns the classes from `classes`, or
            from y.
        multilabel : bool, default=False
            Whether y may be an indicator matrix.
        reset : bool, default=True
            Whether X sets the features, or must have those of an earlier fit.
        precision, device : default=None
            What to compute in, and where; None follows X and the parameters.
        """
        namespace = namespace_of(X)
        given = X.device if isinstance(X, torch.Tensor) else None
        X = check_features(self, X, reset=reset)
        knows_classes = codec is not None or classes is not None
        y = check_labels(self, y, multilabel=multilabel, knows_classes=knows_classes)
        check_consistent_length(X, y)
        if codec is None and classes is None:
            codec = LabelCodec.from_labels(y, keeps_objects=self._keeps_objects)
        else:
            codec = codec or LabelCodec.from_classes(classes, y)
            codec.check_known(y)
        weights = check_sample_weight(sample_weight, X.shape[0])
        weights = combine_weights(weights, class_weight, y, codec.classes)
        if device is None:
            device = resolve_device(self.device, given=given)
        if precision is None:
            precision = resolve_precision(self.precision, device=device, input_dtype=input_dtype(X))
        rows = make_rows(X, dtype=precision.dtype, device=device)
        target = torch.from_numpy(codec.encode(y)).to(device)
        weight = None
        if weights is not None:
            check_fits_dtype(weights, precision.dtype)
            weight = as_tensor_view(weights).to(device, precision.dtype)
        return TrainingData(rows, target, weight, codec, device, precision, namespace)

    def _remember(self, data: TrainingData) -> None:
        """Set what prediction needs to know of the training data."""
        self._codec = data.codec
        self._namespace = data.namespace
        self.classes_ = data.codec.classes

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Leave the estimator as it was if the block fails.

        The block must replace attributes, never change them in place.
        """
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            kept = {k: self.__dict__[k] for k in _CALLBACK_STATE if k in self.__dict__}
            self.__dict__.clear()
            self.__dict__.update(before, **kept)
            raise

    def _flatten(self, X: Any, *, reset: bool) -> Any:
        """Return X with one row a sample; images are flattened here, without a copy."""
        return X

    # -- for prediction --------------------------------------------------------------------------

    def _get_ready(self) -> None:
        """See to what prediction needs, where that may not be what a fit has left."""

    def _logits_in_blocks(self, X: Any) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Yield (start, stop, logits (b, n_outputs)) of blocks of a checked X, on any device."""
        raise NotImplementedError

    def _answer(
        self, X: Any, method: str, answer: Callable[[torch.Tensor], Any]
    ) -> tuple[Any, Namespace]:
        """Check X against the fit; return what `answer` makes of its logits, and where that goes.

        The result is filled a block of rows at a time, so that no other memory grows with X.
        """
        if "classes_" not in vars(self):  # to ask scikit-learn takes a tenth of a row's prediction
            check_is_fitted(self)
        self._get_ready()
        X = self._flatten(X, reset=False)
        namespace = namespace_of(X)
        if namespace.name != self._namespace.name and get_config()["array_api_dispatch"]:
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace "
                f"and the same device as those passed to fit(), which was {self._namespace.name}, "
                f"got {namespace.name}."
            )
        X = check_features(self, X, reset=False)
        blocks = self._logits_in_blocks(X)
        parts = ((start, stop, answer(logits)) for start, stop, logits in blocks)
        return assemble(parts, X.shape[0]), namespace

    def decision_function(self, X: Any) -> Any:
        """Return the logits of the rows of X: log-odds up to the softmax or sigmoid.

        Parameters
        ----------
        X : {array-like, CSR matrix, torch.Tensor} of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            One score a row for two classes (above zero means ``classes_[1]``), else one a class
            or label. With scikit-learn's ``array_api_dispatch``, an array of X's library on X's
            device.

        Raises
        ------
        ValueError
            If X does not have the features of ``fit`` or holds NaN or infinite values.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """

        def scores(logits: torch.Tensor) -> torch.Tensor:
            is_one = self._codec.n_outputs == 1 and self._codec.kind == "binary"
            return logits[:, 0] if is_one else logits

        answer, namespace = self._answer(X, "decision_function", scores)
        return namespace.export(answer)

    def predict(self, X: Any) -> Any:
        """Predict the labels of the rows of X.

        Parameters
        ----------
        X : {array-like, CSR matrix, torch.Tensor} of shape (n_samples, n_features)
            Rows to classify.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels from ``classes_``, or an indicator matrix after a multilabel fit.

        Raises
        ------
        ValueError
            If X does not have the features of ``fit`` or holds NaN or infinite values.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        labels, namespace = self._answer(X, "predict", lambda logits: self._codec.decode(logits))
        return namespace.export_labels(labels) if isinstance(labels, np.ndarray) else labels

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: sparse and Array API input are taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags


def _has_probabilities(estimator: Any) -> bool:
    """Say whether the logits are log-odds.

    Raises
    ------
    AttributeError
        If they are not.
    """
    if getattr(estimator, "loss", None) == "hinge":
        raise AttributeError(
            'Probabilities are not available with loss="hinge", whose scores are no log-odds. Use '
            "decision_function."
        )
    return True


class ProbabilisticMixin:
    """Probabilities from logits."""

    @available_if(_has_probabilities)
    def predict_proba(self: Any, X: Any) -> Any:
        """Return the probability of every class for the rows of X.

        Parameters
        ----------
        X : {array-like, CSR matrix, torch.Tensor} of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; rows sum to 1, save after a multilabel fit, where each
            column is the probability of a label of its own.

        Raises
        ------
        ValueError
            If X does not have the features of ``fit`` or holds NaN or infinite values.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        proba, namespace = self._answer(
            X, "predict_proba", lambda logits: self._codec.probabilities(logits)
        )
        return namespace.export(proba)

    @available_if(_has_probabilities)
    def predict_log_proba(self: Any, X: Any) -> Any:
        """Return the logarithm of the probability of every class for the rows of X.

        Parameters
        ----------
        X : {array-like, CSR matrix, torch.Tensor} of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Computed from the logits, so that it stays finite where a probability underflows.

        Raises
        ------
        ValueError
            If X does not have the features of ``fit`` or holds NaN or infinite values.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        answer, namespace = self._answer(
            X, "predict_log_proba", lambda logits: self._codec.log_probabilities(logits)
        )
        return namespace.export(answer)
