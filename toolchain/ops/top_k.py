"""The largest or smallest entries of the last axis and where they stand: TopK, ArgMax, ArgMin."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, Port, Schedule, nest
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ops.base import Operator, Sample, importer, operator
from toolchain.ops.reshape import Reshape
from toolchain.ops.transpose import Transpose

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering

MOST = 256
"""Entries that the hardware keeps, sorted, in registers."""


@operator
@dataclass(frozen=True)
class TopK(Operator):
    """The `count` largest or smallest entries of the last axis in order, or their indices.

    Of equal ones the first comes first, or with `prefers_last` the last.
    """

    count: int
    largest: bool
    gives_indices: bool
    prefers_last: bool = False

    def shape(self, *inputs: Shape) -> Shape:
        if not 1 <= self.count <= inputs[0][-1]:
            raise ModelError(f"takes {self.count} of {inputs[0][-1]} entries")
        return (*inputs[0][:-1], self.count)

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        shape = self.shape(given.shape)
        if self.gives_indices:
            given.fraction  # noqa: B018 - raises when there are several binary points
            return TensorType.holding(shape, 0, given.shape[-1] - 1, (0,))
        return TensorType(shape, given.width, given.signed, (given.fraction,), given.low, given.high)

    def bound(self, *inputs: TensorType) -> int:
        return max(inputs[0].magnitude, inputs[0].shape[-1])

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0]
        keys = -values if self.largest else values
        if self.prefers_last:
            order = keys.shape[-1] - 1 - np.argsort(keys[..., ::-1], axis=-1, kind="stable")
        else:
            order = np.argsort(keys, axis=-1, kind="stable")
        order = order[..., : self.count]
        chosen = order if self.gives_indices else np.take_along_axis(values, order, axis=-1)
        return np.asarray(chosen.astype(values.dtype))

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self if axes[-1] == rank - 1 else None

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return lowering.add(node, self, (lowering.aligned(inputs[0]),))

    def lanes_divide(self, *inputs: Shape) -> int:
        return 1

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        pixels, channels = math.prod(given.shape[:-1]), given.shape[-1]
        config: dict[str, int | str] = {
            "PIXELS": pixels,
            "CHANNELS": channels,
            "KEPT": self.count,
            "LARGEST": int(self.largest),
            "PREFERS_LAST": int(self.prefers_last),
            "GIVES_INDICES": int(self.gives_indices),
            "input_t": given.cpp,
            "output_t": output.cpp,
        }
        steps = channels + self.count
        reads, writes = nest((pixels, steps), (channels, 1)), nest((pixels, steps), (self.count, 1), start=channels)
        cost = Cost(lut=self.count * 3 * (given.width + channels.bit_length()))
        schedule = Schedule(pixels * steps, (reads,), writes)
        return [Kernel("top_k", "ops/top_k.h", config, (Port(given, 1),), Port(output, 1), schedule, cost=cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for count, largest, gives_indices, prefers_last in (
            (1, True, True, False),
            (3, True, False, False),
            (3, False, True, False),
            (5, False, False, True),
            (2, True, True, True),
        ):
            given = TensorType.of((2, 3, 5), FixedType(int(rng.integers(2, 9)), 3, bool(rng.integers(2))))
            yield Sample(cls(count, largest, gives_indices, prefers_last), (given,))


def _add(importing: Importer, node: OnnxNode, axis: int, top: TopK, part: str = "") -> str:
    """The operator along any axis, which is brought to the end and back."""
    value = importing.value(node, 0)
    rank = len(importing.shape(value))
    order = (*(k for k in range(rank) if k != axis), axis)
    if order == tuple(range(rank)):
        return importing.add(node, top, value, part=part)
    value = importing.add(node, Transpose(order), value, part=f"{part}_last")
    value = importing.add(node, top, value, part=part)
    return importing.add(node, Transpose(tuple(int(k) for k in np.argsort(order))), value, part=f"{part}_back")


@importer("ArgMax", "ArgMin")
def import_argument(importing: Importer, node: OnnxNode) -> None:
    shape = importing.shape(importing.value(node, 0))
    axis = importing.axis(node.attribute("axis", 0), len(shape))
    top = TopK(1, node.op_type == "ArgMax", True, bool(node.attribute("select_last_index", 0)))
    value = _add(importing, node, axis, top, "index")
    if not node.attribute("keepdims", 1):
        wanted = (*shape[:axis], *shape[axis + 1 :])
        if not wanted:
            raise UnsupportedOperator("leaves only the batch dimension, keepdims 1 is needed")
        value = importing.add(node, Reshape(wanted), value)
    importing.bind(node, value)


@importer("TopK")
def import_top_k(importing: Importer, node: OnnxNode) -> None:
    shape = importing.shape(importing.value(node, 0))
    axis = importing.axis(node.attribute("axis", -1), len(shape))
    count = (importing.integers(node, 1, "k", None) or [0])[0]
    node.ignore("sorted")  # in order is one of the orders that sorted 0 allows
    if not 1 <= count <= min(MOST, shape[axis]):
        raise UnsupportedOperator(
            f"takes {count} of {shape[axis]} entries, 1 to {min(MOST, shape[axis])} are supported"
        )
    for index, part in enumerate(("values", "indices")):
        if index < len(node.outputs) and node.outputs[index]:
            top = TopK(count, bool(node.attribute("largest", 1)), bool(index))
            importing.bind(node, _add(importing, node, axis, top, part), index)
