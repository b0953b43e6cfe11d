"""Rounding in Keras: exact forward, straight through backward (Bengio, Leonard and Courville, 2013)."""

from __future__ import annotations

from typing import Any

from keras import ops

from toolchain.errors import UnsupportedOperator
from toolchain.ir import FixedType, Overflow, Rounding

Tensor = Any
"""Of Keras' backend."""


def half_up(values: Tensor) -> Tensor:
    """floor(x + 1/2), exact: the sum would lose the lowest bit of large numbers, the difference does not."""
    floor = ops.floor(values)
    return floor + ops.cast(values - floor >= 0.5, values.dtype)


def half_even(values: Tensor) -> Tensor:
    """To the nearest, a half to even."""
    floor = ops.floor(values)
    rest = values - floor
    is_odd = floor - 2 * ops.floor(floor / 2) >= 0.5
    up = ops.logical_or(rest > 0.5, ops.logical_and(rest >= 0.5, is_odd))
    return floor + ops.cast(up, values.dtype)


MODES = {Rounding.RND: half_up, Rounding.RND_CONV: half_even, Rounding.TRN: ops.floor}


def requantized(values: Tensor, type: FixedType) -> Tensor:
    """Real numbers on the grid of a format, saturated: `Requantize` in units of 1.

    The gradient is that of the identity, and 0 where the value is cut off. Raises UnsupportedOperator for modes that
    training does not know.
    """
    if type.rounding not in MODES or type.overflow != Overflow.SAT:
        raise UnsupportedOperator(
            f"cannot be trained through {type.rounding}, {type.overflow}", fix="Use RND, RND_CONV or TRN with SAT."
        )
    return limited(values, float(2.0**-type.fraction), float(type.low), float(type.high), MODES[type.rounding])


def limited(values: Tensor, step: float, low: float, high: float, mode: Any = half_up) -> Tensor:
    """The nearest of low * step, ..., high * step, with the gradient of clipping."""

    @ops.custom_gradient  # type: ignore[untyped-decorator] # Keras has no types
    def rounded(x: Tensor) -> tuple[Tensor, Any]:
        raw = x / step
        inside = ops.cast(ops.logical_and(raw >= low - 0.5, raw <= high + 0.5), x.dtype)

        def gradient(*given: Tensor, upstream: Tensor | None = None) -> Tensor:
            return (given[0] if upstream is None else upstream) * inside

        return ops.clip(mode(raw), low, high) * step, gradient

    return rounded(values + 0)  # a tensor, where it was a variable
