"""The coding of one layer: errors and rates as measured, steps, choices among transforms, damping, clusters."""

import dataclasses
from dataclasses import replace
from math import inf

import numpy as np
import pytest
from scipy.stats import entropy as shannon

from tests.packing.samples import samples
from tests.packing.test_clustering import noisy, prototypes
from toolchain.ir import Constant
from toolchain.packing.basis import Transform
from toolchain.packing.choice import coded_bits, estimated_bits
from toolchain.packing.clustering import cluster_bits
from toolchain.packing.filters import Filters
from toolchain.packing.packed import Coding
from toolchain.packing.search import (
    DAMPINGS,
    LARGEST_SHIFT,
    ROUNDING_COST,
    Candidate,
    Problem,
    choose,
    choose_damping,
    code,
    entropy,
    recoded,
    reconstructed,
    transforms,
    with_clusters,
)
from toolchain.packing.statistics import Statistics

TAPS = Transform("taps", 3, 3)
PRICES = (1e-7, 1e-5, 1e-4, 1e-3)


def smooth(seed=0, outputs=16):
    """Kernels of low frequency: the transform pays."""
    case = samples(seed, outputs=outputs, channels=8)
    rng = np.random.default_rng([seed, 2])
    decay = np.outer([1, 0.3, 0.05], [1, 0.3, 0.05]).reshape(9, 1, 1)
    weights = TAPS.inverse(rng.normal(size=case.filters.weights.shape) * decay) / 10
    case = dataclasses.replace(case, filters=replace(case.filters, weights=weights))
    return dataclasses.replace(case, y=np.einsum("ngk,gkm->ngm", case.x, case.weights))


def problem_of(coding, pixels=0):
    """A problem that the coding solves without an error."""
    weights = np.asarray(coding.weights(), float)
    taps, channels, outputs = weights.shape
    ones = (np.ones((1, taps * channels, taps * channels)), np.zeros((1, taps * channels, outputs)))
    filters = Filters(weights, 3, 3)
    return Problem(filters, Statistics(*ones, np.zeros((1, outputs)), np.ones((1, outputs))), 8, pixels)


# Rates.


def test_entropy_is_shannons():
    levels = np.rint(np.random.default_rng(0).laplace(0, 2, (9, 30, 20)))
    _, counts = np.unique(levels, return_counts=True)
    assert entropy(levels) == pytest.approx(shannon(counts, base=2) * levels.size)
    assert entropy(np.zeros((3, 3))) == 0


def test_rates_in_multiplications():
    """A nonzero level costs the layer's pixels, whatever its value."""
    problem = samples(0).problem(pixels=49)
    levels = np.array([[[0, 3, 0, -100, 1]]])
    assert problem.rate(levels) == 3 * 49
    assert problem.model(levels).bits(np.array([0, 1, -5])).tolist() == [0, 49, 49]
    assert samples(0).problem().rate(levels) == pytest.approx(entropy(levels))
    coding = Coding(Constant(levels))
    assert Candidate(coding, 0, 2.0, 3.0, 0.1).cost(0.5) == 3.5


# One transform.


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("taps", "channels"), [((3, 3), 4), ((1, 1), 8), ((4, 2), 4), ((1, 7), 3)])
def test_the_error_is_that_of_the_kernel(taps, channels, groups):
    """What is computed in the coded domain is what the decoded weights do, for every transform."""
    case = samples(1, taps=taps, channels=channels, groups=groups, rows=1500)
    problem = case.problem()
    for transform in transforms(case.filters, "auto"):
        for damping in (0.1, inf):
            found = code(problem, transform, 1e-4, damping)
            change = problem.change(found)
            assert found.error == pytest.approx(problem.statistics.error(change), rel=1e-6)
            assert found.error == pytest.approx(case.error(change), rel=1e-3)
            assert found.rate == pytest.approx(entropy(found.coding.levels.array))
            assert (found.coding.transform, found.damping) == (transform, damping)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("transform", [Transform(), TAPS])
