"""What NetClassifier promises beyond what the files of MLPClassifier say of all networks."""

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, make_multilabel_classification
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from torch import nn

from sknets.model_selection import VectorizedGridSearchCV
from sknets.neural_network import MLPClassifier, NetClassifier

# Few epochs on purpose in most tests.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"max_iter": 5, "random_state": 0, "learning_rate_init": 0.01, "device": "cpu"}


def make_dense(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 12), nn.Tanh(), nn.Linear(12, n_classes))


def make_one_logit(n_features, n_classes):
    return make_dense(n_features, 1)


def make_conv(shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(shape[0], 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(n_classes)
    )


def make(module=make_dense, **settings):
    return NetClassifier(module, **{**SMALL, **settings})


def seeded(build, *args, seed=0):
    """A module with the same weights every time, without a trace in torch's generator."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(*args)


@pytest.fixture(scope="module")
def two(iris):
    return iris[0][50:], iris[1][50:]


@pytest.fixture(scope="module")
def images():
    digits = load_digits()
    return (digits.images / 16.0)[:200, None], digits.target[:200]


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


# -- the module: a factory or an instance --------------------------------------------------------


def test_training_parameters_are_those_of_mlp_classifier():
    ours = inspect.signature(NetClassifier).parameters
    others = inspect.signature(MLPClassifier).parameters
    of_mlp_alone = {"hidden_layer_sizes", "activation", "dropout", "normalization"}
    assert set(others) - of_mlp_alone == set(ours) - {"module"}
    for name in set(ours) - {"module"}:
        assert ours[name].default == others[name].default, name
        assert ours[name].kind == inspect.Parameter.KEYWORD_ONLY, name
    assert ours["module"].kind == inspect.Parameter.POSITIONAL_OR_KEYWORD


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_factory_learns(iris, solver):
    clf = make(solver=solver, max_iter=60, learning_rate_init=0.03).fit(*iris)
    assert clf.score(*iris) > 0.9
    assert isinstance(clf.module_, nn.Sequential)
    assert clf.engine_ == ("lbfgs, autograd" if solver == "lbfgs" else "autograd")


def test_a_factory_is_told_the_numbers_of_features_and_classes(iris):
    told = []

    def build(*args):
        told.append(args)
        return make_dense(*args)

    make(build).fit(*iris)
    make(build).fit(iris[0][:100], iris[1][:100])
    make(build).partial_fit(iris[0][:60], iris[1][:60], classes=[0, 1, 2, 3])
    assert told == [(4, 3), (4, 2), (4, 4)]


def test_a_factory_draws_initial_weights_from_random_state(iris):
    before = torch.random.get_rng_state()
    a, b, c = (make(random_state=s).fit(*iris) for s in (0, 0, 1))
    assert same(state(a.module_), state(b.module_))
    assert not same(state(a.module_), state(c.module_))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_an_instance_is_copied_and_not_changed(iris, solver):
    module = seeded(make_dense, 4, 3)
    module.train()
    module[0].weight.grad = torch.ones_like(module[0].weight)
    before, parameters = state(module), list(module.parameters())
    clf = make(module, solver=solver, max_iter=20).fit(*iris)
    assert clf.module is module
    assert same(state(module), before)
    assert module.training
    assert module[0].weight.dtype == torch.float32
    assert (module[0].weight.grad == 1).all()
    assert all(a is b for a, b in zip(module.parameters(), parameters, strict=True))
    assert not same(state(clf.module_.float()), before)


def test_an_instance_is_where_the_fit_starts(iris):
    module = seeded(make_dense, 4, 3)
    clf = make(module, learning_rate_init=1e-300, max_iter=1).fit(*iris)
    torch.testing.assert_close(clf.module_[0].weight, module[0].weight.double())
    first = make(module).fit(*iris).predict_proba(iris[0])
    np.testing.assert_array_equal(make(module).fit(*iris).predict_proba(iris[0]), first)


def test_an_instance_survives_clone_and_search(iris):
    module = seeded(make_dense, 4, 3)
    cloned = clone(make(module))
    assert same(state(cloned.module), state(module))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), make(module)), {"netclassifier__alpha": [0.0, 1.0]}, cv=2
    ).fit(*iris)
    assert search.best_score_ > 0.3
    factories = GridSearchCV(make(), {"module": [make_dense, make_linear]}, cv=2).fit(*iris)
    assert factories.best_params_["module"] in (make_dense, make_linear)


def make_linear(n_features, n_classes):
    return nn.Linear(n_features, n_classes)


def test_the_module_alone_gives_the_probabilities(iris):
    clf = make().fit(*iris)
    with torch.no_grad():
        expected = torch.softmax(clf.module_(torch.from_numpy(iris[0])), 1)
    np.testing.assert_allclose(clf.predict_proba(iris[0]), expected, rtol=1e-9)
    assert not clf.module_.training
    assert all(p.grad is None for p in clf.module_.parameters())


def test_pickle(iris):
    clf = make().fit(*iris)
    loaded = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(loaded.predict_proba(iris[0]), clf.predict_proba(iris[0]))


# -- logits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "n_outputs", "activation"),
    [(make_dense, 2, "softmax"), (make_one_logit, 1, "logistic")],
)
def test_one_or_two_logits_for_two_classes(two, build, n_outputs, activation):
    X, y = two
    clf = make(build, max_iter=100, learning_rate_init=0.03).fit(X, y)
    assert clf.n_outputs_ == n_outputs
    assert clf.out_activation_ == activation
    proba, scores = clf.predict_proba(X), clf.decision_function(X)
    assert proba.shape == (100, 2)
    assert scores.shape == (100,)
    np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-scores)), rtol=1e-9)
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[(scores > 0).astype(int)])
    assert clf.score(X, y) > 0.9
    with torch.no_grad():
        logits = clf.module_(torch.from_numpy(X))
    assert logits.shape == (100, n_outputs)
    if n_outputs == 2:
        np.testing.assert_allclose(proba, torch.softmax(logits, 1), rtol=1e-9)


@pytest.mark.parametrize("build", [make_dense, make_one_logit])
def test_two_classes_validate_alike(two, build):
    X, y = two
    clf = make(build, early_stopping=True, max_iter=15).fit(X[::2], y[::2], X_val=X, y_val=y)
    assert clf.best_validation_score_ == clf.score(X, y)


def test_multilabel_has_one_logit_a_label():
    X, y = make_multilabel_classification(100, 5, n_classes=3, random_state=0)
    clf = make(max_iter=20).fit(scale(X.astype(float)), y)
    assert clf.predict(scale(X.astype(float))).shape == (100, 3)
    assert clf.out_activation_ == "logistic"
    with pytest.raises(ValueError, match=r"module must give 3 logits .*got 2"):
        make(lambda n_features, n_classes: nn.Linear(n_features, 2)).fit(X, y)


@pytest.mark.parametrize("n_logits", [1, 2, 4])
def test_a_wrong_number_of_logits(iris, n_logits):
    clf = make(lambda n_features, n_classes: nn.Linear(n_features, n_logits))
    with pytest.raises(ValueError, match=rf"module must give 3 logits a sample.*got {n_logits}"):
        clf.fit(*iris)
    assert not hasattr(clf, "module_")


def test_three_logits_for_two_classes(two):
    with pytest.raises(ValueError, match=r"module must give .* logits .*got 3"):
        make(nn.Linear(4, 3)).fit(*two)


class Scaled(nn.Linear):
    """Has a weight that is one number, as a gain or a temperature is."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.gain * super().forward(x)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_weight_that_is_one_number(iris, solver):
    clf = make(Scaled, solver=solver, max_iter=20).fit(*iris)
    assert clf.module_.gain.shape == ()
    assert clf.module_.gain.item() != 1.0
    grid = {"alpha": [1e-4, 1.0]}
    ours = VectorizedGridSearchCV(make(Scaled), grid, cv=3).fit(*iris)
    theirs = GridSearchCV(make(Scaled), grid, cv=3).fit(*iris)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )


