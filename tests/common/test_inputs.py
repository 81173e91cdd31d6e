"""X of any kind gives what the same numbers give as a float64 array."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context

from tests.common._estimators import each_estimator, fresh

METHODS = ("decision_function", "predict_proba", "predict_log_proba")
DTYPES = (
    *("float16", "float64", "longdouble", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "object", ">f8", ">i4", ">u2"),
)


@pytest.fixture(scope="module")
def table():
    """Small whole numbers, which every dtype holds exactly, and three classes."""
    rng = np.random.RandomState(0)
    X = rng.randint(0, 5, size=(60, 4)).astype(np.float64)
    return X, np.array(["a", "b", "c"])[X[:, :3].argmax(1)]


def scores(estimator, X):
    """Everything numeric that the estimator says of X."""
    given = [name for name in METHODS if hasattr(estimator, name)]
    return np.hstack([np.asarray(getattr(estimator, name)(X)) for name in given])


_REFERENCES = {}


def reference(estimator, X, y):
    """Scores and labels after a fit on a float64 array, computed once."""
    key = (repr(estimator), X.tobytes(), y.tobytes())
    if key not in _REFERENCES:
        fitted = fresh(estimator).fit(X, y)
        _REFERENCES[key] = scores(fitted, X), fitted.predict(X)
    return _REFERENCES[key]


def check_same(estimator, X_fit, X_predict, table, *, rtol=0.0):
    """Fit on one form of the table and compare with a fit on the table itself."""
    X, y = table
    expected_scores, expected_labels = reference(estimator, X, y)
    got = fresh(estimator).fit(X_fit, y)
    assert_allclose(scores(got, X_predict), expected_scores, rtol=rtol, atol=rtol)
    assert_array_equal(got.predict(X_predict), expected_labels)
    assert got.n_features_in_ == 4
    return got


# -- NumPy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@each_estimator()
def test_numbers_of_any_dtype_count_as_float64(estimator, dtype, table):
    X = table[0].astype(dtype)
    check_same(estimator, X, X, table)


@each_estimator()
def test_bools_count_as_zero_and_one(estimator, table):
    X = table[0] > 2
    as_numbers = X.astype(np.float64), table[1]
    check_same(estimator, X, X, as_numbers)


@pytest.mark.parametrize("dtype", ["float32", ">f4"])
@each_estimator()
def test_float32_of_any_byte_order(estimator, dtype, table):
    X = table[0].astype(dtype)
    got = fresh(estimator).fit(X, table[1])
    native = fresh(estimator).fit(table[0].astype(np.float32), table[1])
    assert_array_equal(got.predict(X), native.predict(X))
    assert_allclose(scores(got, X), scores(native, X), rtol=1e-3, atol=1e-3)


@each_estimator()
def test_float32_stays_float32_and_the_rest_is_float64(estimator, table):
    X, y = table
    single = fresh(estimator).fit(X.astype(np.float32), y)
    assert single.decision_function(X.astype(np.float32)).dtype == np.float32
    for dtype in (np.float64, np.int32, np.uint8, np.float16):
        double = fresh(estimator).fit(X.astype(dtype), y)
        assert double.decision_function(X.astype(dtype)).dtype == np.float64


def layouts(X):
    """The same numbers in other orders of memory."""
    wide = np.zeros((2 * len(X), 3 * X.shape[1]))
    wide[::2, ::3] = X
    packed = np.zeros(len(X), dtype=[("flag", "i1"), ("row", "f8", X.shape[1])])
    packed["row"] = X
    yield "fortran", np.asfortranarray(X)
    yield "negative strides", X[::-1, ::-1].copy()[::-1, ::-1]
    yield "every third of a wider array", wide[::2, ::3]
    yield "broadcast columns", np.broadcast_to(X[:, :1], X.shape)
    yield "odd strides", packed["row"]
    yield "list", X.tolist()
    yield "tuple of tuples", tuple(map(tuple, X.tolist()))


@pytest.mark.parametrize("name", [name for name, _ in layouts(np.zeros((1, 1)))])
@each_estimator()
def test_memory_in_any_order(estimator, name, table):
    X = dict(layouts(table[0]))[name]
    # Sums taken in another order differ in the last bits, and training carries them on.
    check_same(estimator, X, X, (np.array(X), table[1]), rtol=1e-6)


@each_estimator()
def test_inputs_are_not_written_to(estimator, table):
    X, y = table
    weight = np.linspace(0.5, 2, len(X))
    for array in (given := [X.copy(), y.copy(), weight]):
        array.flags.writeable = False
    fitted = fresh(estimator).fit(given[0], given[1], sample_weight=given[2])
    scores(fitted, given[0])
    writeable = [array.copy() for array in given]
    again = fresh(estimator).fit(*writeable[:2], sample_weight=writeable[2])
    for array, before in zip(writeable, given, strict=True):
        assert_array_equal(array, before)
    assert_array_equal(scores(again, X), scores(fitted, X))


# -- data frames ---------------------------------------------------------------------------------

FRAMES = {
    "pandas": lambda X: pd.DataFrame(X, columns=list("abcd")[: X.shape[1]]),
    "pandas with an index": lambda X: pd.DataFrame(X, list(range(100, 160)), list("abcd")),
    "pandas of nullable integers": lambda X: pd.DataFrame(X, columns=list("abcd")).astype("Int64"),
    "pandas of several dtypes": lambda X: pd.DataFrame(X, columns=list("abcd")).astype(
        {"a": "uint8", "b": "int64", "c": "float32"}
    ),
    "polars": lambda X: pl.DataFrame(X, schema=list("abcd")[: X.shape[1]]),
}


@pytest.mark.parametrize("kind", FRAMES)
@each_estimator()
def test_data_frames_count_as_their_numbers(estimator, kind, table):
    X = FRAMES[kind](table[0])
    got = check_same(estimator, X, X, table, rtol=1e-6)
    assert got.feature_names_in_.tolist() == list("abcd")


@pytest.mark.parametrize("kind", ["pandas", "polars"])
@each_estimator()
def test_columns_of_a_frame_must_come_in_the_order_of_fit(estimator, kind, table):
    X = FRAMES[kind](table[0])
    fitted = fresh(estimator).fit(X, table[1])
    for wrong in (X[list("bacd")], FRAMES[kind](table[0][:, :3])):
        for method in (*METHODS, "predict"):
            if hasattr(fitted, method):
                with pytest.raises(ValueError, match="feature names"):
                    getattr(fitted, method)(wrong)


@each_estimator()
def test_a_frame_after_an_array_warns_of_its_names(estimator, table):
    fitted = fresh(estimator).fit(*table)
    assert not hasattr(fitted, "feature_names_in_")
    with pytest.warns(UserWarning, match="fitted without feature names"):
        fitted.predict(FRAMES["pandas"](table[0]))


# -- sparse --------------------------------------------------------------------------------------


def without_slow_intercept(estimator):
    """A perceptron's intercept learns more slowly from sparse rows, in scikit-learn as here."""
    return fresh(estimator, fit_intercept=False) if "Perceptron" in str(estimator) else estimator