def test_levels_keep_to_their_bits(bits, transform):
    """At any price; with none, the levels use what they have."""
    case = smooth(2)
    for price in (0.0, *PRICES):
        coding = code(case.problem(bits), transform, price, 0.1).coding
        assert np.abs(coding.levels.array).max(initial=0) <= (1 << (bits - 1)) - 1
        assert min(coding.shifts) == 0
        assert max(coding.shifts) <= LARGEST_SHIFT
    dear = code(case.problem(bits), transform, 0.0, 0.1).coding
    assert np.abs(dear.levels.array).max() > (1 << (bits - 1)) // 4


@pytest.mark.parametrize("transform", [Transform(), TAPS])
@pytest.mark.parametrize("pixels", [0, 10])
def test_the_price_trades_error_for_rate(transform, pixels):
    problem = smooth(3).problem(pixels=pixels)
    scale = 0.1 if pixels else 1.0
    found = [code(problem, transform, price * scale, 0.1) for price in PRICES]
    rates, errors = [c.rate for c in found], [c.error for c in found]
    assert rates == sorted(rates, reverse=True)
    assert errors == sorted(errors)
    assert rates[-1] < 0.7 * rates[0]
    for price, best in zip(PRICES, found, strict=True):  # each is the best at its own price, or nearly so
        assert best.cost(price * scale) <= 1.03 * min(c.cost(price * scale) for c in found)


def test_multiplications_are_saved_by_zeros():
    """At equal error, a price on multiplications leaves fewer of them than one on bits."""
    case = smooth(4)
    in_bits = [code(case.problem(), Transform(), price, 0.1) for price in np.geomspace(1e-6, 1e-3, 13)]
    aim = code(case.problem(pixels=1), Transform(), 1e-3, 0.1)
    as_good = [c for c in in_bits if c.error <= aim.error]
    assert as_good
    assert aim.rate < min(np.count_nonzero(c.coding.levels.array) for c in as_good)


def test_steps_that_could_not_be_seen_are_not_taken():
    case = smooth(5)
    finest = code(case.problem(), Transform(), 0.0, 0.1)
    assert finest.fraction > 6
    coarse = code(replace(case.problem(), finest=-5), Transform(), 0.0, 0.1)
    assert coarse.fraction <= 5


def test_a_layer_of_zeros():
    case = samples(6)
    nothing = replace(case.filters, weights=np.zeros_like(case.filters.weights))
    problem = dataclasses.replace(case, filters=nothing, y=0 * case.y).problem()
    for pixels in (0, 9):
        for transform in transforms(nothing, "auto"):
            found = code(replace(problem, pixels=pixels, finest=-20), transform, 1e-6, 0.1)
            assert not found.coding.levels.array.any()
            assert found.error == found.rate == 0


# Choices.


def filters_of(rows, columns, channels):
    return Filters(np.zeros((rows * columns, channels, 2)), rows, columns)


@pytest.mark.parametrize(
    ("filters", "domain", "wanted"),
    [
        (filters_of(3, 3, 5), "auto", [("none", 1, 1), ("taps", 3, 3)]),
        (filters_of(3, 3, 5), "dct", [("taps", 3, 3)]),
        (filters_of(3, 3, 5), "spatial", [("none", 1, 1)]),
        (filters_of(1, 1, 8), "dct", [("none", 1, 1), ("channels", 1, 4), ("channels", 2, 2)]),
        (filters_of(1, 1, 6), "auto", [("none", 1, 1)]),
        (filters_of(1, 1, 8), "spatial", [("none", 1, 1)]),
        (filters_of(1, 5, 8), "dct", [("taps", 1, 5)]),
        (filters_of(12, 12, 4), "dct", [("none", 1, 1)]),
    ],
)
def test_transforms_of_a_layer(filters, domain, wanted):
    assert [(t.kind, t.rows, t.columns) for t in transforms(filters, domain)] == wanted


