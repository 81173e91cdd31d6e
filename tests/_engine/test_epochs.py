"""Training by epochs, its stops and its callbacks, on a small net."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch import nn

from sknets._data import Batches, make_rows
from sknets._engine import (
    AutogradStep,
    EpochLoop,
    FlatParameters,
    Hooks,
    Progress,
    Training,
    Validation,
)
from sknets._nn import LogLoss, make_optimiser, make_schedule

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SETTINGS = {
    "learning_rate_init": 0.05,
    "momentum": 0.9,
    "nesterovs_momentum": True,
}


def make_training(*, validate=False, schedule="constant", rate=0.05, module=None, **options):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(40, 3))
    y = torch.from_numpy((X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0.5))
    cpu = torch.device("cpu")
    if module is None:
        module = nn.Linear(3, 3).double()
        with torch.no_grad():
            module.weight.copy_(torch.linspace(-1, 1, 9).view(3, 3))
            module.bias.zero_()
    flat, loss = FlatParameters(module), LogLoss("multiclass")
    optimiser = make_optimiser("sgd", [flat.vector], {**SETTINGS, "learning_rate_init": rate})
    rows = make_rows(X, dtype=torch.float64, device=cpu)
    validation = Validation(rows, y, None, loss, "multiclass") if validate else None
    settings = {"max_epochs": 5, "tol": 0.0, "n_iter_no_change": 10, **options}
    return Training(
        module=module,
        flat=flat,
        step=AutogradStep(module, loss, flat, alpha=0.0, generator=None, autocast=None),
        optimiser=optimiser,
        schedule=make_schedule(schedule, optimiser, initial=rate, power_t=0.5),
        batches=Batches(rows, y, None, batch_size=16, random_state=None),
        progress=Progress(),
        task="multiclass",
        validation=validation,
        **settings,
    )


def run(training, hooks=None):
    loop = EpochLoop(training, hooks)
    loop.run()
    return loop


def weights(training):
    return training.flat.vector.detach().clone()


def test_every_epoch_is_in_the_record():
    training = make_training(validate=True)
    loop = run(training)
    history = training.progress.history
    assert loop.n_epochs == 5
    assert history["epoch"] == [1, 2, 3, 4, 5]
    assert history["train_loss"] == training.progress.loss_curve
    assert history["learning_rate"] == [0.05] * 5
    assert all(0 <= score <= 1 for score in history["validation_score"])
    assert all(seconds > 0 for seconds in history["seconds"])
    assert training.progress.n_samples_seen == 5 * 40
    assert not training.module.training


def test_without_validation_its_columns_are_nan():
    training = make_training()
    run(training)
    assert np.isnan(training.progress.history["validation_loss"]).all()
    assert training.progress.validation_scores == []


def test_the_measured_validation_is_that_of_the_final_weights():
    training = make_training(validate=True)
    run(training)
    loss, score = training.validation.measure(training.module)
    assert training.progress.history["validation_loss"][-1] == loss
    assert training.progress.history["validation_score"][-1] == score


def test_running_out_of_epochs_is_a_warning():
    with pytest.warns(ConvergenceWarning, match="max_iter=5"):
        run(make_training())


def test_a_single_epoch_is_no_news(recwarn):
    training = make_training(single_epoch=True)
    assert run(training).n_epochs == 1
    assert not recwarn.list


def test_a_plateau_ends_training(recwarn):
    training = make_training(tol=100.0, n_iter_no_change=3, max_epochs=50)
    loop = run(training)
    # The first epoch is an improvement on nothing; more than three without one end it.
    assert loop.n_epochs == 5
    assert not recwarn.list


def test_the_adaptive_rate_falls_before_training_ends():
    training = make_training(
        schedule="adaptive", tol=100.0, n_iter_no_change=1, max_epochs=100, rate=0.05
    )
    run(training)
    rates = training.progress.history["learning_rate"]
    assert rates[0] == 0.05
    assert sorted(rates, reverse=True) == rates
    assert rates[-1] <= 1e-6
    assert 5e-6 > rates[-1] * 5 > 1e-6


def test_inverse_scaling_follows_the_samples_seen():
    training = make_training(schedule="invscaling", max_epochs=3)
    run(training)
    expected = [0.05, 0.05 / 41**0.5, 0.05 / 81**0.5]
    np.testing.assert_allclose(training.progress.history["learning_rate"], expected)


def test_early_stopping_keeps_the_best_epoch():
    training = make_training(validate=True, early_stopping=True, rate=10.0, max_epochs=20)
    run(training)
    scores = training.progress.validation_scores
    _, kept = training.validation.measure(training.module)
    assert kept == max(scores) == training.progress.best_score
    assert scores[-1] < max(scores)


def test_a_loss_that_is_not_finite_names_epoch_and_rate():
    training = make_training(rate=1e308)
    with pytest.raises(
        ValueError, match=r"finite, got .* in epoch \d with a learning rate of 1e\+308.*Lower"
    ):
        run(training)


class Interrupt:
    """A step that is interrupted in a batch of an epoch."""

    def __init__(self, step, n_batches):
        self.step = step
        self.left = n_batches

    def __getattr__(self, name):
        return getattr(self.step, name)

    def gradient(self, *args):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.step.gradient(*args)


def test_an_interrupt_keeps_the_last_whole_epoch():
    expected = make_training(max_epochs=2)
    run(expected)
    training = make_training()
    training.step = Interrupt(training.step, 2 * 3 + 1)
    with pytest.warns(UserWarning, match="interrupted by user after epoch 2"):
        loop = run(training)
    assert loop.n_epochs == 2
    assert torch.equal(weights(training), weights(expected))
    assert not training.module.training


def test_an_interrupt_in_the_first_epoch_is_passed_on():
    training = make_training()
    training.step = Interrupt(training.step, 1)
    with pytest.raises(KeyboardInterrupt):
        run(training)


def test_an_interrupt_under_early_stopping_keeps_the_best_epoch():
    training = make_training(validate=True, early_stopping=True, rate=10.0, max_epochs=20)
    training.step = Interrupt(training.step, 9 * 3 + 1)
    with pytest.warns(UserWarning, match="interrupted"):
        run(training)
    assert training.validation.measure(training.module)[1] == training.progress.best_score


def test_hooks_hear_of_every_epoch_and_may_stop():
    heard = []
    hooks = Hooks(
        epoch_begins=lambda: heard.append("begin"),
        epoch_ends=lambda: heard.append("end") or heard.count("end") == 2,
        fit_ends=lambda: heard.append("fit"),
    )
    assert run(make_training(), hooks).n_epochs == 2
    assert heard == ["begin", "end", "begin", "end", "fit"]


def test_training_is_that_of_a_plain_loop():
    training = make_training(max_epochs=4)
    module = copy.deepcopy(training.module)
    x, y = training.batches.rows.slice(0, 40), training.batches.target
    velocity = [torch.zeros_like(p) for p in module.parameters()]
    for _ in range(4):
        for part in (slice(0, 16), slice(16, 32), slice(32, 40)):
            loss = nn.functional.cross_entropy(module(x[part]), y[part])
            grads = torch.autograd.grad(loss, list(module.parameters()))
            with torch.no_grad():
                for p, v, g in zip(module.parameters(), velocity, grads, strict=True):
                    v.mul_(0.9).sub_(0.05 * g)
                    p.add_(0.9 * v - 0.05 * g)
    run(training)
    for actual, expected in zip(training.module.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)


def test_buffers_of_the_best_epoch_come_back_too():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3)).double()
    nn.init.eye_(module[1].weight)  # the same course in every run
    nn.init.zeros_(module[1].bias)
    training = make_training(
        validate=True, early_stopping=True, rate=5.0, max_epochs=12, module=module
    )
    run(training)
    best = int(np.argmax(training.progress.validation_scores)) + 1
    assert best < 12
    assert module[0].num_batches_tracked == 3 * best


# -- skorch's callbacks --------------------------------------------------------------------------


class Recorder(Callback):
    """Writes down what it is told."""

    def __init__(self):
        self.events = []

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.events.append("train begin")
        self.shape = X.shape, y.shape

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.events.append("epoch begin")
        self.valid = dataset_valid
        self.n_train = len(dataset_train)

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        self.events.append(f"batch {len(batch[0])}")

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.gradients = {name: p.grad.clone() for name, p in named_parameters}

    def on_epoch_end(self, net, **kwargs):
        self.events.append("epoch end")
        self.row = dict(net.history[-1])
        self.predicted = net.predict(np.zeros((2, 3)))

    def on_train_end(self, net, **kwargs):
        self.events.append("train end")


def test_skorchs_callbacks_hear_everything():
    recorder = Recorder()
    training = make_training(validate=True, max_epochs=2, callbacks=[recorder])
    run(training)
    epoch = ["epoch begin", "batch 16", "batch 16", "batch 8", "epoch end"]
    assert recorder.events == ["train begin", *epoch, *epoch, "train end"]
    assert recorder.shape == ((40, 3), (40,))
    assert recorder.n_train == len(recorder.valid) == 40
    history = training.progress.history
    assert recorder.row["epoch"] == 2
    assert recorder.row["train_loss"] == history["train_loss"][-1]
    assert recorder.row["valid_loss"] == history["validation_loss"][-1]
    assert recorder.row["valid_acc"] == history["validation_score"][-1]
    assert recorder.row["dur"] == history["seconds"][-1]
    assert set(recorder.gradients) == {"weight", "bias"}
    assert recorder.predicted.shape == (2,)


def test_callbacks_that_only_listen_change_nothing():
    plain, heard = make_training(), make_training(callbacks=[("recorder", Recorder())])
    run(plain)
    run(heard)
    assert torch.equal(weights(plain), weights(heard))


class NoGradient(Callback):
    """Takes every gradient away."""

    def on_grad_computed(self, net, named_parameters, **kwargs):
        for _, p in named_parameters:
            p.grad.zero_()


def test_a_callback_may_change_gradients():
    training = make_training(callbacks=[NoGradient()])
    before = weights(training)
    run(training)
    assert torch.equal(weights(training), before)


class Stop(Callback):
    """Asks to stop in skorch's way."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3:
            raise KeyboardInterrupt


