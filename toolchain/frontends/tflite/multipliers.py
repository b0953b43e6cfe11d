"""Scales of quantized models as integer multipliers and shifts, computed as LiteRT's reference kernels compute them.

In which precision two scales are multiplied, and what is divided by what, decides the last bit of a multiplier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from toolchain.ir import Constant
from toolchain.ops.fixed_softmax import LARGEST, exponential
from toolchain.ops.rescale import FRACTION

SHIFT_LIMIT = 31
"""A smaller scale than 2**-31 is 0."""
DIFFERENCE_BITS = 5
"""Integer bits of what the softmax takes exponentials of."""


def multiplier(scale: float) -> tuple[int, int]:
    """(m, shift) with m * 2**-31 * 2**shift next to `scale`, m in [2**30, 2**31)."""
    fraction, shift = math.frexp(scale)
    m = math.floor(fraction * (1 << FRACTION) + 0.5)
    if m == 1 << FRACTION:
        m, shift = m // 2, shift + 1
    return (0, 0) if shift < -SHIFT_LIMIT else (m, shift)


def factors(scales: Sequence[float]) -> tuple[Constant, Constant]:
    """Multipliers and shifts of scales, one of each where all are equal."""
    pairs = [multiplier(float(scale)) for scale in scales]
    if len(set(pairs)) == 1:
        pairs = pairs[:1]
    return Constant([m for m, _ in pairs]), Constant([shift for _, shift in pairs])


def channel_scales(given: float, weights: NDArray[np.float32], result: float) -> list[float]:
    """Of convolutions with int8 weights: all in float64."""
    return [given * float(weight) / result for weight in weights]


def tensor_scale(given: float, weight: float, result: float) -> float:
    """Of matrices, and convolutions with uint8 weights: the product is a float32 one."""
    return float(np.float32(given) * np.float32(weight)) / result


def ratio(given: float, result: float, factor: float = 1.0) -> float:
    """Of activations without weights: a float32 quotient, behind a float32 product where there is a factor."""
    return float(np.float32(given) * np.float32(factor) / np.float32(result))


def mean_factors(given: float, result: float, count: int) -> tuple[Constant, Constant]:
    """Of a sum of `count` numbers to their mean: the multiplier is divided in integers, which cuts it off."""
    m, shift = multiplier(given / result)
    places = min(count.bit_length() - 1, 32, SHIFT_LIMIT + shift)
    return Constant([(m << places) // count]), Constant([shift - places])


def softmax_table(scale: float, beta: float) -> list[int]:
    """exp(-d * scale * beta) for d = 0, 1, ... up to where the softmax ends it."""
    real = min(beta * scale * (1 << (FRACTION - DIFFERENCE_BITS)), float(LARGEST))
    m, shift = multiplier(real)
    radius = math.floor(((1 << DIFFERENCE_BITS) - 1) * (1 << (FRACTION - DIFFERENCE_BITS)) / (1 << shift))
    size = min(radius, 255) + 1
    return [exponential((-d * (1 << shift) * m + (1 << (FRACTION - 1))) >> FRACTION) for d in range(size)]
