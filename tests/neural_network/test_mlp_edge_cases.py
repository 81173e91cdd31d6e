"""Fits of MLPClassifier that fail, and unusual data."""

import pickle

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError

from sknets.neural_network import MLPClassifier
from tests.neural_network._small_mlp import DIVERGES, SOLVERS, fitted_attributes, make

# Few epochs on purpose in most tests.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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
    assert fitted_attributes(clf) == set()
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
    assert fitted_attributes(clf) == set()


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
        with pytest.raises(ValueError):  # noqa: PT011 - several messages
            bad()
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert clf.t_ == 150


# -- unusual ------------------------------------------------------------------------------------


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
