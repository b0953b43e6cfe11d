"""Where a model quantizes its own inputs: that quantization becomes the entry of the integer program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolchain.ir import FixedType, Graph, Levels, Meaning, Overflow, Rounding
from toolchain.ir.types import needed_width
from toolchain.ops.affine import Affine
from toolchain.ops.fake_quantize import FakeQuantize
from toolchain.ops.fixed_quantize import FixedQuantize
from toolchain.ops.linear import LinearOperator
from toolchain.ops.quantize import Quantize
from toolchain.quantization.multipliers import are_powers

ROUNDINGS = (Rounding.RND, Rounding.RND_CONV)
"""What an entry can do on a grid of powers of two; on any other scale only the second."""

WIDE, ABOVE = 32, 8
"""Bits of an entry in front of formats that wrap, at least ABOVE of them above the largest that these formats hold."""


@dataclass(frozen=True)
class Grid:
    """clip(round(x / step), low, high): the integers r of an input x, which mean step * r.

    Where `is_whole` is not set, levels lie between these integers, or halves go another way.
    """

    step: float
    low: float
    high: float
    rounding: Rounding
    is_whole: bool
    is_wide: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """Inputs beyond these are all alike."""
        return (self.low - 1) * self.step, (self.high + 1) * self.step

    def operator(self) -> Quantize | None:
        """The entry that gives these integers, None where no type has their range and nothing holds their scale."""
        return self._operator(int(self.low), int(self.high)) if self.is_whole else None

    def _operator(self, low: int, high: int) -> Quantize | None:
        width, signed = needed_width(low, high)
        symmetric = signed and width > 1 and low == -high
        type = FixedType(width, width, signed, self.rounding, Overflow.SAT_SYM if symmetric else Overflow.SAT)
        fills = high == type.high and low == type.low + symmetric
        if fills and are_powers(np.array([self.step])):
            fraction = -int(np.log2(self.step))
            return Quantize(FixedType(width, width - fraction, signed, type.rounding, type.overflow))
        if self.rounding != Rounding.RND_CONV or float(np.float32(self.step)) != self.step:
            return None
        if fills:
            return Quantize(type, Meaning(self.step, 0))
        count = high - low
        if count & (count + 1):
            return None
        bits = count.bit_length()
        return Quantize(FixedType(bits, bits, False, self.rounding, Overflow.SAT), Meaning(self.step, -low))


def quantizes_itself(graph: Graph) -> bool:
    """Does a real graph say how some of its values or weights are quantized?"""
    return any(
        isinstance(node.operator, FakeQuantize | FixedQuantize)
        or (isinstance(node.operator, LinearOperator) and isinstance(node.operator.weights, Levels))
        for node in graph.nodes
    )


def entry_grid(graph: Graph, name: str) -> Grid | None:
    """The one grid on which everything that reads an input quantizes it, None where there is none.

    Between may stand moves and one scale and offset, if the offset is a whole number of steps.
    """
    found: set[Grid | None] = set()
    _collect(graph, name, 1.0, 0.0, found)
    wide = [grid for grid in found if grid is not None and grid.is_wide]
    if len(wide) == len(found) > 1:
        fraction = 1 - int(np.log2(min(grid.step for grid in wide)))
        return _wide(fraction, max(int(np.log2((grid.high + 1) * grid.step)) for grid in wide), Rounding.RND)
    return found.pop() if len(found) == 1 else None


def _collect(graph: Graph, name: str, scale: float, offset: float, found: set[Grid | None]) -> None:
    """What the readers of scale * x + offset make of the input x."""
    if graph.is_output(name):
        found.add(None)
    for reader in graph.consumers[name]:
        operator = reader.operator
        if isinstance(operator, FakeQuantize) and operator.is_per_tensor:
            step = float(operator.scale.array.flat[0])
            places = operator.zero_point + offset / step
            whole = int(np.rint(places))
            # Half to even looks at whole numbers: an odd move changes what is even.
            moves = places == whole and (operator.rounding == Rounding.RND or whole % 2 == 0)
            moves = moves and operator.rounding in ROUNDINGS
            ends = (operator.low - places, operator.high - places)
            found.add(Grid(step / scale, *ends, operator.rounding, moves) if scale > 0 else None)
        elif isinstance(operator, FixedQuantize) and scale == 1 and not offset:
            found.add(_wide_grid(operator))
        elif isinstance(operator, Affine) and operator.scale.array.size == operator.offset.array.size == 1:
            factor, addend = float(operator.scale.array.flat[0]), float(operator.offset.array.flat[0])
            _collect(graph, reader.name, scale * factor, offset * factor + addend, found)
        elif operator.is_layout and len(reader.inputs) == 1 and not getattr(operator, "value", 0):
            _collect(graph, reader.name, scale, offset, found)
        else:
            found.add(None)


def _wide_grid(operator: FixedQuantize) -> Grid:
    """An entry in front of formats that wrap or differ: WIDE bits, on their own grid where they have one.

    Where fractions differ, no entry gives them all; this one has bits to spare below the finest and above the largest.
    """
    spare = int((operator.magnitudes.array - operator.fractions.array).max()) + ABOVE
    fraction, rounding = operator.finest, operator.rounding
    if (operator.fractions.array != fraction).any() or rounding not in ROUNDINGS:
        fraction, rounding = max(fraction + 1, WIDE - 1 - spare), Rounding.RND
    return _wide(fraction, spare, rounding)


def _wide(fraction: int, integer: int, rounding: Rounding) -> Grid:
    width = max(WIDE, fraction + integer + 1)
    return Grid(2.0**-fraction, -(1 << width - 1), (1 << width - 1) - 1, rounding, is_whole=True, is_wide=True)