class Flat(nn.Linear):
    """Gives scores without an axis of classes."""

    def forward(self, x):
        return super().forward(x).squeeze(1)


class Pair(nn.Linear):
    """Gives more than logits."""

    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (Flat(4, 1), ValueError, r"module must give logits of shape .*got shape \(2,\)"),
        (Pair(4, 2), (TypeError, ValueError), r"module must give logits .*got .*tuple"),
        (nn.Identity(), ValueError, r"module must have .*parameter"),
        (nn.Linear(4, 2).requires_grad_(False), ValueError, r"module must have .*parameter"),
        (lambda f, c: "no module", TypeError, r"module must be .*returned str"),
        (lambda f, c: nn.Linear, TypeError, r"module must be .*returned type"),
        (3, ValueError, r"'module' parameter .*Got 3"),
        (lambda: nn.Linear(4, 2), TypeError, r"module .*n_features, n_classes"),
        (nn.Linear, None, None),
        (nn.Linear(5, 2), ValueError, r"module .*4"),
    ],
    ids=[
        "no axis of classes",
        "a tuple of outputs",
        "no parameters",
        "all frozen",
        "a factory of strings",
        "a factory of classes",
        "a number",
        "a factory of no arguments",
        "a class is a factory",
        "another number of features",
    ],
)
def test_modules_that_are_none(two, module, error, message):
    clf = make(module)
    if error is None:
        assert clf.fit(*two).score(*two) > 0.4
        return
    with pytest.raises(error, match=message):
        clf.fit(*two)
    assert not hasattr(clf, "module_")


