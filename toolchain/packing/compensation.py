"""Rounding of coefficients that makes up for its own errors, one coefficient after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dtrtri

from toolchain.ir.constant import Array
from toolchain.packing.statistics import Statistics

BLOCK = 64
"""Coefficients between two updates of all that follow."""
SWEEPS = 2
"""Times that `polished` goes through the levels."""


@dataclass(frozen=True)
class Rates:
    """Modelled code length in bits of a level: `zero` for 0, `nonzero` + `growth` log2|v| for v."""

    zero: float
    nonzero: float
    growth: float

    def bits(self, levels: Array) -> Array:
        magnitude = np.abs(levels)
        return np.where(magnitude > 0, self.nonzero + self.growth * np.log2(np.maximum(magnitude, 1)), self.zero)

    @classmethod
    def of(cls, levels: Array) -> Rates:
        """Ideal lengths under the empirical density and a law |v|**-growth of the magnitudes."""
        count = levels.size
        nonzero = max(int(np.count_nonzero(levels)), 1)
        density = min(nonzero / (count + 1), 0.999)
        magnitudes = np.abs(levels[levels != 0])
        ones = max(float((magnitudes == 1).mean()), 0.02) if magnitudes.size else 1.0
        spread = float(np.log2(np.maximum(magnitudes, 1)).mean()) if magnitudes.size else 0.0
        growth = min(-np.log2(ones) / spread, 8.0) + 1.0 if spread > 0 else 4.0
        return cls(-float(np.log2(1 - density)), 1.0 - float(np.log2(density) + np.log2(ones)), growth)


@dataclass(frozen=True)
class Solver:
    """The damped problem of one layer.

    `target` (G, K, M) are real coefficients; `factor` (G, K, K) is upper triangular, factor' factor = (gram +
    ridge)^-1, with `ridge` (G,) on gram's diagonal. Without a ridge there is nothing but the diagonal.
    """

    target: Array
    factor: Array
    ridge: Array | None = None

    @classmethod
    def of(cls, statistics: Statistics, coefficients: Array, damping: float) -> Solver:
        """The problem with a `damping` relative to the mean of gram's diagonal.

        The target is the ridge solution for the real outputs given the inputs that the hardware sees, drawn towards
        `coefficients`.
        """
        gram = statistics.gram
        size = gram.shape[1]
        diagonal = np.einsum("gkk->gk", gram)
        ridge = damping * np.maximum(diagonal.mean(1), 1e-30)
        # gram = R R' with R upper triangular: the Cholesky factor of the matrix turned by 180 degrees.
        turned = None
        while turned is None:
            damped = gram + ridge[:, None, None] * np.eye(size)
            try:
                turned = np.linalg.cholesky(damped[:, ::-1, ::-1])
            except np.linalg.LinAlgError:  # rounding errors of the sums are larger than the damping
                ridge = ridge * 10
        factor = np.empty_like(gram)
        target = np.empty_like(coefficients)
        for g in range(len(gram)):
            factor[g], _ = dtrtri(turned[g, ::-1, ::-1])
            target[g] = coefficients[g] + factor[g].T @ (factor[g] @ statistics.cross[g])
        return cls(target, factor, ridge)

    @classmethod
    def plain(cls, statistics: Statistics, coefficients: Array) -> Solver:
        """The problem as if the inputs were uncorrelated: nothing is passed on, the target is the weights."""
        diagonal = np.einsum("gkk->gk", statistics.gram)
        safe = np.maximum(diagonal, 1e-3 * diagonal.mean(1, keepdims=True) + 1e-30)
        return cls(coefficients, np.eye(diagonal.shape[1]) / np.sqrt(safe)[:, :, None])


def round_compensated(solver: Solver, steps: Array, limit: int, price: float, rates: Rates) -> Array:
    """Integer levels (G, K, M) for the steps (K,), |level| <= limit.

    Optimal brain quantization in a fixed order (Frantar et al., GPTQ, 2023, eq. 2 and 3): the error of coefficient k is
    passed on to the ones behind it. Of the rounded value, the next one towards 0, and 0, that is taken which has the
    least (error / factor[k, k])^2 + price * bits: the increase of the squared output error and the code length.
    """
    groups, count, outputs = solver.target.shape
    open_ = solver.target.copy()
    levels = np.zeros((groups, count, outputs), dtype=np.int64)
    table = rates.bits(np.arange(limit + 1)) * price
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        errors = np.empty((groups, end - start, outputs))
        for k in range(start, end):
            diagonal = solver.factor[:, k, k][:, None]
            value = open_[:, k] / steps[k]
            level = _cheapest(value, np.square(steps[k] / diagonal), table)
            levels[:, k] = level.astype(np.int64)
            error = (open_[:, k] - level * steps[k]) / diagonal
            errors[:, k - start] = error
            row = solver.factor[:, k, k + 1 : end]
            open_[:, k + 1 : end] -= row[:, :, None] * error[:, None, :]
        open_[:, end:] -= solver.factor[:, start:end, end:].swapaxes(1, 2) @ errors
    return levels


def polished(solver: Solver, gram: Array, levels: Array, steps: Array, limit: int, price: float, rates: Rates) -> Array:
    """Levels of less squared output error + price * bits: SWEEPS times each is chosen anew, given all the others.

    Coordinate descent on the damped problem (Behdin et al., QuantEase, 2023), from what `round_compensated` found: that
    one could not know the errors of the coefficients behind. `gram` is the one the solver was made of.
    """
    if solver.ridge is None:  # no coefficient depends on another
        return levels
    count = levels.shape[1]
    table = rates.bits(np.arange(limit + 1)) * price
    found = levels.astype(np.float64)
    wrong = found * steps[:, None] - solver.target
    slope = gram @ wrong + solver.ridge[:, None, None] * wrong
    for start in [*range(0, count, BLOCK)] * SWEEPS:
        block = slice(start, min(start + BLOCK, count))
        near = gram[:, block, block] + solver.ridge[:, None, None] * np.eye(block.stop - start)
        before, mine = found[:, block].copy(), slope[:, block].copy()
        for k in range(start, block.stop):
            column = near[:, :, k - start]
            diagonal = column[:, k - start, None]
            value = found[:, k] - mine[:, k - start] / (diagonal * steps[k])
            level = _cheapest(value, diagonal * steps[k] ** 2, table)
            mine += column[:, :, None] * ((level - found[:, k]) * steps[k])[:, None, :]
            found[:, k] = level
        slope += gram[:, :, block] @ ((found[:, block] - before) * steps[block, None])
        slope[:, block] = mine
    return found.astype(np.int64)


def _cheapest(value: Array, weight: Array, table: Array) -> Array:
    """The level near each real one with the least (value - level)^2 weight + the price in the table of magnitudes."""
    magnitude = np.abs(value)
    best = np.minimum(np.floor(magnitude + 0.5), len(table) - 1)
    cost = np.square(magnitude - best) * weight + table[best.astype(np.int64)]
    lower = np.maximum(best - 1, 0)
    for candidate in (lower, np.zeros_like(best)):
        other = np.square(magnitude - candidate) * weight + table[candidate.astype(np.int64)]
        better = other < cost
        best, cost = np.where(better, candidate, best), np.where(better, other, cost)
    return np.asarray(np.copysign(best, value))
