"""Input that breaks a rule: an error that says the rule and the value, and nothing changed."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from tests.common._estimators import each_estimator, fresh


def with_value(X, value, row=3, column=1):
    X = X.copy()
    X[row, column] = value
    return X


@pytest.fixture(scope="module")
def table():
    rng = np.random.RandomState(0)
    return rng.normal(size=(40, 4)), np.array(["no", "yes"])[np.arange(40) % 2]


# What is wrong -> (X of the table, what the error says).
BAD_X = {
    "NaN": (lambda X: with_value(X, np.nan), "NaN"),
    "infinity": (lambda X: with_value(X, np.inf), "infinity"),
    "minus infinity in float32": (
        lambda X: with_value(X.astype(np.float32), -np.inf),
        "infinity",
    ),
    "NaN in float16": (lambda X: with_value(X.astype(np.float16), np.nan), "NaN"),
    "NaN among objects": (lambda X: with_value(X.astype(object), np.nan), "NaN"),
    "NA in a frame": (
        lambda X: pd.DataFrame(with_value(X.astype(object), pd.NA)).astype("Float64"),
        "NaN",
    ),
    "NaN in a sparse matrix": (lambda X: sparse.csr_array(with_value(X, np.nan)), "NaN"),
    "NaN in a tensor": (lambda X: torch.from_numpy(with_value(X, np.nan)), "NaN"),
    "infinity in a tensor": (lambda X: torch.from_numpy(with_value(X, np.inf)), "infinity"),
    "a bfloat16 tensor's NaN": (
        lambda X: torch.from_numpy(with_value(X, np.nan)).bfloat16(),
        "NaN",
    ),
    "complex numbers": (lambda X: X + 1j, "Complex data not supported"),
    "a complex tensor": (lambda X: torch.from_numpy(X + 1j), "Complex data not supported"),
    "one row as a vector": (lambda X: X[0], r"Expected 2D array, got 1D array"),
    "a vector as a tensor": (lambda X: torch.from_numpy(X[0]), r"2.*\(4,\)"),
    "a scalar": (lambda X: 3.0, "Expected 2D array, got scalar"),
    "no rows": (lambda X: X[:0], r"0 sample\(s\) \(shape=\(0, 4\)\)"),
    "no columns": (lambda X: X[:, :0], r"0 feature\(s\) \(shape=\(40, 0\)\)"),
    "a tensor of no rows": (lambda X: torch.from_numpy(X[:0]), r"0 sample\(s\) \(shape=\(0, 4\)\)"),
    "a tensor of no columns": (lambda X: torch.empty(40, 0), r"0 feature\(s\) \(shape=\(40, 0\)\)"),
    "words": (lambda X: np.full(X.shape, "word"), "strings"),
    "words among objects": (lambda X: with_value(X.astype(object), "word"), "word"),
    "words in a frame": (lambda X: pd.DataFrame(X, columns=list("abcd")).assign(e="word"), "word"),
    "dates": (lambda X: X.astype("M8[D]"), r"real numbers.*datetime64"),
    "ragged lists": (lambda X: [[1, 2], [3]] * 20, "inhomogeneous"),
}
BAD_Y = {
    "missing": (lambda y: None, "requires y to be passed"),
    "too short": (lambda y: y[:-1], r"inconsistent numbers of samples: \[40, 39\]"),
    "too long": (lambda y: np.r_[y, y[:1]], r"inconsistent numbers of samples: \[40, 41\]"),
    "empty": (lambda y: y[:0], r"0 sample|inconsistent numbers"),
    "NaN": (lambda y: with_value(np.ones((40, 1)), np.nan, 0, 0).ravel(), "NaN"),
    "infinity": (lambda y: with_value(np.ones((40, 1)), np.inf, 0, 0).ravel(), "infinity"),
    "NaN among strings": (lambda y: np.where(y == "no", np.nan, y.astype(object)), "NaN"),
    "None": (lambda y: [None] * 40, "[Uu]nknown"),
    "continuous": (lambda y: np.linspace(0, 1, 40), "continuous"),
    "three axes": (lambda y: np.ones((40, 1, 1)), "dim 3"),
}
BAD_WEIGHTS = {
    "all zero": (np.zeros(40), "(?i)weight.*(non-)?zero"),
    "negative": (np.r_[np.ones(39), -2.5], r"negative.*-2\.5.*row 39"),
    "NaN": (np.r_[np.ones(39), np.nan], "sample_weight contains NaN"),
    "infinity": (np.r_[np.ones(39), np.inf], "sample_weight contains infinity"),
    "too short": (np.ones(39), r"\(39,\).*\(40,\)"),
    "too long": (np.ones(41), r"\(41,\).*\(40,\)"),
    "two axes": (np.ones((40, 2)), "1D array"),
    "complex": (np.ones(40, dtype=complex), "[Cc]omplex"),
    "words": (["much"] * 40, "much"),
}
NETWORK_METHODS = ("decision_function", "predict", "predict_proba", "predict_log_proba")


def state_of(estimator):
    """Every attribute and the bits of every weight."""
    return {name: pickle.dumps(value) for name, value in vars(estimator).items()}


def check_refused(call, estimator, message):
    """The call raises a ValueError and changes nothing about the estimator."""
    attributes, before = dict(vars(estimator)), state_of(estimator)
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert str(caught.value).strip()
    assert vars(estimator).keys() == attributes.keys()
    for name, value in attributes.items():
        assert vars(estimator)[name] is value, name
    assert state_of(estimator) == before


def check_fit_refused(estimator, table, X, y, message, **weights):
    """Neither a new estimator nor a fitted one is changed by a fit that is refused."""
    new = fresh(estimator)
    check_refused(lambda: new.fit(X, y, **weights), new, message)
    with pytest.raises(NotFittedError):
        check_is_fitted(new)

    fitted = fresh(estimator).fit(*table)
    expected = fitted.decision_function(table[0])
    methods = ["fit"] + ["partial_fit"] * hasattr(fitted, "partial_fit")
    for warm_start in (False, True):
        fitted.set_params(warm_start=warm_start)
        for method in methods:
            call = getattr(fitted, method)
            check_refused(lambda call=call: call(X, y, **weights), fitted, message)
    assert_array_equal(fitted.decision_function(table[0]), expected)


@pytest.mark.parametrize("kind", BAD_X)
@each_estimator()
def test_bad_rows(estimator, kind, table):
    make, message = BAD_X[kind]
    X = make(table[0])
    if kind in ("a scalar", "one row as a vector", "a vector as a tensor", "no rows"):
        message = f"{message}|inconsistent"
    if isinstance(X, pd.DataFrame):  # a frame's names are no news after another frame
        table = pd.DataFrame(table[0], columns=X.columns[:4]), table[1]
    check_fit_refused(estimator, table, X, table[1], f"{message}|feature")

    fitted = fresh(estimator).fit(*table)
    for method in NETWORK_METHODS:
        if hasattr(fitted, method):
            call = getattr(fitted, method)
            check_refused(lambda call=call: call(X), fitted, f"{message}|feature")


@each_estimator()
def test_rows_of_another_width(estimator, table):
    X, _ = table
    fitted = fresh(estimator).fit(*table)
    for wrong in (X[:, :3], np.c_[X, X], torch.from_numpy(X[:, :3]), sparse.csr_array(X[:, :3])):
        for method in NETWORK_METHODS:
            if hasattr(fitted, method):
                call = getattr(fitted, method)
                check_refused(lambda call=call, X=wrong: call(X), fitted, r"[38] features.* 4 ")


@pytest.mark.parametrize("kind", BAD_Y)
@each_estimator()
def test_bad_labels(estimator, kind, table):
    make, message = BAD_Y[kind]
    check_fit_refused(estimator, table, table[0], make(table[1]), message)


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
@each_estimator()
def test_bad_weights(estimator, kind, table):
    weights, message = BAD_WEIGHTS[kind]
    check_fit_refused(estimator, table, *table, message, sample_weight=weights)


@each_estimator()
def test_numbers_that_float32_cannot_hold(estimator, table):
    X, y = table
    assert X.dtype == np.float64
    huge = X.copy()
    huge[0, 0] = 1e39
    message = r"X must hold numbers up to 3.4e\+38"
    new = fresh(estimator, precision="float32")
    check_refused(lambda: new.fit(huge, y), new, message)
    fitted = fresh(estimator, precision="float32").fit(X, y)
    if hasattr(fitted, "coef_"):  # linear models predict in the wider dtype
        assert np.isfinite(fitted.decision_function(huge)).all()
        return
    with pytest.raises(ValueError, match=message):
        fitted.predict(huge)


@pytest.mark.parametrize("weight", [1e-46, 1e37])
@each_estimator()
def test_weights_that_float32_cannot_hold(estimator, weight, table):
    X, y = table
    new = fresh(estimator, precision="float32")
    weights = np.full(len(y), weight)
    check_refused(lambda: new.fit(X, y, sample_weight=weights), new, r"sum that torch.float32 can")


@each_estimator()
def test_weights_and_class_weights_that_leave_nothing(estimator, table):
    if "Perceptron" in str(estimator):
        pytest.skip("weighs the steps of its classes, not its rows, as scikit-learn's does")
    X, y = table
    weights = (y == "yes").astype(float)
    new = fresh(estimator, class_weight={"no": 1.0, "yes": 0.0})
    check_refused(lambda: new.fit(X, y, sample_weight=weights), new, "class_weight")


@each_estimator()
def test_torch_sparse_tensors_are_refused_by_name(estimator, table):
    X = torch.from_numpy(table[0]).to_sparse_coo()
    with pytest.raises(TypeError, match=r"scipy.sparse CSR.*sparse_coo"):
        fresh(estimator).fit(X, table[1])


@each_estimator()
def test_a_device_that_is_not_there(estimator, table):
    for device, message in (("cuda:99", "present"), ("abacus", "device must be")):
        new = fresh(estimator, device=device)
        check_refused(lambda new=new: new.fit(*table), new, f"{message}.*{device}")


@each_estimator()
def test_a_parameter_out_of_its_range(estimator, table):
    new = fresh(estimator, max_iter=-1)
    check_refused(lambda: new.fit(*table), new, r"'max_iter' parameter.*Got -1 instead")
    fitted = fresh(estimator).fit(*table)
    fitted.set_params(precision="float8")
    check_refused(lambda: fitted.fit(*table), fitted, r"'precision' parameter.*Got 'float8'")


@each_estimator()
def test_validation_rows_are_checked_like_training_rows(estimator, table):
    if not hasattr(estimator, "callbacks") or estimator.solver == "lbfgs":
        pytest.skip("takes no validation set")
    X, y = table
    new = fresh(estimator)
    for bad, message in (
        ({"X_val": X}, "y_val"),
        ({"y_val": y}, "X_val"),
        ({"sample_weight_val": np.ones(40)}, "X_val"),
        ({"X_val": with_value(X, np.nan), "y_val": y}, "NaN"),
        ({"X_val": X[:, :3], "y_val": y}, "3 features"),
        ({"X_val": X, "y_val": y[:-1]}, r"\[40, 39\]"),
        ({"X_val": X, "y_val": ["maybe"] * 40}, "maybe"),
        ({"X_val": X, "y_val": y, "sample_weight_val": -np.ones(40)}, "negative"),
        ({"X_val": X, "y_val": y, "sample_weight_val": np.zeros(40)}, "zero"),
    ):
        check_refused(lambda bad=bad: new.fit(X, y, **bad), new, message)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@each_estimator()
def test_huge_finite_numbers_give_finite_predictions_or_an_error(estimator, table):
    X, y = table
    new, error = fresh(estimator), None
    try:
        with np.errstate(over="ignore"):
            new.fit(X * 1e300, y)
    except ValueError as caught:
        error = str(caught)
    if error is None:
        assert np.isfinite(new.decision_function(X)).all()
    else:
        assert "finite" in error
        assert vars(new).keys() == vars(fresh(estimator)).keys()


@each_estimator()
def test_users_objects_are_not_changed_by_a_failed_fit(estimator, table):
    X, y = table
    bad = with_value(X, np.nan)
    before = copy.deepcopy((bad, y))
    with pytest.raises(ValueError, match="NaN"):
        fresh(estimator).fit(bad, y)
    assert_array_equal(bad, before[0])
    assert_array_equal(y, before[1])
