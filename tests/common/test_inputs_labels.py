"""Labels of any kind come back as they were given."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import DataConversionWarning

from tests.common._estimators import each_estimator, fresh

each_multilabel = pytest.mark.parametrize(
    "estimator",
    [
        mark
        for mark in each_estimator().args[1]
        if mark.values[0].__sklearn_tags__().classifier_tags.multi_label
    ],
)


@pytest.fixture(scope="module")
def groups():
    """Four groups of rows far apart, and the number of each row's group."""
    rng = np.random.RandomState(0)
    y = rng.permutation(np.arange(100) % 4)
    return rng.normal(scale=0.3, size=(100, 5)) + 3 * np.eye(5)[y], y


def two(groups):
    X, y = groups
    return X[y < 2], y[y < 2]


# -- one label a row -----------------------------------------------------------------------------

ALPHABETS = {
    "strings": np.array(["north", "a", "Ω", "no"]),
    "objects": np.array(["north", "a", "Ω", "no"], dtype=object),
    "integers far apart": np.array([-(2**40), 7, 2**40, 8]),
    "unsigned bytes": np.array([255, 3, 4, 0], dtype=np.uint8),
    "whole floats": np.array([3.0, -1.0, 10.0, 0.0]),
    "foreign byte order": np.array([5, 3, 9, 1], dtype=">i4"),
}


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("n_classes", [2, 4])
@each_estimator()
def test_labels_come_back_as_they_were_given(estimator, n_classes, alphabet, groups):
    X, y = groups if n_classes == 4 else two(groups)
    labels = ALPHABETS[alphabet][y]
    fitted = fresh(estimator).fit(X, labels)
    assert_array_equal(fitted.classes_, np.unique(labels))
    predicted = fitted.predict(X)
    assert_array_equal(predicted, labels)
    assert predicted.dtype == fitted.classes_.dtype
    assert fitted.score(X, labels) == 1
    decision = fitted.decision_function(X)
    assert decision.shape == ((len(X),) if n_classes == 2 else (len(X), 4))
    best = (decision > 0).astype(int) if n_classes == 2 else decision.argmax(1)
    assert_array_equal(fitted.classes_[best], labels)
    if hasattr(fitted, "predict_proba"):
        proba = fitted.predict_proba(X)
        assert proba.shape == (len(X), n_classes)
        assert_allclose(proba.sum(1), 1)
        assert_array_equal(fitted.classes_[proba.argmax(1)], labels)


@each_estimator()
def test_bools(estimator, groups):
    X, y = two(groups)
    fitted = fresh(estimator).fit(X, y == 0)
    assert fitted.classes_.tolist() == [False, True]
    assert fitted.predict(X).dtype == bool
    assert_array_equal(fitted.predict(X), y == 0)


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        pd.Series,
        lambda y: pd.Series(y, index=range(500, 600)),
        lambda y: pd.Series(y).astype("category"),
        lambda y: pd.Series(y).astype("string"),
        lambda y: pl.Series(y.tolist()),
    ],
    ids=["list", "Series", "Series with an index", "category", "string", "polars"],
)
@each_estimator()
def test_labels_in_any_container(estimator, wrap, groups):
    X, y = groups
    labels = np.array(list("wxyz"))[y]
    fitted = fresh(estimator).fit(X, wrap(labels))
    assert_array_equal(fitted.classes_, list("wxyz"))
    assert_array_equal(fitted.predict(X), labels)


@each_estimator()
def test_a_column_is_taken_with_a_warning(estimator, groups):
    X, y = groups
    with pytest.warns(DataConversionWarning, match="1d array was expected"):
        fitted = fresh(estimator).fit(X, y[:, None])
    assert_array_equal(fitted.predict(X), y)


@each_estimator()
def test_renaming_the_labels_changes_nothing_else(estimator, groups):
    X, y = groups
    numbers = fresh(estimator).fit(X, y)
    letters = fresh(estimator).fit(X, np.array(list("wxyz"))[y])
    assert_array_equal(numbers.decision_function(X), letters.decision_function(X))


