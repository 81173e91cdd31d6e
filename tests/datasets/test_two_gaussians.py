"""The sample of two Gaussians and the truth that comes with it."""

import numpy as np
import pytest
from scipy import stats

from sknets.datasets import make_two_gaussians


def test_shapes_and_types():
    sample = make_two_gaussians(n_samples=50, n_features=3, random_state=0)
    assert sample.X.shape == (50, 3)
    assert sample.X.dtype == np.float64
    assert set(sample.y) == {0, 1}
    assert sample.coef.shape == (3,)
    assert isinstance(sample.intercept, float)


def test_true_weights_are_bayes_rule():
    means = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 2.0]])
    sample = make_two_gaussians(20, 3, means=means, random_state=0)
    densities = [stats.multivariate_normal(mean).logpdf(sample.X) for mean in means]
    np.testing.assert_allclose(
        sample.X @ sample.coef + sample.intercept, densities[1] - densities[0], rtol=1e-10
    )


@pytest.mark.parametrize("distance", [0.0, 1.0, 3.5])
def test_distance_is_between_the_means(distance):
    sample = make_two_gaussians(10, 5, distance=distance, random_state=0)
    assert np.linalg.norm(sample.means[1] - sample.means[0]) == pytest.approx(distance)
    assert sample.intercept == 0.0


def test_bayes_accuracy_is_that_of_the_true_weights():
    n = 200_000
    sample = make_two_gaussians(n, 2, means=[[0, 0], [1, 1]], random_state=0)
    found = np.mean((sample.X @ sample.coef + sample.intercept > 0) == sample.y)
    error = np.sqrt(sample.bayes_accuracy * (1 - sample.bayes_accuracy) / n)
    assert abs(found - sample.bayes_accuracy) < 4 * error


def test_moments_are_those_of_the_classes():
    n = 40_000
    sample = make_two_gaussians(n, 2, means=[[-1, 0], [2, 3]], random_state=1)
    assert abs(sample.y.mean() - 0.5) < 4 * 0.5 / np.sqrt(n)
    for label, mean in enumerate(sample.means):
        rows = sample.X[sample.y == label]
        np.testing.assert_allclose(rows.mean(axis=0), mean, atol=5 / np.sqrt(len(rows)))
        np.testing.assert_allclose(np.cov(rows.T), np.eye(2), atol=8 / np.sqrt(len(rows)))


def test_random_state_repeats():
    a, b = (make_two_gaussians(30, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(a.X, b.X)
    np.testing.assert_array_equal(a.y, b.y)
    assert not np.array_equal(a.X, make_two_gaussians(30, random_state=4).X)


def test_global_generator_is_untouched():
    before = np.random.get_state()[1].copy()
    make_two_gaussians(10, random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_samples": 0}, "n_samples must be an integer of at least 1, got 0"),
        ({"n_features": 1.5}, "n_features must be an integer of at least 1, got 1.5"),
        ({"distance": -1}, "distance must be a finite number of at least 0, got -1"),
        ({"means": [[0, 0, 0], [1, 1, 1]]}, r"means must have shape .* got \(2, 3\)"),
        ({"means": [[0, np.nan], [1, 1]]}, "means must be finite"),
    ],
)
def test_wrong_parameters(wrong, message):
    with pytest.raises(ValueError, match=message):
        make_two_gaussians(**wrong)
