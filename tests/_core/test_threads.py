"""Thread limits hold for the block and the thread that set them."""

import threading

import pytest
import torch

from sknets._core import limit_threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


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
