"""The choice of a layer's coding: domain, steps and levels with the least error + price * rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from toolchain.ir.constant import Array, Constant
from toolchain.packing.basis import LARGEST, Transform
from toolchain.packing.choice import estimated_bits
from toolchain.packing.clustering import can_cluster, cluster_bits, clustered
from toolchain.packing.compensation import Rates, Solver, polished, round_compensated
from toolchain.packing.filters import Filters
from toolchain.packing.packed import Coding
from toolchain.packing.statistics import Statistics

Domain = Literal["none", "auto", "dct", "spatial"]

DAMPINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Relative to the mean of gram's diagonal, least first; behind the last comes rounding without compensation."""
FIRST_DAMPING = 3
"""The number of the one that is tried first."""
OVERFITTED = 1.5
"""The hold-out error may be so many times the fit error."""
REMEMBERED = 1024
"""Inputs of a group, up to which a solved problem is kept."""
LARGEST_SHIFT = 6
"""Of the coarsest frequency's step over the finest."""
ROUNDS = 2
"""Times that the rate model is fitted to the levels it led to."""
WORTH = 0.99
"""A transform has to cost less than so much of what coding without one costs."""
BLOCKS = ((1, 4), (2, 2))
"""Blocks of input channels that 1x1 and fully connected weights are transformed in."""
ROUNDING_COST = 1.01
"""Error that rounding a kernel to the weight width may cost."""


@dataclass(frozen=True)
class Candidate:
    """A coding of a layer: its binary point, mean squared error of a sample's outputs, rate, and relative damping."""

    coding: Coding
    fraction: int
    error: float
    rate: float
    damping: float

    def cost(self, price: float) -> float:
        return self.error + price * self.rate


