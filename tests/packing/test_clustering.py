"""k-means, and clusters that change no coefficient and are taken where they make the layer smaller."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.packing.codings import random_coding
from toolchain.errors import PassError
from toolchain.ir import Constant
from toolchain.packing.basis import Transform
from toolchain.packing.choice import coded_bits, estimated_bits
from toolchain.packing.clustering import MOST_BLOCKS, can_cluster, cluster_bits, clustered, k_means
from toolchain.packing.container import Tensor, describe, pack, unpack
from toolchain.packing.packed import Coding, Packed

TAPS = Transform("taps", 3, 3)


def squared_error(points, centres, indices):
    return np.square(points - centres[indices]).sum()


def prototypes(seed=0, count=16, blocks=(32, 64), density=0.1):
    """A coding whose blocks are a few patterns and sparse noise."""
    rng = np.random.default_rng(seed)
    patterns = rng.integers(-20, 21, (count, 9))
    levels = patterns[rng.integers(0, count, blocks)].transpose(2, 0, 1)
    noise = rng.integers(-3, 4, levels.shape) * (rng.random(levels.shape) < density)
    return Coding(Constant(levels + noise), TAPS, (1, 0, 0) * 3)


def noisy(seed=0, blocks=(32, 64)):
    """A coding without clusters: independent levels as trained layers have them."""
    levels = np.rint(np.random.default_rng(seed).laplace(0, 3, (9, *blocks))).astype(int)
    return Coding(Constant(levels), TAPS, (0,) * 9)


def bits(coding):
    shared = cluster_bits(coding.clusters) if coding.clusters else 0
    return estimated_bits(coding.levels.array) + shared


# k-means.


@given(st.integers(0, 500), st.integers(1, 12))
def test_what_lloyd_ends_with(seed, count):
    """Each vector has its nearest centre, each centre is the mean of its own, none is idle."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(40, 3)).round(rng.integers(0, 4))
    centres, indices = k_means(points, count, seed)
    assert len(centres) <= count
    assert len(centres) == min(count, len(np.unique(points, axis=0)))
    distances = np.square(points[:, None] - centres).sum(2)
    assert np.allclose(distances[np.arange(40), indices], distances.min(1))
    for k, centre in enumerate(centres):
        assert np.allclose(points[indices == k].mean(0), centre)


def test_separate_clusters_are_found():
    rng = np.random.default_rng(3)
    true = rng.normal(0, 100, (10, 9))
    labels = rng.integers(0, 10, 2000)
    points = true[labels] + rng.normal(size=(2000, 9))
    found = [squared_error(points, *k_means(points, 10, seed)) for seed in range(5)]
    assert min(found) < 1.05 * np.square(points - true[labels]).sum()
    assert max(found) < 0.3 * squared_error(points, *k_means(points, 5))


