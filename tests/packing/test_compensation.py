"""Compensated rounding against its definition, solved anew for each coefficient, and what it is good for."""

from itertools import pairwise

import numpy as np
import pytest

from tests.packing.samples import samples
from toolchain.packing import compensation
from toolchain.packing.compensation import BLOCK, Rates, Solver, polished, round_compensated
from toolchain.packing.search import entropy
from toolchain.packing.statistics import Moments

FREE = Rates(0, 0, 0)
LIMIT = 127


def damped(statistics, damping):
    gram = statistics.gram
    ridge = damping * np.einsum("gkk->gk", gram).mean(1)
    return gram + ridge[:, None, None] * np.eye(gram.shape[1])


def one_at_a_time(hessian, target, steps, limit, price, rates):
    """The definition, for one group: each coefficient is rounded, then all later ones are solved for again."""
    count, outputs = target.shape
    levels = np.zeros((count, outputs), dtype=int)
    lengths = rates.bits(np.arange(limit + 1)) * price
    for k in range(count):
        rest = hessian[k:, k:]
        wrong = levels[:k] * steps[:k, None] - target[:k]
        best = target[k:] - np.linalg.solve(rest, hessian[k:, :k] @ wrong)
        weight = 1 / np.linalg.inv(rest)[0, 0]
        for m in range(outputs):
            value = best[0, m] / steps[k]
            rounded = min(int(np.floor(abs(value) + 0.5)), limit)
            choices = [rounded, max(rounded - 1, 0), 0]
            costs = [(abs(value) - c) ** 2 * steps[k] ** 2 * weight + lengths[c] for c in choices]
            levels[k, m] = np.copysign(choices[int(np.argmin(costs))], value)
    return levels


def output_error(case, levels, steps):
    return case.error(levels * steps[:, None] - case.weights)


def plain(case, steps, limit=LIMIT):
    return np.clip(np.rint(case.weights / steps[:, None]), -limit, limit)


# The problem.


@pytest.mark.parametrize("damping", [0.003, 0.3])
@pytest.mark.parametrize("groups", [1, 3])
def test_the_factor(damping, groups):
    """factor' factor is the inverse of the damped gram, and upper triangular."""
    case = samples(0, groups=groups)
    statistics = case.statistics()
    solver = Solver.of(statistics, case.weights, damping)
    for factor, gram in zip(solver.factor, damped(statistics, damping), strict=True):
        assert np.array_equal(np.tril(factor, -1), np.zeros_like(factor))
        assert (np.diag(factor) > 0).all()
        assert np.abs(factor.T @ factor @ gram - np.eye(len(gram))).max() < 1e-9


def test_the_target_is_the_ridge_solution():
    """It minimizes error(target - weights) + ridge |target - weights|^2: no step in any direction is better."""
    case = samples(1, noise=0.5)
    statistics, damping = case.statistics(), 0.1
    solver = Solver.of(statistics, case.weights, damping)
    ridge = damping * np.einsum("gkk->gk", statistics.gram).mean()

    def objective(change):
        return statistics.error(change) + ridge * np.square(change).sum()

    change = solver.target - case.weights
    assert np.abs(change).max() > 0.01
    rng = np.random.default_rng(0)
    for _ in range(20):
        direction = 1e-3 * rng.normal(size=change.shape)
        assert objective(change) < min(objective(change + direction), objective(change - direction))


def test_the_plain_problem_passes_nothing_on():
    """Without prices it is rounding to the nearest level, ties aside."""
    case = samples(2)
    solver = Solver.plain(case.statistics(), case.weights)
    steps = np.full(36, 0.05)
    levels = round_compensated(solver, steps, LIMIT, 0.0, FREE)
    assert np.array_equal(levels[0], plain(case, steps)[0])