class Mean(nn.Linear):
    """Mixes the rows of a batch."""

    def forward(self, x):
        return super().forward(x).mean(0, keepdim=True)


def test_a_module_that_mixes_rows_is_refused(two):
    with pytest.raises(ValueError, match=r"logits of shape .*got shape \(1, 2\) for two samples"):
        make(Mean(4, 2)).fit(*two)


def test_a_last_batch_of_one_row_that_the_module_cannot_take(iris):
    X, y = iris
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"batch_size must not leave a last batch of one row"):
        make(module, batch_size=149).fit(X, y)
    assert make(module, batch_size=148).fit(X, y).n_iter_ == 5


class Picky(nn.Linear):
    """Refuses a row alone for a reason of its own."""

    def forward(self, x):
        if len(x) == 1:
            raise ValueError("my own reason")
        return super().forward(x)


def test_an_error_of_the_module_is_passed_on(iris):
    X, y = iris
    with pytest.raises(ValueError, match=r"^my own reason$"):
        make(Picky(4, 3), batch_size=149).fit(X, y)


class SinglePrecision(nn.Linear):
    """Adds numbers of float32 to what it is given, so that it works in float32 alone."""

    def forward(self, x):
        return torch.addmm(torch.zeros(len(x), self.out_features), x, self.weight.T)


def test_a_module_is_tried_in_the_dtype_it_trains_in(iris):
    X, y = iris
    module = SinglePrecision(4, 3)
    with pytest.raises(ValueError, match=r"in torch.float64 \(the dtype of X, or precision=\)"):
        make(module).fit(X, y)
    clf = make(module, precision="float32").fit(X, y)
    np.testing.assert_array_equal(
        make(module).fit(X.astype(np.float32), y).predict(X), clf.predict(X)
    )


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_a_softmax_of_the_module_is_a_warning(iris, last):
    """Its logarithm is not: another softmax does not change that."""
    module = nn.Sequential(nn.Linear(4, 3), last)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(module).fit(*iris)
    told = [w for w in caught if "module must give logits" in str(w.message)]
    assert len(told) == isinstance(last, nn.Softmax)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_a_sigmoid_of_the_module_is_a_warning(two, n_outputs):
    layers = [nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, n_outputs), nn.Sigmoid()]
    with pytest.warns(UserWarning, match=r"must give logits, got the output of a sigmoid\. Leave"):
        make(nn.Sequential(*layers)).fit(*two)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(nn.Sequential(*layers[:-1])).fit(*two)
    assert not any("logits" in str(w.message) for w in caught)


@pytest.mark.filterwarnings("ignore:.torch.jit")  # that it is deprecated
def test_torchscript_trains_from_a_factory_alone(iris):
    net = make_dense(4, 3)
    with pytest.raises(ValueError, match="in a copy too, got RecursiveScriptModule"):
        make(torch.jit.script(net)).fit(*iris)
    clf = make(lambda n_features, n_classes: torch.jit.script(net), warm_start=True).fit(*iris)
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]
    with pytest.raises(ValueError, match="fit anew where a fit would go on"):
        clf.fit(*iris)