def test_more_centres_are_closer():
    points = np.random.default_rng(4).normal(size=(500, 4))
    errors = [squared_error(points, *k_means(points, count)) for count in (1, 4, 16, 64, 500)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(np.square(points - points.mean(0)).sum())
    assert errors[-1] == 0


def test_it_is_deterministic():
    points = np.random.default_rng(5).normal(size=(300, 9))
    first, again, other = (k_means(points, 16, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_few_different_vectors_give_few_centres():
    points = np.repeat(np.array([[0, 0], [5, 5], [9, 0]]), 7, axis=0)
    centres, indices = k_means(points, 16)
    assert np.array_equal(centres[indices], points)
    assert len(centres) == 3
    assert len(k_means(np.ones((4, 2)), 2)[0]) == 1


def test_empty_clusters_get_the_farthest_points(monkeypatch):
    """Equal starts, of which only the first gets points."""
    points = np.array([[0.0], [1.0], [2.0], [50.0], [51.0], [100.0]])
    monkeypatch.setattr("toolchain.packing.clustering._start", lambda *_: np.zeros((3, 1)))
    centres, indices = k_means(points, 3)
    assert sorted(centres.ravel().tolist()) == [1.0, 50.5, 100.0]
    assert np.bincount(indices).tolist() in ([3, 1, 2], [3, 2, 1])


@pytest.mark.parametrize(("shape", "count"), [((0, 3), 2), ((3, 3), 0), ((3,), 1)])
def test_impossible_clusters(shape, count):
    with pytest.raises(PassError):
        k_means(np.ones(shape), count)


# Clusters of levels.


@pytest.mark.parametrize("number", range(24))
def test_nothing_is_lost(number):
    """Of any coding, clustered ones too: the same coefficients and weights, through the container as well."""
    coding = random_coding(np.random.default_rng(number), number)
    if not can_cluster(coding):
        with pytest.raises(PassError):
            clustered(coding)
        return
    found = clustered(coding, 1 + number % 16)
    assert np.array_equal(found.coefficients, coding.coefficients)
    assert np.array_equal(found.weights(), coding.weights())
    assert (found.transform, found.shifts, found.rounded) == (coding.transform, coding.shifts, coding.rounded)
    assert 1 <= len(found.clusters.centres.array) <= 1 + number % 16
    assert np.array_equal(np.unique(found.clusters.indices.array), np.arange(len(found.clusters.centres.array)))
    packed = Packed(found, found.levels.shape)
    (back,) = unpack(pack([Tensor("weights", packed)])[0])
    assert back.constant == packed


def test_most_random_codings_can_be_clustered():
    """Else the test above tests nothing."""
    possible = [can_cluster(random_coding(np.random.default_rng(n), n)) for n in range(24)]
    assert sum(possible) >= 12


def test_the_stored_size():
    """Bits of centres and indices are those of the container, but for its padding to bytes."""
    for coding in (prototypes(), prototypes(1, 5, (3, 7)), noisy(), prototypes(2, 1)):
        found = clustered(coding)
        (stored,) = describe(pack([Tensor("weights", Packed(found, found.levels.shape))])[0])
        parts = stored.parts["centres"] + stored.parts["cluster_indices"]
        assert 0 <= parts - cluster_bits(found.clusters) < 16
    assert len(clustered(prototypes(2, 1, density=0)).clusters.centres.array) == 1


@pytest.mark.parametrize("seed", range(4))
def test_true_clusters_are_detected(seed):
    coding = prototypes(seed)
    found = clustered(coding)
    assert bits(found) < 0.7 * bits(coding)
    assert coded_bits(found.levels.array) + cluster_bits(found.clusters) < 0.7 * coded_bits(coding.levels.array)


@pytest.mark.parametrize("seed", range(4))
def test_levels_without_clusters_only_get_larger(seed):
    assert bits(clustered(noisy(seed))) > bits(noisy(seed))


def test_centres_are_fitted_to_some_of_many_blocks():
    """40,000 blocks: the patterns are found all the same."""
    coding = prototypes(6, 8, (200, 200), 0.05)
    found = clustered(coding, 8)
    assert np.array_equal(found.coefficients, coding.coefficients)
    assert bits(found) < 0.7 * bits(coding)
    assert found == clustered(coding, 8)


def test_what_is_not_clustered(monkeypatch):
    short = Coding(Constant(np.ones((3, 40, 40), int)), Transform("taps", 1, 3), (0,) * 3)
    large = Coding(Constant(np.full((9, 4, 4), 1 << 16)), TAPS, (0,) * 9)
    empty = Coding(Constant(np.ones((9, 0, 4), int)), TAPS, (0,) * 9)
    plain = Coding(Constant(np.ones((9, 4, 4), int)))
    assert not any(can_cluster(coding) for coding in (short, large, empty, plain))
    assert can_cluster(prototypes())
    many = Coding(Constant(np.zeros((4, 1, 8), int)), Transform("taps", 2, 2), (0,) * 4)
    assert can_cluster(many)
    assert MOST_BLOCKS > 512 * 512  # of the largest convolutions
    monkeypatch.setattr("toolchain.packing.clustering.MOST_BLOCKS", 7)
    assert not can_cluster(many)
