"""Labels of any kind to targets and back."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import column_or_1d

from sknets._core._sklearn import check_y
from sknets._data._namespace import as_numpy
from sknets._data._softmax import softmax_of_rows


def check_labels(
    estimator: Any, y: Any, *, multilabel: bool, knows_classes: bool = False
) -> np.ndarray:
    """Return y as an array of labels, (n_samples,), or (n_samples, n_labels) where multilabel.

    Where the estimator knows the classes, y may have as many of them as it has rows.

    Raises
    ------
    ValueError
        If y is missing, not finite, continuous, or has more than one column where that is not
        allowed.
    """
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target "
            "y is None."
        )
    if _is_plain(y):
        return y
    y = as_numpy(y)
    y = check_y(y, multi_output=multilabel, estimator=estimator)
    if y.ndim == 2 and y.shape[1] == 1 and not sparse.issparse(y):
        y = column_or_1d(y, warn=True)
    with warnings.catch_warnings():
        if knows_classes:  # a batch may well have many of them
            warnings.filterwarnings("ignore", message="The number of unique classes is greater")
        check_classification_targets(y)
    return y


def _is_plain(y: Any) -> bool:
    """Whether y is so evidently a column of class numbers that there is nothing to check.

    scikit-learn's checks of labels, which come several times a fit, cost more than the fit of a
    small net's epoch.
    """
    return type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "biu" and len(y) > 0


Kind = Literal["multiclass", "binary", "multilabel"]


class LabelCodec:
    """Encodes labels as targets and decodes logits to labels.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels, sorted; for multilabel targets the column numbers.
    kind : {"binary", "multiclass", "multilabel"}
        At most two classes share one logit; more have one each; so has each label.
    n_outputs : int
        Number of logits of a net for these labels.
    """

    def __init__(self, classes: np.ndarray, *, multilabel: bool, sparse_output: bool) -> None:
        self.classes = classes
        self.kind: Kind = "multiclass" if len(classes) > 2 else "binary"
        if multilabel:
            self.kind = "multilabel"
        self.n_outputs = 1 if self.kind == "binary" else len(classes)
        self.sparse_output = sparse_output

    @classmethod
    def from_labels(cls, y: Any, *, keeps_objects: bool = False) -> LabelCodec:
        """Learn the classes from a y that `check_labels` has seen.

        `keeps_objects` leaves labels of dtype object what they are, and not strings, say.
        """
        kinds = "biufSUO" if keeps_objects else "biufSU"
        if isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in kinds:
            # Whatever else could be found out about it takes longer than to fit a few rows.
            classes = np.unique(y)
            classes = classes.astype(classes.dtype.newbyteorder("="), copy=False)
            if _is_plain(y) and 2 * len(classes) > len(y):
                check_classification_targets(y)  # warns of so many classes
            return cls(classes, multilabel=False, sparse_output=False)
        multilabel = type_of_target(y, input_name="y").startswith("multilabel")
        if not multilabel and getattr(y, "ndim", 1) == 2:
            raise ValueError(
                "y must be one label a sample or a multilabel indicator matrix of zeros and "
                f"ones, got {y.shape[1]} columns of several classes."
            )
        return cls(unique_labels(y), multilabel=multilabel, sparse_output=sparse.issparse(y))

    @classmethod
    def from_classes(cls, classes: Any, y: Any) -> LabelCodec:
        """Take the classes from a list of them, for a y that may not show them all."""
        multilabel = y.ndim == 2 and type_of_target(y, input_name="y").startswith("multilabel")
        return cls(unique_labels(classes), multilabel=multilabel, sparse_output=sparse.issparse(y))

    def check_known(self, y: Any) -> None:
        """Raise if y has labels that are not among the classes, or is of another kind.

        Raises
        ------
        ValueError
            If it has, or if one of y and the classes is multilabel and the other is not.
        """
        n_columns = y.shape[1] if y.ndim == 2 else 1
        n_expected = len(self.classes) if self.kind == "multilabel" else 1
        if n_columns != n_expected:
            raise ValueError(
                f"y must have {n_expected} column(s), one for each label that the classes "
                f"{self.classes} stand for, got {n_columns}."
            )
        seen = unique_labels(y) if y.ndim == 2 else np.unique(y)
        if len(np.setdiff1d(seen, self.classes)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes}. 'y' has {seen}."
            )

    def encode(self, y: Any) -> np.ndarray:
        """Return targets: class numbers (n,) int64, or indicators (n, n_labels) bool."""
        if self.kind == "multilabel":
            return (y.toarray() if sparse.issparse(y) else np.asarray(y)).astype(bool)
        return np.searchsorted(self.classes, y).astype(np.int64)

    def decode(self, logits: torch.Tensor) -> Any:
        """Return the labels of logits (n, n_outputs), a NumPy array (sparse if y was)."""
        if self.kind == "multiclass":
            return self.classes[logits.argmax(1).cpu().numpy()]
        positive = (logits > 0).cpu().numpy()
        if self.kind == "multilabel":
            labels = positive.astype(np.int64)
            return sparse.csr_matrix(labels) if self.sparse_output else labels
        if len(self.classes) == 1:
            return np.repeat(self.classes, len(positive))
        return self.classes[positive[:, 0].astype(np.int64)]

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of logits (n, n_outputs): a column a class or label."""
        if self.kind == "multiclass":
            return softmax_of_rows(logits)
        proba = torch.sigmoid(logits)
        if self.kind == "multilabel":
            # A sigmoid lies strictly between 0 and 1; rounding must not say otherwise.
            limits = torch.finfo(proba.dtype)
            return proba.clamp_(limits.tiny, 1 - limits.eps / 2)
        if len(self.classes) == 1:
            return torch.ones_like(proba)
        return torch.cat((torch.sigmoid(-logits), proba), 1)

    def log_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of the probabilities, without the rounding of these."""
        if self.kind == "multilabel":
            return self.probabilities(logits).log_()
        if self.kind == "multiclass":
            log_proba = torch.log_softmax(logits, 1)
        elif len(self.classes) == 1:
            return torch.zeros_like(logits)
        else:
            logsigmoid = torch.nn.functional.logsigmoid
            log_proba = torch.cat((logsigmoid(-logits), logsigmoid(logits)), 1)
        # The logarithm of a probability that underflows is -inf, as scikit-learn demands.
        return log_proba.masked_fill_(self.probabilities(logits) == 0, -torch.inf)