@pytest.mark.parametrize("container", ["csr_array", "csr_matrix", "csc_array", "coo_matrix"])
@each_estimator()
def test_sparse_counts_as_its_dense_form(estimator, container, table):
    X = getattr(sparse, container)(table[0])
    check_same(without_slow_intercept(estimator), X, X, table, rtol=1e-6)


@pytest.mark.parametrize("change", ["int64 indices", "uint8 values", "unsorted", "duplicates"])
@each_estimator()
def test_sparse_of_any_form_inside(estimator, change, table):
    X = sparse.csr_array(table[0])
    if change == "int64 indices":
        X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    elif change == "uint8 values":
        X = X.astype(np.uint8)
    elif change == "unsorted":
        for start, stop in zip(X.indptr[:-1], X.indptr[1:], strict=True):
            X.indices[start:stop] = X.indices[start:stop][::-1].copy()
            X.data[start:stop] = X.data[start:stop][::-1].copy()
        X.has_sorted_indices = False
    else:
        halves = X.data.repeat(2) / 2
        X = sparse.csr_array((halves, X.indices.repeat(2), X.indptr * 2), shape=X.shape)
    check_same(without_slow_intercept(estimator), X, X, table, rtol=1e-6)


@each_estimator()
def test_sparse_and_dense_may_take_turns(estimator, table):
    X, _ = table
    check_same(without_slow_intercept(estimator), sparse.csr_array(X), X, table, rtol=1e-6)
    check_same(without_slow_intercept(estimator), X, sparse.csr_array(X), table, rtol=1e-6)


