import torch
from torch import nn

from sknets._core import Threads, limit_threads
from sknets._engine import useful_threads


def test_small_nets_run_on_one_thread():
    net = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    assert useful_threads(net, 64, 200) == Threads(torch=1, blas=1)


def test_products_gain_from_threads_before_kernels_do():
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.Linear(256, 10))
    assert useful_threads(net, 64, 200) == Threads(torch=1, blas=None)


def test_large_nets_and_large_batches_run_on_all():
    net = nn.Sequential(nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 10))
    assert useful_threads(net, 1000, 1000) == Threads()
    small = nn.Linear(64, 100)
    assert useful_threads(small, 64, 10) == Threads(1, 1)
    assert useful_threads(small, 64, 100_000) == Threads()


def test_a_convolution_counts_every_position():
    conv = nn.Conv2d(3, 16, 3)
    assert useful_threads(conv, 3 * 8 * 8, 10) == Threads(1, 1)
    # BLAS has one thread beside convolutions, which leave it no free core.
    assert useful_threads(conv, 3 * 224 * 224, 64) == Threads(torch=None, blas=1)


def test_a_net_without_weights_is_small():
    assert useful_threads(nn.ReLU(), 10, 10) == Threads(1, 1)


def test_the_limit_ends_with_its_block():
    before = torch.get_num_threads()
    with limit_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    try:
        with limit_threads(1):
            raise RuntimeError
    except RuntimeError:
        assert torch.get_num_threads() == before
