import pytest
import torch
from torch import nn

from sknets._nn import CNN, MLP


def norm_of(net):
    return next(m for m in net.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d))


NETS = {
    "rows": lambda: MLP(6, (5,), 2, normalization="batch"),
    "signals": lambda: CNN((6, 1), 2, 4, hidden_layer_sizes=(), normalization="batch"),
    "images": lambda: CNN((6, 1, 1), 2, 4, hidden_layer_sizes=(), normalization="batch"),
}


@pytest.mark.parametrize("kind", sorted(NETS))
def test_one_value_a_channel_is_normalised_by_the_running_statistics(kind):
    net = NETS[kind]()
    generator = torch.Generator().manual_seed(0)
    net(torch.randn(20, 6, generator=generator))
    norm = norm_of(net)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    x = torch.randn(1, 6, generator=generator)
    logits = net(x)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    torch.testing.assert_close(logits, net.eval()(x))


@pytest.mark.parametrize("kind", sorted(NETS))
def test_a_batch_is_normalised_as_torch_does(kind):
    net = NETS[kind]()
    norm = norm_of(net)
    seen = {}
    norm.register_forward_hook(lambda _m, args, out: seen.update(x=args[0], y=out))
    net(torch.randn(20, 6, generator=torch.Generator().manual_seed(0)))
    by_hand = (nn.BatchNorm2d if kind == "images" else nn.BatchNorm1d)(norm.num_features)
    torch.testing.assert_close(seen["y"], by_hand(seen["x"]))
    torch.testing.assert_close(norm.running_var, by_hand.running_var)


def test_layer_normalisation_takes_each_image_alone():
    net = CNN((2, 4, 4), 3, normalization="layer")
    x = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x)[:1], net(x[:1]))
