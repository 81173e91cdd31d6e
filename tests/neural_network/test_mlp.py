"""What MLPClassifier promises; that its numbers are scikit-learn's is in tests/parity."""

import inspect
import pickle
import threading
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.metrics import accuracy_score, hinge_loss, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier as Reference
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler, scale
from torch import nn

from sknets.neural_network import MLPClassifier

# Few epochs on purpose in most tests.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}
SOLVERS = {
    "adam": {},
    "adam, early stopping": {"early_stopping": True},
    "sgd": {"solver": "sgd"},
    "lbfgs": {"solver": "lbfgs"},
}


def diverge(clf, X, y):
    """Fit with steps so large that the loss overflows."""
    clf.set_params(learning_rate_init=1e308).fit(X, y)


# L-BFGS has no learning rate.
DIVERGES = {"adam": diverge, "sgd": diverge, "lbfgs": lambda clf, X, y: clf.fit(X * 1e300, y)}


def make(**settings):
    return MLPClassifier(**{**SMALL, "device": "cpu", **settings})


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), y


@pytest.fixture(scope="module")
def two(iris):
    X, y = iris
    return X[:100] + np.random.RandomState(0).normal(size=(100, 4)), y[:100]


@pytest.fixture(scope="module")
def multilabel():
    X, y = make_multilabel_classification(120, 6, n_classes=3, random_state=0)
    return scale(X.astype(float)), y


def public(estimator):
    """Fitted attributes, properties included."""
    names = dir(estimator)
    return {n for n in names if n.endswith("_") and not n.startswith("_") and hasattr(estimator, n)}


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
    assert public(clf) == set()


# -- what a fit leaves ---------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("data", ["iris", "two", "multilabel"])
def test_every_fitted_attribute_of_scikit_learn(settings, data, request):
    X, y = request.getfixturevalue(data)
    ours, reference = make(**settings).fit(X, y), Reference(**SMALL, **settings).fit(X, y)
    expected = public(reference)
    assert expected <= public(ours)
    new = {"module_", "history_", "engine_"}
    assert public(ours) - expected <= new
    assert new <= public(ours)
    for name in expected:
        actual, wanted = getattr(ours, name), getattr(reference, name)
        if isinstance(wanted, float):
            assert isinstance(actual, float), name
        elif isinstance(wanted, int | np.integer):
            assert isinstance(actual, int | np.integer), name
        else:
            assert type(actual) is type(wanted), name
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
    assert public(clf) == public(make(solver="lbfgs").fit(*iris))


# -- failing -------------------------------------------------------------------------------------


def test_before_a_fit():
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(MLPClassifier(), method)([[0.0]])
    assert not hasattr(MLPClassifier(), "coefs_")
    assert not hasattr(MLPClassifier(), "n_layers_")


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_loss_that_is_not_finite_leaves_the_estimator_as_it_was(iris, solver):
    X, y = iris
    clf = make(solver=solver, activation="identity")
    fail = DIVERGES[solver]
    with pytest.raises(ValueError, match=r"loss must stay finite, got (nan|inf)"):
        fail(clf, X, y)
    assert public(clf) == set()
    clf.set_params(learning_rate_init=0.001).fit(X, y)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="finite"):
        fail(clf, X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_the_error_names_epoch_rate_and_what_to_try(iris):
    clf = make(solver="sgd", learning_rate_init=1e300, activation="identity")
    with pytest.raises(ValueError, match=r"epoch \d .*rate of 1e\+300.*Lower learning_rate_init"):
        clf.fit(*iris)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_last_update_that_breaks_the_weights(iris, method):
    X, y = iris
    clf = make(solver="sgd", learning_rate_init=1e308, max_iter=1, batch_size=150)
    arguments = {"classes": [0, 1, 2]} if method == "partial_fit" else {}
    with pytest.raises(ValueError, match=r"weights must stay finite.*rate of 1e\+308"):
        getattr(clf, method)(X * 100, y, **arguments)
    assert public(clf) == set()


def test_sample_weights_that_are_all_zero(iris):
    X, y = iris
    with pytest.raises(ValueError, match=r"[Ww]eight.*zero"):
        make().fit(X, y, np.zeros(len(X)))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_weights_that_are_no_weights(iris, bad):
    X, y = iris
    weight = np.ones(len(X))
    weight[3] = bad
    with pytest.raises(ValueError, match=r"sample_weight"):
        make().fit(X, y, weight)


def test_an_error_in_partial_fit_leaves_the_estimator_as_it_was(iris):
    X, y = iris
    clf = make().partial_fit(X, y, classes=[0, 1, 2])
    before = clf.predict_proba(X)
    for bad in (lambda: clf.partial_fit(X, y + 1), lambda: clf.partial_fit(X[:, :2], y)):
        with pytest.raises(ValueError):  # noqa: PT011
            bad()
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert clf.t_ == 150


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


# -- a validation set of one's own ---------------------------------------------------------------


@pytest.fixture(scope="module")
def split(iris):
    return train_test_split(*iris, test_size=0.3, random_state=0)


def test_a_validation_set_is_measured_after_every_epoch(split):
    X, X_val, y, y_val = split
    weight = np.arange(len(X_val)) + 1.0
    clf = make().fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weight)
    assert not np.isnan(clf.history_["validation_score"]).any()
    proba = clf.predict_proba(X_val)
    assert clf.history_["validation_loss"][-1] == pytest.approx(
        log_loss(y_val, proba, sample_weight=weight)
    )
    assert clf.history_["validation_score"][-1] == clf.score(X_val, y_val, weight)


