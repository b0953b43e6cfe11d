"""Random packed weights for the samples of operators."""

from __future__ import annotations

import numpy as np

from toolchain.ir import Constant, FixedType
from toolchain.ir.types import needed_width
from toolchain.packing.basis import Transform
from toolchain.packing.packed import Clusters, Coding, Packed


def random_packed(
    rng: np.random.Generator,
    transform: Transform,
    levels: tuple[int, int, int],
    shape: tuple[int, ...],
    *,
    is_clustered: bool = False,
    rounded: int = 0,
) -> tuple[Packed, FixedType]:
    """Weights of small sparse levels (taps, channels, outputs), one output without any, and a format for them."""
    taps, channels, outputs = levels
    bits = int(rng.integers(2, 6))
    values = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), levels) * (rng.random(levels) < 0.5)
    values[:, :, rng.integers(outputs)] = 0
    clusters = None
    if is_clustered:
        centres = rng.integers(-2, 3, (3, transform.size)) * (rng.random((3, transform.size)) < 0.5)
        indices = rng.integers(0, 3, (taps * channels // transform.size, outputs))
        clusters = Clusters(Constant(centres), Constant(indices))
    shifts = rng.integers(0, 4, transform.size)
    shifts[rng.integers(transform.size)] = 0
    coding = Coding(Constant(values), transform, tuple(int(s) for s in shifts), clusters, rounded)
    packed = Packed(coding, shape)
    low, high = int(packed.array.min()), int(packed.array.max())
    return packed, FixedType(needed_width(min(low, -1), high)[0], 1)
