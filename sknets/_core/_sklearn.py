"""The only door to scikit-learn's private names; each is here with the reason we need it."""

# What scikit-learn's searches have in common.
from sklearn.model_selection._search import BaseSearchCV

# Namespaces and devices of Array API inputs.
from sklearn.utils._array_api import get_namespace_and_device, move_to

# Values that a parameter takes without being named among its options in error messages.
from sklearn.utils._param_validation import Hidden

# The rules of scikit-learn for y and for weights, with its error messages.
from sklearn.utils.multiclass import _check_partial_fit_first_call as check_partial_fit_first_call
from sklearn.utils.validation import _check_sample_weight as check_sample_weight_shape
from sklearn.utils.validation import _check_y as check_y