def test_a_callback_may_stop(recwarn):
    training = make_training(callbacks=[Stop()], max_epochs=10)
    assert run(training).n_epochs == 3
    assert not recwarn.list


def test_the_best_flag_marks_improvements():
    recorder, flags = Recorder(), []
    recorder.on_epoch_end = lambda net, **kw: flags.append(
        (net.history[-1]["train_loss"], net.history[-1]["train_loss_best"])
    )
    run(make_training(callbacks=[recorder], rate=3.0, max_epochs=8))
    best = math.inf
    for loss, is_best in flags:
        assert is_best == (loss < best)
        best = min(best, loss)
    assert not all(is_best for _, is_best in flags)


def test_verbose_prints_a_line_an_epoch(capsys):
    run(make_training(verbose=True, validate=True, max_epochs=2))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Epoch 1, loss = ")
    assert "validation score" in lines[1]


PLATEAUS = {
    "loss": ({}, "training loss has not fallen by more than tol=9", "training ends"),
    "score": (
        {"validate": True, "early_stopping": True},
        "validation score has not risen by tol=9",
        "training ends",
    ),
    "rate": (
        {"schedule": "adaptive"},
        "training loss has not fallen by more than tol=9",
        "the learning rate is 0.01 from now on",
    ),
}


@pytest.mark.parametrize(("options", "what", "then"), PLATEAUS.values(), ids=PLATEAUS)
def test_verbose_says_why_training_slows_or_ends(capsys, options, what, then):
    run(make_training(verbose=True, tol=9.0, n_iter_no_change=2, max_epochs=4, **options))
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("Epoch")]
    # The first epoch's loss falls, by more than any tol, from infinity.
    assert said == [f"The {what} for more than 2 epochs: {then}."]


def test_verbose_has_no_plateau_to_tell_of(capsys):
    run(make_training(verbose=True, schedule="invscaling", max_epochs=3))
    assert all(line.startswith("Epoch") for line in capsys.readouterr().out.splitlines())


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    run(make_training(n_threads=1))
    assert torch.get_num_threads() == before