@dataclass(frozen=True)
class Problem:
    """One layer to code.

    `bits` is the width of a level, sign included. The rate is in bits, or with `pixels` above 0 in multiplications:
    so many for each nonzero level. No step is below 2**finest.
    """

    filters: Filters
    statistics: Statistics
    bits: int
    pixels: int = 0
    finest: int = -1024
    _solved: dict[tuple[Transform, float], tuple[Statistics, Array, Solver]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def solved(self, transform: Transform, damping: float) -> tuple[Statistics, Array, Solver]:
        """Statistics and real coefficients (G, K, M) behind a transform, and their damped problem.

        Remembered where that is no burden: predictions at many prices ask for the same one.
        """
        key = (transform, damping)
        if key in self._solved:
            return self._solved[key]
        moved = self.statistics.transformed(transform, self.filters.weights.shape[0])
        coefficients = self.filters.grouped(transform.forward(self.filters.weights))
        plain = np.isinf(damping)
        solver = Solver.plain(moved, coefficients) if plain else Solver.of(moved, coefficients, damping)
        if moved.gram.shape[1] <= REMEMBERED:
            self._solved[key] = moved, coefficients, solver
        return moved, coefficients, solver

    def rate(self, levels: Array) -> float:
        return self.pixels * float(np.count_nonzero(levels)) if self.pixels else entropy(levels)

    def model(self, levels: Array) -> Rates:
        """The rate model that suits these levels."""
        return Rates(0.0, float(self.pixels), 0.0) if self.pixels else Rates.of(levels)

    def change(self, candidate: Candidate) -> Array:
        """(G, K, M): the coded weights less the real ones."""
        coded = np.ldexp(candidate.coding.weights().astype(np.float64), -candidate.fraction)
        return self.filters.grouped(coded - self.filters.weights)


def transforms(filters: Filters, domain: Domain) -> Iterator[Transform]:
    """The transforms that suit the filters."""
    single = filters.rows * filters.columns == 1
    coded = not single and max(filters.rows, filters.columns) <= LARGEST
    if domain != "dct" or not coded:
        yield Transform()
    if domain == "spatial":
        return
    if coded:
        yield Transform("taps", filters.rows, filters.columns)
    for rows, columns in BLOCKS if single else ():
        if filters.weights.shape[1] % (rows * columns) == 0:
            yield Transform("channels", rows, columns)


def choose(problem: Problem, choices: Sequence[Transform], price: float, damping: float) -> list[Candidate]:
    """A candidate for every transform, the chosen one first: least error + price * rate.

    `price` is the squared output error that one unit of rate may cost. An infinite `damping` rounds without
    compensation. Where coding without a transform is possible, others have to be better by more than WORTH.
    """
    found = [code(problem, transform, price, damping) for transform in choices]
    handicap = {"none": WORTH} if len(found) > 1 else {}
    return sorted(found, key=lambda c: c.cost(price) * handicap.get(c.coding.transform.kind, 1.0))


def choose_damping(fit: Problem, hold: Statistics, transform: Transform, price: float) -> float:
    """The damping that does best on samples it has not seen; infinite when that is plain rounding (DESIGN 5.5)."""

    def cost(damping: float) -> float:
        candidate = code(fit, transform, price, damping, 1, 1, polish=False)
        error = hold.error(fit.change(candidate))
        overfitted = not np.isinf(damping) and error > OVERFITTED * candidate.error
        return np.inf if overfitted else error + price * candidate.rate

    best, least = np.inf, cost(np.inf)
    found = {k: cost(DAMPINGS[k]) for k in (FIRST_DAMPING, FIRST_DAMPING + 1)}
    step = 1 if found[FIRST_DAMPING + 1] <= found[FIRST_DAMPING] else -1
    at = FIRST_DAMPING + (step > 0)
    # The cost has one valley: walk down until it rises.
    while 0 <= at + step < len(DAMPINGS):
        found[at + step] = cost(DAMPINGS[at + step])
        if found[at + step] > found[at]:
            break
        at += step
    for k, value in found.items():
        if value < least:
            best, least = DAMPINGS[k], value
    return best


def code(
    problem: Problem,
    transform: Transform,
    price: float,
    damping: float,
    moves: int = 2,
    rounds: int = ROUNDS,
    polish: bool = True,
) -> Candidate:
    """Codes a layer: the best of `moves` neighbouring steps per frequency, the rate model fitted `rounds` times.

    To `polish` the levels (of the best move) saves some percent of the error.
    """
    filters = problem.filters
    taps, channels, _ = filters.weights.shape
    moved, coefficients, solver = problem.solved(transform, damping)
    frequency = transform.frequency(taps, channels).ravel()
    limit = (1 << (problem.bits - 1)) - 1
    wanted, least = _steps(solver, frequency, transform.size, price, limit, bool(problem.pixels))

    def candidate(levels: Array, steps: Array, finest: int, shifts: Array) -> Candidate:
        error = moved.error(levels * steps[:, None] - coefficients)
        coding = Coding(Constant(filters.ungrouped(levels)), transform, tuple(int(s) for s in shifts))
        return Candidate(coding, -int(finest), error, problem.rate(levels), damping)

    found: list[tuple[Candidate, Array, Array]] = []
    for move in range(moves):
        exponents = np.maximum(np.ceil(np.maximum(wanted - 0.5 - move, least)).astype(int), problem.finest)
        finest = max(exponents.min(), exponents.max() - LARGEST_SHIFT)
        shifts = np.maximum(exponents - finest, 0)
        steps = np.ldexp(1.0, finest + shifts)[frequency]
        levels = np.rint(solver.target / steps[:, None])
        model = problem.model(np.where(np.abs(levels) > 1, levels, 0))
        for _ in range(rounds):
            levels = round_compensated(solver, steps, limit, price, model)
            model = problem.model(levels)
        found.append((candidate(levels, steps, finest, shifts), levels, steps))
    best, levels, steps = min(found, key=lambda one: one[0].cost(price))
    if not polish:
        return best
    levels = polished(solver, moved.gram, levels, steps, limit, price, problem.model(levels))
    # It lowers the damped error at the rates of before: nearly always, but not surely, the cost.
    fine = candidate(levels, steps, -best.fraction, np.array(best.coding.shifts))
    return min(best, fine, key=lambda one: one.cost(price))


def _steps(solver: Solver, frequency: Array, size: int, price: float, limit: int, finest: bool) -> tuple[Array, Array]:
    """log2 of the step that each frequency should have, and of the least that clips nothing much.

    Reverse water-filling: the same squared error in every coefficient's own unit, 1 / factor[k, k]^2 = w, which for
    uniform steps D and d error / d bits = -2 ln 2 error gives D^2 w / 12 = price / (2 ln 2).
    """
    weight = 1 / np.square(np.einsum("gkk->gk", solver.factor))
    wanted, least = np.empty(size), np.empty(size)
    for f in range(size):
        mine = frequency == f
        largest = float(np.abs(solver.target[:, mine]).max(initial=0))
        least[f] = np.log2(max(largest, 1e-30) / (limit + 0.5))
        mean = float(np.log(weight[:, mine]).mean())
        wanted[f] = least[f] if finest else 0.5 * (np.log2(max(6 * price / np.log(2), 1e-300)) - mean / np.log(2))
    return wanted, least


def reconstructed(problem: Problem, candidate: Candidate) -> Candidate:
    """The candidate with its spatial kernel rounded to `bits`, where that is narrower and costs next to nothing."""
    kernel = candidate.coding.weights()
    width = int(np.abs(kernel).max(initial=0)).bit_length() + 1
    if not candidate.coding.is_frequency or width <= problem.bits:
        return candidate
    rounded = width - problem.bits
    trial = replace(candidate, coding=replace(candidate.coding, rounded=rounded), fraction=candidate.fraction - rounded)
    error = problem.statistics.error(problem.change(trial))
    return replace(trial, error=error) if error <= ROUNDING_COST * candidate.error else candidate


def recoded(problem: Problem, candidate: Candidate) -> list[Candidate]:
    """The candidate and its clustered form, which is the same kernel in other bits: the smaller one first.

    Their rates are the bits that they take. Where multiplications count, or clusters are out of the question, the
    candidate remains alone as it is.
    """
    if problem.pixels or not can_cluster(candidate.coding):
        return [candidate]
    coding = clustered(candidate.coding)
    assert coding.clusters is not None
    alone = replace(candidate, rate=estimated_bits(candidate.coding.levels.array))
    shared = estimated_bits(coding.levels.array) + cluster_bits(coding.clusters)
    return sorted([alone, replace(candidate, coding=coding, rate=shared)], key=lambda c: c.rate)


def with_clusters(problem: Problem, found: Sequence[Candidate], price: float) -> list[Candidate]:
    """The candidates of `choose`, the taken one in both its forms: another one may be taken for its clusters."""
    forms = [recoded(problem, candidate) for candidate in found]

    def cost(k: int) -> float:
        taken, *others = forms[k]
        saved = taken.rate / others[0].rate if others and taken.coding.clusters else 1.0
        return found[k].error + price * found[k].rate * saved

    # Without clusters the first is the best, whatever handicaps the choice knew.
    clustered = [k for k, (taken, *_) in enumerate(forms) if k and taken.coding.clusters]
    best = min([0, *clustered], key=cost)
    return [*forms[best], *(candidate for k, candidate in enumerate(found) if k != best)]


def entropy(levels: Array) -> float:
    """Bits of the levels as independent symbols, Shannon's bound."""
    _, counts = np.unique(levels, return_counts=True)
    return float(-(counts * np.log2(counts / levels.size)).sum())
