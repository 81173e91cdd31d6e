"""A vectorised search over convolutional nets and modules of the user's: equal to one by one."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sknets import CNNClassifier, MLPClassifier, NetClassifier, VectorizedGridSearchCV
from sknets._nn import MLP
from tests.parity._data import breast_cancer, first_digits, multilabel_digits
from tests.parity._same_results import assert_same_results, search_both_ways, stacked_share
from tests.parity.test_unmapped_modules import Deciding

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",  # few epochs, on purpose
    "ignore:batch_size must be at most",  # folds smaller than a batch are among the cases
)


def digits(n=150):
    return first_digits(n)


def images():
    X, y = digits()
    return X.reshape(-1, 8, 8), y


def multilabel():
    return multilabel_digits(150)


QUICK = {"random_state": 0, "max_iter": 4, "batch_size": 32, "device": "cpu"}


def cnn(**settings):
    given = {"input_shape": (8, 8), "hidden_layer_sizes": (8,), "learning_rate_init": 0.01, **QUICK}
    return CNNClassifier((4,), **{**given, **settings})


def mlp(**settings):
    return MLPClassifier((12,), **{"learning_rate_init": 0.01, **QUICK, **settings})


def net(module, **settings):
    return NetClassifier(module, **{"learning_rate_init": 0.01, **QUICK, **settings})


def make_dense(n_features, n_classes, width=12, rate=0.0):
    return nn.Sequential(
        nn.Linear(n_features, width), nn.Tanh(), nn.Dropout(rate), nn.Linear(width, n_classes)
    )


def make_normalised(n_features, n_classes):
    return nn.Sequential(
        nn.Linear(n_features, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, n_classes)
    )


def make_conv(shape, n_classes):
    return nn.Sequential(
        nn.Unflatten(1, (1, shape[0])),
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Dropout2d(0.3),
        nn.Flatten(),
        nn.LazyLinear(n_classes),
    )


class Tied(nn.Module):
    """An encoder whose weight is used twice, a frozen projection, and noise in training."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.first = nn.Linear(n_features, 10)
        self.again = nn.Linear(n_features, 10)
        self.again.weight = self.first.weight
        self.frozen = nn.Linear(10, 10)
        self.frozen.requires_grad_(False)
        self.last = nn.Linear(10, n_classes)
        self.register_buffer("mean", torch.zeros(10))

    def forward(self, x):
        h = torch.tanh(self.first(x)) + torch.sigmoid(self.again(x))
        if self.training:
            h = h + 0.1 * torch.randn_like(h)
            self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
        h = nn.functional.dropout(self.frozen(h - self.mean), 0.2, self.training)
        return self.last(h)


