import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sknets.neural_network import CNNClassifier

# Few epochs on purpose in most tests.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TWO_POOLS = {
    "conv_channels": (10, 20),
    "kernel_size": 5,
    "padding": "valid",
    "hidden_layer_sizes": (50,),
    "dropout": 0.5,
}
ONE_POOL = {
    "conv_channels": (32, 64),
    "kernel_size": 3,
    "padding": "valid",
    "pool": (None, "max"),
    "conv_dropout": (0.0, 0.25),
    "hidden_layer_sizes": (128,),
    "dropout": 0.5,
}
SMALL = {
    "conv_channels": (4, 8),
    "hidden_layer_sizes": (16,),
    "max_iter": 2,
    "random_state": 0,
    "device": "cpu",
}


LEARNS = {**SMALL, "max_iter": 20, "batch_size": 32, "learning_rate_init": 0.01}


@pytest.fixture(scope="module")
def digits():
    digits = load_digits()
    return (digits.images / 16.0)[:400], digits.target[:400]


@pytest.fixture
def colours():
    """Images (n, 3, 6, 5) of which the class is the brightest channel."""
    rng = np.random.RandomState(0)
    y = rng.randint(3, size=90)
    X = rng.uniform(size=(90, 3, 6, 5))
    X[np.arange(90), y] += 0.5
    return X, y


@pytest.fixture
def signals():
    """Signals (n, 2, 32) whose class is the frequency in the second channel."""
    rng = np.random.RandomState(0)
    y = rng.randint(2, size=160)
    phase = rng.uniform(0, 2 * np.pi, size=(160, 1))
    wave = np.sin(np.linspace(0, 2 * np.pi, 32) * np.where(y, 6, 3)[:, None] + phase)
    X = 0.2 * rng.normal(size=(160, 2, 32))
    X[:, 1] += wave
    return X, y


def equal(first, second, X_first, X_second, **tolerance):
    np.testing.assert_allclose(
        first.predict_proba(X_first), second.predict_proba(X_second), **tolerance
    )


def test_learns_digits():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        (X / 16.0).astype(np.float32).reshape(-1, 8, 8), y, random_state=0
    )
    clf = CNNClassifier(
        (16, 32),
        batch_size=32,
        learning_rate_init=0.003,
        max_iter=10,
        random_state=1,
        device="cpu",
    )
    assert clf.fit(X_train, y_train).score(X_test, y_test) >= 0.97
    assert clf.loss_curve_[-1] < 0.1 * clf.loss_curve_[0]


# -- how X lies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reshape", "settings"),
    [
        (lambda X: X.reshape(len(X), 64), {"input_shape": (1, 8, 8)}),
        (lambda X: X[:, None], {}),
        (lambda X: X[:, None], {"input_shape": (1, 8, 8)}),
        (lambda X: X, {"input_shape": (1, 8, 8)}),
        (lambda X: X[..., None], {"channels": "last"}),
        (lambda X: X, {"channels": "last"}),
        (lambda X: X.reshape(len(X), 64), {"channels": "last", "input_shape": (8, 8, 1)}),
        (lambda X: [list(image) for image in X], {}),
        (lambda X: torch.from_numpy(X), {}),
        (lambda X: sparse.csr_array(X.reshape(len(X), 64)), {"input_shape": (1, 8, 8)}),
        (lambda X: np.asfortranarray(X), {}),
    ],
)
def test_grey_images_come_in_many_shapes(digits, reshape, settings):
    X, y = digits
    expected = CNNClassifier(**SMALL).fit(X, y)
    clf = CNNClassifier(**SMALL, **settings).fit(reshape(X), y)
    assert clf.input_shape_ == (1, 8, 8)
    assert clf.n_features_in_ == 64
    equal(clf, expected, reshape(X), X, rtol=1e-9)


