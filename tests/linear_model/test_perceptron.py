"""Perceptron as an estimator."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn.linear_model
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning

from sknets.linear_model import Perceptron

X, Y = load_iris(return_X_y=True)


def _make(**params) -> Perceptron:
    return Perceptron(device="cpu", **params)


def test_parameters_are_scikit_learns_and_two_more():
    theirs = sklearn.linear_model.Perceptron().get_params()
    ours = Perceptron().get_params()
    assert {name: ours[name] for name in theirs} == theirs
    assert set(ours) - set(theirs) == {"device", "precision"}


def test_labels_of_any_kind_and_both_shapes():
    names = np.array(["setosa", "versicolor", "virginica"])[Y]
    clf = _make().fit(X, names)
    assert set(clf.predict(X)) <= set(names)
    assert clf.coef_.shape == (3, 4)
    assert clf.decision_function(X).shape == (150,) + (3,)
    two = _make().fit(X[:100], names[:100])
    assert two.coef_.shape == (1, 4)
    assert two.decision_function(X).shape == (150,)
    assert two.score(X[:100], names[:100]) == 1.0
    assert not hasattr(two, "predict_proba")


def test_same_seed_same_bits_and_another_seed_other_weights():
    first, again = _make(random_state=3).fit(X, Y), _make(random_state=3).fit(X, Y)
    other = _make(random_state=4).fit(X, Y)
    np.testing.assert_array_equal(first.coef_, again.coef_)
    assert (first.coef_ != other.coef_).any()


def test_history_is_a_table_of_epochs():
    clf = _make(early_stopping=True).fit(X, Y)
    table = pd.DataFrame(clf.history_)
    assert len(table) == clf.n_iter_
    assert list(table["epoch"]) == list(range(1, clf.n_iter_ + 1))
    assert table["validation_score"].between(0, 1).all()
    assert (table["n_learning"].between(1, 3)).all()
    assert (table["train_loss"] >= 0).all()


def test_module_gives_the_decision_function():
    clf = _make().fit(X, Y)
    assert isinstance(clf.module_, torch.nn.Linear)
    with torch.no_grad():
        logits = clf.module_(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(logits, clf.decision_function(X), rtol=1e-12)


def test_sparsify_and_densify_keep_predictions():
    clf = _make(penalty="l1", alpha=0.01).fit(X, Y)
    before = clf.decision_function(X)
    np.testing.assert_allclose(clf.sparsify().decision_function(X), before)
    np.testing.assert_allclose(clf.densify().decision_function(X), before)
    assert (clf.coef_ == 0).any()


def test_warm_start_goes_on_from_sparse_weights():
    clf = _make(warm_start=True, shuffle=False).fit(X, Y)
    plain = clone(clf).fit(X, Y)
    np.testing.assert_array_equal(clf.sparsify().fit(X, Y).coef_, plain.fit(X, Y).coef_)


def test_partial_fit_counts_on():
    clf = _make()
    for _ in range(3):
        clf.partial_fit(X, Y, classes=[0, 1, 2])
    assert clf.n_iter_ == 1
    assert clf.t_ == 1 + 3 * len(X)
    assert clf.history_["epoch"] == [1, 2, 3]


def test_partial_fit_after_fit_starts_from_it():
    X2, y2 = load_breast_cancer(return_X_y=True)
    clf = _make(shuffle=False).fit(X2, y2)
    n_epochs = clf.n_iter_
    clf.partial_fit(X2[:50], y2[:50])
    expected = sklearn.linear_model.Perceptron(shuffle=False).fit(X2, y2)
    expected.partial_fit(X2[:50], y2[:50])
    np.testing.assert_allclose(clf.coef_, expected.coef_, rtol=1e-9)
    assert len(clf.history_["epoch"]) == n_epochs + 1


def test_verbose_prints_a_line_an_epoch(capsys):
    clf = _make(verbose=1).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == clf.n_iter_
    assert lines[0].startswith("Epoch 1, loss = ")


def test_no_convergence_is_warned_of():
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        clf = _make(max_iter=2).fit(X, Y)
    assert clf.n_iter_ == 2
    _make(max_iter=2, tol=None).fit(X, Y)  # asked for: no warning


def test_interruption_keeps_the_last_whole_epoch(monkeypatch):
    """Interrupts while the line of the fourth epoch is printed."""
    lines = []

    def interrupting_print(line):
        lines.append(line)
        if len(lines) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupting_print)
    with pytest.warns(UserWarning, match="interrupted by user after epoch 3"):
        clf = _make(verbose=1).fit(X, Y)
    whole = _make(max_iter=3, tol=None).fit(X, Y)
    np.testing.assert_array_equal(clf.coef_, whole.coef_)
    assert clf.n_iter_ == 3


def test_float32_and_precision():
    assert _make().fit(X.astype(np.float32), Y).coef_.dtype == np.float32
    assert _make(precision="float32").fit(X, Y).coef_.dtype == np.float32
    assert _make().fit(X, Y).coef_.dtype == np.float64


def test_pickle_gives_the_same_predictions():
    clf = _make().fit(X, Y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.decision_function(X), clf.decision_function(X))


def test_class_weight_of_zero_silences_a_class():
    clf = _make(class_weight={0: 0.0}).fit(X[:100], Y[:100])
    assert (clf.predict(X[:100]) == 1).all()


@pytest.mark.parametrize(
    ("params", "fit_params", "message"),
    [
        ({"precision": "bf16"}, {}, r"'precision' parameter .*\. Got 'bf16'"),
        ({"class_weight": {0: -1.0}}, {}, "class_weight must be finite and must not be negative"),
        ({"eta0": 0.0}, {}, "eta0"),
        ({}, {"coef_init": np.zeros((2, 4))}, r"coef_init must have shape \(3, 4\), got \(2, 4\)"),
        ({}, {"intercept_init": np.zeros(2)}, r"intercept_init must have shape \(3,\), got \(2,\)"),
        ({}, {"sample_weight": np.zeros(150)}, "zero"),
        ({"early_stopping": True, "validation_fraction": 0.01}, {}, "test_size"),
    ],
    ids=str,
)
def test_what_is_refused(params, fit_params, message):
    clf = _make(**params)
    with pytest.raises(ValueError, match=message):
        clf.fit(X, Y, **fit_params)
    assert not hasattr(clf, "coef_")


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="more than one class, got 1 class"):
        _make().fit(X[:50], Y[:50])


def test_held_out_rows_need_weight():
    weight = np.ones(len(Y))
    clf = _make(early_stopping=True, random_state=0)
    probe = _make(early_stopping=True, random_state=0)
    probe.fit(X, Y)
    from sklearn.model_selection import StratifiedShuffleSplit

    splitter = StratifiedShuffleSplit(test_size=0.1, random_state=0)
    weight[next(splitter.split(X, Y))[1]] = 0
    with pytest.raises(ValueError, match="rows held out by early_stopping"):
        clf.fit(X, Y, sample_weight=weight)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"early_stopping": True}, "early_stopping must be False with partial_fit"),
        ({"class_weight": "balanced"}, "class_weight must not be 'balanced' with partial_fit"),
    ],
)
def test_what_partial_fit_refuses(params, message):
    with pytest.raises(ValueError, match=message):
        _make(**params).partial_fit(X, Y, classes=[0, 1, 2])


def test_failed_fit_leaves_the_last_one():
    clf = _make().fit(X, Y)
    before = clf.coef_.copy()
    with pytest.raises(ValueError, match="stay finite"):
        clf.set_params(eta0=1e200).fit(X * 1e200, Y)
    np.testing.assert_array_equal(clf.coef_, before)
