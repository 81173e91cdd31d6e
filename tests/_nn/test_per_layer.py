import numpy as np
import pytest

from sknets._nn import CNN, MLP


@pytest.mark.parametrize("sizes", [(5, 3), [5, 3], np.array([5, 3])])
def test_sizes_come_in_any_sequence(sizes):
    net = MLP(4, sizes, 2)
    assert [layer.out_features for layer in net.linears] == [5, 3, 2]


@pytest.mark.parametrize("sizes", [5, np.int64(5), (5,)])
def test_one_number_is_a_sequence_of_one(sizes):
    assert [layer.out_features for layer in MLP(4, sizes, 2).linears] == [5, 2]


def test_a_tuple_is_one_entry_a_layer_and_a_tuple_in_it_one_value_an_axis():
    net = CNN((1, 9, 9), 2, (4, 4), kernel_size=(5, (1, 3)))
    assert net.features.conv1.kernel_size == (5, 5)
    assert net.features.conv2.kernel_size == (1, 3)


@pytest.mark.parametrize("value", [True, "3", 3.0, None])
def test_only_integers_are_sizes(value):
    with pytest.raises(ValueError, match="kernel_size must be an integer of at least 1"):
        CNN((1, 9), 2, kernel_size=value)


@pytest.mark.parametrize("value", [-0.1, 1, "0.5", True, float("nan")])
def test_only_rates_below_one_are_rates(value):
    with pytest.raises(ValueError, match="dropout must be at least 0 and less than 1, got"):
        MLP(4, (), 2, dropout=value)