def test_without_early_stopping_a_validation_set_only_tells(split):
    X, X_val, y, y_val = split
    plain, told = make().fit(X, y), make().fit(X, y, X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(plain.predict_proba(X), told.predict_proba(X))
    assert told.validation_scores_ is None
    assert told.best_loss_ == plain.best_loss_


def test_with_early_stopping_it_decides_and_no_row_is_set_aside(split):
    X, X_val, y, y_val = split
    settings = {"early_stopping": True, "learning_rate_init": 0.1, "max_iter": 40}
    clf = make(**settings, n_iter_no_change=3).fit(X, y, X_val=X_val, y_val=y_val)
    assert clf.n_iter_ < 40
    assert clf.t_ == clf.n_iter_ * len(X)
    assert clf.validation_scores_ == clf.history_["validation_score"]
    assert clf.best_validation_score_ == max(clf.validation_scores_) == clf.score(X_val, y_val)


def test_the_validation_set_follows_the_type_of_x(split):
    X, X_val, y, y_val = split
    expected = make().fit(X.astype(np.float32), y, X_val=X_val.astype(np.float32), y_val=y_val)
    for other in (X_val, X_val.tolist(), sparse.csr_array(X_val)):
        clf = make().fit(X.astype(np.float32), y, X_val=other, y_val=y_val)
        np.testing.assert_allclose(
            clf.history_["validation_loss"], expected.history_["validation_loss"], rtol=1e-6
        )


def test_a_pipeline_transforms_the_validation_set(split):
    X, X_val, y, y_val = split
    steps = [("scale", StandardScaler()), ("net", make())]
    with config_context(enable_metadata_routing=True):
        steps[1][1].set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline(steps, transform_input=["X_val"])
        pipeline.fit(10 * X + 3, y, X_val=10 * X_val + 3, y_val=y_val)
    scaler = StandardScaler().fit(10 * X + 3)
    direct = make().fit(
        scaler.transform(10 * X + 3), y, X_val=scaler.transform(10 * X_val + 3), y_val=y_val
    )
    assert pipeline["net"].history_["validation_loss"] == direct.history_["validation_loss"]


def test_half_a_validation_set_is_an_error(split):
    X, X_val, y, y_val = split
    with pytest.raises(ValueError, match="X_val is provided, but y_val was not provided"):
        make().fit(X, y, X_val=X_val)
    with pytest.raises(ValueError, match="y_val is provided, but X_val was not provided"):
        make().fit(X, y, y_val=y_val)
    with pytest.raises(ValueError, match="sample_weight_val"):
        make().fit(X, y, sample_weight_val=np.ones(3))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make().fit(X, y, X_val=X_val, y_val=y_val[:-1])
    with pytest.raises(ValueError, match="4 features"):
        make().fit(X, y, X_val=X_val[:, :3], y_val=y_val)
    with pytest.raises(ValueError, match="classes not in"):
        make().fit(X, y, X_val=X_val, y_val=y_val + 1)


# -- ours: class weights, dropout, normalisation, precision --------------------------------------


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
    assert public(clf) == set()


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
    assert public(clf) == set()


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


# -- going on ------------------------------------------------------------------------------------


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
        MLPClassifier(solver="lbfgs").partial_fit  # noqa: B018


# -- the rest ------------------------------------------------------------------------------------


def test_verbose_prints_a_line_an_epoch(iris, capsys):
    make(verbose=True, early_stopping=True).fit(*iris)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "loss" in lines[0]
    assert "validation score" in lines[0]
    make(verbose=True, solver="lbfgs").fit(*iris)
    assert len(capsys.readouterr().out.splitlines()) == 5
    make().fit(*iris)
    assert capsys.readouterr().out == ""


def test_max_fun_bounds_evaluations(iris):
    with pytest.warns(ConvergenceWarning, match="max_fun"):
        clf = make(solver="lbfgs", max_fun=3, max_iter=1000).fit(*iris)
    assert clf.n_iter_ <= 3


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_batch_of_more_rows_than_there_are_is_clipped(iris, method):
    X, y = iris
    arguments = {"classes": [0, 1, 2]} if method == "partial_fit" else {}
    with pytest.warns(UserWarning, match=r"batch_size .* clipped"):
        clf = getattr(make(batch_size=151), method)(X, y, **arguments)
    whole = getattr(make(batch_size=150), method)(X, y, **arguments)
    assert clf.loss_curve_ == whole.loss_curve_


def test_no_convergence_is_a_warning_and_convergence_is_none(iris, recwarn):
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        make().fit(*iris)
    recwarn.clear()
    make(tol=10.0, n_iter_no_change=1).fit(*iris)
    make(solver="lbfgs", tol=0.5).fit(*iris)
    assert not [w for w in recwarn if issubclass(w.category, ConvergenceWarning)]


def test_multilabel_formats(multilabel):
    X, y = multilabel
    dense = make(max_iter=50).fit(X, y)
    assert dense.predict(X).shape == y.shape
    assert dense.out_activation_ == "logistic"
    assert dense.n_outputs_ == 3
    assert set(np.unique(dense.predict(X))) == {0, 1}
    from_sparse = make(max_iter=50).fit(X, sparse.csr_matrix(y))
    assert sparse.issparse(from_sparse.predict(X))
    np.testing.assert_array_equal(from_sparse.predict(X).toarray(), dense.predict(X))


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_one_class(iris, solver):
    X, _ = iris
    clf = make(solver=solver).fit(X, np.full(len(X), "only"))
    assert set(clf.predict(X)) == {"only"}
    assert clf.score(X, np.full(len(X), "only")) == 1.0


def test_continuous_targets_are_refused(iris):
    with pytest.raises(ValueError, match="Unknown label type"):
        make().fit(iris[0], iris[0][:, 0])


def test_one_row(iris):
    X, y = iris
    assert make().fit(X[:1], y[:1]).predict(X[:1]) == y[0]


def test_a_column_of_labels_is_flattened_with_a_warning(iris):
    with pytest.warns(DataConversionWarning, match="column-vector"):
        clf = make().fit(iris[0], iris[1][:, None])
    assert clf.predict(iris[0]).shape == (150,)


def test_x_and_weights_are_not_written_to(iris):
    X, y = iris[0].copy(), iris[1].copy()
    weight = np.ones(len(X))
    make(class_weight={0: 2.0}).fit(X, y, weight)
    np.testing.assert_array_equal(X, iris[0])
    assert (weight == 1).all()


def test_a_tensor_is_taken_and_left_as_it_is(iris):
    X, y = torch.from_numpy(iris[0]).requires_grad_(), iris[1]
    clf = make(device="auto").fit(X, y)
    assert isinstance(clf.predict(X), np.ndarray)
    np.testing.assert_array_equal(clf.coefs_[0], make().fit(iris[0], y).coefs_[0])
    assert X.grad is None


@pytest.mark.parametrize("settings", SOLVERS.values(), ids=SOLVERS)
def test_pickle_keeps_predictions_and_is_small(iris, settings):
    clf = make(**settings).fit(*iris)
    data = pickle.dumps(clf)
    np.testing.assert_array_equal(
        pickle.loads(data).predict_proba(iris[0]), clf.predict_proba(iris[0])
    )
    assert len(data) < 40_000


def test_predictions_do_not_depend_on_the_other_rows():
    X, y = load_digits(return_X_y=True)
    clf = make(max_iter=3).fit(X[:300], y[:300])
    whole = clf.predict_proba(X[:50])
    for rows in (slice(0, 1), slice(10, 20), slice(None, None, -1)):
        np.testing.assert_allclose(clf.predict_proba(X[:50][rows]), whole[rows], rtol=1e-9)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("rate", [1e30, 1e39, 1e300])
def test_a_rate_that_float32_cannot_hold_is_told_of(solver, rate, iris):
    X, y = iris
    clf = make(solver=solver, learning_rate_init=rate, max_iter=5)
    with pytest.raises(ValueError, match=r"must stay finite.* learning rate of .*Lower learning"):
        clf.fit(X.astype(np.float32), y)