@each_estimator()
def test_one_class_is_learnt_by_networks_and_refused_by_linear_models(estimator, groups):
    X, _ = groups
    y = ["only"] * len(X)
    if type(estimator).__module__.startswith("sknets.linear_model"):
        with pytest.raises(ValueError, match=r"class.*only"):
            fresh(estimator).fit(X, y)
        return
    fitted = fresh(estimator).fit(X, y)
    assert set(fitted.predict(X)) == {"only"}
    assert_array_equal(fitted.predict_proba(X), np.ones((len(X), 1)))
    assert_array_equal(fitted.predict_log_proba(X), np.zeros((len(X), 1)))


@each_estimator()
def test_many_classes(estimator):
    y = np.arange(300) % 100
    X = np.eye(100)[y]
    fitted = fresh(estimator).fit(X, y)
    assert_array_equal(fitted.classes_, np.arange(100))
    assert fitted.decision_function(X).shape == (300, 100)


@pytest.mark.parametrize(
    "y",
    [
        np.linspace(0, 1, 100),
        np.arange(100) + 0.5,
        np.c_[np.linspace(0, 1, 100), np.ones(100)],
    ],
    ids=["between 0 and 1", "halves", "two columns"],
)
@each_estimator()
def test_continuous_targets_are_refused(estimator, y, groups):
    with pytest.raises(ValueError, match=r"(?i)unknown label type|continuous|1d array"):
        fresh(estimator).fit(groups[0], y)


@each_estimator()
def test_weights_of_classes_are_named_by_label(estimator, groups):
    if "class_weight" not in estimator.get_params():
        pytest.skip("has no class_weight")
    X, y = two(groups)
    labels = np.array(["rare", "common"])[y]
    heavy = {"rare": 1e3, "common": 1e-3}
    weighted = fresh(estimator, class_weight=heavy).fit(X, labels)
    assert_array_equal(weighted.classes_[[0, 1]], ["common", "rare"])
    by_rows = fresh(estimator).fit(X, labels, sample_weight=[heavy[label] for label in labels])
    assert_allclose(weighted.decision_function(X), by_rows.decision_function(X), rtol=1e-6)
    with pytest.raises(ValueError, match=r"class_weight must name classes .*\['unheard'\]"):
        fresh(estimator, class_weight={"unheard": 2.0}).fit(X, labels)
    # As in scikit-learn, others may be named beside all that there are.
    wider = fresh(estimator, class_weight={**heavy, "unheard": 2.0}).fit(X, labels)
    assert_array_equal(wider.decision_function(X), weighted.decision_function(X))
    with pytest.raises(ValueError, match=r"class_weight.* must be .*\[2.0, 1.0\]"):
        fresh(estimator, class_weight=[2.0, 1.0]).fit(X, labels)


# -- partial_fit ---------------------------------------------------------------------------------


@each_estimator(having="partial_fit")
def test_partial_fit_needs_all_classes_at_first(estimator, groups):
    X, y = groups
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        fresh(estimator).partial_fit(X, y)
    seen = fresh(estimator).partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2, 3])
    assert_array_equal(seen.classes_, [0, 1, 2, 3])
    assert seen.decision_function(X).shape == (len(X), 4)
    seen.partial_fit(X[y > 1], y[y > 1])
    assert_array_equal(seen.classes_, [0, 1, 2, 3])


@each_estimator(having="partial_fit")
def test_few_rows_of_many_classes_are_a_usual_batch(estimator, recwarn):
    """Only a fit, which learns the classes, has a word to say of so many."""
    rng = np.random.RandomState(0)
    names = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    clf = fresh(estimator)
    for y in (names, names.astype(object), names.tolist()):
        clf.partial_fit(rng.normal(size=(26, 5)), y, classes=names)
    assert not [w for w in recwarn if "unique classes" in str(w.message)]


