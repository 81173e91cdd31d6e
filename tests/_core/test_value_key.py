"""When modules and factories count as equal."""

import copy
import functools

import pytest
import torch
from torch import nn

from sknets._core import attribute_keys, value_key


def make(n_features, n_classes, width=3):
    return nn.Sequential(nn.Linear(n_features, width), nn.Tanh(), nn.Linear(width, n_classes))


def net(seed=0, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = make(2, 2)
    for name, value in changes.items():
        setattr(module, name, value)
    return module


def scaled(factor):
    module = net()
    module[0].register_forward_hook(lambda layer, given, out: factor * out)
    return module


def frozen():
    module = net()
    module[0].requires_grad_(False)
    return module


def tensor(value, dtype):
    return torch.tensor([value, 0.0]).to(dtype)


VALUES = {
    "a module": net(),
    "other weights": net(1),
    "another attribute": net(factor=2.0),
    "one of another value": net(factor=3.0),
    "a layer that does not learn": frozen(),
    "a hook": scaled(2.0),
    "another hook": scaled(3.0),
    "another class": nn.Sequential(net()[0], nn.Sigmoid(), net()[2]),
    "a function": make,
    "a part of it": functools.partial(make, width=4),
    "another part": functools.partial(make, width=5),
    "a list": [1, "1", None],
    "a method": net().forward,
    **{
        f"{dtype} {i}": net(t=tensor(i, dtype))
        for dtype in (torch.float32, torch.bfloat16)
        for i in (1.0, 2.0)
    },
}


@pytest.mark.parametrize("name", VALUES)
def test_a_copy_is_equal_and_no_other(name):
    key = value_key(VALUES[name])
    assert key == value_key(copy.deepcopy(VALUES[name]))
    for other, value in VALUES.items():
        assert (key == value_key(value)) == (other == name), other


def test_attributes_are_those_beside_the_weights():
    keys = attribute_keys(net(0))
    assert keys == attribute_keys(net(1))
    for other in ("another attribute", "a layer that does not learn", "a hook", "another class"):
        assert keys != attribute_keys(VALUES[other]), other


def test_tied_layers_are_not_equal_to_two_of_the_same_numbers():
    tied, apart = net(), net()
    tied.again, apart.again = tied[0], copy.deepcopy(apart[0])
    assert value_key(tied) != value_key(apart)


class Chained(nn.Module):
    """Knows all layers before it."""

    def __init__(self, before):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.before = list(before)


@pytest.mark.parametrize("key", [value_key, attribute_keys])
def test_layers_that_hold_each_other(key):
    layers = nn.ModuleList()
    for _ in range(30):  # to look at each way through them would take years
        layers.append(Chained(layers))
    assert key(layers) == key(copy.deepcopy(layers))
