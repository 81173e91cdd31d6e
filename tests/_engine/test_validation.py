import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import nn

from sknets._data import make_rows
from sknets._engine import Validation, logits_in_blocks
from sknets._nn import LogLoss

CPU = torch.device("cpu")


def make_module(n_out, *, double=True):
    module = nn.Linear(3, n_out)
    with torch.no_grad():
        values = torch.linspace(-1.0, 1.3, 3 * n_out)
        module.weight.copy_(values.view(n_out, 3).roll(1, 0))
        module.bias.zero_()
    return module.double() if double else module


@pytest.fixture
def X():
    return np.random.RandomState(0).normal(size=(40, 3))


def measure(module, X, target, task, weight=None):
    rows = make_rows(X, dtype=torch.float64, device=CPU)
    weight = None if weight is None else torch.from_numpy(weight)
    target = torch.from_numpy(target)
    return Validation(rows, target, weight, LogLoss(task), task).measure(module)


@pytest.mark.parametrize("weighted", [False, True])
def test_many_classes(X, weighted):
    module = make_module(4)
    y = np.arange(40) % 4
    weight = np.arange(40.0) if weighted else None
    loss, score = measure(module, X, y, "multiclass", weight)
    logits = module(torch.from_numpy(X)).detach()
    proba = torch.softmax(logits, 1).numpy()
    assert loss == pytest.approx(log_loss(y, proba, sample_weight=weight))
    assert score == pytest.approx(accuracy_score(y, proba.argmax(1), sample_weight=weight))
    assert 0 < score < 1


@pytest.mark.parametrize("weighted", [False, True])
def test_two_classes(X, weighted):
    module = make_module(1)
    y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int)
    weight = np.arange(40.0) if weighted else None
    loss, score = measure(module, X, y, "binary", weight)
    p = torch.sigmoid(module(torch.from_numpy(X)).detach()).numpy()[:, 0]
    assert loss == pytest.approx(log_loss(y, p, sample_weight=weight))
    assert score == pytest.approx(accuracy_score(y, p > 0.5, sample_weight=weight))
    assert 0 < score < 1


def test_multilabel_rows_are_right_as_a_whole(X):
    module = make_module(2)
    logits = module(torch.from_numpy(X)).detach()
    y = (logits > 0).numpy()
    y[:10, 0] ^= True
    y[5:15, 1] ^= True
    loss, score = measure(module, X, y, "multilabel")
    assert score == pytest.approx(25 / 40)
    bce = nn.functional.binary_cross_entropy_with_logits(
        logits, torch.from_numpy(y).double(), reduction="none"
    )
    assert loss == pytest.approx(bce.sum(1).mean().item())


def test_blocks_cover_the_rows_in_order():
    X = np.random.RandomState(0).normal(size=(700, 3))
    module = nn.Sequential(make_module(2), nn.Linear(2, 30_000), nn.Linear(30_000, 2)).double()
    blocks = list(logits_in_blocks(module, make_rows(X, dtype=torch.float64, device=CPU)))
    assert len(blocks) > 1
    assert [start for start, *_ in blocks] == [0] + [stop for _, stop, _ in blocks[:-1]]
    assert blocks[-1][1] == 700
    with torch.no_grad():
        whole = module(torch.from_numpy(X))
    torch.testing.assert_close(torch.cat([logits for *_, logits in blocks]), whole)


@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_evaluated_and_left_in_its_mode(X, training):
    module = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3), make_module(2)).double()
    module.train(training)
    before = torch.random.get_rng_state()
    rows = make_rows(X, dtype=torch.float64, device=CPU)
    logits = torch.cat([logits for *_, logits in logits_in_blocks(module, rows)])
    assert module.training is training
    assert module[0].training is training
    assert module[1].num_batches_tracked == 0
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not logits.requires_grad


def test_the_mode_is_put_back_after_an_error(X):
    module = nn.Linear(5, 2).double()
    module.train()
    with pytest.raises(RuntimeError):
        list(logits_in_blocks(module, make_rows(X, dtype=torch.float64, device=CPU)))
    assert module.training


def test_autocast_gives_logits_in_the_dtype_of_the_rows(X):
    rows = make_rows(X, dtype=torch.float32, device=CPU)
    module = make_module(2, double=False)
    (_, _, low), *_ = logits_in_blocks(module, rows, autocast=torch.bfloat16)
    (_, _, full), *_ = logits_in_blocks(module, rows)
    assert low.dtype == torch.float32
    assert not torch.equal(low, full)
    torch.testing.assert_close(low, full, rtol=0.05, atol=0.05)


class Watched(nn.Linear):
    """Notes how many threads torch has while it runs."""

    def forward(self, x):
        self.n_threads = torch.get_num_threads()
        return super().forward(x)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("n_features", "n_threads"), [(64, 1), (3000, 2)])
def test_small_work_has_one_thread(n_features, n_threads):
    rows = make_rows(np.zeros((200, n_features)), dtype=torch.float64, device=CPU)
    module = Watched(n_features, 100, dtype=torch.float64)
    for _ in logits_in_blocks(module, rows):
        assert torch.get_num_threads() == 2
    assert module.n_threads == n_threads
