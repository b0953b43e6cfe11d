"""Formats that differ from element to element, in the integer program: left shifts to one width, where bits overflow.

In a width W, r of w bits is r * 2**(W - w): wrapping is the same, and so is saturating, once the low bits are cut off
towards zero. Where there is no sign, half of the range is taken away before and added behind. The result has one
binary point, the finest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolchain.errors import UnsupportedOperator
from toolchain.ir import Array, FixedType, Node, Overflow, Rounding
from toolchain.ops.fixed_quantize import FixedQuantize
from toolchain.ops.reshape import Reshape
from toolchain.quantization.scaled import Scale, product

if TYPE_CHECKING:
    from toolchain.quantization.lowering import Lowering

MOST_SHIFT = 40


def fixed(lowering: Lowering, node: Node, operator: FixedQuantize, value: str) -> str:
    """Where the model quantizes to fixed-point formats: the same bits, and it wraps where the model does."""
    scaled = lowering.scaled
    if not scaled.has(value):
        raise UnsupportedOperator(
            "quantizes, with bits that wrap or differ between elements, a value that is not exact in the program",
            where=node.layer,
            fix="Put the function in front into a QUnaryFunctionLUT, or use one format and SAT.",
        )
    value = _on_binary_points(lowering, node, value)
    if operator.is_uniform:
        value = lowering.to_format(value, _format(operator))
    else:
        value = _flattened(lowering, node, operator, value)
    return scaled.mark(lowering.alias(value, node), Scale.of(1.0))


def _on_binary_points(lowering: Lowering, node: Node, value: str) -> str:
    """The value with a meaning that is a binary point alone, nothing lost."""
    scale, given = lowering.scaled.scale(value), lowering.type(value)
    if scale.is_plain:
        return value
    points = np.array(given.fractions)
    for shift in range(MOST_SHIFT):
        factors = np.atleast_1d(np.ldexp(scale.unit, shift))
        addends = np.ldexp(scale.offset, shift + points)
        if all((v == np.rint(v)).all() and np.abs(v).max() < 1 << MOST_SHIFT for v in (factors, addends)):
            factors, addends = np.broadcast_arrays(factors.astype(np.int64), addends.astype(np.int64))
            moved = product(given, factors, addends, np.full(factors.shape, shift))
            return lowering.add(node, moved, (value,), part="scaled")
    raise UnsupportedOperator(
        "quantizes a value whose step is no power of two, an average perhaps, which HGQ2 computes in float32",
        where=node.layer,
        fix="Average over a power of two of values, or use QMeanPow2.",
    )


def _format(operator: FixedQuantize) -> FixedType:
    width, signed = int(operator.widths.flat[0]), bool(operator.signs.array.flat[0])
    return FixedType(width, width - operator.finest, signed, operator.rounding, operator.overflow)


def _flattened(lowering: Lowering, node: Node, operator: FixedQuantize, value: str) -> str:
    """The formats along the last axis, which all axes are for a while where they depend on more than that."""
    shape = lowering.type(value).shape
    parts = (operator.signs.array, operator.magnitudes.array, operator.fractions.array)
    if operator.is_per_channel:
        return _overflowed(lowering, node, operator, value, *(np.broadcast_to(v.ravel(), shape[-1:]) for v in parts))
    flat = lowering.add(node, Reshape((int(np.prod(shape)),)), (lowering.aligned(value),), part="flat")
    flat = _overflowed(lowering, node, operator, flat, *(np.broadcast_to(v, shape).ravel() for v in parts))
    return lowering.add(node, Reshape(shape), (flat,), part="unflat")


def _overflowed(
    lowering: Lowering, node: Node, operator: FixedQuantize, value: str, signs: Array, magnitudes: Array, points: Array
) -> str:
    def moved(value: str, by: Array, part: str, addends: Array | int = 0) -> str:
        """Other binary points for the same integers, an addend beside."""
        addends, ones = np.broadcast_to(addends, by.shape).astype(np.int64), np.ones_like(by)
        return lowering.add(node, product(lowering.type(value), ones, addends, by), (value,), part=part)

    given = lowering.type(value)
    wide = given.width + max(0, int((points - np.array(given.fractions)).max())) + 2
    rounded = FixedType(wide, wide, given.signed, operator.rounding, Overflow.SAT)
    value = lowering.to_format(moved(value, -points, "levels"), rounded)
    widths = signs + magnitudes
    halves = np.where(signs > 0, 0, (1 << magnitudes) >> 1)
    width = int(widths.max())
    shifts = width - widths
    overflow = operator.overflow if signs.any() or operator.overflow == Overflow.WRAP else Overflow.SAT
    value = lowering.to_format(
        moved(value, -shifts, "left", -halves), FixedType(width, width, True, Rounding.TRN, overflow)
    )
    if overflow == Overflow.WRAP:  # the low bits are 0
        value = moved(value, points + shifts, "points", halves << shifts)
    else:
        cut = FixedType(width, width, True, Rounding.TRN_ZERO, Overflow.SAT)
        value = moved(lowering.to_format(moved(value, shifts, "right"), cut), points, "points", halves)
    signed, integer = bool(signs.any()), int((magnitudes - points)[widths > 0].max())
    finest = int(points[widths > 0].max())
    return lowering.to_format(value, FixedType(integer + finest + signed, integer + signed, signed))
