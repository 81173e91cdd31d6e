import pickle

import pytest
import torch
from torch import nn

from sknets._nn import MLP


def names(module):
    return [name for name, _ in module.layers.named_children()]


def test_equals_the_same_net_written_by_hand():
    net = MLP(8, (5, 3), 4, "tanh")
    by_hand = nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 4))
    by_hand.load_state_dict(dict(zip(by_hand.state_dict(), net.state_dict().values(), strict=True)))
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x), by_hand(x))


def test_linears_are_the_dense_layers_in_order():
    net = MLP(8, (5, 3), 4)
    assert [(layer.in_features, layer.out_features) for layer in net.linears] == [
        (8, 5),
        (5, 3),
        (3, 4),
    ]


def test_no_hidden_layer_is_a_linear_model():
    assert names(MLP(8, (), 4)) == ["output"]


def test_one_number_is_one_hidden_layer():
    assert names(MLP(8, 5, 4)) == ["dense1", "activation1", "output"]


def test_dropout_one_value_or_one_a_layer():
    assert [m.p for m in MLP(8, (5, 3), 4, dropout=0.5).modules() if isinstance(m, nn.Dropout)] == [
        0.5,
        0.5,
    ]
    assert names(MLP(8, (5, 3), 4, dropout=(0.0, 0.2))) == [
        "dense1",
        "activation1",
        "dense2",
        "activation2",
        "dropout2",
        "output",
    ]


@pytest.mark.parametrize(
    ("normalization", "layer"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)]
)
def test_normalization_comes_before_the_activation(normalization, layer):
    net = MLP(8, (5,), 4, normalization=normalization)
    assert names(net) == ["dense1", "norm1", "activation1", "output"]
    assert isinstance(net.layers.norm1, layer)


def test_batch_normalization_trains_on_one_row():
    net = MLP(8, (5,), 4, normalization="batch")
    before = net.layers.norm1.running_mean.clone()
    x = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    logits = net(x)
    assert logits.isfinite().all()
    torch.testing.assert_close(net.layers.norm1.running_mean, before)
    torch.testing.assert_close(logits, net.eval()(x))


def test_pickles():
    net = MLP(8, (5,), 4, "gelu", dropout=0.1, normalization="batch").eval()
    x = torch.ones(2, 8)
    torch.testing.assert_close(pickle.loads(pickle.dumps(net))(x), net(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_layer_sizes": (5, 0)}, r"hidden_layer_sizes must be .* got \(5, 0\)"),
        ({"hidden_layer_sizes": 2.5}, "hidden_layer_sizes must be .* got 2.5"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1, got 1.0"),
        ({"dropout": (0.1, 0.2)}, "dropout must be one value or one for each of the 1 hidden"),
        ({"normalization": "group"}, 'normalization must be None, "batch" or "layer", got'),
        ({"activation": "swish"}, "activation must be one of .* got 'swish'"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        MLP(8, n_outputs=4, **{"hidden_layer_sizes": (5,), **settings})
