import pytest
import torch
from torch import nn

from sknets._engine import FlatParameters
from sknets._nn import MLP


def fill(module):
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.copy_(torch.arange(p.numel(), dtype=p.dtype).view(p.shape) + 100.0 * i)
    return module


class Tied(nn.Module):
    """Two dense layers that are one weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class OwnWeights(nn.Module):
    """A user's layer that holds its parameters itself."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(4, 3))
        self.scale = nn.Parameter(torch.ones(4))


def test_values_stay_and_are_views_of_the_vector():
    module = fill(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    flat = FlatParameters(module)
    for name, p in module.named_parameters():
        torch.testing.assert_close(p.detach(), before[name])
    with torch.no_grad():
        flat.vector.fill_(7.0)
        flat.vector.grad.fill_(3.0)
    for p in module.parameters():
        assert (p == 7.0).all()
        assert (p.grad == 3.0).all()
    assert len(flat.vector) == sum(p.numel() for p in module.parameters())


def test_backward_and_steps_keep_the_views():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    flat = FlatParameters(module)
    optimiser = torch.optim.SGD([flat.vector], lr=0.1)
    for _ in range(3):
        flat.vector.grad.zero_()
        module(torch.ones(5, 3)).square().sum().backward()
        optimiser.step()
    joined = torch.cat([p.detach().flatten() for p in flat.parameters])
    torch.testing.assert_close(joined, flat.vector.detach(), rtol=0, atol=0)
    grads = torch.cat([p.grad.flatten() for p in flat.parameters])
    torch.testing.assert_close(grads, flat.vector.grad, rtol=0, atol=0)
    assert grads.abs().sum() > 0


def test_release_gives_memory_of_its_own():
    module = fill(nn.Linear(3, 2))
    weight = module.weight.detach().clone()
    flat = FlatParameters(module)
    flat.release()
    with torch.no_grad():
        flat.vector.fill_(-1.0)
    torch.testing.assert_close(module.weight.detach(), weight)
    assert module.weight.grad is None
    assert module.weight.untyped_storage().nbytes() == module.weight.numel() * 4
    assert isinstance(module.weight, nn.Parameter)


@pytest.mark.parametrize(
    ("module", "penalised"),
    [
        (nn.Linear(3, 4), {"weight"}),
        (nn.Conv2d(2, 3, 3), {"weight"}),
        (nn.BatchNorm1d(4), set()),
        (nn.LayerNorm((3, 4)), set()),
        (nn.GroupNorm(1, 4), set()),
        (nn.Embedding(5, 3), {"weight"}),
        (nn.Bilinear(2, 3, 4), {"weight"}),
        (nn.LSTM(2, 3), {"weight_ih_l0", "weight_hh_l0"}),
        (nn.MultiheadAttention(4, 2), {"in_proj_weight", "out_proj.weight"}),
        (nn.PReLU(), set()),
        (OwnWeights(), {"matrix"}),
    ],
    ids=lambda v: type(v).__name__,
)
def test_the_penalty_falls_on_weights_of_layers_only(module, penalised):
    fill(module)
    flat = FlatParameters(module)
    expected = [p.detach().flatten() for n, p in module.named_parameters() if n in penalised]
    expected = torch.cat(expected) if expected else torch.empty(0)
    torch.testing.assert_close(flat.penalised.sort().values, expected.sort().values)
    assert flat.penalised.data_ptr() == flat.vector.data_ptr() or not penalised
    assert flat.penalised_grad.shape == flat.penalised.shape


def test_tied_weights_stay_tied_and_count_once():
    module = Tied()
    flat = FlatParameters(module)
    assert len(flat.vector) == 9 + 3 + 3
    assert len(flat.penalised) == 9
    module(torch.ones(1, 3)).sum().backward()
    assert flat.penalised_grad.abs().sum() > 0
    flat.release()
    assert module.second.weight is module.first.weight


def test_frozen_weights_are_neither_trained_nor_penalised():
    module = fill(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    module[0].requires_grad_(False)
    frozen = module[0].weight
    flat = FlatParameters(module)
    assert len(flat.vector) == 4 * 2 + 2
    assert len(flat.penalised) == 4 * 2
    with torch.no_grad():
        flat.vector.zero_()
    assert module[0].weight is frozen
    assert frozen.abs().sum() > 0
    flat.release()
    assert not frozen.requires_grad


def test_a_snapshot_holds_weights_and_running_statistics():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    flat = FlatParameters(module)
    snapshot = flat.snapshot()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        flat.vector.fill_(9.0)
    assert module[1].num_batches_tracked == 1
    flat.restore(snapshot)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert (module[0].weight == flat.vector[: 4 * 3].view(4, 3)).all()


def test_a_dense_nets_first_weights_lie_by_input():
    net = fill(MLP(3, (4, 5), 2, "tanh"))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    flat = FlatParameters(net)
    first = net.linears[0].weight
    assert first.stride() == (1, 4)
    assert all(p.is_contiguous() for p in net.parameters() if p is not first)
    values = torch.arange(len(flat.vector), dtype=torch.float32)
    stacked = torch.stack([values, values + 1000.0])
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.detach(), before[name], rtol=0, atol=0)
        part = flat.part(stacked, p)
        assert part.shape == (2, *p.shape)
        torch.testing.assert_close(part[0], flat.part(values, p), rtol=0, atol=0)
        torch.testing.assert_close(part[1], part[0] + 1000.0, rtol=0, atol=0)
    flat.release()
    assert net.linears[0].weight.is_contiguous()


def test_a_net_without_hidden_layers_lies_as_it_is():
    net = MLP(3, (), 2, "tanh")
    FlatParameters(net)
    assert net.linears[0].weight.is_contiguous()


def test_a_copy_of_the_module_with_other_weights():
    module = fill(MLP(3, (4,), 2, dropout=0.5))
    flat = FlatParameters(module)
    values = flat.vector.detach() + 1000.0
    before = flat.vector.detach().clone()
    copied = flat.module_with(values).eval()
    assert repr(copied) == repr(module)
    assert module.training
    assert not any(layer.training for layer in copied.modules())
    for mine, theirs in zip(copied.parameters(), module.parameters(), strict=True):
        assert torch.equal(mine, theirs + 1000.0)
        assert mine.is_contiguous()
        assert mine.requires_grad
        assert mine.grad is None
    with torch.no_grad():
        for p in copied.parameters():
            p.zero_()
    assert torch.equal(flat.vector, before)
    assert torch.equal(values, before + 1000.0)
    copied.layers.register_module("more", nn.Identity())
    copied.layers[0].register_forward_hook(lambda *args: None)
    assert len(module.layers) + 1 == len(copied.layers)
    assert not module.layers[0]._forward_hooks
