"""Axes in another order. Most of these vanish at compile time; the rest buffer a whole tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, Port, Schedule, every
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ops.base import Operator, Sample, importer, operator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer

RANK = 5


@operator
@dataclass(frozen=True)
class Transpose(Operator):
    """Axis i of the output is axis axes[i] of the input; the batch axis is not counted."""

    is_layout = True

    axes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        if sorted(self.axes) != list(range(len(inputs[0]))):
            raise ModelError(f"cannot order the axes of {list(inputs[0])} by {list(self.axes)}")
        return tuple(inputs[0][a] for a in self.axes)

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        return TensorType(self.shape(given.shape), given.width, given.signed, (given.fraction,), given.low, given.high)

    def evaluate(self, *inputs: Array) -> Array:
        return inputs[0].transpose(0, *(a + 1 for a in self.axes))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return lowering.add(node, self, (lowering.narrow(inputs[0]),))

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        value = renderer.channels_last(node.inputs[0], inputs[0])
        value = renderer.op("Transpose", value, perm=(0, *(a + 1 for a in self.axes)))
        return renderer.from_channels_last(node.name, value)

    def lanes_divide(self, *inputs: Shape) -> int:
        return 1

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        strides = [math.prod(given.shape[a + 1 :]) for a in self.axes]
        missing = RANK - len(strides)
        sizes = [1] * missing + list(output.shape)
        config: dict[str, int | str] = {f"OUT_{k}": size for k, size in enumerate(sizes)}
        config |= {f"STRIDE_{k}": stride for k, stride in enumerate([0] * missing + strides)}
        config |= {"TOTAL": given.size, "BITS": given.width}
        schedule = Schedule(2 * given.size, (every(given.size),), every(given.size, start=given.size))
        cost = Cost(written=(("frame", 1, given.size, given.width),))
        return [Kernel("transpose", "ops/transpose.h", config, (Port(given, 1),), Port(output, 1), schedule, cost=cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        given = TensorType.of((2, 3, 4), FixedType(7, 3))
        yield Sample(cls((2, 0, 1)), (given,))
        yield Sample(cls((1, 0)), (TensorType.of((5, 2), FixedType(9, 3, False)),))
        yield Sample(cls((3, 0, 4, 2, 1)), (TensorType.of((2, 1, 3, 2, 4), FixedType(6, 3)),))


@importer("Transpose")
def import_transpose(importing: Importer, node: OnnxNode) -> None:
    batch = importing.batch(node, 0)
    value = importing.value(node, 0, batch=batch)
    rank = len(importing.shape(value))
    order = [int(a) for a in node.attribute("perm", list(range(rank, -1, -1)))]
    if sorted(order) != list(range(rank + 1)):
        raise ModelError(f"cannot order {rank + 1} axes by {order}")
    if rank > RANK:
        raise UnsupportedOperator(f"of {rank} dimensions beside the batch, at most {RANK} are supported")
    axes = tuple(a - (a > batch) for a in order if a != batch)
    importing.bind(node, importing.add(node, Transpose(axes), value), batch=order.index(batch))
