"""Devices and precision."""

import pytest
import torch

from sknets._core import Precision, is_present, resolve_device, resolve_precision

CPU = torch.device("cpu")
META = torch.device("meta")  # any accelerator, for what depends on the device's type alone


@pytest.mark.parametrize("device", ["cpu", CPU])
def test_a_device_that_is_named(device):
    assert resolve_device(device) == CPU
    assert resolve_device(device, given=META) == CPU


def test_auto_stays_where_the_data_is():
    assert resolve_device("auto", given=CPU) == CPU
    assert resolve_device("auto", given=META) == META


def test_auto_takes_an_accelerator_if_there_is_one():
    has_one = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (resolve_device("auto").type != "cpu") == has_one


@pytest.mark.parametrize("device", ["abacus", "cuda:x", "", "cpu:"])
def test_what_torch_does_not_know(device):
    with pytest.raises(ValueError, match="device must be") as caught:
        resolve_device(device)
    assert repr(device) in str(caught.value)


@pytest.mark.parametrize("device", ["cuda:99", torch.device("cuda", 99)])
def test_a_device_that_is_absent(device):
    with pytest.raises(ValueError, match=r"present on this machine.*\d CUDA device.*99"):
        resolve_device(device)
    assert not is_present(torch.device("cuda:99"))
    assert is_present(CPU)


@pytest.mark.gpu
def test_cuda_has_a_number():
    assert resolve_device("cuda") == torch.device("cuda", torch.cuda.current_device())


@pytest.mark.parametrize(
    ("device", "given", "expected"),
    [
        (CPU, torch.float32, torch.float32),
        (CPU, torch.bfloat16, torch.float32),
        (CPU, torch.float64, torch.float64),
        (CPU, torch.float16, torch.float64),
        (CPU, torch.int64, torch.float64),
        (CPU, torch.uint8, torch.float64),
        (CPU, torch.bool, torch.float64),
        (META, torch.float64, torch.float32),
        (META, torch.int64, torch.float32),
    ],
    ids=str,
)
def test_auto_keeps_the_dtype_on_the_cpu(device, given, expected):
    precision = resolve_precision("auto", device=device, input_dtype=given)
    assert precision == Precision(expected)


@pytest.mark.parametrize("device", [CPU, META], ids=str)
@pytest.mark.parametrize("given", [torch.float32, torch.float64], ids=str)
def test_a_precision_that_is_named(given, device):
    def resolve(name):
        return resolve_precision(name, device=device, input_dtype=given)

    assert resolve("float32") == Precision(torch.float32)
    assert resolve("float64") == Precision(torch.float64)
    assert resolve("bf16") == Precision(torch.float32, torch.bfloat16)


def test_mps_has_no_float64():
    with pytest.raises(ValueError, match=r'precision must not be "float64" on an MPS'):
        resolve_precision("float64", device=torch.device("mps"), input_dtype=torch.float32)
