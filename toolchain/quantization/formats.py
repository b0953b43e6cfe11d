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
PLENTY = 16
"""With so many bits resolution is plentiful: one is kept as headroom for inputs that calibration has not seen."""


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
    if width >= PLENTY:
        return FixedType(width, top + 1, signed, Rounding.RND, Overflow.SAT)
    candidates = [
        FixedType(width, integer, signed, Rounding.RND, Overflow.SAT)
        for integer in range(top, top - CLIPPED_BITS - 1, -1)
    ]
    return min(candidates, key=lambda type: squared_error(sample, type))


def dyadic_grid(values: Array, width: int) -> FixedType | None:
    """A binary point on which all values are integers of at most `width` bits, None if there is none or all are 0.

    Of those that hold the values it is the finest, since inputs that calibration has not seen may lie between the
    values seen. Within a quarter of the width of it, the grids that data sets come in, u8 and u8 / 256, have
    precedence: pictures keep them where calibration saw only dark ones.
    """
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    if not flat.any():
        return None
    for fraction in range(-FINEST_GRID, FINEST_GRID + 1):
        scaled = np.ldexp(flat, fraction)
        if np.array_equal(scaled, np.floor(scaled)):
            needed, signed = needed_width(int(scaled.min()), int(scaled.max()))
            if needed > width:
                return None
            spare = width - needed
            finest = fraction + (spare if width < PLENTY else max(spare - 1, 0))
            usual = [f for f in (8 - signed, 0) if fraction <= f <= finest <= f + width // 4]
            return FixedType(width, width - (usual or [finest])[0], signed, Rounding.RND, Overflow.SAT)
    return None
