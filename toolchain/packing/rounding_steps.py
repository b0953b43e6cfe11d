"""Plain quantization of coefficients: the steps of the frequencies, and levels that count them (CNNpack's fourth step).

The compiler's own rounding is `toolchain.packing.compensation.round_compensated`. This is the published one.
"""

from __future__ import annotations

import numpy as np

from toolchain.errors import PassError
from toolchain.ir.constant import Array
from toolchain.packing.basis import Transform


def power_of_two_steps(transform: Transform, step: float) -> Array:
    """The steps (size,) of a transform's frequencies, powers of two.

    A coefficient that is off by e moves the kernel by e |matrix[f]|. Equal squared errors of the kernel from all
    frequencies, which is optimal at high rates (Goyal, Theoretical foundations of transform coding, 2001, section
    "Bit allocation"), therefore ask for steps of step / |matrix[f]|: a JPEG-like table. Each is taken to the nearest
    power of two, the higher one on a tie, so that levels share an accumulator by shifts. Raises PassError unless
    step > 0.
    """
    if not 0 < step < np.inf:
        raise PassError(f"a step of {step} is no number above 0")
    norms = np.sqrt(np.square(transform.matrix).sum(1))
    return np.asarray(np.ldexp(1.0, np.floor(np.log2(step / norms) + 0.5).astype(int)))


def quantize_levels(coefficients: Array, steps: Array, limit: int) -> Array:
    """Integer levels of coefficients (size, ...), block coefficients first: the nearest multiples of steps (size,).

    level = clip(round(c / step), -limit, limit), ties away from 0 (Wang et al., CNNpack, NIPS 2016, section 3,
    quantization: Q(c) = omega I(clip(c, -b, b) / omega), with a step omega for each frequency and b = limit omega).
    Raises PassError for steps that do not fit, or a limit below 1.
    """
    if steps.shape != coefficients.shape[:1] or not (steps > 0).all():
        raise PassError(f"steps of shape {steps.shape} do not fit coefficients of shape {coefficients.shape}")
    if limit < 1:
        raise PassError(f"levels up to {limit} hold nothing")
    counted = coefficients / steps.reshape(-1, *(1,) * (coefficients.ndim - 1))
    magnitudes = np.minimum(np.floor(np.abs(counted) + 0.5), limit)
    return np.copysign(magnitudes, counted).astype(np.int64)
