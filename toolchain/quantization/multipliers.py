"""Real ratios as integer multipliers: the narrowest that round every integer as exact arithmetic does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolchain.ir import Array, Rounding

WIDTHS = (8, 12, 16, 20, 24, 28, 32)
"""Bits of multipliers, tried in this order."""
EXACT_SHIFTS = 40
"""A ratio with so many bits below its point is taken as it is."""
MOST_LEVELS = 4096
"""With more levels the boundaries are not looked at one by one."""
MANY_LEVELS_WIDTH = 24
SAME = 2.0**-40
"""Ratios so close to a power of two are it: float64 products and quotients of scales brought them off."""
TRUNCATING = (Rounding.TRN, Rounding.TRN_ZERO)


@dataclass(frozen=True)
class Multipliers:
    """ratio * x + offset = (factors * x + offsets) * 2**-shift, closely enough for what `exact` says.

    `exact` tells whether every integer of the range gives the same level as real arithmetic.
    """

    factors: Array
    offsets: Array
    shift: int
    exact: bool


def snapped(ratios: Array) -> Array:
    """The ratios, those next to a power of two replaced by it."""
    magnitudes = np.where(ratios == 0, 1.0, np.abs(ratios))
    powers = 2.0 ** np.round(np.log2(magnitudes))
    near = (np.abs(magnitudes / powers - 1) < SAME) & (ratios != 0)
    return np.asarray(np.where(near, np.sign(ratios) * powers, ratios))


def are_powers(ratios: Array) -> bool:
    """Are all of them powers of two?"""
    mantissas, _ = np.frexp(ratios)
    return bool((mantissas == 0.5).all())


def find_multipliers(
    ratios: Array, offsets: Array, reach: tuple[int, int], levels: tuple[int, int], rounding: Rounding
) -> Multipliers:
    """Multipliers for clip(round(ratio * x + offset), *levels), one a channel, x any integer of `reach`.

    The ratios and offsets are taken as the float64 numbers that they are.
    """
    for shift in range(EXACT_SHIFTS + 1):
        found = _at(ratios, offsets, shift)
        if (found.factors == np.ldexp(ratios, shift)).all() and (found.offsets == np.ldexp(offsets, shift)).all():
            if np.abs(found.factors).max() < 1 << WIDTHS[-1]:
                return found
            break
    exponent = int(np.frexp(np.abs(ratios).max() or 1.0)[1])
    for width in WIDTHS:
        found = _at(ratios, offsets, max(width - exponent, 0))
        if levels[1] - levels[0] > MOST_LEVELS:
            if width == MANY_LEVELS_WIDTH:
                break
        elif _decides_alike(ratios, offsets, found, reach, levels, rounding):
            return found
    return Multipliers(found.factors, found.offsets, found.shift, exact=False)


def _at(ratios: Array, offsets: Array, shift: int) -> Multipliers:
    return Multipliers(_whole(np.ldexp(ratios, shift)), _whole(np.ldexp(offsets, shift)), shift, exact=True)


def _whole(values: Array) -> Array:
    rounded = np.rint(values)
    if np.abs(rounded).max(initial=0) < 1 << 62:
        return rounded.astype(np.int64)
    return np.array([int(v) for v in rounded], dtype=object)


def _decides_alike(
    ratios: Array,
    offsets: Array,
    found: Multipliers,
    reach: tuple[int, int],
    levels: tuple[int, int],
    rounding: Rounding,
) -> bool:
    """Are the integers next to every boundary between two levels on the same side of it as in real arithmetic?

    Between them nothing else can differ, as both sides are monotone.
    """
    bounds = np.arange(levels[0] - 1, levels[1] + 2) - (0.0 if rounding in TRUNCATING else 0.5)
    moving = ratios != 0
    ratio, offset = ratios[moving, None], offsets[moving, None]
    slope = np.ldexp(found.factors[moving, None].astype(np.float64), -found.shift) - ratio
    lift = np.ldexp(found.offsets[moving, None].astype(np.float64), -found.shift) - offset
    before = np.floor((bounds - offset) / ratio)
    for inputs in (before, before + 1):
        x = np.clip(inputs, *reach)
        distance = np.abs(ratio * x + offset - bounds)
        noise = 2.0**-49 * (np.abs(ratio * x) + np.abs(offset) + np.abs(bounds))
        if (distance <= np.abs(slope * x + lift) + noise).any():
            return False
    still = np.abs(offsets[~moving, None] - bounds)
    return bool((still > 2.0 ** -(found.shift + 1)).all())
