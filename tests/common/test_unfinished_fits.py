"""Fits that end early, by the user or by a loss that is not finite, leave whole models."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale
from skorch.callbacks import Callback

from sknets.linear_model import LogisticRegression
from sknets.neural_network import CNNClassifier, MLPClassifier, NetClassifier
from tests.common._estimators import (
    each_estimator,
    fresh,
    public_estimators,
    small_net,
    takes_callbacks,
)
from tests.common._training import failing_net, net_with_dropout, same_course

each_network_by_epochs = each_estimator(that=takes_callbacks)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    return scale(X)[order], y[order]


# -- interrupted by the user ---------------------------------------------------------------------


class Interrupt(Callback):
    """Interrupts the `n`-th call of a hook, as a user does who presses Ctrl-C."""

    def __init__(self, hook="on_batch_end", n=1):
        self.hook, self.n = hook, n

    def initialize(self):
        self.calls = 0
        return self

    def _count(self, hook):
        self.calls += hook == self.hook
        if hook == self.hook and self.calls == self.n:
            raise KeyboardInterrupt

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        self._count("on_batch_begin")

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self._count("on_grad_computed")

    def on_batch_end(self, net, batch=None, training=None, **kwargs):
        self._count("on_batch_end")


_TEN = {"batch_size": 50, "max_iter": 10, "n_iter_no_change": 100, "tol": 1e-9}  # 3 batches
_SEEDED = {"random_state": 0, "device": "cpu"}


def fit_for(estimator, n_epochs, X, y, **fit_params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fresh(estimator, max_iter=n_epochs).fit(X, y, **fit_params)


@pytest.mark.parametrize("hook", ["on_batch_begin", "on_grad_computed", "on_batch_end"])
@each_network_by_epochs
def test_interrupted_fit_keeps_the_last_whole_epoch(estimator, hook, iris):
    X, y = iris
    net = fresh(estimator, **_TEN)
    expected = fit_for(net, 4, X, y)
    interrupted = fresh(net, callbacks=[Interrupt(hook, n=4 * 3 + 2)])
    with pytest.warns(UserWarning, match="interrupted by user after epoch 4"):
        interrupted.fit(X, y)
    assert interrupted.n_iter_ == 4
    assert interrupted.t_ == 4 * len(X)
    assert interrupted.loss_curve_ == expected.loss_curve_
    assert interrupted.best_loss_ == expected.best_loss_
    assert same_course(interrupted.history_, expected.history_)
    assert_array_equal(interrupted.predict_proba(X), expected.predict_proba(X))


@each_network_by_epochs
def test_training_goes_on_after_an_interrupt_as_if_there_were_none(estimator, iris):
    """partial_fit carries the optimiser's state, which has to be the last whole epoch's too."""
    X, y = iris
    net = fresh(estimator, **_TEN, shuffle=False)
    expected = fit_for(net, 2, X, y).partial_fit(X, y)
    interrupted = fresh(net, callbacks=[Interrupt(n=2 * 3 + 2)])
    with pytest.warns(UserWarning, match="interrupted by user after epoch 2"):
        interrupted.fit(X, y)
    interrupted.set_params(callbacks=None).partial_fit(X, y)
    assert_array_equal(interrupted.predict_proba(X), expected.predict_proba(X))
    assert interrupted.loss_curve_ == expected.loss_curve_


@each_network_by_epochs
def test_interrupt_with_early_stopping_keeps_the_best_whole_epoch(estimator, iris):
    X, y = iris
    net = fresh(estimator, **_TEN, early_stopping=True, validation_fraction=0.2)
    expected = fit_for(net, 4, X, y)
    interrupted = fresh(net, callbacks=[Interrupt(n=4 * 3 + 2)])
    with pytest.warns(UserWarning, match="interrupted by user after epoch 4"):
        interrupted.fit(X, y)
    assert interrupted.validation_scores_ == expected.validation_scores_
    assert_array_equal(interrupted.predict_proba(X), expected.predict_proba(X))


@each_network_by_epochs
def test_interrupt_before_one_epoch_leaves_nothing(estimator, iris):
    X, y = iris
    net = fresh(estimator, **_TEN, callbacks=[Interrupt(n=2)])
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y)
    assert not [name for name in vars(net) if name.endswith("_")]
    fitted = fit_for(fresh(estimator, **_TEN), 2, X, y)
    before, attributes = fitted.predict_proba(X), set(vars(fitted))
    fitted.set_params(callbacks=[Interrupt(n=2)])
    with pytest.raises(KeyboardInterrupt):
        fitted.partial_fit(X, y)
    assert set(vars(fitted)) == attributes
    assert len(fitted.loss_curve_) == 2
    assert_array_equal(fitted.predict_proba(X), before)


@pytest.mark.parametrize("training_only", [True, False], ids=["training", "validation"])
def test_interrupt_inside_a_module_forward(training_only, iris):
    """Also while the validation set is judged: that epoch is then not whole."""
    X, y = iris
    validation = {"X_val": X[:40], "y_val": y[:40]}
    # 3 batches an epoch, and a pass over the validation set if that counts; one pass for the
    # number of logits comes before.
    n = 3 * 3 + 2 if training_only else 1 + 3 * 4 + 4
    net = NetClassifier(failing_net(KeyboardInterrupt(), n, training_only=training_only))
    net.set_params(**_TEN, **_SEEDED)
    with pytest.warns(UserWarning, match="interrupted by user after epoch 3"):
        net.fit(X, y, **validation)
    expected = fit_for(NetClassifier(net_with_dropout, **_TEN, **_SEEDED), 3, X, y, **validation)
    assert net.n_iter_ == len(net.loss_curve_) == 3
    assert same_course(net.history_, expected.history_)
    assert_array_equal(net.predict_proba(X), expected.predict_proba(X))


class InterruptAfter:
    """A callback of scikit-learn that interrupts the fit after some iterations."""

    def __init__(self, n):
        self.n, self.n_done = n, 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.n_done += context.parent is not None
        if self.n_done == self.n + 1:
            raise KeyboardInterrupt

    def on_fit_task_end(self, estimator, context):
        pass


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(estimator, id=name)
        for name, estimator in public_estimators()
        if "max_iter" in estimator.get_params()
    ],
)
def test_interrupt_between_iterations(estimator, iris):
    X, y = iris
    by_epochs = getattr(estimator, "solver", "") != "lbfgs"
    endless = fresh(estimator, tol=1e-9)
    if by_epochs:
        endless.set_params(n_iter_no_change=1000)
    interrupted = fresh(endless).set_callbacks(InterruptAfter(3))
    with pytest.warns(UserWarning, match="interrupted by user"):
        interrupted.fit(X, y)
    # A full-batch solver is told of an iteration once it is whole, an epoch before it begins.
    n_whole = 3 if by_epochs else 4
    assert int(np.max(interrupted.n_iter_)) == n_whole
    expected = fit_for(endless, n_whole, X, y)
    assert_array_equal(interrupted.decision_function(X), expected.decision_function(X))


# -- a loss that is not finite -------------------------------------------------------------------

_BIG = {"batch_size": 50, "max_iter": 50, "tol": 0.0, **_SEEDED}
each_diverging = pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(
            MLPClassifier((8,), solver="sgd", learning_rate_init=1e200, **_BIG), id="MLP-sgd"
        ),
        pytest.param(
            MLPClassifier((8, 8), activation="identity", learning_rate_init=1e250, **_BIG),
            id="MLP-adam",
        ),
        pytest.param(
            CNNClassifier((4,), solver="sgd", learning_rate_init=1e200, **_BIG), id="CNN-sgd"
        ),
        pytest.param(
            NetClassifier(small_net, solver="sgd", learning_rate_init=1e200, **_BIG), id="Net-sgd"
        ),
        pytest.param(
            LogisticRegression(solver="sgd", learning_rate_init=1e308, **_BIG), id="Logistic-sgd"
        ),
    ],
)


@each_diverging
def test_a_diverging_fit_says_where_and_what_to_try(estimator, iris):
    X, y = iris
    failed = fresh(estimator)
    with pytest.raises(ValueError, match=r"(?i)loss.*finite.*(nan|inf).*epoch \d+") as error:
        failed.fit(X, y)
    message = str(error.value)
    assert f"{estimator.learning_rate_init:g}" in message
    assert "learning_rate_init" in message
    assert "StandardScaler" in message
    assert not [name for name in vars(failed) if name.endswith("_")]
    assert vars(failed) == vars(fresh(estimator))


@each_diverging
def test_a_diverging_refit_leaves_the_fitted_model(estimator, iris):
    X, y = iris
    fitted = fit_for(fresh(estimator, learning_rate_init=1e-2), 3, X, y)
    before, state = fitted.decision_function(X), dict(vars(fitted))
    fitted.set_params(learning_rate_init=estimator.learning_rate_init, max_iter=50)
    with pytest.raises(ValueError, match="finite"):
        fitted.fit(X, y)
    assert vars(fitted).keys() == state.keys()
    assert_array_equal(fitted.decision_function(X), before)


@each_network_by_epochs
def test_a_diverging_partial_fit_leaves_the_fitted_model(estimator, iris):
    X, y = iris
    fitted, twin = (fresh(estimator).partial_fit(X, y, classes=[0, 1, 2]) for _ in range(2))
    before, history = fitted.predict_proba(X), len(fitted.history_["epoch"])
    with pytest.raises(ValueError, match=r"(?i)finite.*epoch 1"):
        fitted.partial_fit(np.full_like(X, 1.7e308), y)
    assert_array_equal(fitted.predict_proba(X), before)
    assert len(fitted.history_["epoch"]) == history
    assert fitted.t_ == len(X)
    # Nor is the optimiser's state touched: training goes on as if nothing had happened.
    fitted.partial_fit(X, y)
    assert_array_equal(fitted.predict_proba(X), twin.partial_fit(X, y).predict_proba(X))


def test_a_diverging_lbfgs_says_where(iris):
    X, y = iris
    net = MLPClassifier((8,), solver="lbfgs", device="cpu", random_state=0)
    with pytest.raises(ValueError, match=r"finite.*iteration \d+.*StandardScaler"):
        net.fit(np.sign(X) * 1e300, y)
    assert not hasattr(net, "module_")