@each_estimator(having="partial_fit")
def test_partial_fit_refuses_a_class_it_was_not_told_of(estimator, groups):
    X, y = groups
    with pytest.raises(ValueError, match="3"):
        fresh(estimator).partial_fit(X, y, classes=[0, 1, 2])
    told = fresh(estimator).partial_fit(X[y < 3], y[y < 3], classes=[0, 1, 2])
    before = told.decision_function(X)
    with pytest.raises(ValueError, match="3"):
        told.partial_fit(X, y)
    with pytest.raises(ValueError, match="classes"):
        told.partial_fit(X[y < 3], y[y < 3], classes=[0, 1, 3])
    assert_array_equal(told.decision_function(X), before)


# -- several labels a row ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tagged(groups):
    """Rows with any number of labels, none and all among them."""
    X, y = groups
    return X, np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]])[y]


@pytest.mark.parametrize("dtype", [int, bool, float, np.uint8])
@each_multilabel
def test_indicator_matrices(estimator, dtype, tagged):
    X, Y = tagged
    fitted = fresh(estimator).fit(X, Y.astype(dtype))
    assert_array_equal(fitted.classes_, [0, 1, 2])
    predicted = fitted.predict(X)
    assert predicted.shape == Y.shape
    assert_array_equal(predicted, Y)
    proba = fitted.predict_proba(X)
    assert_array_equal(proba > 0.5, Y == 1)
    assert ((proba > 0) & (proba < 1)).all()
    assert fitted.score(X, Y) == 1


@pytest.mark.parametrize(
    "wrap",
    [np.ndarray.tolist, pd.DataFrame, torch.from_numpy, np.asfortranarray],
    ids=["list", "DataFrame", "tensor", "fortran"],
)
@each_multilabel
def test_indicator_matrices_in_any_container(estimator, wrap, tagged):
    X, Y = tagged
    assert_array_equal(fresh(estimator).fit(X, wrap(Y)).predict(X), Y)


@each_multilabel
def test_sparse_indicators_give_sparse_predictions(estimator, tagged):
    X, Y = tagged
    predicted = fresh(estimator).fit(X, sparse.csr_array(Y)).predict(X)
    assert sparse.issparse(predicted)
    assert_array_equal(predicted.toarray(), Y)


@each_multilabel
def test_a_label_that_never_occurs(estimator, tagged):
    X, Y = tagged
    Y = np.c_[Y, np.zeros(len(Y), dtype=int)]
    assert_array_equal(fresh(estimator).fit(X, Y).predict(X), Y)


@each_estimator()
def test_indicators_are_refused_by_who_does_not_take_them(estimator, tagged):
    if estimator.__sklearn_tags__().classifier_tags.multi_label:
        pytest.skip("takes them")
    with pytest.raises(ValueError, match=r"1d array.*\(100, 3\)"):
        fresh(estimator).fit(*tagged)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@each_multilabel
def test_labels_must_stay_of_one_kind(estimator, method, tagged, groups):
    if not hasattr(estimator, method):
        pytest.skip(f"has no {method}")
    X, Y = tagged
    y = groups[1] % 3
    for first, second in ((y, Y), (Y, y), (Y, np.c_[Y, Y])):
        fitted = fresh(estimator, warm_start=True).fit(X, first)
        before = fitted.decision_function(X)
        with pytest.raises(ValueError, match=r"y must have \d column|`y` has classes not in"):
            getattr(fitted, method)(X, second)
        assert_array_equal(fitted.decision_function(X), before)


@each_multilabel
def test_partial_fit_of_indicators(estimator, tagged):
    if not hasattr(estimator, "partial_fit"):
        pytest.skip("has no partial_fit")
    X, Y = tagged
    fitted = fresh(estimator).partial_fit(X, Y, classes=[0, 1, 2])
    assert fitted.predict(X).shape == Y.shape
    for wrong in ([0, 1], [0, 1, 2, 3]):
        with pytest.raises(ValueError, match="class"):
            fresh(estimator).partial_fit(X, Y, classes=wrong)


@each_multilabel
def test_columns_of_several_classes_are_refused(estimator, groups):
    X, y = groups
    with pytest.raises(ValueError, match="one label a sample or a multilabel indicator matrix"):
        fresh(estimator).fit(X, np.c_[y, y])
