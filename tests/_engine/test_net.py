import numpy as np
import pytest
import torch
from scipy import sparse
from skorch.callbacks import Callback, EpochScoring
from torch import nn

from sknets._data import SubsetRows, make_rows
from sknets._engine._net import CallbackNet, as_dataset, check_callbacks

CPU = torch.device("cpu")


def make_net(n_out, task, callbacks=()):
    module = nn.Linear(3, n_out).double()
    with torch.no_grad():
        module.weight.copy_(torch.linspace(-1, 1, 3 * n_out).view(n_out, 3))
        module.bias.zero_()
    return CallbackNet(
        module,
        torch.optim.SGD(module.parameters(), lr=0.1),
        task=task,
        dtype=torch.float64,
        callbacks=callbacks,
        max_epochs=1,
        batch_size=4,
    ).initialize()


X = np.random.RandomState(0).normal(size=(6, 3))


def test_it_is_built_around_what_is_there():
    net = make_net(2, "multiclass")
    assert net.module_ is net.module
    assert net.optimizer_ is net.optimizer
    assert net.callbacks_ == []


@pytest.mark.parametrize(
    ("task", "n_out", "columns"), [("multiclass", 4, 4), ("binary", 1, 2), ("multilabel", 3, 3)]
)
def test_probabilities_and_classes(task, n_out, columns):
    net = make_net(n_out, task)
    proba, predicted = net.predict_proba(X), net.predict(X)
    logits = net.module_(torch.from_numpy(X)).detach()
    assert proba.shape == (6, columns)
    if task == "multilabel":
        np.testing.assert_array_equal(predicted, (logits > 0).numpy())
    else:
        np.testing.assert_allclose(proba.sum(1), 1)
        np.testing.assert_array_equal(predicted, proba.argmax(1))
    if task == "binary":
        np.testing.assert_allclose(proba[:, 1], torch.sigmoid(logits)[:, 0])


def test_it_predicts_sparse_rows_and_data_sets():
    net = make_net(2, "multiclass")
    expected = net.predict_proba(X)
    np.testing.assert_allclose(net.predict_proba(sparse.csr_array(X)), expected)
    rows = make_rows(X, dtype=torch.float64, device=CPU)
    dataset = as_dataset(rows, torch.zeros(6))
    np.testing.assert_allclose(net.predict_proba(dataset), expected)


def test_a_data_set_of_a_subset_has_its_rows():
    rows = make_rows(X, dtype=torch.float64, device=CPU)
    index = np.array([4, 0, 2])
    dataset = as_dataset(SubsetRows(rows, index), torch.tensor([1, 0, 1]))
    assert len(dataset) == 3
    np.testing.assert_array_equal(dataset.X, X[index])
    np.testing.assert_array_equal(dataset.y, [1, 0, 1])


def test_callbacks_as_objects_classes_and_pairs():
    items = [EpochScoring("accuracy"), ("named", EpochScoring("accuracy")), EpochScoring]
    assert check_callbacks(items) == items
    assert check_callbacks(None) == []


@pytest.mark.parametrize("item", [3, "a name", ("a", "b"), lambda: None])
def test_what_is_no_callback_is_refused(item):
    with pytest.raises(TypeError, match=r"callbacks must hold skorch callbacks .*got"):
        check_callbacks([item])


def test_callbacks_are_set_up_under_their_names():
    net = make_net(2, "multiclass", [("mine", Callback())])
    assert [name for name, _ in net.callbacks_] == ["mine"]
