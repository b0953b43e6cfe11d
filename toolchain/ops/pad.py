"""A border of one constant around a tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, Loops, Port, Schedule, every
from toolchain.errors import UnsupportedOperator
from toolchain.frontends.gathering import gathered
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ir.constant import bordered
from toolchain.ops.base import Operator, Sample, importer, operator
from toolchain.ops.reshape import Reshape

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer


@operator
@dataclass(frozen=True)
class Pad(Operator):
    """`before[i]` and `after[i]` elements of `value` on both sides of axis i; an integer value on the grid of x."""

    is_layout = True

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float = 0

    def shape(self, *inputs: Shape) -> Shape:
        return tuple(d + b + a for d, b, a in zip(inputs[0], self.before, self.after, strict=True))

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        low, high = min(given.low, int(self.value)), max(given.high, int(self.value))
        return TensorType(self.shape(given.shape), given.width, given.signed, (given.fraction,), low, high)

    def evaluate(self, *inputs: Array) -> Array:
        return bordered(inputs[0], (0, *self.before), (0, *self.after), self.value)

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        back = np.argsort(axes)
        return replace(self, before=tuple(self.before[a] for a in back), after=tuple(self.after[a] for a in back))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        value = lowering.narrow(inputs[0])
        if not self._fits(lowering.type(value).fixed):
            value = lowering.to_format(value, lowering.format(node))
        type = lowering.type(value).fixed
        raw = min(max(_on_grid(self.value, type), type.low), type.high)
        return lowering.add(node, replace(self, value=raw), (value,))

    def _fits(self, type: FixedType) -> bool:
        return type.low <= _on_grid(self.value, type) <= type.high

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        order = (2, 0, 1) if len(self.before) == 3 else tuple(range(len(self.before)))
        pads = [0, *(self.before[k] for k in order), 0, *(self.after[k] for k in order)]
        return renderer.op(
            "Pad", inputs[0], renderer.shape_constant(pads), renderer.constant(np.array(float(self.value)))
        )

    def lanes_divide(self, *inputs: Shape) -> int:
        """Words must not straddle the border along the last axis."""
        return math.gcd(inputs[0][-1], self.before[-1], self.after[-1])

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        lanes = folding.lanes
        inside, outside, before = boxes(given.shape, output.shape, self.before)
        for sizes in (inside, outside, before):
            sizes[2] //= lanes
        config: dict[str, int | str] = {f"OUT_{k}": v for k, v in enumerate(outside)}
        config |= {f"BEFORE_{k}": v for k, v in enumerate(before)} | {f"IN_{k}": v for k, v in enumerate(inside)}
        config |= {"LANES": lanes, "VALUE": int(self.value), "BITS": given.width}
        row, plane = outside[2], outside[1] * outside[2]
        start = before[0] * plane + before[1] * row + before[2]
        reads = (Loops(start, ((inside[0], plane), (inside[1], row), (inside[2], 1))),)
        schedule = Schedule(math.prod(outside), (reads,), every(math.prod(outside)))
        cost = Cost(lut=100)
        return [Kernel("pad", "ops/pad.h", config, (Port(given, lanes),), Port(output, lanes), schedule, cost=cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        given = TensorType.of((3, 2, 4), FixedType(7, 3))
        yield Sample(cls((1, 0, 0), (2, 1, 0)), (given,))
        yield Sample(cls((0, 0, 4), (0, 0, 2), -9), (given,))
        yield Sample(cls((1, 2, 3), (3, 2, 1), 63), (given,))
        yield Sample(cls((2,), (1,)), (TensorType.of((5,), FixedType(4, 3, False)),))


def _on_grid(value: float, type: FixedType) -> int:
    return int(np.floor(np.ldexp(value, type.fraction) + 0.5))


def boxes(given: Shape, output: Shape, starts: tuple[int, ...]) -> tuple[list[int], list[int], list[int]]:
    """Sizes of both tensors and the starts with three axes, leading ones added."""
    missing = 3 - len(given)
    return [1] * missing + list(given), [1] * missing + list(output), [0] * missing + list(starts)


COPIED: dict[str, Callable[[int, int], int]] = {
    "edge": lambda k, size: min(max(k, 0), size - 1),
    "reflect": lambda k, size: size - 1 - abs(size - 1 - k % (2 * size - 2)) if size > 1 else 0,
    "wrap": lambda k, size: k % size,
}
"""The entry that stands at place k of an axis, which may lie outside."""


def _copied(
    importing: Importer, node: OnnxNode, value: str, place: Callable[[int, int], int], pads: list[tuple[int, int]]
) -> str:
    for axis, (before, after) in enumerate(pads):
        size = importing.shape(value)[axis]
        indices = [place(k, size) for k in range(-before, size + after)]
        value = gathered(importing, node, value, axis, indices, f"axis{axis}")
    return importing.add(node, Reshape(importing.shape(value)), value)


@importer("Pad")
def import_pad(importing: Importer, node: OnnxNode) -> None:
    mode = node.attribute("mode", "constant")
    if mode not in ("constant", *COPIED):
        raise UnsupportedOperator(f"has the mode {mode!r}")
    value = importing.value(node, 0)
    rank = len(importing.shape(value)) + 1
    pads = importing.integers(node, 1, "pads", [0] * 2 * rank) or []
    fill = float(importing.constant(node, 2, "the value").ravel()[0]) if node.has(2) else node.attribute("value", 0.0)
    axes = list(range(rank))
    if node.has(3):
        axes = [importing.full_axis(int(a), rank - 1) for a in importing.constant(node, 3, "axes").ravel()]
    if len(pads) != 2 * len(axes):
        raise UnsupportedOperator(f"has {len(pads)} pads for {len(axes)} axes")
    before, after = [0] * rank, [0] * rank
    for k, axis in enumerate(axes):
        before[axis], after[axis] = pads[k], pads[k + len(axes)]
    if before[0] or after[0]:
        raise UnsupportedOperator("pads the batch dimension")
    if min(before + after) < 0:
        raise UnsupportedOperator("has negative pads")
    if mode != "constant":
        importing.bind(node, _copied(importing, node, value, COPIED[mode], list(zip(before, after, strict=True))[1:]))
        return
    if rank > 4:
        raise UnsupportedOperator(f"pads {rank - 1} dimensions beside the batch, 3 are supported")
    importing.bind(node, importing.add(node, Pad(tuple(before[1:]), tuple(after[1:]), fill), value))
