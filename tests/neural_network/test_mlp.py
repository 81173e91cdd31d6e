"""What MLPClassifier promises; that its numbers are scikit-learn's is in tests/parity."""

import copy
import inspect
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score
from sklearn.neural_network import MLPClassifier as Reference
from torch import nn

from sknets.neural_network import MLPClassifier
from tests.neural_network._small_mlp import DIVERGES, SMALL, SOLVERS, fitted_attributes, make

# Few epochs on purpose in most tests.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# -- the signature -------------------------------------------------------------------------------


def test_parameters_and_defaults_are_scikit_learns_and_ours_are_keyword_only():
    ours = inspect.signature(MLPClassifier).parameters
    theirs = inspect.signature(Reference).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].default == parameter.default, name
        assert ours[name].kind == parameter.kind, name
    new = list(ours)[len(theirs) :]
    assert {"device", "precision", "class_weight", "dropout", "callbacks"} <= set(new)
    assert all(ours[name].kind == inspect.Parameter.KEYWORD_ONLY for name in new)


def test_our_defaults():
    clf = MLPClassifier()
    assert (clf.device, clf.precision, clf.dropout) == ("auto", "auto", 0.0)
    assert clf.class_weight is clf.callbacks is clf.normalization is None


def test_fit_has_scikit_learns_arguments_first():
    ours = list(inspect.signature(MLPClassifier.fit).parameters.values())
    theirs = list(inspect.signature(Reference.fit).parameters)
    assert [p.name for p in ours[: len(theirs)]] == theirs
    assert [p.name for p in ours[len(theirs) :]] == ["X_val", "y_val", "sample_weight_val"]
    assert all(p.kind == inspect.Parameter.KEYWORD_ONLY for p in ours[len(theirs) :])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("solver", "newton"),
        ("activation", "sigmoid"),
        ("alpha", -1.0),
        ("batch_size", 0),
        ("batch_size", "all"),
        ("learning_rate", "cosine"),
        ("learning_rate_init", 0.0),
        ("power_t", -1.0),
        ("max_iter", 0),
        ("tol", -1.0),
        ("momentum", 1.5),
        ("validation_fraction", 1.0),
        ("beta_1", 1.0),
        ("epsilon", 0.0),
        ("n_iter_no_change", 0),
        ("max_fun", 0),
        ("hidden_layer_sizes", (5, 0)),
        ("hidden_layer_sizes", -3),
        ("hidden_layer_sizes", "three"),
        ("hidden_layer_sizes", (2.5,)),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("loss", "squared_error"),
        ("dropout", (0.1, 0.2)),
        ("normalization", "group"),
        ("class_weight", "equal"),
        ("precision", "float16"),
        ("device", "abacus"),
    ],
)
def test_a_parameter_that_breaks_its_rule(iris, name, value):
    clf = make(**{name: value})
    with pytest.raises(ValueError, match=name) as raised:
        clf.fit(*iris)
    assert "got" in str(raised.value).lower()
    assert fitted_attributes(clf) == set()


# -- what a fit leaves ---------------------------------------------------------------------------


