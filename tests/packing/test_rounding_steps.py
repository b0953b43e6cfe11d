"""Plain quantization of coefficients, and the whole published way made of the separate steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.errors import PassError
from toolchain.ir import Constant
from toolchain.packing.basis import Transform
from toolchain.packing.clustering import k_means
from toolchain.packing.packed import Clusters, Coding
from toolchain.packing.rounding_steps import power_of_two_steps, quantize_levels
from toolchain.packing.shrinkage import relative_threshold, soft_threshold

TRANSFORMS = [Transform(), Transform("taps", 3, 3), Transform("channels", 2, 2), Transform("taps", 5, 5)]


@given(st.integers(0, 1000))
def test_levels_are_the_nearest_within_the_limit(seed):
    rng = np.random.default_rng(seed)
    coefficients, steps = rng.normal(0, 3, (4, 5, 6)), np.ldexp(1.0, rng.integers(-4, 3, 4))
    levels = quantize_levels(coefficients, steps, 7)
    errors = np.abs(coefficients[..., None] - np.arange(-7, 8) * steps[:, None, None, None])
    assert levels.dtype == np.int64
    assert np.array_equal(levels, errors.argmin(-1) - 7)


def test_ties_and_clips():
    values = np.array([[-9.0, -1.5, -0.5, -0.25, 0.25, 0.5, 1.5, 9.0]])
    assert quantize_levels(values, np.array([1.0]), 3).tolist() == [[-3, -2, -1, 0, 0, 1, 2, 3]]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("step", [0.013, 1.0, 77.0])
def test_steps_are_powers_of_two_near_the_ideal(transform, step):
    steps = power_of_two_steps(transform, step)
    assert np.array_equal(np.frexp(steps)[0], np.full(transform.size, 0.5))
    moved = steps * np.sqrt(np.square(transform.matrix).sum(1))
    assert (moved >= step / np.sqrt(2) * (1 - 1e-12)).all()
    assert (moved <= step * np.sqrt(2) * (1 + 1e-12)).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_error_of_the_kernel(transform):
    """Uniform errors: a mean square of between 1/2 and 2 times step^2 / 12, spread over the block."""
    weights = np.random.default_rng(1).normal(size=(transform.size if transform.kind == "taps" else 1, 64, 32))
    step = 0.05
    steps = power_of_two_steps(transform, step)
    levels = quantize_levels(transform.blocks(transform.forward(weights)), steps, 1 << 16)
    coded = transform.inverse(transform.joined(levels * steps[:, None, None], len(weights)))
    assert 0.5 < np.square(coded - weights).mean() / (step**2 / 12) < 2


def test_the_published_steps_together():
    """Transform, clusters, shrinkage and quantization give a coding whose kernel is close to the given one."""
    rng = np.random.default_rng(2)
    transform = Transform("taps", 3, 3)
    common = rng.normal(size=(8, 9))[rng.integers(0, 8, (16, 32))].transpose(2, 0, 1)
    weights = common + 0.05 * rng.normal(size=common.shape)
    coefficients = transform.blocks(transform.forward(weights))
    steps = power_of_two_steps(transform, 0.05)[:, None, None]
    centres, indices = k_means(coefficients.reshape(9, -1).T, 8)
    levels_of_centres = np.rint(centres / steps[:, 0, 0]).astype(int)
    shared = (levels_of_centres[indices].T.reshape(coefficients.shape)) * steps
    residuals = soft_threshold(coefficients - shared, relative_threshold(coefficients - shared, 0.5))
    levels = quantize_levels(residuals, steps.ravel(), 127)
    shifts = tuple(int(s) for s in np.log2(steps.ravel() / steps.min()))
    clusters = Clusters(Constant(levels_of_centres), Constant(indices.reshape(16, 32)))
    coding = Coding(Constant(levels), transform, shifts, clusters)
    error = np.square(coding.weights() * steps.min() - weights).mean()
    assert error < 0.01 * np.square(weights).mean()
    assert np.count_nonzero(levels) < 0.7 * levels.size
    assert np.count_nonzero(coding.coefficients) > 0.9 * levels.size  # without clusters nearly nothing is 0


@pytest.mark.parametrize("step", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_steps(step):
    with pytest.raises(PassError):
        power_of_two_steps(Transform(), step)


def test_impossible_quantization():
    for steps, limit in ((np.ones(2), 3), (np.array([1.0, 0, 1]), 3), (np.ones(3), 0)):
        with pytest.raises(PassError):
            quantize_levels(np.ones((3, 4)), steps, limit)
