"""Weights as integers with a binary point per output channel."""

from __future__ import annotations

import numpy as np

from toolchain.errors import ModelError
from toolchain.ir import Array, FixedType

CLIPPED_BITS = 2
FINER_BITS = 8
"""A channel of small weights gets at most so many fraction bits more than the one of the largest weights."""

BLOCK = 1 << 20
"""Weights that are looked at together: a matrix may hold 10^8."""


def quantize_weights(weights: Array, width: int, most: int | None = None) -> tuple[Array, tuple[int, ...]]:
    """Integers of `width` bits, signed, and the fraction bits for each entry of the last axis, `most` at most.

    For each output channel the binary point with the least squared error is taken, among the one that clips nothing,
    one coarser and up to two finer ones, within FINER_BITS of the coarsest channel. Raises ModelError for NaN or
    infinity.
    """
    columns = weights.reshape(-1, weights.shape[-1])
    largest = np.maximum(columns.max(axis=0), -columns.min(axis=0))
    if not np.isfinite(largest).all():
        raise ModelError("holds NaN or infinite weights", fix="Train or export the model again.")
    safe = np.where(largest > 0, largest, 1.0)
    # The largest fraction that holds the largest weight after rounding.
    base = width - 1 - np.ceil(np.log2(safe)).astype(np.int64)
    # The outputs share one binary point, so far finer weights would be lost there, but cost shifters and wide sums.
    base = np.minimum(base, base[largest > 0].min(initial=1 << 20) + FINER_BITS)
    if most is not None:
        base = np.minimum(base, most - CLIPPED_BITS)
    blocks = np.array_split(np.arange(len(largest)), max(1, min(columns.size // BLOCK, len(largest) // 16)))
    best_fraction = np.concatenate(
        [_best(columns[:, block[0] : block[-1] + 1], width, base[block]) for block in blocks]
    )
    best_fraction = np.where(largest > 0, best_fraction, int(np.median(best_fraction)))
    integers = np.empty(columns.shape, dtype=np.int64)
    for block in blocks:
        part = slice(block[0], block[-1] + 1)
        integers[:, part] = _rounded(np.ldexp(columns[:, part], best_fraction[part]), width)
    return integers.reshape(weights.shape), tuple(int(f) for f in best_fraction)


def _best(columns: Array, width: int, base: Array) -> Array:
    """For each column the fraction bits near `base` with the least squared error."""
    best_error = np.full(len(base), np.inf)
    best_fraction = base.copy()
    for finer in range(-1, CLIPPED_BITS + 1):
        fractions = base + finer
        scaled = np.ldexp(columns, fractions)
        error = np.square(np.ldexp(_rounded(scaled, width) - scaled, -fractions)).sum(axis=0)
        better = error < best_error
        best_error, best_fraction = np.where(better, error, best_error), np.where(better, fractions, best_fraction)
    return best_fraction


def _rounded(scaled: Array, width: int) -> Array:
    """Rounded half up and saturated."""
    limit = 1 << (width - 1)
    return np.asarray(np.clip(np.floor(scaled + 0.5), -limit, limit - 1))


def weights_in_format(weights: Array, type: FixedType) -> Array:
    """Integers of one forced format, rounded half up and saturated."""
    scaled = np.floor(np.ldexp(weights, type.fraction) + 0.5)
    return np.asarray(np.clip(scaled, type.low, type.high).astype(np.int64))
