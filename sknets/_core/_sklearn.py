"""The only door to scikit-learn's private names; each is here with the reason we need it."""

# Validates parameters before a fit and tears callbacks down after it, as every estimator does.
from sklearn.base import _fit_context as fit_context

# The compiled loop of scikit-learn's Perceptron, which runs ours where rows are short.
from sklearn.linear_model._sgd_fast import Hinge
from sklearn.linear_model._sgd_fast import _plain_sgd32 as plain_sgd32
from sklearn.linear_model._sgd_fast import _plain_sgd64 as plain_sgd64

# What scikit-learn's own scorers, and its searches, have in common.
from sklearn.metrics._scorer import _BaseScorer as BaseScorer
from sklearn.model_selection._search import BaseSearchCV

# Rows of anything that scikit-learn can index: arrays, frames, lists, sparse matrices.
from sklearn.utils import _safe_indexing as safe_indexing

# Namespaces and devices of Array API inputs.
from sklearn.utils._array_api import get_namespace_and_device, move_to

# The rules that ``_parameter_constraints`` are written in; `Hidden` ones are not named in errors.
from sklearn.utils._param_validation import Hidden, Interval, Options, StrOptions

# The rows that the loop of its Perceptron walks through.
from sklearn.utils._seq_dataset import (
    ArrayDataset32,
    ArrayDataset64,
    CSRDataset32,
    CSRDataset64,
)

# The rules of scikit-learn for y and for weights, with its error messages.
from sklearn.utils.multiclass import _check_partial_fit_first_call as check_partial_fit_first_call
from sklearn.utils.validation import _check_sample_weight as check_sample_weight_shape
from sklearn.utils.validation import _check_y as check_y

# The names that an estimator remembers of the features of X.
from sklearn.utils.validation import _get_feature_names as feature_names
from sklearn.utils.validation import _num_samples as num_samples


class ParameterNamesMixin:
    """Reads the names of an estimator's parameters from its constructor once a class.

    Every fit and every clone asks for them, and to read a signature takes as long as five training
    steps of a small net.
    """

    @classmethod
    def _get_param_names(cls) -> list[str]:
        names = cls.__dict__.get("_parameter_names")
        if names is None:
            names = tuple(super()._get_param_names())  # type: ignore[misc]  # of BaseEstimator
            cls._parameter_names = names  # type: ignore[attr-defined]  # kept here
        return list(names)


__all__ = [
    "ArrayDataset32",
    "ArrayDataset64",
    "BaseScorer",
    "BaseSearchCV",
    "CSRDataset32",
    "CSRDataset64",
    "Hidden",
    "Hinge",
    "Interval",
    "Options",
    "ParameterNamesMixin",
    "StrOptions",
    "check_partial_fit_first_call",
    "check_sample_weight_shape",
    "check_y",
    "feature_names",
    "fit_context",
    "get_namespace_and_device",
    "move_to",
    "num_samples",
    "plain_sgd32",
    "plain_sgd64",
    "safe_indexing",
]