def test_complex_parameters_are_refused(iris):
    net = make_dense(4, 3)
    net.register_parameter("phase", nn.Parameter(torch.zeros(2, dtype=torch.complex64)))
    with pytest.raises(ValueError, match=r"real parameters, got some of torch\.complex64"):
        make(net).fit(*iris)


class Maker:
    """Makes modules by a method, which is another object whenever it is asked for."""

    def make(self, n_features, n_classes):
        return make_dense(n_features, n_classes)


def test_going_on_with_an_equal_module(iris):
    maker = Maker()
    clf = make(maker.make, warm_start=True).fit(*iris)
    clf.set_params(module=maker.make).fit(*iris)
    clf.set_params(module=copy.deepcopy(clf.module)).fit(*iris)
    clf.set_params(module=clf.module_).fit(*iris)
    assert len(clf.history_["epoch"]) == 4 * clf.max_iter


@pytest.mark.parametrize("go_on", ["fit", "partial_fit"])
def test_going_on_with_another_module_is_refused(iris, go_on):
    clf = make(warm_start=True).fit(*iris)
    copy.deepcopy(pickle.loads(pickle.dumps(clf))).fit(*iris)
    clf.set_params(module=lambda n_features, n_classes: nn.Linear(n_features, n_classes))
    with pytest.raises(ValueError, match="module must be the one of the fit"):
        getattr(clf, go_on)(*iris)


class Keeps(nn.Module):
    """Keeps an activation, and what it saw in eval mode as an array and in a buffer."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.hidden, self.out = nn.Linear(n_features, 8), nn.Linear(8, n_classes)
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        self.kept = self.hidden(x).relu()
        if not self.training:
            self.seen = self.kept.numpy()
            self.mean.copy_(self.kept.mean(0))
        return self.out(self.kept - self.mean)


def test_a_module_that_keeps_what_it_saw_goes_on(iris):
    clf = make(Keeps, warm_start=True).fit(*iris)
    copy.deepcopy(clf).fit(*iris).partial_fit(*iris)


def test_a_factory_that_fails_on_images_is_told_of_their_shape(images):
    X, y = images
    with pytest.raises(TypeError) as raised:
        make(lambda n_features, n_classes: nn.Linear(n_features, n_classes)).fit(X, y)
    (note,) = raised.value.__notes__
    assert f"n_features={X.shape[1:]}, the shape of a sample" in note


# -- kinds of modules ----------------------------------------------------------------------------


def test_images(images):
    X, y = images
    shapes = []

    def build(shape, n_classes):
        shapes.append(shape)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, n_classes))

    clf = make(build, max_iter=30, tol=0.0).fit(X, y)
    assert shapes == [(1, 8, 8)]
    assert clf.n_features_in_ == 64
    assert clf.score(X, y) > 0.8
    with torch.no_grad():
        expected = torch.softmax(clf.module_(torch.from_numpy(X)), 1)
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-9)
    np.testing.assert_array_equal(clf.predict(torch.from_numpy(X)), clf.predict(X))
    with pytest.raises(ValueError, match=r"samples of shape \(1, 8, 8\)"):
        clf.predict(X[:, :, :7])
    with pytest.raises(ValueError, match="features"):
        clf.predict(X.reshape(len(X), -1)[:, :-1])


def test_images_validate_and_train_on(images):
    X, y = images
    build = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    clf = make(build).fit(X[:150], y[:150], X_val=X[150:], y_val=y[150:])
    assert clf.history_["validation_score"][-1] == clf.score(X[150:], y[150:])
    clf = make(build).partial_fit(X, y, classes=range(10)).partial_fit(X, y)
    assert clf.t_ == 400


@pytest.mark.parametrize("instance", [False, True])
def test_lazy_layers_draw_from_random_state(images, instance):
    X, y = images
    module = make_conv((1, 8, 8), 10) if instance else make_conv
    if instance:  # without the convolution, which has its weights already
        module = module[1:]
    before = torch.random.get_rng_state()
    a, b, c = (make(module, random_state=s).fit(X, y).predict_proba(X) for s in (0, 0, 1))
    assert a.shape == (200, 10)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert torch.equal(torch.random.get_rng_state(), before)


def make_normalised(n_features, n_classes):
    return nn.Sequential(
        nn.Linear(n_features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n_classes)
    )


def test_batch_normalisation_keeps_running_statistics(iris):
    X, y = iris
    clf = make(make_normalised, batch_size=50, max_iter=30).fit(X, y)
    assert clf.module_[1].num_batches_tracked == 90
    assert clf.score(X, y) > 0.85
    np.testing.assert_allclose(clf.predict_proba(X[:1]), clf.predict_proba(X)[:1], rtol=1e-9)


def test_running_statistics_of_the_best_epoch_are_kept(iris):
    X, y = iris
    clf = make(make_normalised, early_stopping=True, max_iter=30, learning_rate_init=0.3)
    clf.fit(X, y, X_val=X, y_val=y)
    best = int(np.argmax(clf.validation_scores_)) + 1
    assert best < 30
    assert clf.module_[1].num_batches_tracked == best
    assert clf.score(X, y) == clf.best_validation_score_


class Tied(nn.Module):
    """Two layers that are one weight."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.first = nn.Linear(n_features, n_features)
        self.second = nn.Linear(n_features, n_features)
        self.second.weight = self.first.weight
        self.last = nn.Linear(n_features, n_classes)

    def forward(self, x):
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_tied_weights_stay_tied(iris, solver):
    clf = make(Tied, solver=solver, max_iter=60).fit(*iris)
    assert clf.module_.first.weight is clf.module_.second.weight
    assert clf.score(*iris) > 0.85
    loaded = pickle.loads(pickle.dumps(clf))
    assert loaded.module_.first.weight is loaded.module_.second.weight
    clf.set_params(warm_start=True).fit(*iris)
    assert clf.module_.first.weight is clf.module_.second.weight


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_frozen_parameters_do_not_move(iris, solver):
    module = seeded(make_dense, 4, 3)
    module[0].requires_grad_(False)
    before = state(module)
    clf = make(module, solver=solver, alpha=1.0, max_iter=20).fit(*iris)
    after = state(copy.deepcopy(clf.module_).float())
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert torch.equal(after["0.bias"], before["0.bias"])
    assert not torch.equal(after["2.weight"], before["2.weight"])
    assert not clf.module_[0].weight.requires_grad