RATES = {"alpha": [1e-4, 1.0], "learning_rate_init": [1e-3, 1e-2]}
CASES = {
    "cnn": (cnn(), RATES, digits),
    "cnn on images": (cnn(input_shape=None), {"alpha": [1e-4, 1.0]}, images),
    "cnn, several structures": (
        cnn(),
        {"kernel_size": [3, (5,)], "pool": ["max", "l2", None], "stride": [1]},
        digits,
    ),
    "cnn, sgd and schedules": (
        cnn(solver="sgd", max_iter=6, tol=0.05, n_iter_no_change=1),
        {"learning_rate": ["constant", "invscaling", "adaptive"], "momentum": [0.0, 0.9]},
        digits,
    ),
    "cnn, rates of dropout": (
        cnn(),
        {"conv_dropout": [0.0, 0.2, 0.5], "dropout": [0.0, 0.3]},
        digits,
    ),
    "cnn, batch normalisation": (cnn(normalization="batch"), {"alpha": [1e-4, 1.0]}, digits),
    "cnn, layer normalisation": (cnn(normalization="layer"), {"alpha": [1e-4, 1.0]}, digits),
    "cnn, normalised and stopped": (
        cnn(normalization="batch", conv_dropout=0.2, max_iter=12, n_iter_no_change=2),
        {"early_stopping": [True, False], "learning_rate_init": [1e-3, 0.3]},
        digits,
    ),
    "cnn, class weights": (
        cnn(),
        {"class_weight": [None, "balanced", {0: 5.0, 1: 2.0}]},
        digits,
    ),
    "cnn, label smoothing": (
        cnn(),
        {"label_smoothing": [0.0, 0.1, 0.3], "early_stopping": [True, False]},
        digits,
    ),
    "cnn, other losses": (
        cnn(),
        [
            {"loss": ["log_loss", "hinge"], "alpha": [1e-4, 1.0]},
            {"loss": ["focal_loss"], "label_smoothing": [0.0, 0.1], "early_stopping": [True]},
        ],
        digits,
    ),
    "mlp, other losses": (
        mlp(dropout=0.2),
        [
            {"loss": ["log_loss", "hinge"], "alpha": [1e-4, 1.0]},
            {"loss": ["focal_loss"], "label_smoothing": [0.0, 0.1]},
        ],
        partial(breast_cancer, 200),
    ),
    "net, label smoothing of labels": (
        net(make_normalised),
        {"label_smoothing": [0.0, 0.2]},
        multilabel,
    ),
    "cnn, multilabel": (cnn(), {"alpha": [1e-4, 1.0]}, multilabel),
    "cnn, signals": (
        cnn(input_shape=(1, 30), kernel_size=5, normalization="batch"),
        {"alpha": [1e-4, 1.0], "random_state": [0, 1]},
        partial(breast_cancer, 200),
    ),
    "mlp, batch normalisation": (
        mlp(normalization="batch"),
        {"dropout": [0.0, 0.1, 0.4], "early_stopping": [True, False]},
        digits,
    ),
    "mlp, layer normalisation": (mlp(normalization="layer", shuffle=False), RATES, digits),
    "net": (net(make_dense), RATES, digits),
    "net, two logits for two classes": (net(make_dense), RATES, partial(breast_cancer, 200)),
    "net, multilabel": (net(make_dense), {"alpha": [1e-4, 1.0]}, multilabel),
    "net, seeds": (net(make_dense), {"random_state": [0, 1, 2]}, digits),
    "net, factories": (
        net(make_dense),
        {"module": [partial(make_dense, rate=0.2), partial(make_dense, width=5), make_normalised]},
        digits,
    ),
    "net, batch normalisation and stops": (
        net(make_normalised, max_iter=20, n_iter_no_change=2),
        {"tol": [1e-4, 0.1], "early_stopping": [True, False]},
        digits,
    ),
    "net, images, channels dropped, lazy layers": (net(make_conv), RATES, images),
    "net, ties, frozen weights, noise, buffers": (net(Tied, max_iter=6), RATES, digits),
    "net, a module": (net(make_dense(64, 10, rate=0.1)), RATES, digits),
    "net, class weights": (
        net(make_dense),
        {"class_weight": [None, "balanced", {0: 5.0, 1: 1.0}]},
        partial(breast_cancer, 200),
    ),
    "net, pipeline": (
        make_pipeline(StandardScaler(), net(make_dense)),
        {"standardscaler__with_std": [True, False], "netclassifier__alpha": [1e-4, 1.0]},
        digits,
    ),
    "cnn, pipeline": (
        make_pipeline(StandardScaler(), cnn()),
        {"cnnclassifier__alpha": [1e-4, 1.0]},
        digits,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_grid_search(name):
    estimator, grid, load = CASES[name]
    ours, _ = search_both_ways(estimator, grid, *load())
    assert stacked_share(ours) == 1.0, ours.vectorization_


def make_in_eval_mode(n_features, n_classes):
    return nn.Sequential(
        nn.BatchNorm1d(n_features), make_dense(n_features, n_classes, 12, 0.5)
    ).eval()


def test_a_module_in_eval_mode_trains_as_any_other():
    """That of a fitted estimator is in that mode."""
    X, y = digits()
    for module in (make_in_eval_mode, net(make_in_eval_mode).fit(X, y).module_):
        settings = {"cv": 3, "scoring": "neg_log_loss"}
        grid = {"alpha": [1e-4, 1.0]}
        theirs = GridSearchCV(net(module), grid, **settings).fit(X, y)
        ours = VectorizedGridSearchCV(net(module), grid, **settings).fit(X, y)
        assert_same_results(ours, theirs)
        assert stacked_share(ours) == 1.0


@pytest.mark.parametrize("clipped", [make_dense, Deciding])
def test_a_clipped_batch_is_told_of_once_a_fit(clipped):
    X, y = digits()
    search = VectorizedGridSearchCV(
        net(clipped, batch_size=1000), {"alpha": [1e-4, 1.0]}, cv=3, refit=False
    )
    with pytest.warns(UserWarning, match="It is clipped") as caught:
        search.fit(X, y)
    assert sum("It is clipped" in str(w.message) for w in caught) == 6


def test_torchs_word_about_vmap_is_not_passed_on(recwarn):
    """With a weight norm torch takes the nets one after another, and says so."""
    X, y = digits()
    search = VectorizedGridSearchCV(net(make_weight_norm), {"alpha": [1e-4, 1.0]}, cv=2)
    search.set_params(max_stack_bytes=1, refit=False).fit(X, y)
    assert stacked_share(search) == 1.0
    assert not any("performance drop" in str(w.message) for w in recwarn)


def make_weight_norm(n_features, n_classes):
    return nn.utils.parametrizations.weight_norm(nn.Linear(n_features, n_classes))


@pytest.mark.parametrize("estimator", [cnn(normalization="batch", conv_dropout=0.2), net(Tied)])
@pytest.mark.parametrize("n", [133, 134, 141])
def test_unequal_folds(estimator, n):
    """Folds of 88 and 89 rows, 89 and 90, and 94: the last batch is not the same."""
    X, y = digits(n)
    settings = {"cv": KFold(3), "scoring": "neg_log_loss"}
    grid = {"alpha": [1e-4, 1.0]}
    theirs = GridSearchCV(estimator, grid, **settings).fit(X, y)
    ours = VectorizedGridSearchCV(estimator, grid, **settings).fit(X, y)
    assert_same_results(ours, theirs)
    assert len({place for row in ours.vectorization_ for place in row}) == 1


@pytest.mark.parametrize("estimator", [cnn(), net(make_normalised), mlp(normalization="layer")])
def test_sample_weight(estimator):
    X, y = digits()
    weight = np.random.RandomState(0).uniform(size=len(y))
    weight[::7] = 0.0
    grid = {"alpha": [1e-4, 1.0]}
    settings = {"cv": 3, "scoring": "neg_log_loss"}
    theirs = GridSearchCV(estimator, grid, **settings).fit(X, y, sample_weight=weight)
    ours = VectorizedGridSearchCV(estimator, grid, **settings).fit(X, y, sample_weight=weight)
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 1.0


@pytest.mark.parametrize(
    "estimator", [cnn(normalization="batch", conv_dropout=0.2), net(Tied), net(make_normalised)]
)
def test_fitted_nets_are_equal_in_all_they_tell(estimator):
    """The best epoch is restored with the running statistics that belong to it."""
    X, y = digits()
    estimator.set_params(early_stopping=True, max_iter=15, n_iter_no_change=3)
    everything = [(np.arange(len(y)), np.arange(9))]
    kept = []

    def keep(fitted, X, y):
        kept.append(fitted)
        return fitted.score(X, y)

    VectorizedGridSearchCV(
        estimator, {"alpha": [1e-4]}, cv=everything, scoring=keep, refit=False
    ).fit(X, y)
    (stacked,), one = kept, estimator.fit(X, y)
    assert stacked.engine_ == "autograd, stacked"
    assert (stacked.n_iter_, stacked.t_) == (one.n_iter_, one.t_)
    np.testing.assert_allclose(stacked.loss_curve_, one.loss_curve_, rtol=1e-10)
    np.testing.assert_allclose(stacked.validation_scores_, one.validation_scores_)
    theirs = one.module_.state_dict()
    for name, tensor in stacked.module_.state_dict().items():
        # A bias before a batch normalisation has a gradient of rounding errors, and Adam scales it.
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-8)


def test_float32_within_one_flipped_row():
    X, y = digits()
    X = X.astype(np.float32)
    theirs = GridSearchCV(cnn(), RATES, cv=3).fit(X, y)
    ours = VectorizedGridSearchCV(cnn(), RATES, cv=3).fit(X, y)
    assert_same_results(ours, theirs, atol=1 / 50)


# -- what vmap cannot run ------------------------------------------------------------------------


def squared_error(logits, target):
    return (logits.softmax(1) - nn.functional.one_hot(target, logits.shape[1])).square().sum(1)


def test_a_loss_of_the_users_own_runs_one_by_one():
    X, y = digits()
    grid = {"loss": [squared_error, "log_loss"], "alpha": [1e-4, 1.0]}
    theirs = GridSearchCV(mlp(), grid, cv=3).fit(X, y)
    ours = VectorizedGridSearchCV(mlp(), grid, cv=3).fit(X, y)
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 0.5
    assert any("its loss is a function of the user's own" in row[0] for row in ours.vectorization_)


def test_convolutions_of_large_batches_run_one_by_one():
    X, y = digits(700)
    wide = cnn(input_shape=(1, 8, 8), batch_size=400, max_iter=1)
    grid = {"alpha": [1e-4, 1.0]}
    settings = {"cv": 2, "refit": False}
    ours = VectorizedGridSearchCV(wide, grid, **settings).fit(X, y)
    assert "faster alone in batches of 350" in ours.vectorization_[0][0]
    assert_same_results(ours, GridSearchCV(wide, grid, **settings).fit(X, y))
    # Where alone there is no closed form, a stack is as good as ever.
    wide.set_params(normalization="batch")
    ours = VectorizedGridSearchCV(wide, grid, **settings).fit(X, y)
    assert stacked_share(ours) == 1.0


def make_mlp(n_features, n_classes):
    return MLP(n_features, (12,), n_classes, "tanh", dropout=0.2)


def make_half_frozen(n_features, n_classes):
    mlp = make_mlp(n_features, n_classes)
    mlp.linears[0].requires_grad_(False)
    return mlp


@pytest.mark.parametrize("make", [make_mlp, make_half_frozen])
def test_a_factory_of_dense_nets(make):
    X, y = digits()
    theirs = GridSearchCV(net(make), RATES, cv=3).fit(X, y)
    ours = VectorizedGridSearchCV(net(make), RATES, cv=3).fit(X, y)
    assert stacked_share(ours) == 1.0
    assert_same_results(ours, theirs)


def test_a_factory_whose_modules_differ_in_shape_runs_one_by_one():
    X, y = load_iris(return_X_y=True)

    def make(n_features, n_classes):
        width = int(torch.randint(3, 30, ()))
        return make_dense(n_features, n_classes, width=width)

    grid = {"random_state": [0, 1, 2]}
    theirs = GridSearchCV(net(make), grid, cv=3).fit(X, y)
    ours = VectorizedGridSearchCV(net(make), grid, cv=3).fit(X, y)
    assert_same_results(ours, theirs)
    assert "modules of different shapes" in ours.vectorization_[0][0]