def test_colour_images(colours):
    X, y = colours
    first = CNNClassifier(**SMALL).fit(X, y)
    last = CNNClassifier(channels="last", **SMALL).fit(np.moveaxis(X, 1, -1), y)
    assert first.input_shape_ == last.input_shape_ == (3, 6, 5)
    assert first.module_.features.conv1.in_channels == 3
    equal(first, last, X, np.moveaxis(X, 1, -1), rtol=1e-6)


def test_signals_need_their_shape(signals):
    X, y = signals
    clf = CNNClassifier(input_shape=(2, 32), **LEARNS).fit(X, y)
    assert isinstance(clf.module_.features.conv1, nn.Conv1d)
    assert clf.input_shape_ == (2, 32)
    assert clf.score(X, y) > 0.95
    last = CNNClassifier(input_shape=(32, 2), channels="last", **LEARNS)
    last.fit(X.swapaxes(1, 2), y)
    equal(last, clf, X.swapaxes(1, 2), X, rtol=1e-6)
    flat = CNNClassifier(input_shape=(2, 32), **LEARNS).fit(X.reshape(len(X), 64), y)
    equal(flat, clf, X.reshape(len(X), 64), X, rtol=1e-9)


def test_learns_real_signals():
    path = Path(os.environ.get("SKNETS_DATA", "")) / "signals" / "italy_power.npz"
    if not path.is_file():
        pytest.skip("needs real data: set SKNETS_DATA to a folder that holds signals/")
    with np.load(path) as data:
        X, y, n_train = data["X"], data["y"], int(data["n_train"])
    clf = CNNClassifier(input_shape=(1, 24), **{**LEARNS, "max_iter": 30})
    assert clf.fit(X[:n_train], y[:n_train]).score(X[n_train:], y[n_train:]) >= 0.93


def test_a_row_is_a_signal_of_one_channel_by_default(digits):
    X, y = digits
    clf = CNNClassifier(**SMALL).fit(pd.DataFrame(X.reshape(len(X), 64)), y)
    assert clf.input_shape_ == (1, 64)
    assert isinstance(clf.module_.features.conv1, nn.Conv1d)


def test_fitted_on_images_predicts_the_same_for_flat_rows(digits):
    X, y = digits
    clf = CNNClassifier(**SMALL).fit(X, y)
    equal(clf, clf, X[:7], X[:7].reshape(7, 64), rtol=0)
    equal(clf, clf, X[:7], X[:7, None], rtol=0)


def test_module_takes_what_the_classifier_takes(digits):
    X, y = digits
    clf = CNNClassifier(**SMALL, channels="last").fit(X[..., None], y)
    with torch.no_grad():
        logits = clf.module_(torch.from_numpy(X[:5, ..., None]))
    np.testing.assert_allclose(clf.decision_function(X[:5, ..., None]), logits.numpy())


@pytest.mark.parametrize("shape", [(5, 8, 7), (5, 2, 8, 8), (5, 1, 1, 8, 8)])
def test_predicting_another_shape_is_an_error(digits, shape):
    X, y = digits
    clf = CNNClassifier(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match=r"samples of shape \(1, 8, 8\).*got X of shape \(5, "):
        clf.predict(np.zeros(shape))


