import numpy as np
import pytest
import torch

from sknets._core import free_bytes, is_out_of_memory


def test_some_memory_is_free():
    assert free_bytes(torch.device("cpu")) > 2**20


@pytest.mark.parametrize("allocate", [lambda: torch.empty(2**46), lambda: np.empty(2**60, "u1")])
def test_a_lack_of_memory_is_known_from_its_error(allocate):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)


def test_other_errors_are_no_lack_of_memory():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))
