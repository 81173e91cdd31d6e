"""Random numbers come from one source, and torch's and NumPy's global ones stay untouched."""

import threading

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn

from sknets._core import (
    SeededRandom,
    SeededRandomOfEach,
    fill_dropout_mask_,
    make_generator,
    make_random_state,
)


@pytest.fixture(autouse=True)
def _global_generators_stay():
    numpy_before, torch_before = np.random.get_state(), torch.get_rng_state()
    yield
    assert_array_equal(np.random.get_state()[1], numpy_before[1])
    assert np.random.get_state()[2] == numpy_before[2]
    assert_array_equal(torch.get_rng_state(), torch_before)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_random_state_means_what_it_means_in_scikit_learn():
    assert make_random_state(3).randint(1000) == np.random.RandomState(3).randint(1000)
    given = np.random.RandomState(0)
    assert make_random_state(given) is given
    with pytest.raises(ValueError, match="cannot be used to seed"):
        make_random_state("seed")


def test_none_is_fresh_entropy():
    draws = {make_random_state(None).randint(2**31) for _ in range(8)}
    assert len(draws) > 1


def test_a_generator_is_seeded_by_one_draw():
    random_state = np.random.RandomState(0)
    first = make_generator(random_state)
    same = make_generator(np.random.RandomState(0))
    assert first.initial_seed() == same.initial_seed()
    after_one_draw = np.random.RandomState(0)
    after_one_draw.randint(2**31 - 1)
    assert random_state.randint(1000) == after_one_draw.randint(1000)
    assert make_generator(random_state).initial_seed() != first.initial_seed()