def make_dropout(n_features, n_classes):
    return nn.Sequential(
        nn.Linear(n_features, 30), nn.ReLU(), nn.Dropout(0.5), nn.Linear(30, n_classes)
    )


def test_dropout_draws_from_random_state(iris):
    before = torch.random.get_rng_state()
    a, b = (make(make_dropout).fit(*iris) for _ in range(2))
    assert same(state(a.module_), state(b.module_))
    np.testing.assert_array_equal(a.predict_proba(iris[0]), a.predict_proba(iris[0]))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_dropout_under_a_line_search_is_an_error(iris):
    before = torch.random.get_rng_state()
    with pytest.raises(ValueError, match=r"dropout.*lbfgs"):
        make(make_dropout, solver="lbfgs").fit(*iris)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_embedding_takes_codes_and_its_weights_are_penalised():
    rng = np.random.RandomState(0)
    X = rng.randint(5, size=(100, 1)).astype(float)
    y = (X[:, 0] > 2).astype(int)

    class Codes(nn.Module):
        def __init__(self, n_features, n_classes):
            super().__init__()
            self.table = nn.Embedding(5, n_classes)

        def forward(self, x):
            return self.table(x[:, 0].long())

    free = make(Codes, max_iter=300, tol=0.0, alpha=0.0).fit(X, y)
    assert free.score(X, y) == 1.0
    held = make(Codes, max_iter=300, tol=0.0, alpha=1000.0).fit(X, y)
    assert held.module_.table.weight.abs().max() < 0.1 < free.module_.table.weight.abs().max()


def test_weights_of_an_instance_in_float64_compute_in_the_type_of_x(iris):
    module = seeded(make_dense, 4, 3).double()
    clf = make(module).fit(iris[0].astype(np.float32), iris[1])
    assert clf.module_[0].weight.dtype == torch.float32
    assert clf.predict_proba(iris[0].astype(np.float32)).dtype == np.float32
    assert module[0].weight.dtype == torch.float64