def test_predicting_rows_of_another_width_is_scikit_learns_error(digits):
    X, y = digits
    clf = CNNClassifier(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match="X has 63 features, but CNNClassifier is expecting 64"):
        clf.predict(np.zeros((5, 63)))


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((9, 60), {"input_shape": (1, 8, 8)}, r"rows of 64 features, got X of shape .*60"),
        ((9, 7, 8), {"input_shape": (1, 8, 8)}, r"samples of shape \(1, 8, 8\).*\(9, 7, 8\)"),
        ((9, 8, 8), {"input_shape": (64,)}, r"input_shape must be .* got \(64,\)"),
        ((9, 8, 8), {"input_shape": (1, 8, -8)}, r"input_shape must be .* got \(1, 8, -8\)"),
        ((9, 2, 2, 4, 4), {}, r"X must have shape .* got \(9, 2, 2, 4, 4\)"),
        ((9, 5, 5), {"padding": "valid"}, r"conv2 shrinks to nothing.*got 1 x 1"),
        ((9, 8, 8), {"kernel_size": (3, 3, 3)}, "kernel_size must be one value or one for each"),
        ((9, 8, 8), {"pool": ("max", "sum")}, "pool must be None or one of .* got 'sum'"),
        ((9, 8, 8), {"padding": "full"}, "'padding' parameter of CNNClassifier must be"),
        ((9, 8, 8), {"dropout": 1.0}, "'dropout' parameter of CNNClassifier must be"),
        ((9, 8, 8), {"conv_dropout": (0.2, 1.0)}, "conv_dropout must be at least 0 and less"),
        ((9, 8, 8), {"conv_dropout": 0.2, "solver": "lbfgs"}, "conv_dropout must be 0 with"),
        ((9, 8, 8), {"dropout": (0.2,), "solver": "lbfgs"}, "dropout must be 0 with solver"),
    ],
)
def test_refuses_and_leaves_nothing_half_fitted(shape, settings, message):
    clf = CNNClassifier(**{**SMALL, **settings})
    before = set(vars(clf))
    with pytest.raises(ValueError, match=message):
        clf.fit(np.zeros(shape), np.arange(9) % 3)
    assert set(vars(clf)) == before


def test_a_failed_fit_keeps_the_model_of_the_last_one(digits):
    X, y = digits
    clf = CNNClassifier(**SMALL).fit(X, y)
    expected = clf.predict_proba(X)
    with pytest.raises(ValueError, match="shrinks to nothing"):
        clf.set_params(padding="valid", kernel_size=7).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_read_only_memory_map(digits, tmp_path):
    X, y = digits
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    clf = CNNClassifier(**SMALL).fit(mapped, y)
    equal(clf, CNNClassifier(**SMALL).fit(X, y), mapped, X, rtol=1e-9)


def test_bytes_are_numbers():
    X = (load_digits().images[:100]).astype(np.uint8)
    y = load_digits().target[:100]
    clf = CNNClassifier(**SMALL).fit(X, y)
    equal(clf, CNNClassifier(**SMALL).fit(X.astype(float), y), X, X, rtol=1e-9)


# -- the net -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "by_hand"),
    [
        (
            TWO_POOLS,
            [nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5), nn.Linear(320, 50), nn.Linear(50, 10)],
        ),
        (
            ONE_POOL,
            [nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Linear(9216, 128), nn.Linear(128, 10)],
        ),
    ],
)
def test_the_well_known_mnist_nets(settings, by_hand):
    rng = np.random.RandomState(0)
    X = rng.uniform(size=(20, 28, 28)).astype(np.float32)
    clf = CNNClassifier(**settings, max_iter=1, device="cpu").fit(X, np.arange(20) % 10)
    expected = [p.shape for layer in by_hand for p in layer.parameters()]
    assert [p.shape for p in clf.module_.parameters()] == expected


def test_settings_one_value_or_one_a_layer(digits):
    X, y = digits
    clf = CNNClassifier(
        (4, 6),
        kernel_size=(5, (1, 3)),
        stride=(2, 1),
        dilation=(1, 2),
        padding=("same", 2),
        pool=(None, "avg"),
        pool_size=(2, (1, 2)),
        conv_dropout=(0.1, 0.0),
        hidden_layer_sizes=(16, 8),
        dropout=(0.0, 0.3),
        normalization="batch",
        activation="gelu",
        max_iter=1,
        device="cpu",
    ).fit(X, y)
    features = clf.module_.features
    assert features.conv1.kernel_size == (5, 5)
    assert features.conv2.kernel_size == (1, 3)
    assert [features.conv1.stride, features.conv2.stride] == [(2, 2), (1, 1)]
    assert [features.conv1.dilation, features.conv2.dilation] == [(1, 1), (1, 2)]  # of 1 x 3
    assert features.conv2.padding == (2, 2)
    assert isinstance(features.pool2, nn.AvgPool2d)
    assert not hasattr(features, "pool1")
    rates = [m.p for m in clf.module_.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.1, 0.3]
    assert isinstance(features.norm1, nn.BatchNorm2d)
    assert isinstance(features.activation1, nn.GELU)


