import os
import warnings

import numpy as np
import pytest
import sklearn
import torch
from sklearn.datasets import load_digits

from sknets.neural_network import CNNClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def clf():
    return CNNClassifier((4,), hidden_layer_sizes=(), max_iter=2, random_state=0, device="cpu")


@pytest.fixture(scope="module")
def digits():
    digits = load_digits()
    return digits.images[:100] / 16, digits.target[:100]


def test_the_user_s_array_is_not_written_to(clf, digits):
    X, y = digits
    before = X.copy()
    clf.fit(X, y).predict(X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("wrap", [torch.from_numpy, lambda X: torch.from_numpy(X).mT])
def test_tensors_with_array_api_dispatch(clf, digits, wrap):
    if os.environ.get("SCIPY_ARRAY_API") != "1":
        pytest.skip("SCIPY_ARRAY_API=1 is not set")
    X, y = wrap(digits[0]), torch.from_numpy(digits[1])
    with sklearn.config_context(array_api_dispatch=True):
        proba = clf.fit(X, y).predict_proba(X)
        labels = clf.predict(X[:3])
    assert isinstance(proba, torch.Tensor)
    assert isinstance(labels, torch.Tensor)
    expected = clf.fit(X.numpy(), digits[1]).predict_proba(X.numpy())
    np.testing.assert_allclose(proba.numpy(), expected, rtol=1e-9)


def test_array_api_strict(clf, digits):
    xp = pytest.importorskip("array_api_strict")
    if os.environ.get("SCIPY_ARRAY_API") != "1":
        pytest.skip("SCIPY_ARRAY_API=1 is not set")
    X, y = xp.asarray(digits[0]), xp.asarray(digits[1])
    with sklearn.config_context(array_api_dispatch=True):
        proba = clf.fit(X, y).predict_proba(X)
    assert proba.__array_namespace__() is xp
    assert clf.input_shape_ == (1, 8, 8)


def test_nested_lists_are_images(clf, digits):
    X, y = digits
    from_lists = clf.fit(X.tolist(), y.tolist()).predict_proba(X[:5].tolist())
    np.testing.assert_allclose(from_lists, clf.fit(X, y).predict_proba(X[:5]), rtol=1e-9)


def test_ragged_lists_are_an_error(clf):
    with pytest.raises(ValueError, match="inhomogeneous"):
        clf.fit([[[1.0, 2.0]], [[1.0], [2.0, 3.0]]], [0, 1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_must_be_finite(clf, digits, value):
    X, y = digits[0].copy(), digits[1]
    X[3, 2, 1] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        clf.fit(X, y)


def test_no_images(clf):
    with pytest.raises(ValueError, match=r"Found array with 0 sample"):
        clf.fit(np.zeros((0, 8, 8)), [])


@pytest.mark.parametrize(
    ("shape", "channels", "warns"),
    [
        ((12, 12, 3), "first", True),
        ((12, 12, 1), "first", True),
        ((3, 12, 12), "first", False),
        ((3, 12, 3), "first", False),
        ((12, 12, 12), "first", False),
        ((1, 12, 12), "last", True),
        ((12, 12, 1), "last", False),
    ],
)
def test_images_that_look_like_the_other_order_are_a_warning(clf, shape, channels, warns):
    X, y = np.random.RandomState(0).rand(20, *shape), np.arange(20) % 2
    clf.set_params(channels=channels, pool=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf.fit(X, y)
        clf.set_params(input_shape=shape).fit(X, y)
    assert sum("holds the channels" in str(w.message) for w in caught) == warns
