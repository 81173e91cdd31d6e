"""X checked: what is kept, what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator

from sknets._data import check_features, input_dtype


class Anything(BaseEstimator):
    """An estimator that only has its features checked."""


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint16", "bool", ">f8"])
def test_numbers_keep_their_dtype_and_memory(dtype):
    X = np.arange(6).reshape(3, 2).astype(dtype)
    checked = check_features(Anything(), X, reset=True)
    assert checked.dtype == X.dtype
    assert np.shares_memory(checked, X)


def test_objects_become_float64():
    checked = check_features(Anything(), np.array([[1, 2.5], [True, 4]], dtype=object), reset=True)
    assert checked.dtype == np.float64
    assert_array_equal(checked, [[1, 2.5], [1, 4]])


def test_tensors_keep_their_memory_and_lose_their_gradient():
    X = torch.ones(3, 2, requires_grad=True)
    checked = check_features(Anything(), X, reset=True)
    assert checked.data_ptr() == X.data_ptr()
    assert not checked.requires_grad


@pytest.mark.parametrize("make", [sparse.coo_array, sparse.csc_matrix, sparse.csr_array])
def test_sparse_becomes_csr(make):
    checked = check_features(Anything(), make(np.eye(3)), reset=True)
    assert checked.format == "csr"
    assert_array_equal(checked.toarray(), np.eye(3))


@pytest.mark.parametrize("dtype", [np.longdouble, ">f8", ">f4"])
@pytest.mark.parametrize("make", [sparse.coo_array, sparse.csc_matrix, sparse.csr_array])
def test_sparse_of_other_dtypes_becomes_float64(make, dtype):
    X = make(np.eye(3))
    X.data = X.data.astype(dtype)
    checked = check_features(Anything(), X, reset=True)
    assert checked.dtype == np.float64
    assert checked.dtype.isnative
    assert_array_equal(checked.toarray(), np.eye(3))
    assert X.dtype == dtype


@pytest.mark.parametrize("make", [sparse.lil_array, sparse.dok_array, sparse.dia_array])
def test_sparse_without_an_array_of_numbers(make):
    checked = check_features(Anything(), make(np.eye(3, dtype=np.longdouble)), reset=True)
    assert checked.dtype == np.float64
    assert_array_equal(checked.toarray(), np.eye(3))


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy, sparse.csr_array])
def test_the_number_of_features_is_recorded_and_demanded(wrap):
    estimator = Anything()
    check_features(estimator, wrap(np.ones((3, 2))), reset=True)
    assert estimator.n_features_in_ == 2
    with pytest.raises(ValueError, match=r"3 features.* 2 features"):
        check_features(estimator, wrap(np.ones((3, 3))), reset=False)


def test_names_are_recorded_and_demanded():
    estimator = Anything()
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    check_features(estimator, frame, reset=True)
    assert estimator.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="same order"):
        check_features(estimator, frame[["b", "a"]], reset=False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy, sparse.csr_array])
def test_numbers_must_be_finite(value, wrap):
    with pytest.raises(ValueError, match="NaN" if np.isnan(value) else "infinity"):
        check_features(Anything(), wrap(np.array([[1.0, value]])), reset=True)


@pytest.mark.parametrize("dtype", ["M8[D]", "m8[s]"])
def test_what_is_no_number_is_refused(dtype):
    with pytest.raises(ValueError, match="real numbers, got an array of dtype"):
        check_features(Anything(), np.zeros((2, 2), dtype=dtype), reset=True)


def test_a_rejected_tensor_leaves_no_features_behind():
    estimator = Anything()
    with pytest.raises(ValueError, match="NaN"):
        check_features(estimator, torch.full((2, 2), torch.nan), reset=True)
    assert vars(estimator) == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("float32", torch.float32),
        (">f4", torch.float64),
        ("float64", torch.float64),
        ("float16", torch.float64),
        ("longdouble", torch.float64),
        ("int8", torch.float64),
        ("bool", torch.float64),
    ],
)
def test_input_dtype(given, expected):
    assert input_dtype(np.zeros((1, 1), dtype=given)) == expected
    assert input_dtype(torch.zeros(1, 1, dtype=torch.bfloat16)) == torch.bfloat16
