"""Choice of fixed-point formats from calibration data: least squared error, not only the largest value."""

from __future__ import annotations

import numpy as np

from toolchain.ir import Array, FixedType, Overflow, Rounding
from toolchain.ir.types import needed_width

SAMPLE = 1 << 18
"""Values that a choice looks at; more do not change it."""
CLIPPED_BITS = 3
"""Integer bits that may be given up in exchange for resolution."""
FINEST_GRID = 24


def sample_of(values: Array) -> Array:
    """At most SAMPLE values, evenly spread, the extremes always among them."""
    flat = values.reshape(-1)
    if flat.size <= SAMPLE:
        return flat.astype(np.float64)
    step = flat.size / SAMPLE
    chosen = flat[(np.arange(SAMPLE) * step).astype(np.int64)]
    return np.concatenate([chosen, [flat.min(), flat.max()]]).astype(np.float64)


def integer_bits(largest: float, signed: bool) -> int:
    """Bits before the binary point, sign included, for values up to `largest`."""
    return int(np.floor(np.log2(largest))) + 1 + signed if largest > 0 else 1


def squared_error(values: Array, type: FixedType) -> float:
    """Sum of squared errors after RND and SAT."""
    scaled = values * 2.0**type.fraction
    rounded = np.clip(np.floor(scaled + 0.5), type.low, type.high)
    return float(np.square((rounded - scaled) * type.step).sum())


def choose_format(values: Array, width: int, signed: bool) -> FixedType:
    """The binary point with the least squared error on `values`, for a tensor of `width` bits, RND and SAT."""
    sample = sample_of(values)
    largest = float(np.abs(sample).max(initial=0))
    top = integer_bits(largest, signed)
    if width >= 16:  # resolution is plentiful: keep a bit of headroom for inputs that calibration has not seen
        return FixedType(width, top + 1, signed, Rounding.RND, Overflow.SAT)
    candidates = [
        FixedType(width, integer, signed, Rounding.RND, Overflow.SAT)
        for integer in range(top, top - CLIPPED_BITS - 1, -1)
    ]
    return min(candidates, key=lambda type: squared_error(sample, type))


def dyadic_grid(values: Array, width: int) -> FixedType | None:
    """The coarsest binary point on which all values are integers of at most `width` bits, None if there is none."""
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    for fraction in range(-FINEST_GRID, FINEST_GRID + 1):
        scaled = np.ldexp(flat, fraction)
        if np.array_equal(scaled, np.floor(scaled)):
            needed, signed = needed_width(int(scaled.min(initial=0)), int(scaled.max(initial=0)))
            if needed > width:
                return None
            return FixedType(width, width - fraction, signed, Rounding.RND, Overflow.SAT)
    return None