def test_the_domain_is_chosen_by_cost():
    """Smooth kernels are transformed, noise is not; all candidates are kept, the chosen one first."""
    for case, kind in ((smooth(7), "taps"), (samples(7, channels=8, outputs=16, correlation=0), "none")):
        choices = list(transforms(case.filters, "auto"))
        first, *others = choose(case.problem(), choices, 1e-5, 0.1)
        assert first.coding.transform.kind == kind
        assert len(others) == len(choices) - 1
        assert all(first.cost(1e-5) < 1.01 * other.cost(1e-5) for other in others)


def test_a_transform_has_to_be_worth_it(monkeypatch):
    """One percent in favour of coding without one; nothing where there is no choice."""
    case = samples(8)

    def coded(problem, transform, price, damping):
        del problem, price
        cost = 1.0 if transform.kind == "none" else 0.995
        return Candidate(
            Coding(Constant(np.zeros((9, 1, 1), int)), transform, (0,) * transform.size), 0, cost, 0, damping
        )

    monkeypatch.setattr("toolchain.packing.search.code", coded)
    assert choose(case.problem(), [Transform(), TAPS], 0.0, 0.1)[0].coding.transform.kind == "none"
    monkeypatch.setattr("toolchain.packing.search.WORTH", 0.999)
    assert choose(case.problem(), [Transform(), TAPS], 0.0, 0.1)[0].coding.transform.kind == "taps"


@pytest.mark.parametrize("seed", range(3))
def test_damping(seed):
    """Statistics of few samples of noise are no guide: plain rounding. Many samples of correlated inputs are."""
    price = 1e-6
    chance = samples(seed, rows=60, correlation=0)
    chance = dataclasses.replace(chance, y=chance.y + np.random.default_rng(seed).normal(0, 2, chance.y.shape))
    fit, hold = slice(0, 40), slice(40, 60)
    problem = replace(chance.problem(bits=4), statistics=chance.statistics(fit))
    assert choose_damping(problem, chance.statistics(hold), Transform(), price) == inf
    real = samples(seed, rows=4000)
    fit, hold = slice(0, 3000), slice(3000, 4000)
    problem = replace(real.problem(bits=4), statistics=real.statistics(fit))
    found = choose_damping(problem, real.statistics(hold), Transform(), price)
    assert found in DAMPINGS
    compensated, plain = (code(problem, Transform(), price, damping) for damping in (found, inf))
    errors = [real.statistics(hold).error(problem.change(c)) for c in (compensated, plain)]
    assert errors[0] < 0.8 * errors[1]


def test_what_is_overfitted_is_not_taken(monkeypatch):
    """However good it looks: a held-out error of a multiple of the fit error means that chance was fitted."""
    case = samples(1, rows=2000)
    problem = replace(case.problem(bits=4), statistics=case.statistics(slice(0, 1500)))
    hold = case.statistics(slice(1500, 2000))
    assert choose_damping(problem, hold, Transform(), 1e-6) < inf
    monkeypatch.setattr("toolchain.packing.search.OVERFITTED", 0.5)
    assert choose_damping(problem, hold, Transform(), 1e-6) == inf


@pytest.mark.parametrize("transform", [Transform(), TAPS])
def test_polishing_pays(transform):
    problem = smooth(3).problem()
    for price in PRICES[1:]:
        rough, polished = (code(problem, transform, price, 0.1, polish=polish) for polish in (False, True))
        assert polished.cost(price) < rough.cost(price)
        assert polished.coding.shifts == rough.coding.shifts


# The kernel in the spatial domain.


def test_a_reconstructed_kernel_is_narrow_and_nearly_as_good():
    """Where the error is mostly of other origin, which no weights can make up for."""
    case = smooth(9)
    case = dataclasses.replace(case, y=case.y + np.random.default_rng(9).normal(0, 0.3, case.y.shape))
    problem = case.problem()
    found = code(problem, TAPS, 1e-6, 0.1)
    rounded = reconstructed(problem, found)
    assert rounded.coding.rounded > 0
    kernel = rounded.coding.weights()
    assert np.abs(kernel).max() <= 1 << (problem.bits - 1)
    assert np.abs(found.coding.weights()).max() >= 1 << (problem.bits - 1)
    assert rounded.error <= ROUNDING_COST * found.error or found.error == 0
    assert rounded.error == pytest.approx(case.error(problem.change(rounded)), rel=1e-3)
    assert rounded.coding.levels == found.coding.levels
    assert rounded.rate == found.rate