DRAWS = {
    "rand": lambda x: torch.rand(5),
    "randn": lambda x: torch.randn(5),
    "randint": lambda x: torch.randint(10, (5,)),
    "randperm": lambda x: torch.randperm(5),
    "normal": lambda x: torch.normal(0.0, 1.0, (5,)),
    "bernoulli": lambda x: torch.bernoulli(torch.full((50,), 0.5)),
    "multinomial": lambda x: torch.multinomial(torch.ones(50), 5),
    "rand_like": torch.rand_like,
    "randn_like": torch.randn_like,
    "uniform_": lambda x: x.clone().uniform_(),
    "normal_": lambda x: x.clone().normal_(),
    "exponential_": lambda x: x.clone().exponential_(),
    "dropout": lambda x: nn.functional.dropout(x),
    "nn.Dropout": lambda x: nn.Dropout()(x),
    "nn.Dropout2d": lambda x: nn.Dropout2d()(x),
    "nn.AlphaDropout": lambda x: nn.AlphaDropout()(x),
    "nn.FeatureAlphaDropout": lambda x: nn.FeatureAlphaDropout()(x),
    "gumbel_softmax": nn.functional.gumbel_softmax,
    "nn.Linear": lambda x: nn.Linear(4, 4).weight.detach(),
    "nn.Conv2d": lambda x: nn.Conv2d(2, 2, 3).weight.detach(),
    "orthogonal_": lambda x: nn.init.orthogonal_(torch.empty(4, 4)),
    "trunc_normal_": lambda x: nn.init.trunc_normal_(torch.empty(4, 4)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_follow_the_generator(name):
    x = torch.ones(2, 8, 3, 3)

    def draw(seed):
        with SeededRandom(generator(seed)):
            return DRAWS[name](x)

    assert_array_equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_two_draws_differ():
    with SeededRandom(generator()):
        assert not torch.equal(torch.rand(5), torch.rand(5))


def test_a_generator_given_by_hand_wins():
    with SeededRandom(generator(0)):
        own = torch.rand(5, generator=generator(7))
    assert_array_equal(own, torch.rand(5, generator=generator(7)))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_keeps_the_mean(p):
    x = torch.ones(200, 200)
    with SeededRandom(generator()):
        dropped = nn.functional.dropout(x, p)
    kept = dropped != 0
    assert abs(float(kept.float().mean()) - (1 - p)) < 0.02
    if p < 1:
        assert torch.allclose(dropped[kept], torch.tensor(1 / (1 - p)), rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.2, 0.5, 0.75, 0.99, 0.999])
def test_dropout_masks_have_their_rate_and_mean(rate, dtype):
    mask = fill_dropout_mask_(torch.empty(1001, 1003, dtype=dtype), rate, generator())
    dropped = (mask == 0).double()
    deviation = (rate * (1 - rate) / mask.numel()) ** 0.5
    assert abs(float(dropped.mean()) - rate) < 4 * deviation + 2**-17
    kept = mask[mask != 0].double()
    assert_array_equal(kept, kept[0].expand(len(kept)))
    precision = torch.finfo(dtype).eps
    assert float(kept[0]) == pytest.approx(1 / (1 - rate), rel=max(precision, 2**-17 / (1 - rate)))
    # Neighbours, which share a draw, are independent.
    together = (dropped[:, 1:] * dropped[:, :-1]).mean()
    assert abs(float(together) - rate**2) < 6 * deviation + 2**-16


def test_a_mask_of_any_strides_is_filled():
    mask = torch.full((3, 10), -1.0)
    fill_dropout_mask_(mask[:, ::2], 0.5, generator())
    assert_array_equal(mask[:, 1::2], torch.full((3, 5), -1.0))
    assert set(mask[:, ::2].unique().tolist()) <= {0.0, 2.0}
    assert_array_equal(mask[:, ::2], fill_dropout_mask_(torch.empty(3, 5), 0.5, generator()))


def test_dropout_does_nothing_in_evaluation():
    x = torch.ones(5, 5)
    with SeededRandom(generator()):
        assert nn.functional.dropout(x, 0.5, training=False) is x
        assert_array_equal(nn.Dropout(0.5).eval()(x), x)


@pytest.mark.parametrize(
    ("dropout", "shape"),
    [(nn.Dropout1d, (4, 6, 5)), (nn.Dropout2d, (4, 6, 5, 3)), (nn.Dropout3d, (4, 6, 2, 3, 2))],
)
def test_spatial_dropout_drops_whole_channels(dropout, shape):
    with SeededRandom(generator()):
        dropped = dropout(0.5)(torch.ones(shape)).flatten(2)
    assert ((dropped == 0).all(2) | (dropped == 2).all(2)).all()
    assert (dropped == 0).any()
    assert (dropped == 2).any()


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout"])
def test_alpha_dropout_gives_the_numbers_of_torch(name, p):
    """The same two values, kept or dropped, in about the same shares."""
    x = torch.full((60, 70, 3), 0.4, dtype=torch.float64)
    drop = getattr(nn.functional, name)
    with torch.random.fork_rng():
        expected = drop(x, p, training=True)
    with SeededRandom(generator()):
        actual = drop(x, p, training=True)
        assert torch.equal(drop(x, p, training=False), x)
    torch.testing.assert_close(actual.unique(), expected.unique())
    assert abs(float((actual == actual.max()).double().mean()) - (1 - p)) < 0.03 or p == 1
    by_channel = bool((actual == actual[:, :, :1]).all())
    assert by_channel == (name == "feature_alpha_dropout" or p in (0, 1))


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax_has_the_shares_and_the_gradient_of_torch(hard):
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(4000, 3).clone().requires_grad_()
    with SeededRandom(generator()):
        drawn = nn.functional.gumbel_softmax(logits, tau=0.5, hard=hard)
    torch.testing.assert_close(drawn.sum(1), torch.ones(4000))
    assert bool(((drawn == 0) | (drawn == 1)).all()) == hard
    share = torch.softmax(logits[0].detach(), 0)
    winners = torch.bincount(drawn.argmax(1), minlength=3) / 4000
    torch.testing.assert_close(winners, share, atol=0.03, rtol=0)
    (drawn @ torch.arange(3.0)).sum().backward()
    assert logits.grad.abs().sum() > 0


def test_dropout_in_place_and_its_gradient():
    x = torch.ones(6, 6)
    with SeededRandom(generator()):
        assert nn.functional.dropout(x, 0.5, inplace=True) is x
    assert set(x.unique().tolist()) == {0.0, 2.0}
    w = torch.ones(6, 6, requires_grad=True)
    with SeededRandom(generator()):
        dropped = nn.functional.dropout(w, 0.5)
    dropped.sum().backward()
    assert_array_equal(w.grad, dropped.detach())


def test_threads_do_not_disturb_each_other():
    def draws(seed):
        with SeededRandom(generator(seed)):
            return [torch.rand(3) for _ in range(200)]

    alone = [draws(seed) for seed in range(4)]
    together = [None] * 4

    def work(seed):
        together[seed] = draws(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for first, second in zip(alone, together, strict=True):
        assert_array_equal(torch.stack(first), torch.stack(second))


@pytest.mark.parametrize("rates", [0.4, (0.1, 0.4, 0.6)])
@pytest.mark.parametrize(
    "draw",
    [
        lambda x, rate: nn.functional.dropout(x, rate),
        lambda x, rate: nn.functional.dropout2d(x, rate),
        lambda x, rate: x + torch.rand_like(x) * torch.randn_like(x),
        lambda x, rate: nn.functional.alpha_dropout(x, 0.4, training=True),
        lambda x, rate: nn.functional.gumbel_softmax(x, hard=True),
    ],
    ids=["dropout", "dropout2d", "rand_like", "alpha_dropout", "gumbel_softmax"],
)
def test_each_net_draws_what_it_draws_alone(draw, rates):
    x = torch.arange(3 * 2 * 4 * 5 * 5.0).view(3, 2, 4, 5, 5)
    alone = []
    for i in range(3):
        with SeededRandom(generator(i)):
            alone.append(draw(x[i], rates[i] if isinstance(rates, tuple) else rates))

    def call(x, number):
        with SeededRandomOfEach([generator(i) for i in range(3)], number):
            return draw(x, rates)

    together = torch.func.vmap(call)(x, torch.arange(3))
    assert_array_equal(together, torch.stack(alone))


def test_what_cannot_be_drawn_for_each_net_is_refused():
    def call(x):
        with SeededRandomOfEach([generator(), generator(1)], x):
            return x + torch.rand(())

    with pytest.raises(NotImplementedError, match="random numbers by rand"):
        torch.func.vmap(call)(torch.ones(2))
