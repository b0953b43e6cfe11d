"""Softmax over the last axis: exact differences, a table of exponentials, one integer division."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, Loops, Port, Schedule, integer_array
from toolchain.errors import PassError
from toolchain.ir import Array, Constant, FixedType, Node, Shape, TensorType
from toolchain.ir.tabulated import Tabulated
from toolchain.ops.base import Operator, Sample, importer, operator
from toolchain.ops.transpose import Transpose

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering

INDEX_BITS = 12
INDEX_FRACTION = 8
"""The table reaches from exp(0) to exp(-16) in steps of 1/256."""
ENTRY_FRACTION = 16


@operator
@dataclass(frozen=True)
class Softmax(Operator):
    """y[..., c] = exp(x[..., c]) / sum over c of exp(x[..., c])."""

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def evaluate(self, *inputs: Array) -> Array:
        e = np.exp(inputs[0] - inputs[0].max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        value = lowering.aligned(inputs[0])
        index = FixedType(INDEX_BITS, INDEX_BITS - INDEX_FRACTION, False)
        entry = FixedType(ENTRY_FRACTION + 1, 1, False)
        table = Tabulated("exp(-x)", index, entry)
        shift = lowering.type(value).fraction - INDEX_FRACTION
        fraction = lowering.width(node) - 1
        return lowering.add(node, IntegerSoftmax(table, shift, fraction), (value,))


@operator
@dataclass(frozen=True)
class IntegerSoftmax(Operator):
    """p = (2 e 2**fraction + S) div (2 S), e = exponentials[min(round(d * 2**-shift), last)], d = max - x, S = sum e.

    d is exact, so the width of x does not matter; the index is rounded half up.
    """

    exponentials: Constant
    shift: int
    fraction: int

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        given.fraction  # noqa: B018 - raises when there are several binary points
        if self.exponentials.array.min() < 0 or self.exponentials.array[0] < 1:
            raise PassError("has a table of exponentials that is not positive at 0")
        return TensorType(given.shape, self.fraction + 1, False, (self.fraction,), 0, 1 << self.fraction)

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0].astype(np.int64) if inputs[0].dtype != object else inputs[0]
        distance = values.max(axis=-1, keepdims=True) - values
        half = 1 << (self.shift - 1) if self.shift > 0 else 0
        index = (distance + half) >> self.shift if self.shift > 0 else distance << -self.shift
        last = len(self.exponentials.array) - 1
        e = self.exponentials.array[np.minimum(index, last).astype(np.int64)].astype(values.dtype)
        total = e.sum(axis=-1, keepdims=True)
        return np.asarray((2 * e * (1 << self.fraction) + total) // (2 * total)).astype(inputs[0].dtype)

    def bound(self, *inputs: TensorType) -> int:
        largest = int(self.exponentials.array.max())
        total = largest * inputs[0].shape[-1]
        distance = inputs[0].high - inputs[0].low
        index = distance + (1 << self.shift - 1) if self.shift > 0 else distance << -self.shift
        return max((largest << self.fraction + 1) + 2 * total, index, inputs[0].magnitude)

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        lanes, channels = folding.lanes, given.shape[-1]
        pixels, words = math.prod(given.shape[:-1]), given.shape[-1] // lanes
        largest = int(self.exponentials.array.max())
        size = len(self.exponentials.array)
        config: dict[str, int | str] = {
            "PIXELS": pixels,
            "CHANNELS": channels,
            "LANES": lanes,
            "INDEX_SHIFT": self.shift,
            "FRACTION": self.fraction,
            "SIZE": size,
            "input_t": given.cpp,
            "index_t": f"ap_uint<{max((size - 1).bit_length(), 1)}>",
            "entry_t": f"ap_uint<{largest.bit_length()}>",
            "sum_t": f"ap_uint<{(largest * channels).bit_length()}>",
            "output_t": output.cpp,
        }
        schedule = Schedule(
            pixels * words * 3,
            ((Loops(0, ((pixels, 3 * words), (words, 1))),),),
            (Loops(2 * words, ((pixels, 3 * words), (words, 1))),),
        )
        arrays = {"exponentials": integer_array(self.exponentials.array)}
        cost = Cost(memories=((size, largest.bit_length()),) * lanes, lut=lanes * 2000)
        port = Port(given, lanes)
        return [Kernel("softmax", "ops/softmax.h", config, (port,), Port(output, lanes), schedule, arrays, cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        entry = FixedType(ENTRY_FRACTION + 1, 1, False)
        table = Tabulated("exp(-x)", FixedType(8, 4, False), entry)
        for width, shift, shape in ((8, 0, (10,)), (24, 7, (3, 4)), (6, -2, (2, 2, 3)), (12, 1, (1,))):
            yield Sample(cls(table, shift, int(rng.integers(7, 16))), (TensorType.of(shape, FixedType(width, 4)),))


@importer("Softmax")
def import_softmax(importing: Importer, node: OnnxNode) -> None:
    """Another axis than the last is brought there and back."""
    value = importing.value(node, 0)
    rank = len(importing.shape(value))
    axis = importing.axis(node.attribute("axis", -1), rank)
    order = (*(k for k in range(rank) if k != axis), axis)
    moved = order != tuple(range(rank))
    if moved:
        value = importing.add(node, Transpose(order), value, part="axis_last")
    value = importing.add(node, Softmax(), value)
    if moved:
        value = importing.add(node, Transpose(tuple(int(k) for k in np.argsort(order))), value, part="axis_back")
    importing.bind(node, value)