def test_what_is_not_reconstructed():
    """Kernels without a transform, narrow ones, and those whose rounding would cost something."""
    case = smooth(10)
    problem = case.problem()
    spatial, frequency = (code(problem, t, 1e-6, 0.1) for t in (Transform(), TAPS))
    assert reconstructed(problem, spatial) is spatial
    assert reconstructed(replace(problem, bits=20), frequency) is not None
    assert reconstructed(replace(problem, bits=20), frequency) is frequency
    assert reconstructed(replace(problem, bits=3), frequency) is frequency


# Clusters.


def candidate_of(coding):
    return Candidate(coding, 3, 0.5, 1.0, 0.1)


@pytest.mark.parametrize("seed", range(3))
def test_clusters_are_taken_where_they_are_smaller(seed):
    coding = prototypes(seed)
    first, second = recoded(problem_of(coding), candidate_of(coding))
    assert first.coding.clusters is not None
    assert second.coding is coding
    assert first.rate == estimated_bits(first.coding.levels.array) + cluster_bits(first.coding.clusters)
    assert first.rate < 0.7 * second.rate
    assert second.rate == pytest.approx(coded_bits(coding.levels.array), rel=0.02)
    assert np.array_equal(first.coding.weights(), coding.weights())
    assert (first.fraction, first.error, first.damping) == (3, 0.5, 0.1)


@pytest.mark.parametrize("seed", range(3))
def test_clusters_are_rejected_where_they_are_not(seed):
    """And remain among the candidates, with their size."""
    coding = noisy(seed)
    first, second = recoded(problem_of(coding), candidate_of(coding))
    assert first.coding is coding
    assert second.coding.clusters is not None
    assert second.rate == estimated_bits(second.coding.levels.array) + cluster_bits(second.coding.clusters)
    assert second.rate > first.rate


def test_clusters_are_not_tried():
    """Where multiplications count, which they do not save, and on blocks of one."""
    coding = prototypes()
    candidate = candidate_of(coding)
    assert recoded(problem_of(coding, pixels=4), candidate) == [candidate]
    spatial = candidate_of(Coding(coding.levels))
    assert recoded(problem_of(coding), spatial) == [spatial]


def test_clusters_may_make_another_transform_the_better_one():
    coding = prototypes()
    spatial = replace(candidate_of(Coding(coding.levels)), rate=0.9)
    problem, frequency = problem_of(coding), candidate_of(coding)
    taken, other, last = with_clusters(problem, [spatial, frequency], 1.0)
    assert taken.coding.clusters is not None
    assert other.coding is coding
    assert last is spatial
    far_cheaper = replace(spatial, rate=0.1)
    assert with_clusters(problem, [far_cheaper, frequency], 1.0) == [far_cheaper, frequency]
    unclustered = candidate_of(noisy())
    assert with_clusters(problem_of(noisy()), [far_cheaper, unclustered], 1.0) == [far_cheaper, unclustered]


def test_real_clusters_survive_coding():
    """Trained-like kernels, a few patterns with noise, all the way from real weights."""
    case = samples(11, outputs=64, channels=16, rows=1000)
    rng = np.random.default_rng(11)
    patterns = rng.normal(size=(12, 9))[rng.integers(0, 12, (16, 64))].transpose(2, 0, 1)
    weights = patterns + 0.02 * rng.normal(size=patterns.shape)
    case = dataclasses.replace(case, filters=replace(case.filters, weights=weights))
    case = dataclasses.replace(case, y=np.einsum("ngk,gkm->ngm", case.x, case.weights))
    # Plain rounding keeps what is common; compensation moves coefficients apart.
    found = code(case.problem(), TAPS, 3e-5, inf)
    first, second = recoded(case.problem(), found)
    assert first.coding.clusters is not None
    assert first.rate < 0.8 * second.rate