def test_no_convolution_is_an_mlp(digits):
    X, y = digits
    clf = CNNClassifier(**{**SMALL, "conv_channels": ()}).fit(X, y)
    assert len(clf.module_.features) == 0


def test_batch_normalization_survives_a_last_batch_of_one_row(digits):
    X, y = digits
    clf = CNNClassifier(**SMALL, normalization="batch", batch_size=7).fit(X[:50], y[:50])
    assert np.isfinite(clf.predict_proba(X)).all()


# -- training ------------------------------------------------------------------------------------


def test_equals_a_plain_torch_loop(digits):
    X, y = digits
    settings = {**SMALL, "solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False}
    settings |= {"shuffle": False, "batch_size": 50, "learning_rate_init": 0.1, "alpha": 0.01}
    clf = CNNClassifier(**settings, normalization="layer").fit(X, y)

    net = CNNClassifier(**{**settings, "learning_rate_init": 1e-300}, normalization="layer")
    net = net.fit(X, y).module_.train()  # its initial weights
    weights = [p for p in net.parameters() if p.ndim > 1]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        for x, target in zip(
            torch.from_numpy(X).split(50), torch.from_numpy(y).split(50), strict=True
        ):
            penalty = 0.01 / 2 * sum(w.square().sum() for w in weights) / len(x)
            optimiser.zero_grad()
            (nn.functional.cross_entropy(net(x), target) + penalty).backward()
            optimiser.step()

    for ours, theirs in zip(clf.module_.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_same_random_state_same_bits(digits):
    X, y = digits
    settings = {**SMALL, "dropout": 0.5, "conv_dropout": 0.2}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (CNNClassifier(**settings).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    other = CNNClassifier(**{**settings, "random_state": 1}).fit(X, y)
    assert not np.array_equal(first.predict_proba(X), other.predict_proba(X))
    assert torch.equal(torch_state, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])


def test_weights_are_repeated_rows(digits):
    X, y = digits[0][:30], digits[1][:30]
    times = np.random.RandomState(0).randint(0, 4, size=30)
    settings = {**SMALL, "max_iter": 5}  # all rows are one batch
    weighted = CNNClassifier(**settings).fit(X, y, sample_weight=times)
    repeated = CNNClassifier(**settings).fit(X.repeat(times, 0), y.repeat(times))
    equal(weighted, repeated, X, X, rtol=1e-7)


def test_partial_fit_goes_on(digits):
    X, y = digits
    clf = CNNClassifier(**SMALL)
    for _ in range(3):
        clf.partial_fit(X, y, classes=np.arange(10))
    assert len(clf.loss_curve_) == 3
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]
    with pytest.raises(ValueError, match=r"samples of shape \(1, 8, 8\)"):
        clf.partial_fit(X[:, :7], y)


def test_warm_start_goes_on(digits):
    X, y = digits
    clf = CNNClassifier(**SMALL, warm_start=True).fit(X, y)
    loss = clf.loss_
    assert clf.fit(X, y).loss_ < loss


def test_validation_set_of_images(digits):
    X, y = digits
    clf = CNNClassifier(**{**SMALL, "max_iter": 8}, early_stopping=True)
    clf.fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:])
    assert clf.best_validation_score_ == clf.score(X[300:], y[300:])
    assert len(clf.history_["validation_score"]) == clf.n_iter_


def test_lbfgs(digits):
    X, y = digits
    clf = CNNClassifier(**{**SMALL, "max_iter": 60}, solver="lbfgs").fit(X, y)
    assert clf.score(X, y) > 0.95


def test_two_classes_and_labels_of_any_kind(signals):
    X, y = signals
    names = np.where(y, "fast", "slow")
    clf = CNNClassifier(input_shape=(2, 32), **LEARNS).fit(X, names)
    assert clf.classes_.tolist() == ["fast", "slow"]
    assert clf.decision_function(X).shape == (160,)
    assert clf.score(X, names) > 0.95


