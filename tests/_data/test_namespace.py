"""Where outputs go: NumPy, or the library and device of X where dispatch is on."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn import config_context

from sknets._data import NUMPY, Namespace, as_numpy, namespace_of

TENSOR = torch.tensor([[1.0, 2.0]], requires_grad=True)


def test_without_dispatch_everything_is_numpys():
    for X in (np.ones(2), TENSOR, [1, 2], None):
        assert namespace_of(X) == NUMPY
    exported = NUMPY.export(TENSOR)
    assert isinstance(exported, np.ndarray)
    assert_array_equal(exported, [[1, 2]])


def test_with_dispatch_tensors_stay_tensors():
    with config_context(array_api_dispatch=True):
        namespace = namespace_of(TENSOR.detach())
        assert namespace_of(np.ones(2)) == NUMPY
        assert namespace_of([1, 2]) == NUMPY
    assert namespace.name == "torch"
    exported = namespace.export(TENSOR)
    assert isinstance(exported, torch.Tensor)
    assert not exported.requires_grad
    labels = namespace.export_labels(np.array([1, 2]))
    assert isinstance(labels, torch.Tensor)
    assert namespace.export_labels(np.array(["a"])).tolist() == ["a"]


def test_a_namespace_pickles():
    with config_context(array_api_dispatch=True):
        namespace = namespace_of(torch.ones(2))
    again = pickle.loads(pickle.dumps(namespace))
    assert again == namespace
    assert isinstance(again.export(torch.ones(2)), torch.Tensor)


def test_values_stay_where_they_are_when_their_device_is_gone():
    elsewhere = Namespace("torch", torch.device("cuda:99"), "torch")
    assert elsewhere.export(torch.ones(2)).device.type == "cpu"


def test_array_api_strict():
    xp = pytest.importorskip("array_api_strict")
    X = xp.asarray([[1.0, 2.0]])
    with config_context(array_api_dispatch=True):
        namespace = namespace_of(X)
        assert isinstance(as_numpy(X), np.ndarray)
    assert namespace.name == "array_api_strict"
    assert type(namespace.export(TENSOR)) is type(X)


def test_as_numpy():
    assert isinstance(as_numpy(TENSOR), np.ndarray)
    assert as_numpy(None) is None
    given = [1, 2]
    assert as_numpy(given) is given
