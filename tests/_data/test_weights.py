"""Sample weights and class weights."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sknets._data import check_sample_weight, combine_weights

Y = np.array(["a", "b", "b", "b"])
CLASSES = np.array(["a", "b"])


def test_none_stays_none():
    assert check_sample_weight(None, 4) is None
    assert combine_weights(None, None, Y, CLASSES) is None


@pytest.mark.parametrize("wrap", [list, np.array, pd.Series, torch.tensor, tuple])
def test_weights_in_any_container(wrap):
    assert_array_equal(check_sample_weight(wrap([1, 0, 2, 3]), 4), [1, 0, 2, 3])


def test_float32_stays_and_the_rest_is_float64():
    assert check_sample_weight(np.ones(4, dtype=np.float32), 4).dtype == np.float32
    for dtype in (np.float64, np.int8, np.float16, bool):
        assert check_sample_weight(np.ones(4, dtype=dtype), 4).dtype == np.float64


def test_the_first_negative_weight_is_named():
    with pytest.raises(ValueError, match=r"negative values, got -2\.0 for row 1"):
        check_sample_weight([1, -2, -3, 1], 4)


@pytest.mark.parametrize("weights", [[0] * 4, [1] * 3, [np.nan] * 4, [np.inf] * 4, [[1]] * 4])
def test_rules(weights):
    with pytest.raises(ValueError, match=r"(?i)sample.weight"):
        check_sample_weight(weights, 4)


def test_class_weights_multiply_sample_weights():
    sample_weight = np.array([1.0, 2.0, 3.0, 4.0])
    kept = sample_weight.copy()
    combined = combine_weights(sample_weight, {"a": 10, "b": 0.5}, Y, CLASSES)
    assert_allclose(combined, [10, 1, 1.5, 2])
    assert_array_equal(sample_weight, kept)


def test_balanced_gives_each_class_the_same_total():
    balanced = combine_weights(None, "balanced", Y, CLASSES)
    assert_allclose(balanced.sum(), 4)
    assert_allclose(balanced[Y == "a"].sum(), balanced[Y == "b"].sum())


def test_a_class_left_out_weighs_one():
    assert_allclose(combine_weights(None, {"b": 3}, Y, CLASSES), [1, 3, 3, 3])


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({"z": 1.0}, r"must name classes of y.*'z'"),
        ({"a": -1.0}, r"must not be negative, got \{'a': -1.0"),
        ({"a": np.nan}, r"must be finite.*nan"),
        ({"a": 0.0, "b": 0.0}, "at least one value above zero"),
    ],
)
def test_class_weights_rules(class_weight, message):
    with pytest.raises(ValueError, match=message):
        combine_weights(None, class_weight, Y, CLASSES)


def test_weights_that_cancel_are_refused():
    with pytest.raises(ValueError, match="zero in all 4 rows"):
        combine_weights(np.array([0.0, 1, 1, 1]), {"b": 0.0}, Y, CLASSES)
