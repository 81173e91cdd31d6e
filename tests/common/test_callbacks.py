"""Callbacks: scikit-learn's through ``set_callbacks``, skorch's through ``callbacks=``."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
    PrintLog,
)

from sknets.neural_network import MLPClassifier
from tests.common._estimators import each_estimator, fresh, takes_callbacks

each_network_by_epochs = each_estimator(that=takes_callbacks)
each_iterative = each_estimator(having="set_callbacks")


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    return scale(X)[order], y[order]


# -- scikit-learn's ------------------------------------------------------------------------------


class Recorder:
    """Notes every hook, judges the fitted estimator it is handed, and may ask to stop."""

    def __init__(self, X=None, stop_after=None):
        self.X, self.stop_after = X, stop_after
        self.begun, self.ended, self.logits = [], [], []
        self.n_setups = self.n_teardowns = 0

    def setup(self, estimator, context):
        self.n_setups += 1

    def teardown(self, estimator, context):
        self.n_teardowns += 1

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        assert X is None or len(X) == len(y)
        self.begun.append((context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.ended.append((context.task_name, context.task_id))
        if self.X is not None:
            self.logits.append(fitted_estimator.decision_function(self.X))
        n_done = sum(context.parent is not None for _ in self.ended)
        return self.stop_after is not None and n_done >= self.stop_after


@each_iterative
def test_hooks_come_in_pairs_and_around_the_whole_fit(estimator, iris):
    X, y = iris
    recorder = Recorder()
    fitted = fresh(estimator).set_callbacks(recorder).fit(X, y)
    n_iter = int(np.max(fitted.n_iter_))
    assert recorder.n_setups == recorder.n_teardowns == 1
    assert recorder.begun[0][0] == recorder.ended[-1][0] == "fit"
    assert [number for _, number in recorder.begun[1:]] == list(range(n_iter))
    assert recorder.begun[1:] == recorder.ended[:-1]


@each_iterative
def test_callbacks_change_nothing(estimator, iris):
    X, y = iris
    watched = fresh(estimator).set_callbacks(Recorder(X)).fit(X, y)
    alone = fresh(estimator).fit(X, y)
    assert_array_equal(watched.decision_function(X), alone.decision_function(X))


@each_iterative
def test_a_callback_may_stop_the_fit(estimator, iris):
    X, y = iris
    recorder = Recorder(X, stop_after=3)
    stopped = fresh(estimator).set_callbacks(recorder).fit(X, y)
    assert int(np.max(stopped.n_iter_)) == 3
    assert len(recorder.logits) == 4
    # It was handed an estimator of its own after each epoch, not one that trains on.
    assert_allclose(stopped.decision_function(X), recorder.logits[-1], rtol=1e-12, atol=1e-15)
    assert_allclose(recorder.logits[2], recorder.logits[3], rtol=1e-12, atol=1e-15)
    assert np.abs(recorder.logits[0] - recorder.logits[2]).max() > 1e-6


@each_iterative
def test_teardown_after_an_error(estimator, iris):
    X, y = iris

    class Broken(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("broken callback")

    callback = Broken()
    failed = fresh(estimator).set_callbacks(callback)
    with pytest.raises(RuntimeError, match="broken callback"):
        failed.fit(X, y)
    assert callback.n_teardowns == 1
    assert not hasattr(failed, "classes_")
    assert_array_equal(
        failed.set_callbacks().fit(X, y).decision_function(X),
        fresh(estimator).fit(X, y).decision_function(X),
    )


@each_iterative
def test_set_callbacks_takes_only_scikit_learns(estimator):
    with pytest.raises(TypeError, match="FitCallback"):
        fresh(estimator).set_callbacks(EarlyStopping())


@each_iterative
def test_progress_bar(estimator, iris, capfd):
    pytest.importorskip("rich")
    fresh(estimator).set_callbacks(ProgressBar()).fit(*iris)
    assert type(estimator).__name__ in capfd.readouterr().out


@pytest.mark.parametrize("n_jobs", [None, 2])
@each_iterative
def test_progress_bar_of_a_search_over_a_pipeline(estimator, n_jobs, iris, capfd):
    pytest.importorskip("rich")
    strength = "C" if "C" in estimator.get_params() else "alpha"
    pipe = make_pipeline(StandardScaler(), fresh(estimator))
    grid = {f"{type(estimator).__name__.lower()}__{strength}": [1e-3, 1e-2]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=n_jobs, error_score="raise")
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*iris)
    assert search.score(*iris) > 0.8
    printed = capfd.readouterr().out
    assert "GridSearchCV" in printed
    assert "100%" in printed


@each_network_by_epochs
def test_search_tells_callbacks_of_epochs_inside(estimator, iris):
    X, y = iris
    recorder = Recorder(stop_after=None)
    recorder.max_propagation_depth = None
    search = GridSearchCV(make_pipeline(StandardScaler(), fresh(estimator)), {}, cv=2)
    search.set_callbacks(recorder).fit(X, y)
    epochs = [name for name, _ in recorder.ended if name == "epoch"]
    assert len(epochs) == 3 * search.best_estimator_[-1].n_iter_


# -- skorch's ------------------------------------------------------------------------------------


class Notes(Callback):
    """Notes what the net it is given looks like."""

    def initialize(self):
        self.events, self.rows = [], []
        return self

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.events.append("train begins")
        self.net = net
        self.n_rows = len(X)

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.events.append("epoch begins")

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        assert training
        self.rows.append(len(batch[0]))

    def on_grad_computed(self, net, named_parameters, **kwargs):
        assert all(p.grad is not None for _, p in named_parameters)

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.events.append("epoch ends")

    def on_train_end(self, net, X=None, y=None, **kwargs):
        self.events.append("train ends")


@each_network_by_epochs
def test_skorch_events_in_order(estimator, iris):
    X, y = iris
    notes = Notes()
    fitted = fresh(estimator, callbacks=[notes], n_iter_no_change=2).fit(X, y)
    epochs = ["epoch begins", "epoch ends"] * fitted.n_iter_
    assert notes.events == ["train begins", *epochs, "train ends"]
    assert notes.n_rows == len(X)
    assert sum(notes.rows) == fitted.n_iter_ * len(X)
    assert notes.net.history[:, "train_loss"] == fitted.loss_curve_


class Keeper(Callback):
    """Keeps every batch, and a copy of it."""

    def initialize(self):
        self.kept, self.copies = [], []
        return self

    def on_batch_begin(self, net, batch=None, **kwargs):
        parts = [batch[0], *batch[1]]
        self.kept += parts
        self.copies += [part.clone() for part in parts]


# A fixed number of epochs does not converge.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@each_network_by_epochs
def test_a_batch_that_is_kept_stays_what_it_was(estimator, iris):
    keeper = Keeper()
    fresh(estimator, callbacks=[keeper], max_iter=3, n_iter_no_change=9).fit(*iris)
    assert keeper.kept
    for kept, copy in zip(keeper.kept, keeper.copies, strict=True):
        assert_array_equal(kept, copy)


@each_network_by_epochs
def test_skorch_callbacks_change_nothing_by_themselves(estimator, iris):
    X, y = iris
    watched = fresh(estimator, callbacks=[("notes", Notes()), PrintLog(sink=str)]).fit(X, y)
    assert_array_equal(watched.predict_proba(X), fresh(estimator).fit(X, y).predict_proba(X))


@each_network_by_epochs
def test_early_stopping(estimator, iris):
    X, y = iris
    stopper = EarlyStopping(monitor="train_loss", patience=3, threshold=1e9, sink=str)
    assert fresh(estimator, callbacks=[stopper]).fit(X, y).n_iter_ == 1 + 3
    by_validation = EarlyStopping(patience=4, threshold=1e9, sink=str)
    net = fresh(estimator, callbacks=[by_validation])
    assert net.fit(X[50:], y[50:], X_val=X[:50], y_val=y[:50]).n_iter_ == 1 + 4


@each_network_by_epochs
def test_learning_rate_scheduler(estimator, iris):
    X, y = iris
    halving = LRScheduler("StepLR", step_size=1, gamma=0.5, step_every="epoch")
    fitted = fresh(estimator, callbacks=[halving], n_iter_no_change=4).fit(X, y)
    rates = fitted.history_["learning_rate"]
    assert_allclose(rates, estimator.learning_rate_init * 0.5 ** np.arange(fitted.n_iter_))
    constant = fresh(estimator, n_iter_no_change=4).fit(X, y)
    assert np.abs(fitted.predict_proba(X) - constant.predict_proba(X)).max() > 1e-4


@each_network_by_epochs
def test_gradient_norm_clipping(estimator, iris):
    X, y = iris
    frozen = {"solver": "sgd", "momentum": 0.0, "n_iter_no_change": 2, "alpha": 0.0}
    clipped = fresh(estimator, **frozen, callbacks=[GradientNormClipping(1e-12)]).fit(X, y)
    free = fresh(estimator, **frozen).fit(X, y)
    moved = np.ptp(clipped.loss_curve_)
    assert moved < 1e-9
    assert np.ptp(free.loss_curve_) > 1e-3


@pytest.mark.parametrize("on_train", [True, False])
@each_network_by_epochs
def test_epoch_scoring(estimator, on_train, iris):
    X, y = iris
    names = np.array(["a", "b", "c"])[y]
    notes = Notes()
    scoring = EpochScoring("accuracy", name="acc", lower_is_better=False, on_train=on_train)
    net = fresh(estimator, callbacks=[scoring, ("notes", notes)])
    net.fit(X[50:], names[50:], X_val=X[:50], y_val=names[:50])
    scores = notes.net.history[:, "acc"]
    if on_train:
        assert scores[-1] == pytest.approx(net.score(X[50:], names[50:]))
    else:
        assert_allclose(scores, net.history_["validation_score"])
    assert scores[-1] > 0.8
    assert net.history_["acc"] == scores


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of two epochs
def test_figures_of_callbacks_have_nan_where_there_was_none(iris):
    X, y = iris
    scoring = EpochScoring("accuracy", name="acc", lower_is_better=False, on_train=True)
    net = MLPClassifier(max_iter=2, warm_start=True, random_state=0)
    for callbacks in (None, [scoring], None):
        net.set_params(callbacks=callbacks).fit(X, y)
    assert np.isnan(net.history_["acc"]).tolist() == [True] * 2 + [False] * 2 + [True] * 2


def test_a_callback_that_watches_a_validation_set_which_is_not_there(iris):
    net = MLPClassifier(max_iter=2, callbacks=[EarlyStopping()])
    with pytest.raises(ValueError, match=r"'valid_loss' was not found.*Set early_stopping=True"):
        net.fit(*iris)


class Noting(Callback):
    """Notes a value of each epoch under a name."""

    def __init__(self, name, value):
        self.name, self.value = name, value

    def on_epoch_end(self, net, **given):
        net.history.record(self.name, self.value)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of two epochs
@pytest.mark.parametrize(
    ("name", "value", "noted"),
    [
        ("auc", 0.5, 0.5),
        ("auc_best", np.float32(0.5), 0.5),
        ("valid_acc", torch.tensor(0.5), 0.5),
        ("auc", np.array(0.5), 0.5),
        ("auc", True, None),
        ("auc", "good", None),
        ("auc", 10**400, None),
        (3, 1.0, None),
        (("auc", 1), 1.0, None),
        ("seconds", -1.0, None),
    ],
)
def test_notes_of_any_kind(iris, name, value, noted):
    net = MLPClassifier(max_iter=2, callbacks=[Noting(name, value)], random_state=0).fit(*iris)
    if noted is None:
        assert len(net.history_) == 6
        assert min(net.history_["seconds"]) >= 0
    else:
        assert net.history_[name] == [noted] * 2


def test_other_errors_of_a_callback_are_its_own(iris):
    net = MLPClassifier(max_iter=2, callbacks=[EarlyStopping(monitor="nothing_known")])
    with pytest.raises(KeyError, match="nothing_known"):
        net.fit(*iris)
    with pytest.raises(KeyError, match="valid_ids"):
        MLPClassifier(callbacks=[LooksUp()]).fit(*iris)


class LooksUp(Callback):
    """Looks for a key where there is none."""

    def on_epoch_end(self, net, **given):
        {}["valid_ids"]


@each_network_by_epochs
def test_checkpoint(estimator, iris, tmp_path):
    X, y = iris
    checkpoint = Checkpoint(monitor="train_loss_best", dirname=str(tmp_path))
    fitted = fresh(estimator, callbacks=[checkpoint]).fit(X, y)
    assert (tmp_path / "params.pt").stat().st_size > 0
    assert (tmp_path / "optimizer.pt").exists()
    history = (tmp_path / "history.json").read_text()
    assert "train_loss" in history
    state = torch.load(tmp_path / "params.pt", weights_only=True)
    best = int(np.argmin(fitted.loss_curve_)) + 1
    if best == fitted.n_iter_:
        for name, value in fitted.module_.state_dict().items():
            assert_array_equal(state[name], value)


@each_network_by_epochs
def test_print_log(estimator, iris, capsys):
    X, y = iris
    fitted = fresh(estimator, callbacks=[PrintLog()], n_iter_no_change=2)
    fitted.fit(X[50:], y[50:], X_val=X[:50], y_val=y[:50])
    printed = capsys.readouterr().out
    for column in ("epoch", "train_loss", "valid_loss", "valid_acc", "dur"):
        assert column in printed
    assert len(printed.splitlines()) == 2 + fitted.n_iter_


@each_network_by_epochs
def test_clone_and_partial_fit_with_callbacks(estimator, iris):
    X, y = iris
    net = clone(fresh(estimator, callbacks=[Notes()]))
    net.partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y)
    assert len(net.loss_curve_) == 2


@pytest.mark.parametrize("wrong", ["EarlyStopping", 3, object(), ("name", 3), ProgressBar])
@each_network_by_epochs
def test_wrong_callbacks(estimator, wrong, iris):
    X, y = iris
    net = fresh(estimator).set_params(callbacks=[wrong])
    with pytest.raises(TypeError, match="callbacks must hold skorch callbacks"):
        net.fit(X, y)
    assert not hasattr(net, "module_")


def test_scikit_learns_callbacks_among_skorchs_are_told_where_to_go(iris):
    pytest.importorskip("rich")
    with pytest.raises(TypeError, match="set_callbacks"):
        MLPClassifier(callbacks=[ProgressBar()], device="cpu").fit(*iris)
