"""Functions between two quantizations of the model itself, one entry for each integer that can come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.ir import Array, Constant, FixedType, Node, Shape, TensorType
from toolchain.ir.types import needed_width
from toolchain.ops.base import Operator, operator
from toolchain.ops.table import Table

if TYPE_CHECKING:
    from toolchain.quantization.lowering import Lowering


@operator
@dataclass(frozen=True)
class Lookup(Operator):
    """y = step * entries[x / scale - low] for x = scale * low, scale * (low + 1), ...

    `scale` and `low` are those of the quantization that made x, `step` that of the one behind; the entries are its
    levels, each of them what the operators between give, correctly rounded.
    """

    scale: float
    low: int
    step: float
    entries: Constant

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def evaluate(self, *inputs: Array) -> Array:
        places = np.rint(inputs[0] / self.scale).astype(np.int64) - self.low
        return np.asarray(self.entries.array[places.clip(0, len(self.entries.array) - 1)] * self.step)

    @property
    def ends(self) -> Array:
        """The lowest and the highest result."""
        return np.array([self.entries.array.min(), self.entries.array.max()]) * self.step

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self

    def table(self, given: TensorType) -> Table:
        """The integer form for levels of this type."""
        patterns = np.arange(1 << given.width)
        levels = np.where(patterns > given.fixed.high, patterns - (1 << given.width), patterns)
        entries = self.entries.array[(levels - self.low).clip(0, len(self.entries.array) - 1)]
        width, signed = needed_width(int(entries.min()), int(entries.max()))
        mantissa, exponent = np.frexp(self.step)
        fraction = 1 - int(exponent) if mantissa == 0.5 else 0
        return Table(Constant(entries), FixedType(width, width - fraction, signed))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return lowering.scaled.looked_up(node, self, inputs[0])
