"""Rounding of integers by powers of two, exactly as ap_fixed rounds (AMD UG1399, quantization modes)."""

from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain.errors import ConfigurationError
from toolchain.ir.integers import IntegerArray, elementwise, integers

_MAX_LEFT_SHIFT = 65_536  # far beyond any pair of types; keeps a damaged program from filling the memory


class Rounding(StrEnum):
    """What happens to the bits below the binary point that the target lacks (``ap_q_mode``, UG1399)."""

    TRN = "TRN"
    """Towards minus infinity (floor), the default of ap_fixed."""
    TRN_ZERO = "TRN_ZERO"
    """Towards zero."""
    RND = "RND"
    """To nearest, ties towards plus infinity."""
    RND_ZERO = "RND_ZERO"
    """To nearest, ties towards zero."""
    RND_MIN_INF = "RND_MIN_INF"
    """To nearest, ties towards minus infinity."""
    RND_INF = "RND_INF"
    """To nearest, ties away from zero."""
    RND_CONV = "RND_CONV"
    """To nearest, ties to even."""


def round_shift(raw: npt.ArrayLike, shift: int | npt.ArrayLike, rounding: Rounding) -> IntegerArray:
    """Rounds ``raw * 2**-shift`` to integers, exactly.

    Args:
        raw: integers of any shape; any NumPy integer type, or object holding Python integers.
        shift: fraction bits to remove, negative to append zeros; one integer, or integers that broadcast with
            ``raw`` (per channel on the last axis). May exceed 63.
        rounding: where a value between two integers goes.

    Returns:
        Broadcast shape; int64 when every result fits, else object (Python integers). A left shift that leaves
        int64 promotes, it never wraps.

    Raises:
        ConfigurationError: a left shift of more than 65,536 bits.
        TypeError: ``raw`` or ``shift`` does not hold integers.
    """
    values, shifts = integers(raw), shift_counts(shift)
    if values.dtype != np.object_:
        if shifts.ndim == 0:
            fast = _round_shift_uniform(values, int(shifts), rounding)
        else:
            fast = _round_shift_each(values, shifts, rounding)
        if fast is not None:
            return fast

    def exact(value: int, count: int) -> int:
        if count <= 0:
            return value << -count
        count = min(count, value.bit_length() + 2)  # beyond, only the sign and "not zero" matter
        half = (value >> (count - 1)) & 1 == 1
        sticky = value & ((1 << (count - 1)) - 1) != 0
        return int(_incremented(value >> count, half, sticky, value >= 0, rounding))

    return elementwise(exact, values, shifts)


def round_real(values: npt.NDArray[np.float64], rounding: Rounding) -> npt.NDArray[np.float64]:
    """Rounds float64 numbers to whole ones, exactly; NaN and infinity stay what they are."""
    floor = np.floor(values)
    with np.errstate(invalid="ignore"):
        rest = values - floor
    half, sticky = rest >= 0.5, (rest != 0) & (rest != 0.5)
    odd = np.mod(floor, 2) == 1
    above = _incremented(odd.astype(np.int64), half, sticky, values >= 0, rounding) - odd
    return np.asarray(floor + above)


def shift_counts(shift: int | npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Shifts as int64, checked to be ones that two types can have between them."""
    shifts = integers(shift)
    if shifts.size and (shifts.dtype == np.object_ or shifts.min() < -_MAX_LEFT_SHIFT):
        raise ConfigurationError(f"a left shift of {-int(shifts.min())} bits is beyond any pair of fixed-point types")
    return shifts


def _round_shift_uniform(raw: npt.NDArray[np.int64], shift: int, rounding: Rounding) -> IntegerArray | None:
    """One shift for all, in int64; None when a left shift leaves int64."""
    if shift <= 0:
        shifted = np.asarray(raw << min(-shift, 63))
        lossless = np.array_equal(shifted >> min(-shift, 63), raw) and (shift >= -63 or not raw.any())
        return shifted if lossless else None
    floor = raw >> min(shift, 63)
    if rounding is Rounding.TRN:
        return np.asarray(floor)
    half = (raw >> min(shift - 1, 63)) & 1 == 1
    if rounding is Rounding.RND:
        return np.asarray(floor + half)
    # The bits below the half; from 65 on these are all bits of the number, the sign included.
    mask = (1 << (shift - 1)) - 1 if shift <= 64 else -1
    return np.asarray(_incremented(floor, half, raw & mask != 0, raw >= 0, rounding))


def _round_shift_each(
    raw: npt.NDArray[np.int64], shifts: npt.NDArray[np.int64], rounding: Rounding
) -> IntegerArray | None:
    """Individual shifts, in int64; None when a left shift leaves int64."""
    if shifts.size and shifts.min() < 0:
        left = np.clip(-shifts, 0, 63)
        shifted = raw << left
        if ((shifted >> left != raw) | ((shifts < -63) & (raw != 0))).any():
            return None
    else:
        shifted = raw
    # Right shifts and masks act on `shifted`: an element that moves left has nothing to remove.
    floor = np.asarray(shifted >> np.clip(shifts, 0, 63))
    if rounding is Rounding.TRN:
        return floor
    below = np.clip(shifts - 1, 0, 64)
    half = ((shifted >> np.minimum(below, 63)) & 1 == 1) & (shifts > 0)
    if rounding is Rounding.RND:
        return np.asarray(floor + half)
    mask = np.where(below == 64, -1, ~(np.int64(-1) << np.minimum(below, 63)))
    return np.asarray(_incremented(floor, half, shifted & mask != 0, raw >= 0, rounding))


def _incremented(floor: Any, half: Any, sticky: Any, nonnegative: Any, rounding: Rounding) -> Any:
    """``quantization_adjust`` of ap_fixed_base.h, on arrays or single numbers.

    Args:
        floor: the kept bits.
        half: the highest removed bit.
        sticky: whether any lower removed bit is set.
        nonnegative: whether the source is not negative.
        rounding: the mode.
    """
    match rounding:
        case Rounding.TRN:
            return floor
        case Rounding.TRN_ZERO:
            return floor + ((half | sticky) & (nonnegative ^ True))
        case Rounding.RND:
            return floor + half
        case Rounding.RND_ZERO:
            return floor + (half & (sticky | (nonnegative ^ True)))
        case Rounding.RND_MIN_INF:
            return floor + (half & sticky)
        case Rounding.RND_INF:
            return floor + (half & (sticky | nonnegative))
        case Rounding.RND_CONV:
            return floor + (half & (sticky | (floor & 1 == 1)))
