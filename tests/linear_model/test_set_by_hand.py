"""Linear models whose attributes somebody sets, as programs do that share weights."""

import copy
import pickle

import numpy as np
import pytest
import sklearn.linear_model
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import scale

from sknets.linear_model import LogisticRegression, Perceptron

PAIRS = {
    "logistic": (LogisticRegression, sklearn.linear_model.LogisticRegression),
    "perceptron": (Perceptron, sklearn.linear_model.Perceptron),
}


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_weights_of_an_estimator_that_was_never_fitted(pair, n_classes):
    X = scale(load_iris().data)
    n_outputs = 1 if n_classes == 2 else n_classes
    random_state = np.random.RandomState(0)
    coef, intercept = random_state.normal(size=(n_outputs, 4)), random_state.normal(size=n_outputs)
    labels = []
    for kind in pair:
        model = kind()
        with pytest.raises(NotFittedError):
            model.predict(X)
        model.classes_ = np.array(["a", "b", "c"])[:n_classes]
        model.coef_, model.intercept_ = coef, intercept
        labels.append(model.predict(X))
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), labels[-1])
    np.testing.assert_array_equal(*labels)
    assert len(set(labels[0])) > 1


@pytest.mark.parametrize("shape", [(2, 4), (1, 4), (4,)])
def test_weights_that_do_not_fit_the_classes(pair, shape):
    model = pair[0]()
    model.classes_, model.intercept_ = np.arange(3), np.zeros(shape[0])
    model.coef_ = np.ones(shape)
    with pytest.raises(ValueError, match=r"coef_ must have shape \(3, n_features\) for 3 classes"):
        model.predict(np.ones((2, 4)))


def test_a_perceptron_goes_on_from_weights_set_by_hand():
    X, y = scale(load_iris().data), load_iris().target
    coefs = []
    for kind in PAIRS["perceptron"]:
        model = kind(shuffle=False)
        model.classes_, model.coef_, model.intercept_ = np.arange(3), np.ones((3, 4)), np.zeros(3)
        coefs.append(model.partial_fit(X, y).coef_)
    np.testing.assert_allclose(*coefs)


def test_other_names_of_the_classes(pair):
    X, y = scale(load_iris().data), load_iris().target
    for kind in pair:
        model = kind().fit(X, y)
        before = model.predict(X)
        model.classes_ = np.array(["a", "b", "c"])
        np.testing.assert_array_equal(model.predict(X), np.array(["a", "b", "c"])[before])
        np.testing.assert_array_equal(copy.deepcopy(model).predict(X), model.predict(X))


def test_objects_are_predicted_where_scikit_learn_does(pair):
    X, y = scale(load_iris().data), load_iris().target
    y = np.array(["a", "bb", "c"], dtype=object)[y]
    ours, theirs = (kind().fit(X, y) for kind in pair)
    assert ours.classes_.dtype == theirs.classes_.dtype
    assert ours.predict(X).dtype == theirs.predict(X).dtype


def test_labels_of_another_byte_order(pair):
    X, y = scale(load_iris().data), load_iris().target
    assert pair[0]().fit(X, y.astype(">i4")).predict(X).dtype.isnative
