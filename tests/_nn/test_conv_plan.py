"""What the plan says of a net equals what the net does, and a net that cannot be is refused."""

import pytest
import torch

from sknets._nn import CNN, layer_shapes

TWO_POOLS = {
    "conv_channels": (10, 20),
    "kernel_size": 5,
    "padding": "valid",
    "hidden_layer_sizes": (50,),
}
ONE_POOL = {"conv_channels": (32, 64), "padding": "valid", "pool": (None, "max")}


@pytest.mark.parametrize(("settings", "n"), [(TWO_POOLS, 21_840), (ONE_POOL, 1_199_882)])
def test_layer_shapes_count_the_well_known_nets(settings, n):
    assert sum(row.n_parameters for row in layer_shapes((1, 28, 28), 10, **settings)) == n


SETTINGS = [
    {},
    {"conv_channels": 4, "pool": None},
    {"conv_channels": (), "hidden_layer_sizes": ()},
    {"kernel_size": 4, "stride": 2},
    {"kernel_size": (5, 2), "stride": (2, 3), "pool": ("avg", None)},
    {"kernel_size": 3, "dilation": (1, 2), "padding": ("valid", 3)},
    {"normalization": "batch", "pool": "l2", "pool_size": 3, "hidden_layer_sizes": (8, 4)},
    {"normalization": "layer", "kernel_size": [2, 3], "padding": [1, "same"]},
    {"pool_size": 50},
]
PER_AXIS = [
    {"kernel_size": (5, (1, 4)), "stride": ((2, 1), 1), "pool_size": ((1, 2), 2)},
    {"kernel_size": 3, "padding": ((0, 1), "same"), "dilation": ((3, 1), 1)},
]


@pytest.mark.parametrize(
    ("input_shape", "settings"),
    [(shape, s) for shape in [(2, 13), (3, 12, 9)] for s in SETTINGS]
    + [((3, 12, 9), s) for s in PER_AXIS],
)
def test_layer_shapes_equal_the_modules(input_shape, settings):
    net = CNN(input_shape, 5, **settings)
    rows = layer_shapes(input_shape, 5, **settings)
    seen = {}
    for row in rows:
        layer = net.get_submodule(row.name)
        layer.register_forward_hook(
            lambda _m, _i, out, name=row.name: seen.update({name: tuple(out.shape[1:])})
        )
        assert sum(p.numel() for p in layer.parameters()) == row.n_parameters
    net(torch.zeros(2, *input_shape))
    assert seen == {row.name: row.output_shape for row in rows}
    assert sum(p.numel() for p in net.parameters()) == sum(row.n_parameters for row in rows)


@pytest.mark.parametrize("function", [CNN, layer_shapes])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"padding": "valid", "conv_channels": (4, 4, 4)}, r"conv3 shrinks to nothing.*got 1 x 1"),
        ({"padding": "valid", "kernel_size": (3, 8)}, r"conv2 .* at least 8 x 8, got 4 x 4"),
        ({"padding": "valid", "kernel_size": 9, "dilation": 2}, r"conv1 .*17 x 17, got 10 x 10"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be one value or one for each of the 2"),
        ({"kernel_size": (3, (3, 3, 3))}, r"kernel_size must be .* got \(3, 3, 3\)"),
        ({"stride": 0}, "stride must be an integer of at least 1.*got 0"),
        ({"dilation": 1.5}, "dilation must be an integer .* got 1.5"),
        ({"padding": "full"}, 'padding must be "same", "valid" or an integer, got'),
        ({"padding": -1}, "padding must be an integer of at least 0.* got -1"),
        ({"pool": ("max", "sum")}, "pool must be None or one of .* got 'sum'"),
        ({"pool_size": (2, 0)}, "pool_size must be .* got 0"),
        ({"conv_dropout": (0.1, 1.5)}, "conv_dropout must be at least 0 and less than 1"),
        ({"conv_channels": (4, -4)}, r"conv_channels must be .* got \(4, -4\)"),
        ({"hidden_layer_sizes": (0,)}, r"hidden_layer_sizes must be .* got \(0,\)"),
        ({"normalization": "none"}, "normalization must be None"),
        ({"input_shape": (10,)}, r"input_shape must be \(channels, length\) .* got \(10,\)"),
        ({"input_shape": (0, 10)}, r"input_shape must be integers of at least 1, got \(0, 10\)"),
    ],
)
def test_refuses(function, settings, message):
    settings = {"input_shape": (1, 10, 10), "n_outputs": 3, **settings}
    with pytest.raises(ValueError, match=message):
        function(**settings)
