import pickle
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sknets._nn import CNN

IMAGE = (1, 28, 28)
TWO_POOLS = {
    "conv_channels": (10, 20),
    "kernel_size": 5,
    "padding": "valid",
    "hidden_layer_sizes": (50,),
    "dropout": 0.5,
}
ONE_POOL = {
    "conv_channels": (32, 64),
    "padding": "valid",
    "pool": (None, "max"),
    "conv_dropout": (0.0, 0.25),
    "dropout": 0.5,
}


class TwoPoolsByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.dropout(F.relu(self.fc1(x.view(-1, 320))), training=self.training)
        return self.fc2(x)


class OnePoolByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = torch.flatten(self.dropout1(F.max_pool2d(x, 2)), 1)
        return self.fc2(self.dropout2(F.relu(self.fc1(x))))


def outputs_by_type(module, x, types):
    """Output shapes of the layers of these types, in the order they ran."""
    shapes = []
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
        for layer in module.modules()
        if isinstance(layer, types)
    ]
    module(x)
    for hook in hooks:
        hook.remove()
    return shapes


@pytest.mark.parametrize(
    ("settings", "by_hand"), [(TWO_POOLS, TwoPoolsByHand), (ONE_POOL, OnePoolByHand)]
)
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_well_known_mnist_nets(settings, by_hand, training):
    net, by_hand = CNN(IMAGE, 10, **settings).train(training), by_hand().train(training)
    assert [p.shape for p in net.parameters()] == [p.shape for p in by_hand.parameters()]
    weights = dict(zip(by_hand.state_dict(), net.state_dict().values(), strict=True))
    by_hand.load_state_dict(weights)
    x = torch.rand(4, *IMAGE, generator=torch.Generator().manual_seed(0))

    layers = (nn.Conv2d, nn.Linear)
    assert outputs_by_type(net, x, layers) == outputs_by_type(by_hand, x, layers)
    with torch.random.fork_rng():  # dropout draws from the global generator, in the same order
        torch.manual_seed(0)
        ours = net(x)
        torch.manual_seed(0)
        theirs = by_hand(x)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_gives_size_over_stride_rounded_up(size, stride, kernel, dilation):
    net = CNN(
        (1, size),
        2,
        4,
        kernel_size=kernel,
        stride=stride,
        dilation=dilation,
        pool=None,
        hidden_layer_sizes=(),
    )
    assert net.features(torch.zeros(1, 1, size)).shape == (1, 4, -(-size // stride))


@pytest.mark.parametrize("kernel", [3, 4])
def test_same_padding_is_torch_same_padding(kernel):
    net = CNN((2, 6, 7), 2, 4, kernel_size=kernel, pool=None, activation="identity")
    conv = net.features.conv1
    x = torch.randn(3, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="even kernel") if kernel == 4 else nullcontext():
        expected = F.conv2d(x, conv.weight, conv.bias, padding="same")
    torch.testing.assert_close(net.features(x), expected)


@pytest.mark.parametrize("n_features", [1, 2, 3, 4])
@pytest.mark.parametrize("pool", ["max", "avg", "l2"])
def test_defaults_take_the_smallest_signals(n_features, pool):
    assert CNN((1, n_features), 3, pool=pool)(torch.ones(2, n_features)).shape == (2, 3)


def test_flat_rows_are_reshaped():
    net = CNN((2, 4, 5), 3).eval()
    x = torch.randn(6, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x.flatten(1)), net(x))


def test_channels_last_memory_gives_the_same():
    net = CNN((3, 8, 8), 3).eval()
    x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = net(x)
    net = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last)), expected)


def test_batch_normalization_trains_on_one_value_a_channel():
    net = CNN((1, 1, 1), 2, normalization="batch")
    assert net(torch.ones(1, 1)).isfinite().all()


def test_pickles():
    net = CNN((1, 6), 2, kernel_size=2, pool="l2", normalization="batch").eval()
    x = torch.ones(2, 6)
    torch.testing.assert_close(pickle.loads(pickle.dumps(net))(x), net(x))


@pytest.mark.parametrize("input_shape", [(3, 8), (3, 8, 6)])
def test_channels_last_input(input_shape):
    net = CNN(input_shape, 2).eval()
    last = CNN(input_shape, 2, channels="last").eval()
    last.load_state_dict(net.state_dict())
    x = torch.randn(5, *input_shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(last(x.movedim(1, -1)), net(x))
    torch.testing.assert_close(last(x.movedim(1, -1).flatten(1)), net(x))


def test_refuses_an_unknown_place_of_the_channels():
    with pytest.raises(ValueError, match='channels must be "first" or "last", got'):
        CNN((1, 8), 2, channels="middle")


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"kernel_size": 4}, {"pool": "avg", "stride": 2}])
def test_the_memory_format_changes_no_value(n_channels, settings):
    net = CNN((n_channels, 12, 12), 5, (4, 6), normalization="batch", **settings).double()
    x = torch.rand(7, n_channels * 144, dtype=torch.float64)
    values, gradients = {}, {}
    for memory_format in (torch.contiguous_format, torch.channels_last):
        net.memory_format = memory_format
        net.zero_grad()
        values[memory_format] = net(x)
        values[memory_format].square().sum().backward()
        gradients[memory_format] = [p.grad.clone() for p in net.parameters()]
    torch.testing.assert_close(*values.values())
    for one, other in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(one, other)


def test_images_reach_the_layers_channels_last():
    net = CNN((1, 12, 12), 5, (4,))
    net.memory_format = torch.channels_last
    seen = []
    net.features.pool1.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    net(torch.rand(3, 144))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