# -- tensors and the Array API -------------------------------------------------------------------

TENSOR_DTYPES = (torch.float64, torch.float16, torch.uint8, torch.int64)


@pytest.mark.parametrize("dtype", TENSOR_DTYPES, ids=str)
@each_estimator()
def test_tensors_count_as_their_numbers_and_give_numpy(estimator, dtype, table):
    X = torch.from_numpy(table[0]).to(dtype)
    got = check_same(estimator, X, X, table)
    assert isinstance(got.predict(X), np.ndarray)
    assert isinstance(got.decision_function(X), np.ndarray)


@each_estimator()
def test_tensors_of_any_layout_and_with_gradients(estimator, table):
    X = torch.from_numpy(table[0])
    check_same(estimator, X.T.contiguous().T, X[:, :], table, rtol=1e-6)
    with_gradient = X.clone().requires_grad_()
    check_same(estimator, with_gradient, with_gradient, table)
    assert with_gradient.grad is None


@each_estimator()
def test_labels_and_weights_may_be_tensors(estimator, table):
    X = torch.from_numpy(table[0])
    y = np.unique(table[1], return_inverse=True)[1]
    weight = np.linspace(0.5, 2, len(y))
    got = fresh(estimator).fit(X, torch.from_numpy(y), sample_weight=torch.from_numpy(weight))
    expected = fresh(estimator).fit(table[0], y, sample_weight=weight)
    assert_array_equal(scores(got, X), scores(expected, X))
    assert_array_equal(got.classes_, [0, 1, 2])


def check_stays(estimator, X, y, xp, device):
    """Outputs of a fit with array_api_dispatch are of X's library, on X's device."""
    with config_context(array_api_dispatch=True):
        fitted = fresh(estimator, device="auto").fit(X, y)
        outputs = {
            name: getattr(fitted, name)(X)
            for name in (*METHODS, "predict")
            if hasattr(fitted, name)
        }
        for name, output in outputs.items():
            assert type(output) is type(X), name
            assert output.device == device, name
            assert output.shape[0] == X.shape[0]
            if name != "predict":
                assert output.dtype == X.dtype, name
        assert float(fitted.score(X, y)) > 0.5
        assert xp.all(outputs["predict"] == xp.asarray(y))
    return fitted


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_estimator()
def test_dispatch_gives_tensors_for_tensors(estimator, dtype):
    X, y = separated(dtype)
    check_stays(estimator, torch.from_numpy(X), torch.from_numpy(y), torch, torch.device("cpu"))


@each_estimator()
def test_dispatch_gives_arrays_of_the_library_given(estimator):
    xp = pytest.importorskip("array_api_strict")
    X, y = map(xp.asarray, separated("float64"))
    fitted = check_stays(estimator, X, y, xp, X.device)
    with config_context(array_api_dispatch=True), pytest.raises(ValueError, match="namespace"):
        fitted.predict(np.asarray(X))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_estimator()
def test_tensors_on_a_gpu_stay_there(estimator, dtype):
    X, y = (torch.from_numpy(part).cuda() for part in separated(dtype))
    check_stays(fresh(estimator, precision=dtype), X, y, torch, X.device)


@pytest.mark.gpu
@each_estimator()
def test_tensors_on_a_gpu_are_taken_without_dispatch(estimator):
    X, y = (torch.from_numpy(part).cuda() for part in separated("float32"))
    fitted = fresh(estimator, device="auto").fit(X, y)
    assert isinstance(fitted.predict(X), np.ndarray)
    assert_array_equal(fitted.predict(X), y.cpu().numpy())
    assert_array_equal(fitted.predict(X.cpu()), y.cpu().numpy())
    assert_array_equal(fitted.predict(X.cpu().numpy()), y.cpu().numpy())


def separated(dtype):
    """Three classes far apart, which every estimator tells from each other."""
    rng = np.random.RandomState(0)
    y = np.arange(90) % 3
    return (rng.normal(scale=0.3, size=(90, 4)) + 3 * np.eye(4)[y]).astype(dtype), y
