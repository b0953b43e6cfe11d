"""A box cut out of a tensor, with steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, Loops, Port, Schedule, every
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.gathering import gathered
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ops.base import Operator, Sample, importer, operator
from toolchain.ops.pad import boxes

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer

WHOLE_BATCH = (1 << 31) - 1
"""An end that no batch passes; smaller ones cut a number of rows that only the model's own batch makes all of them."""


@operator
@dataclass(frozen=True)
class Slice(Operator):
    """Elements starts[i], starts[i] + steps[i], ... along axis i, `sizes[i]` of them."""

    is_layout = True

    starts: tuple[int, ...]
    steps: tuple[int, ...]
    sizes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        for d, start, step, size in zip(inputs[0], self.starts, self.steps, self.sizes, strict=True):
            if size < 1 or start < 0 or step < 1 or start + (size - 1) * step >= d:
                raise ModelError(f"cuts {size} elements from {start} by {step} out of {d}")
        return self.sizes

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        return TensorType(self.shape(given.shape), given.width, given.signed, (given.fraction,), given.low, given.high)

    def _index(self) -> tuple[slice, ...]:
        return tuple(
            slice(start, start + (size - 1) * step + 1, step)
            for start, step, size in zip(self.starts, self.steps, self.sizes, strict=True)
        )

    def evaluate(self, *inputs: Array) -> Array:
        return inputs[0][(slice(None), *self._index())]

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        back = np.argsort(axes)
        return Slice(*(tuple(values[a] for a in back) for values in (self.starts, self.steps, self.sizes)))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return lowering.add(node, self, (lowering.narrow(inputs[0]),))

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        index = self._index()
        axes = (2, 3, 1) if len(index) == 3 else tuple(range(1, len(index) + 1))
        lists = ([s.start for s in index], [s.stop for s in index], list(axes), [s.step for s in index])
        return renderer.op("Slice", inputs[0], *(renderer.shape_constant(values) for values in lists))

    def lanes_divide(self, *inputs: Shape) -> int:
        """Words must be selected whole along the last axis."""
        return 1 if self.steps[-1] > 1 else math.gcd(inputs[0][-1], self.starts[-1], self.sizes[-1])

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        lanes = folding.lanes
        inside, outside, starts = boxes(given.shape, output.shape, self.starts)
        steps = [1] * (3 - len(self.steps)) + list(self.steps)
        for sizes in (inside, outside, starts):
            sizes[2] //= lanes
        config: dict[str, int | str] = {f"IN_{k}": v for k, v in enumerate(inside)}
        config |= {f"START_{k}": v for k, v in enumerate(starts)} | {f"STEP_{k}": v for k, v in enumerate(steps)}
        config |= {f"OUT_{k}": v for k, v in enumerate(outside)} | {"LANES": lanes, "BITS": given.width}
        row, plane = inside[2], inside[1] * inside[2]
        strides = (plane, row, 1)
        start = sum(s * stride for s, stride in zip(starts, strides, strict=True))
        writes = (
            Loops(start, tuple((n, step * stride) for n, step, stride in zip(outside, steps, strides, strict=True))),
        )
        schedule = Schedule(math.prod(inside), (every(math.prod(inside)),), writes)
        cost = Cost(lut=100)
        return [Kernel("slice", "ops/slice.h", config, (Port(given, lanes),), Port(output, lanes), schedule, cost=cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        given = TensorType.of((5, 6, 4), FixedType(7, 3))
        yield Sample(cls((0, 0, 0), (2, 2, 1), (3, 3, 4)), (given,))
        yield Sample(cls((1, 2, 2), (1, 3, 1), (3, 2, 2)), (given,))
        yield Sample(cls((1, 0, 1), (3, 1, 2), (2, 6, 2)), (given,))
        yield Sample(cls((3,), (1,), (4,)), (TensorType.of((9,), FixedType(8, 3, False)),))


@importer("Slice")
def import_slice(importing: Importer, node: OnnxNode) -> None:
    value = importing.value(node, 0)
    shape = importing.shape(value)
    first = importing.integers(node, 1, "starts", None) or []
    last = importing.integers(node, 2, "ends", None) or []
    axes = importing.integers(node, 3, "axes", None) or list(range(len(first)))
    by = importing.integers(node, 4, "steps", None) or [1] * len(first)
    if not len(first) == len(last) == len(axes) == len(by):
        raise ModelError("has starts, ends, axes and steps of different lengths")
    starts, steps, sizes = [0] * len(shape), [1] * len(shape), list(shape)
    backwards: dict[int, list[int]] = {}
    for start, end, axis, step in zip(first, last, axes, by, strict=True):
        k = importing.full_axis(axis, len(shape)) - 1
        if k < 0:
            if start == 0 and step == 1 and end >= WHOLE_BATCH:
                continue
            raise UnsupportedOperator("cuts the batch dimension")
        if step == 0:
            raise ModelError("has the step 0")
        begin, stop, _ = slice(start, end, step).indices(shape[k])
        if step < 0 and range(begin, stop, step):
            backwards[k] = list(range(begin, stop, step))
            continue
        starts[k], steps[k], sizes[k] = begin, step, len(range(begin, stop, step))
        if sizes[k] == 0:
            raise ModelError(f"cuts nothing out of axis {axis}")
    if len(shape) > 3:
        raise UnsupportedOperator(f"cuts {len(shape)} dimensions beside the batch, 3 are supported")
    for axis, indices in backwards.items():
        value = gathered(importing, node, value, axis, indices, f"backwards{axis}")
        sizes[axis] = len(indices)
    importing.bind(node, importing.add(node, Slice(tuple(starts), tuple(steps), tuple(sizes)), value))
