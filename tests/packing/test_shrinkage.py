"""Soft thresholding against its definition as a minimum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.errors import PassError
from toolchain.packing.shrinkage import relative_threshold, soft_threshold


@given(st.floats(-20, 20), st.floats(0, 10))
def test_it_is_the_proximal_operator(coefficient, threshold):
    """It minimizes (x - c)^2 / 2 + threshold |x|: no point of a grid around it, 0 and c is better."""

    def objective(x):
        return np.square(x - coefficient) / 2 + threshold * np.abs(x)

    found = soft_threshold(np.array(coefficient), threshold)
    grid = np.concatenate([np.linspace(-30, 30, 2001), found + np.linspace(-0.01, 0.01, 201), [0, coefficient]])
    assert objective(found) <= objective(grid).min() + 1e-12


def test_known_values():
    values = np.array([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]).reshape(7, 1)
    assert soft_threshold(values, 1.0).tolist() == [[-2.0], [0.0], [0.0], [0.0], [0.0], [0.0], [2.0]]
    assert np.array_equal(soft_threshold(values, 0.0), values)


@given(st.integers(0, 1000))
def test_shrinking_twice_adds_up(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=30)
    a, b = rng.uniform(0, 1, 2)
    twice = soft_threshold(soft_threshold(values, a), b)
    assert np.abs(twice - soft_threshold(values, a + b)).max() < 1e-12


def test_the_threshold_is_relative_to_the_layer():
    values = np.random.default_rng(0).normal(size=(9, 20, 30))
    assert relative_threshold(values, 0.04) == pytest.approx(0.04, rel=0.02)
    assert relative_threshold(values * 1000, 0.04) == pytest.approx(1000 * relative_threshold(values, 0.04))
    small, large = (soft_threshold(v, relative_threshold(v, 0.7)) for v in (values, 1000 * values))
    assert np.array_equal(small == 0, large == 0)
    assert 0.4 < (small == 0).mean() < 0.6  # half of a normal distribution is within 0.67 of its deviation
    assert relative_threshold(np.zeros((3, 0)), 1.0) == 0


@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_negative_thresholds_are_refused(value):
    with pytest.raises(PassError):
        soft_threshold(np.ones(3), value)
    with pytest.raises(PassError):
        relative_threshold(np.ones(3), value)