def test_inputs_that_are_always_zero():
    """No statistics: finite levels all the same."""
    case = samples(3)
    nothing = Moments.of(0 * case.x, 0 * case.y).statistics(case.weights)
    for solver in (Solver.of(nothing, case.weights, 0.1), Solver.plain(nothing, case.weights)):
        levels = round_compensated(solver, np.full(36, 0.05), LIMIT, 0.0, FREE)
        assert np.abs(levels[0] - plain(case, np.full(36, 0.05))[0]).max() <= 1


# Rounding.


@pytest.mark.parametrize(
    ("count", "block"), [(1, 8), (7, 8), (8, 8), (9, 8), (21, 8), (24, 1), (24, 24), (BLOCK + 1, BLOCK)]
)
@pytest.mark.parametrize("price", [0.0, 2e-3])
def test_it_is_the_definition(count, block, price, monkeypatch):
    """Blocks of the implementation show nowhere."""
    monkeypatch.setattr(compensation, "BLOCK", block)
    case = samples(count, taps=(1, 1), channels=count, outputs=3, groups=1)
    statistics = case.statistics()
    solver = Solver.of(statistics, case.weights, 0.05)
    steps = np.ldexp(1.0, np.random.default_rng(count).integers(-6, -3, count))
    rates = Rates(0.4, 3.0, 1.5)
    found = round_compensated(solver, steps, 5, price, rates)
    wanted = one_at_a_time(damped(statistics, 0.05)[0], solver.target[0], steps, 5, price, rates)
    assert np.array_equal(found[0], wanted)
    assert count == 1 or np.abs(found).max() > 1


def test_groups_are_apart():
    case = samples(4, groups=3, channels=8, outputs=6)
    solver = Solver.of(case.statistics(), case.weights, 0.05)
    steps = np.full(72, 0.03)
    together = round_compensated(solver, steps, LIMIT, 1e-3, FREE)
    for g in range(3):
        alone = Solver(solver.target[g : g + 1], solver.factor[g : g + 1])
        assert np.array_equal(together[g], round_compensated(alone, steps, LIMIT, 1e-3, FREE)[0])


def test_fine_steps_leave_nearly_no_error():
    case = samples(5, noise=0.0)
    solver = Solver.of(case.statistics(), case.weights, 1e-4)
    steps = np.full(36, 2.0**-14)
    levels = round_compensated(solver, steps, 1 << 16, 0.0, FREE)
    assert output_error(case, levels, steps) < 1e-6 * case.y.var(0).sum()


@pytest.mark.parametrize("seed", range(4))
def test_it_beats_plain_rounding(seed):
    """At equal steps on correlated inputs: at most half of the error. Where nothing is correlated, no such gain."""
    steps = np.full(36, 2.0**-4)
    for correlation, noise, gain in ((0.95, 0.0, 0.5), (0.0, 0.0, None)):
        case = samples(seed, correlation=correlation, noise=noise, rows=2000)
        levels = round_compensated(Solver.of(case.statistics(), case.weights, 0.01), steps, LIMIT, 0.0, FREE)
        ratio = output_error(case, levels, steps) / output_error(case, plain(case, steps), steps)
        assert ratio < gain if gain else 0.75 < ratio < 1.1


def test_it_makes_up_for_the_errors_of_inputs():
    """Noisy inputs want other weights than clean ones: fine steps get below the error of the real weights."""
    case = samples(6, noise=1.0, rows=5000)
    steps = np.full(36, 2.0**-12)
    levels = round_compensated(Solver.of(case.statistics(), case.weights, 0.003), steps, 1 << 15, 0.0, FREE)
    assert output_error(case, levels, steps) < 0.9 * case.error(np.zeros_like(case.weights))


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_the_limit_is_kept(limit):
    case = samples(7)
    levels = round_compensated(Solver.of(case.statistics(), case.weights, 0.1), np.full(36, 0.02), limit, 0.0, FREE)
    assert np.abs(levels).max() == limit


