"""What scikit-learn's MLPClassifier has not: losses, weights, dropout, normalisation, precision."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import hinge_loss
from torch import nn

from tests.neural_network._small_mlp import fitted_attributes, make

# Few epochs on purpose in most tests.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_label_smoothing_keeps_probabilities_from_0_and_1(iris, solver):
    X, y = iris
    settings = {"solver": solver, "max_iter": 300, "learning_rate_init": 0.01}
    plain = make(**settings).fit(X, y).predict_proba(X).max(1)
    clf = make(label_smoothing=0.3, **settings).fit(X, y)
    proba = clf.predict_proba(X)
    assert clf.score(X, y) > 0.95
    # What the target gives the right class: 0.7 and a third of 0.3.
    assert np.median(proba.max(1)) == pytest.approx(0.8, abs=0.05)
    assert np.median(plain) > 0.95


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("loss", ["focal_loss", "hinge"])
@pytest.mark.parametrize("data", ["iris", "two", "multilabel"])
def test_other_losses_learn(request, data, loss, solver):
    X, y = request.getfixturevalue(data)
    settings = {"solver": solver, "max_iter": 300, "learning_rate_init": 0.01}
    plain = make(**settings).fit(X, y)
    clf = make(loss=loss, **settings).fit(X, y)
    assert clf.score(X, y) > plain.score(X, y) - 0.1
    assert clf.loss_ != pytest.approx(plain.loss_, rel=1e-3)


def test_hinge_loss_has_scores_and_no_probabilities(iris):
    X, y = iris
    clf = make(loss="hinge").fit(X, y)
    assert not hasattr(clf, "predict_proba")
    assert not hasattr(clf, "predict_log_proba")
    with pytest.raises(AttributeError, match="predict_proba") as raised:
        clf.predict_proba(X)
    assert "decision_function" in str(raised.value.__cause__)
    scores = clf.decision_function(X)
    np.testing.assert_array_equal(clf.classes_[scores.argmax(1)], clf.predict(X))


def test_hinge_loss_of_two_classes_is_scikit_learns(two):
    X, y = two
    X_held, y_held = X[::2], y[::2]
    clf = make(loss="hinge").fit(X, y, X_val=X_held, y_val=y_held)
    wanted = hinge_loss(y_held, clf.decision_function(X_held), labels=clf.classes_)
    assert clf.history_["validation_loss"][-1] == pytest.approx(wanted)


def test_a_loss_of_the_users_own_gets_what_torch_wants(iris, two, multilabel):
    cases = [
        (iris, partial(nn.functional.cross_entropy, reduction="none")),
        (two, partial(nn.functional.binary_cross_entropy_with_logits, reduction="none")),
        (multilabel, summed_over_labels),
    ]
    for (X, y), loss in cases:
        own, plain = make(loss=loss).fit(X, y), make().fit(X, y)
        assert own.engine_ == "autograd"
        np.testing.assert_allclose(own.loss_curve_, plain.loss_curve_, rtol=1e-6)
        np.testing.assert_allclose(own.predict_proba(X), plain.predict_proba(X), atol=1e-6)
        np.testing.assert_allclose(
            pickle.loads(pickle.dumps(own)).predict_proba(X), own.predict_proba(X)
        )


def summed_over_labels(logits, target):
    losses = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return losses.sum(1)


@pytest.mark.parametrize("loss", [nn.functional.cross_entropy, lambda logits, target: 0.0])
def test_a_loss_of_another_shape_is_an_error(iris, loss):
    clf = make(loss=loss)
    with pytest.raises(ValueError, match="one value a sample") as raised:
        clf.fit(*iris)
    assert "got" in str(raised.value)
    assert fitted_attributes(clf) == set()


def test_the_class_of_a_loss_is_none(iris):
    with pytest.raises(TypeError, match=r"got the class NLLLoss\. Write NLLLoss\(\)"):
        make(loss=nn.NLLLoss).fit(*iris)


@pytest.mark.parametrize("loss", ["hinge", summed_over_labels])
def test_label_smoothing_without_a_target_to_spread_is_an_error(iris, loss):
    with pytest.raises(ValueError, match="label_smoothing must be 0"):
        make(loss=loss, label_smoothing=0.1).fit(*iris)


@pytest.mark.parametrize("spoil", ["nan", "features", "label"])
def test_an_error_of_the_validation_set_says_so(iris, spoil):
    X, y = iris
    X_val, y_val = X.copy(), y.copy()
    if spoil == "nan":
        X_val[0, 0] = np.nan
    elif spoil == "features":
        X_val = X_val[:, :3]
    else:
        y_val[0] = 7
    clf = make()
    with pytest.raises(ValueError, match="X_val and y_val"):
        clf.fit(X, y, X_val=X_val, y_val=y_val)
    assert fitted_attributes(clf) == set()


def test_class_weights_multiply_sample_weights(iris):
    X, y = iris
    given = {0: 1.0, 1: 3.0, 2: 0.5}
    weight = np.random.RandomState(0).uniform(size=len(X))
    by_class = np.array([given[label] for label in y])
    expected = make().fit(X, y, weight * by_class)
    actual = make(class_weight=given).fit(X, y, weight)
    np.testing.assert_allclose(actual.predict_proba(X), expected.predict_proba(X), rtol=1e-9)


def test_balanced_class_weights(iris):
    X, y = iris[0][:80], iris[1][:80]
    expected = make(class_weight={0: 80 / (2 * 50), 1: 80 / (2 * 30)}).fit(X, y)
    actual = make(class_weight="balanced").fit(X, y)
    np.testing.assert_allclose(actual.predict_proba(X), expected.predict_proba(X), rtol=1e-9)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_heavy_class_dominates(two, solver):
    X, y = two
    clf = make(class_weight={0: 1000.0, 1: 1e-4}, solver=solver, max_iter=200).fit(X, y)
    assert (clf.predict(X) == 0).mean() > 0.9


def test_class_weights_by_name_and_of_labels_that_are_not_there(iris):
    X, y = iris[0], np.array(["a", "b", "c"])[iris[1]]
    clf = make(class_weight={"a": 5.0, "b": 1.0, "c": 1.0}).fit(X, y)
    assert set(clf.predict(X)) <= {"a", "b", "c"}
    with pytest.raises(ValueError, match="class_weight"):
        make(class_weight={"a": 5.0, "d": 1.0}).fit(X, y)
    with pytest.raises(ValueError, match="class_weight"):
        make(class_weight={"a": -5.0}).fit(X, y)


def test_balanced_needs_all_the_data(iris):
    with pytest.raises(ValueError, match=r"class_weight must not be .balanced. in partial_fit"):
        make(class_weight="balanced").partial_fit(*iris, classes=[0, 1, 2])


def test_class_weights_in_partial_fit(iris):
    X, y = iris
    given = {0: 1.0, 1: 3.0, 2: 0.5}
    weight = np.array([given[label] for label in y])
    expected = make().partial_fit(X, y, classes=[0, 1, 2], sample_weight=weight)
    actual = make(class_weight=given).partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_allclose(actual.predict_proba(X), expected.predict_proba(X), rtol=1e-9)


def test_dropout_is_for_training_only(iris):
    X, y = iris
    clf = make(dropout=0.5, hidden_layer_sizes=(20, 10)).fit(X, y)
    assert [m.p for m in clf.module_.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    np.testing.assert_array_equal(clf.predict_proba(X), clf.predict_proba(X))
    assert clf.loss_curve_ != make(hidden_layer_sizes=(20, 10)).fit(X, y).loss_curve_
    assert len(clf.coefs_) == 3


def test_dropout_one_rate_a_layer(iris):
    clf = make(dropout=(0.0, 0.25), hidden_layer_sizes=(20, 10)).fit(*iris)
    assert [m.p for m in clf.module_.modules() if isinstance(m, nn.Dropout)] == [0.25]


def test_dropout_draws_anew_in_every_call_of_partial_fit(iris):
    X, y = iris
    # Nothing moves but the masks: the loss of the same weights differs from call to call.
    clf = make(dropout=0.5, learning_rate_init=1e-300, shuffle=False, batch_size=150)
    for _ in range(3):
        clf.partial_fit(X, y, classes=[0, 1, 2])
    assert len(set(clf.loss_curve_)) == 3


def test_dropout_is_an_error_where_it_would_break_the_line_search(iris):
    with pytest.raises(ValueError, match=r"dropout must be 0 with solver=.lbfgs."):
        make(dropout=0.5, solver="lbfgs").fit(*iris)
    make(dropout=0.0, solver="lbfgs").fit(*iris)


def test_normalisation_has_weights_that_are_no_coefs(iris):
    clf = make(normalization="batch", hidden_layer_sizes=(20, 10), learning_rate_init=0.1)
    clf.fit(*iris)
    assert [coef.shape for coef in clf.coefs_] == [(4, 20), (20, 10), (10, 3)]
    assert clf.module_.layers.norm1.num_batches_tracked > 0
    assert clf.score(*iris) > 0.5
    with torch.no_grad():
        proba = torch.softmax(clf.module_(torch.from_numpy(iris[0])), 1)
    np.testing.assert_allclose(clf.predict_proba(iris[0]), proba, rtol=1e-9)


def test_batch_normalisation_bears_a_last_batch_of_one_row(iris):
    X, y = iris
    assert make(normalization="batch", batch_size=149).fit(X, y).n_iter_ == 5


def test_precision_overrides_the_type_of_x(iris):
    X, y = iris
    low = make(precision="float32").fit(X, y)
    assert low.coefs_[0].dtype == low.predict_proba(X).dtype == np.float32
    high = make(precision="float64").fit(X.astype(np.float32), y)
    assert high.coefs_[0].dtype == np.float64
    mixed = make(precision="bf16", max_iter=60).fit(X, y)
    assert mixed.coefs_[0].dtype == np.float32
    assert mixed.score(X, y) == pytest.approx(
        low.set_params(max_iter=60).fit(X, y).score(X, y), abs=0.05
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.bool_, np.float16])
def test_other_numbers_are_computed_in_float64(iris, dtype):
    X = (iris[0] > 0).astype(dtype)
    clf = make().fit(X, iris[1])
    expected = make().fit(X.astype(np.float64), iris[1])
    np.testing.assert_array_equal(clf.coefs_[0], expected.coefs_[0])


@pytest.mark.parametrize("activation", ["leaky_relu", "selu", "gelu", "silu", "mish", "softsign"])
def test_activations_that_scikit_learn_has_not(iris, activation):
    clf = make(activation=activation, solver="lbfgs", max_iter=50).fit(*iris)
    assert clf.score(*iris) > 0.95
