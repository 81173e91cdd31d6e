"""Thread limits hold for the block and the thread that set them."""

import threading

import pytest
import torch
from threadpoolctl import ThreadpoolController, threadpool_limits

from sknets._core import Threads, limit_threads


@pytest.mark.usefixtures("two_threads")
def test_the_limit_ends_with_the_block():
    with limit_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_the_limit_ends_after_an_error():
    with pytest.raises(RuntimeError, match="inside"), limit_threads(1):
        raise RuntimeError("inside")
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("n_threads", [None, 2, 8])
def test_a_limit_never_raises_the_number(n_threads):
    with limit_threads(n_threads):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_limits_nest():
    with limit_threads(1):
        with limit_threads(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_other_threads_keep_theirs():
    seen = {}
    limited, looked = threading.Event(), threading.Event()

    def other():
        torch.set_num_threads(2)
        limited.wait(10)
        seen["other"] = torch.get_num_threads()
        looked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with limit_threads(1):
        limited.set()
        assert looked.wait(10)
    thread.join()
    assert seen == {"other": 2}


def blas_threads():
    pools = ThreadpoolController().select(user_api="blas").lib_controllers
    return [pool.num_threads for pool in pools]


@pytest.fixture
def two_blas_threads():
    with threadpool_limits(2, user_api="blas"):
        if any(n < 2 for n in blas_threads()):
            pytest.skip("BLAS runs on one thread only")
        yield


@pytest.mark.usefixtures("two_blas_threads")
def test_blas_is_put_back_when_the_last_block_ends():
    first, second = limit_threads(1), limit_threads(1)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # blocks of two threads end in any order
    assert set(blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert set(blas_threads()) == {2}


@pytest.mark.usefixtures("two_blas_threads", "two_threads")
def test_kernels_and_products_are_limited_apart():
    with limit_threads(Threads(torch=1, blas=None)):
        assert torch.get_num_threads() == 1
        assert set(blas_threads()) == {2}
    with limit_threads(Threads(torch=None, blas=1)):
        assert torch.get_num_threads() == 2
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {2}


def test_any_thread_limits_blas():
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    seen = {}

    def other():
        with limit_threads(Threads(blas=1)):
            seen["inside"] = [library.num_threads for library in libraries]

    with threadpool_limits(2, user_api="blas"):
        for library in libraries:
            library.set_num_threads(2)  # threadpoolctl lets the first thread alone do so
        before = [library.num_threads for library in libraries]
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert [library.num_threads for library in libraries] == before
    assert seen["inside"] == [1] * len(libraries)