def test_weights_of_a_layer_that_are_put_in_place_are_the_modules(iris):
    X, y = iris
    clf, theirs = make().fit(X, y), Reference(**SMALL).fit(X, y)
    for net in (clf, theirs):
        for i in range(2):
            net.coefs_[i] = net.coefs_[i] * 2
            net.intercepts_[i] = net.intercepts_[i] + 1
    np.testing.assert_allclose(clf.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
    clf.coefs_, clf.intercepts_ = [0 * W for W in clf.coefs_], [0 * b for b in clf.intercepts_]
    np.testing.assert_allclose(clf.predict_proba(X), 1 / 3)
    assert type(copy.deepcopy(clf.coefs_)) is list


def test_weights_may_come_from_the_weights_themselves(iris):
    for kind in (make, lambda **settings: Reference(**{**SMALL, **settings})):
        net = kind(hidden_layer_sizes=(4, 4)).fit(*iris)
        before = [W.copy() for W in net.coefs_]
        net.coefs_[0], net.coefs_[1] = net.coefs_[1], net.coefs_[0]
        np.testing.assert_array_equal(net.coefs_[1], before[0])
        net.coefs_[0] = net.coefs_[0].T
        np.testing.assert_array_equal(net.coefs_[0], before[1].T)
        shown = net.coefs_[2]
        net.coefs_[2] = np.zeros_like(shown)
        net.coefs_[2] = shown[:, ::-1].astype(">f8")
        np.testing.assert_array_equal(net.coefs_[2], before[2][:, ::-1])


@pytest.mark.parametrize(
    ("index", "values", "message"),
    [
        (0, np.zeros((4, 9)), r"layer 0 must have shape \(4, 8\), got \(4, 9\)"),
        (slice(None), [np.zeros((4, 8))], "of 2 layers, got 1"),
        (slice(None), [np.ones((4, 8)), np.ones((8, 4))], r"layer 1 must have shape \(8, 3\)"),
    ],
)
def test_weights_of_other_shapes_are_refused_and_none_is_written(iris, index, values, message):
    clf = make().fit(*iris)
    before = [W.copy() for W in clf.coefs_]
    with pytest.raises(ValueError, match=message):
        clf.coefs_[index] = values
    for now, then in zip(clf.coefs_, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("settings", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("data", ["iris", "two", "multilabel"])
def test_every_fitted_attribute_of_scikit_learn(settings, data, request):
    X, y = request.getfixturevalue(data)
    ours, reference = make(**settings).fit(X, y), Reference(**SMALL, **settings).fit(X, y)
    expected = fitted_attributes(reference)
    assert expected <= fitted_attributes(ours)
    new = {"module_", "history_", "engine_"}
    assert fitted_attributes(ours) - expected <= new
    assert new <= fitted_attributes(ours)
    for name in expected:
        actual, wanted = getattr(ours, name), getattr(reference, name)
        if isinstance(wanted, float):
            assert isinstance(actual, float), name
        elif isinstance(wanted, int | np.integer):
            assert isinstance(actual, int | np.integer), name
        else:
            assert isinstance(actual, type(wanted)), name
        if isinstance(wanted, list) and wanted and isinstance(wanted[0], np.ndarray):
            assert [a.shape for a in actual] == [w.shape for w in wanted]
            assert [a.dtype for a in actual] == [w.dtype for w in wanted]


def test_feature_names(iris):
    X = pd.DataFrame(iris[0], columns=list("abcd"))
    assert make().fit(X, iris[1]).feature_names_in_.tolist() == list("abcd")


@pytest.mark.parametrize("settings", SOLVERS.values(), ids=SOLVERS)
def test_the_history_is_a_table(iris, settings):
    clf = make(**settings).fit(*iris)
    table = pd.DataFrame(clf.history_)
    assert list(table.columns) == [
        "epoch",
        "train_loss",
        "validation_loss",
        "validation_score",
        "learning_rate",
        "seconds",
    ]
    assert table["epoch"].tolist() == list(range(1, clf.n_iter_ + 1))
    assert table["train_loss"].iloc[-1] == clf.loss_
    if clf.solver == "lbfgs":
        assert table["learning_rate"].isna().all()
        return
    assert table["train_loss"].tolist() == clf.loss_curve_
    assert (table["learning_rate"] == 0.001).all()
    assert table["validation_score"].notna().all() == clf.early_stopping
    assert table["validation_loss"].notna().all() == clf.early_stopping
    if clf.early_stopping:
        assert table["validation_score"].tolist() == clf.validation_scores_


@pytest.mark.parametrize("settings", SOLVERS.values(), ids=SOLVERS)
def test_coefs_share_their_memory_with_the_module(iris, settings):
    clf = make(**settings).fit(*iris)
    for coef, intercept, layer in zip(
        clf.coefs_, clf.intercepts_, clf.module_.linears, strict=True
    ):
        assert np.shares_memory(coef, layer.weight.detach().numpy())
        assert np.shares_memory(intercept, layer.bias.detach().numpy())
    before = clf.predict_proba(iris[0])
    clf.coefs_[0][:] = 0.0
    assert not np.allclose(clf.predict_proba(iris[0]), before)


@pytest.mark.parametrize("data", ["iris", "two", "multilabel"])
def test_the_module_alone_gives_the_probabilities(data, request):
    X, y = request.getfixturevalue(data)
    clf = make().fit(X, y)
    assert isinstance(clf.module_, nn.Module)
    assert not clf.module_.training
    with torch.no_grad():
        logits = clf.module_(torch.from_numpy(X))
    if data == "iris":
        expected = torch.softmax(logits, 1).numpy()
    else:
        expected = torch.sigmoid(logits).numpy()
        expected = np.hstack([1 - expected, expected]) if data == "two" else expected
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-9)
    np.testing.assert_allclose(
        clf.decision_function(X), logits.numpy() if data != "two" else logits.numpy()[:, 0]
    )


@pytest.mark.parametrize("data", ["iris", "two", "multilabel"])
def test_predictions_belong_together(data, request):
    X, y = request.getfixturevalue(data)
    clf = make(max_iter=30).fit(X, y)
    proba = clf.predict_proba(X)
    np.testing.assert_allclose(clf.predict_log_proba(X), np.log(proba), rtol=1e-9)
    if data == "multilabel":
        np.testing.assert_array_equal(clf.predict(X), proba > 0.5)
    else:
        np.testing.assert_allclose(proba.sum(1), 1.0)
        np.testing.assert_array_equal(clf.predict(X), clf.classes_[proba.argmax(1)])
    assert clf.score(X, y) == accuracy_score(y, clf.predict(X))


@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        ({}, "closed form"),
        ({"dropout": 0.5}, "closed form"),
        ({"normalization": "batch"}, "autograd"),
        ({"normalization": "layer"}, "autograd"),
        ({"precision": "bf16"}, "autograd"),
        ({"solver": "lbfgs"}, "lbfgs, closed form"),
        ({"solver": "lbfgs", "normalization": "layer"}, "lbfgs, autograd"),
    ],
    ids=str,
)
def test_the_engine_says_what_ran(iris, settings, engine):
    assert make(**settings).fit(*iris).engine_ == engine


