"""Second-order statistics against what they stand for: the layer, run."""

import dataclasses

import numpy as np
import pytest

from tests.packing.samples import samples
from toolchain.packing import statistics
from toolchain.packing.basis import Transform
from toolchain.packing.filters import Filters
from toolchain.packing.statistics import Moments

TRANSFORMS = [
    (Transform(), (3, 3), 4),
    (Transform("taps", 3, 3), (3, 3), 4),
    (Transform("taps", 1, 7), (1, 7), 2),
    (Transform("channels", 2, 2), (1, 1), 8),
    (Transform("channels", 1, 4), (2, 2), 8),
]


def close(a, b, tolerance=2e-5):
    """Single precision within chunks."""
    return np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_error_is_that_of_the_outputs(seed, groups):
    """For small, large and no changes; the best bias takes up the means."""
    case = samples(seed, groups=groups, outputs=6)
    found = case.statistics()
    rng = np.random.default_rng([seed, 1])
    for scale in (0, 0.01, 0.3, 10):
        change = scale * rng.normal(size=case.weights.shape)
        assert found.error(change) == pytest.approx(case.error(change), rel=2e-4)
    assert close(found.energy, case.y.var(0))
    assert close(found.residual.sum(), case.error(np.zeros_like(case.weights)), 2e-4)


def test_error_counts_the_outputs_of_the_right_group():
    """A change of one group's weights moves its own outputs only."""
    case = samples(4, groups=3, outputs=6)
    found, base = case.statistics(), case.statistics().residual.sum()
    change = np.zeros_like(case.weights)
    change[1, :, 0] = 1
    alone = case.x[:, 1].sum(1)
    assert found.error(change) - base == pytest.approx(alone.var(), rel=0.05)


def test_a_constant_offset_is_no_error():
    """Inputs that do not vary: their weights may be anything."""
    case = samples(5)
    x = case.x.copy()
    x[:, :, 0] = 7
    case = dataclasses.replace(case, x=x, y=np.einsum("ngk,gkm->ngm", x, case.weights))
    change = np.zeros_like(case.weights)
    change[:, 0] = 5
    assert case.statistics().error(change) < 1e-3 * case.y.var(0).sum()


@pytest.mark.parametrize("groups", [1, 2])
def test_moments_add_up(groups):
    case = samples(6, rows=400, groups=groups)
    whole = Moments.of(case.x, case.y)
    parts = [Moments.of(case.x[a:b], case.y[a:b]) for a, b in ((0, 100), (100, 101), (101, 400), (0, 0))]
    together = parts[0] + parts[1] + parts[2] + parts[3]
    assert together.count == whole.count == 400
    for name in ("xx", "xy", "x", "y", "yy"):
        assert close(getattr(together, name), getattr(whole, name), 1e-6)
    assert close(whole.xx, np.einsum("ngk,ngl->gkl", case.x, case.x), 1e-6)
    assert close(whole.xy, np.einsum("ngk,ngm->gkm", case.x, case.y), 1e-6)


def test_moments_in_chunks(monkeypatch):
    """As many as memory asks for: the same sums."""
    case = samples(7, rows=333, groups=2)
    whole = Moments.of(case.x, case.y)
    monkeypatch.setattr(statistics, "CHUNK", 1000)
    chunked = Moments.of(case.x, case.y)
    for name in ("xx", "xy", "x", "y", "yy"):
        assert close(getattr(chunked, name), getattr(whole, name), 1e-6)
    assert chunked.count == 333


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_moments_of_extreme_values(scale):
    """Squares beyond single precision."""
    case = samples(8, rows=50)
    plain, scaled = Moments.of(case.x, case.y), Moments.of(case.x * scale, case.y * scale)
    assert close(scaled.xx / scale**2, plain.xx, 1e-5)
    assert close(scaled.xy / scale**2, plain.xy, 1e-5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("transform", "taps", "channels"), TRANSFORMS)
def test_transformed_statistics_are_those_of_transformed_inputs(transform, taps, channels, groups):
    case = samples(9, taps=taps, channels=channels, groups=groups)
    moved = case.statistics().transformed(transform, taps[0] * taps[1])
    coefficients = case.filters.grouped(transform.forward(case.filters.weights))
    wanted = Moments.of(transform.along(case.x, taps[0] * taps[1]), case.y).statistics(coefficients)
    assert close(moved.gram, wanted.gram)
    assert np.abs(moved.cross - wanted.cross).max() < 1e-4 * np.abs(wanted.gram @ coefficients).max()
    # And so are the errors of changes, in one domain and in the other.
    change = 0.1 * np.random.default_rng(1).normal(size=case.filters.weights.shape)
    spatial = case.statistics().error(case.filters.grouped(transform.inverse(change)))
    assert moved.error(case.filters.grouped(change)) == pytest.approx(spatial, rel=1e-9)


def test_groups_of_filters():
    """Output o belongs to the group o * groups // outputs."""
    weights = np.arange(2 * 3 * 8).reshape(2, 3, 8)
    filters = Filters(weights, 1, 2, 4)
    grouped = filters.grouped(weights)
    assert grouped.shape == (4, 6, 2)
    for output in range(8):
        assert np.array_equal(grouped[output * 4 // 8, :, output % 2], weights[:, :, output].ravel())
    assert np.array_equal(filters.ungrouped(grouped), weights)