def test_multilabel(digits):
    X, y = digits
    Y = np.stack([y > 4, y % 2], axis=1).astype(int)
    clf = CNNClassifier(**LEARNS).fit(X, Y)
    assert clf.predict(X).shape == Y.shape
    assert (clf.predict(X) == Y).mean() > 0.85


# -- in scikit-learn -----------------------------------------------------------------------------


def test_clone_and_pickle(digits):
    X, y = digits
    clf = CNNClassifier(**SMALL, pool=(None, "l2")).fit(X, y)
    assert clone(clf).get_params() == clf.get_params()
    equal(pickle.loads(pickle.dumps(clf)), clf, X, X, rtol=0)


def test_grid_search_in_a_pipeline(digits):
    X, y = digits
    pipeline = make_pipeline(FunctionTransformer(np.sqrt), CNNClassifier(**SMALL))
    grid = {"cnnclassifier__pool": ["max", (None, "avg")]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == y.shape


def test_says_when_it_has_not_converged(digits):
    X, y = digits
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        CNNClassifier(**SMALL).fit(X, y)


# -- on demand -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("settings", [TWO_POOLS, ONE_POOL])
def test_mnist_in_five_epochs(mnist, settings):
    X = np.asarray(mnist.data, dtype=np.float32).reshape(-1, 28, 28) / np.float32(255)
    y = mnist.target
    clf = CNNClassifier(**settings, batch_size=64, max_iter=5, random_state=0)
    clf.fit(X[:60_000], y[:60_000])
    assert clf.score(X[60_000:], y[60_000:]) >= 0.988


def test_module_names_its_layers():
    X, y = load_digits(return_X_y=True)
    clf = CNNClassifier((4, 8), normalization="batch", pool=("max", None), conv_dropout=(0.1, 0))
    clf.set_params(input_shape=(1, 8, 8), max_iter=1, device="cpu").fit(X[:100], y[:100])
    assert [name for name, _ in clf.module_.features.named_children()] == [
        *("conv1", "norm1", "activation1", "pool1", "dropout1"),
        *("conv2", "norm2", "activation2"),
    ]
    values = torch.from_numpy(X[:3].reshape(3, 1, 8, 8))
    with torch.no_grad():
        module = clf.module_.eval()
        logits = module.classifier(module.features(values).flatten(1))
    np.testing.assert_allclose(logits, clf.decision_function(X[:3]), rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"kernel_size": 1, "stride": [(1, 2), (1, 2)]},
            r"same on both axes .*got \(1, 2\) in conv1",
        ),
        (
            {"conv_channels": (4, 4), "stride": 3, "precision": "bf16"},
            r"at most the size of its input .*\(3, 3\) for \(2, 2\) in conv2",
        ),
    ],
)
def test_what_torch_cannot_train_on_a_cpu(settings, message):
    X, y = np.random.RandomState(0).rand(20, 6, 6), np.arange(20) % 2
    clf = CNNClassifier(**{**SMALL, **settings, "padding": "same", "pool": None})
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y)


@pytest.mark.parametrize("channels", [1, 4])
def test_the_dilation_of_one_pixel_beside_others_means_nothing(channels):
    X, y = np.random.RandomState(0).rand(20, channels, 9, 1), np.arange(20) % 2
    settings = {**SMALL, "conv_channels": (3,), "kernel_size": ((3, 1),), "stride": ((1, 2),)}
    settings |= {"padding": 1, "pool": None, "precision": "float32"}
    fits = [CNNClassifier(**settings, dilation=((1, d),)).fit(X, y) for d in (1, 2)]
    np.testing.assert_array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))


def test_the_dilation_of_one_pixel_means_nothing():
    X, y = np.random.RandomState(0).rand(20, 3, 1), np.arange(20) % 2
    settings = {**SMALL, "kernel_size": 1, "stride": 2, "padding": 1, "pool": None}
    fits = [CNNClassifier(**settings, dilation=d, precision="float32").fit(X, y) for d in (1, 2)]
    np.testing.assert_array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))