@pytest.mark.parametrize("seed", range(3))
def test_a_higher_price_takes_fewer_bits(seed):
    """And allows for more error; a tiny rise is chance."""
    case = samples(seed, channels=8, outputs=32)
    solver = Solver.of(case.statistics(), case.weights, 0.05)
    steps = np.full(72, 2.0**-4)
    rates = Rates.of(round_compensated(solver, steps, LIMIT, 0.0, FREE))
    found = [round_compensated(solver, steps, LIMIT, price, rates) for price in (0, 1e-5, 1e-4, 1e-3, 1e-2, 1)]
    sizes = [entropy(levels) for levels in found]
    errors = [output_error(case, levels, steps) for levels in found]
    assert all(after <= 1.005 * before for before, after in pairwise(sizes))
    assert all(after >= 0.97 * before for before, after in pairwise(errors))
    assert sizes[4] < 0.5 * sizes[0]
    assert not found[-1].any()


# Rates.


def test_rates_are_ideal_lengths():
    """Of zeros and ones, exactly: all bits together are the entropy."""
    rng = np.random.default_rng(8)
    levels = (rng.random((9, 50, 40)) < 0.2) * rng.choice([-1, 1], (9, 50, 40))
    assert Rates.of(levels).bits(levels).sum() == pytest.approx(entropy(levels), rel=0.01)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_rates_are_near_the_entropy(scale):
    """Not far below it, and close where most levels are small; the law overrates wide distributions."""
    levels = np.rint(np.random.default_rng(9).laplace(0, scale, (9, 50, 40)))
    rates = Rates.of(levels)
    assert 0.97 < rates.bits(levels).sum() / entropy(levels) < (1.2 if scale <= 1 else 1.6)
    lengths = rates.bits(np.arange(50))
    assert (np.diff(lengths[1:]) > 0).all()
    assert lengths[1] > lengths[0] or scale > 1


def test_rates_of_special_levels():
    """All zeros, no zeros, one value: lengths stay finite."""
    for levels in (np.zeros((3, 3)), np.ones((3, 3)), np.full((2, 2), 90), np.array([[5]])):
        assert np.isfinite(Rates.of(levels).bits(np.arange(128))).all()


# Polishing.


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("count", [9, BLOCK + 36])
def test_polished_levels_are_the_best_one_by_one(groups, count, monkeypatch):
    """The damped error + price * bits falls to where no other level of any one coefficient lowers it."""
    monkeypatch.setattr(compensation, "SWEEPS", 40)
    case = samples(5, groups=groups, taps=(1, count), channels=1)
    statistics, price, limit = case.statistics(), 2e-3, 7
    solver = Solver.of(statistics, case.weights, 0.1)
    assert solver.ridge is not None
    hessian = statistics.gram + solver.ridge[:, None, None] * np.eye(count)
    for factor, wanted in zip(solver.factor, hessian, strict=True):
        assert np.abs(factor.T @ factor @ wanted - np.eye(count)).max() < 1e-9
    steps = np.full(count, 0.1)
    rates = Rates(0.5, 2.0, 1.5)
    rough = round_compensated(solver, steps, limit, price, rates)
    smooth = polished(solver, statistics.gram, rough, steps, limit, price, rates)

    def cost(levels):
        wrong = levels * steps[:, None] - solver.target
        return float(price * rates.bits(levels).sum() + np.sum(wrong * (hessian @ wrong)))

    assert np.abs(smooth).max() <= limit
    assert cost(smooth) < cost(rough) or (count == 9 and np.array_equal(smooth, rough))
    rng = np.random.default_rng(0)
    for _ in range(200):
        at = tuple(int(rng.integers(size)) for size in smooth.shape)
        for value in range(-limit, limit + 1):
            other = smooth.copy()
            other[at] = value
            assert cost(other) >= cost(smooth) - 1e-9


def test_plain_rounding_is_not_polished():
    case = samples(6)
    solver = Solver.plain(case.statistics(), case.weights)
    steps = np.full(case.weights.shape[1], 0.1)
    levels = round_compensated(solver, steps, LIMIT, 1e-4, FREE)
    assert np.array_equal(polished(solver, case.statistics().gram, levels, steps, LIMIT, 1e-4, FREE), levels)