def test_a_second_fit_leaves_nothing_of_the_first(iris, two):
    clf = make(early_stopping=True).fit(*iris)
    clf.set_params(early_stopping=False, max_iter=3).fit(*two)
    fresh = make(max_iter=3).fit(*two)
    assert clf.loss_curve_ == fresh.loss_curve_
    assert clf.validation_scores_ is None
    assert clf.best_validation_score_ is None
    assert clf.t_ == fresh.t_ == 300
    assert len(clf.history_["epoch"]) == 3
    np.testing.assert_array_equal(clf.classes_, [0, 1])
    np.testing.assert_array_equal(clf.predict_proba(two[0]), fresh.predict_proba(two[0]))


def test_lbfgs_after_adam_leaves_no_curve_of_adams(iris):
    clf = make().fit(*iris)
    clf.set_params(solver="lbfgs").fit(*iris)
    assert fitted_attributes(clf) == fitted_attributes(make(solver="lbfgs").fit(*iris))


# -- randomness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3}, {"normalization": "batch"}], ids=str)
def test_the_same_seed_gives_the_same_bits(iris, settings):
    a, b, c = (
        make(**settings, random_state=s).fit(*iris).predict_proba(iris[0]) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize(
    "settings",
    [{"dropout": 0.3}, {"normalization": "batch"}, {"early_stopping": True}, {"solver": "lbfgs"}],
    ids=str,
)
def test_global_state_is_left_alone(iris, settings, seed):
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()
    threads = torch.get_num_threads()
    make(**settings, random_state=seed).fit(*iris).predict(iris[0])
    clf = make(**settings, activation="identity", random_state=seed)
    with pytest.raises(ValueError, match="finite"):
        DIVERGES[clf.solver](clf, *iris)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert all(
        np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True)
    )
    assert torch.get_num_threads() == threads


def test_fits_in_threads_give_what_they_give_alone(iris):
    X, y = iris
    expected = {s: make(random_state=s, dropout=0.3).fit(X, y).predict_proba(X) for s in range(4)}
    actual = {}

    def fit(seed):
        actual[seed] = make(random_state=seed, dropout=0.3).fit(X, y).predict_proba(X)

    threads = [threading.Thread(target=fit, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, proba in expected.items():
        np.testing.assert_array_equal(actual[seed], proba)
