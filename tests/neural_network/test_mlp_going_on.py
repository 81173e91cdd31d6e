"""Fits of MLPClassifier that go on: warm starts and partial_fit."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sknets.neural_network import MLPClassifier
from tests.neural_network._small_mlp import make

# Few epochs on purpose in most tests.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_warm_start_continues_history_and_counts(iris):
    clf = make(warm_start=True, max_iter=3)
    for i in (1, 2, 3):
        clf.fit(*iris)
        assert clf.n_iter_ == 3
        assert clf.t_ == 450 * i
        assert clf.history_["epoch"] == list(range(1, 3 * i + 1))
        assert len(clf.loss_curve_) == 3 * i
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]


@pytest.mark.parametrize("go_on", ["fit", "partial_fit"])
def test_going_on_with_other_layers_is_refused(iris, go_on):
    clf = make(hidden_layer_sizes=(5,), warm_start=True).fit(*iris)
    before = [coef.copy() for coef in clf.coefs_]
    clf.set_params(hidden_layer_sizes=(7, 3))
    with pytest.raises(
        ValueError, match=r"sizes of the last fit .*got \(7, 4\) instead of \(5, 4\)"
    ):
        getattr(clf, go_on)(*iris)
    for coef, expected in zip(clf.coefs_, before, strict=True):
        np.testing.assert_array_equal(coef, expected)
    clf.set_params(warm_start=False).fit(*iris)
    assert [coef.shape for coef in clf.coefs_] == [(4, 7), (7, 3), (3, 3)]


def test_going_on_with_another_activation_and_dropout(iris):
    X, _ = iris
    clf = make(warm_start=True, activation="relu").fit(*iris)
    clf.set_params(activation="tanh", dropout=0.5, learning_rate_init=1e-12, max_iter=1).fit(*iris)
    assert [m.p for m in clf.module_.modules() if isinstance(m, torch.nn.Dropout)] == [0.5]
    hidden = np.tanh(X @ clf.coefs_[0] + clf.intercepts_[0])
    logits = hidden @ clf.coefs_[1] + clf.intercepts_[1]
    np.testing.assert_allclose(clf.decision_function(X), logits, rtol=1e-9)


def test_a_clone_of_a_warm_starter_starts_anew(iris):
    clf = make(warm_start=True).fit(*iris)
    assert clone(clf).fit(*iris).loss_curve_ == clf.loss_curve_


def test_partial_fit_is_one_epoch(iris):
    X, y = iris
    clf = make()
    for i in (1, 2):
        assert clf.partial_fit(X, y, classes=[0, 1, 2]) is clf
        assert clf.n_iter_ == 1
        assert clf.t_ == 150 * i
        assert len(clf.loss_curve_) == i


def test_partial_fit_takes_no_other_classes(iris):
    X, y = iris
    clf = make().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="is not the same as on last call"):
        clf.partial_fit(X, y, classes=[0, 1, 2, 3])


def test_partial_fit_in_order_equals_epochs_of_a_fit(iris):
    X, y = iris
    whole = make(shuffle=False, max_iter=4).fit(X, y)
    parts = make(shuffle=False)
    for _ in range(4):
        parts.partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_array_equal(parts.predict_proba(X), whole.predict_proba(X))


def test_partial_fit_goes_on_after_pickling(iris):
    X, y = iris
    clf = make().partial_fit(X, y, classes=[0, 1, 2])
    loaded = pickle.loads(pickle.dumps(clf))
    clf.partial_fit(X, y)
    loaded.partial_fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), loaded.predict_proba(X))


@pytest.mark.parametrize(("first", "second"), [("adam", "sgd"), ("sgd", "adam"), ("lbfgs", "adam")])
def test_partial_fit_under_another_solver(iris, first, second):
    X, y = iris
    clf = make(solver=first).fit(X, y).set_params(solver=second).partial_fit(X, y)
    assert clf.n_iter_ == 1
    assert np.isfinite(clf.predict_proba(X)).all()


def test_partial_fit_where_there_are_no_epochs():
    assert hasattr(MLPClassifier(), "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        MLPClassifier(solver="lbfgs").partial_fit  # noqa: B018 - to ask is the test
