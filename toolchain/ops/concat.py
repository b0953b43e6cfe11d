"""Tensors side by side along one axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Folding, Kernel, Port, Schedule, nest
from toolchain.errors import ModelError, PassError
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ops.base import Operator, Sample, importer, operator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer


@operator
@dataclass(frozen=True)
class Concat(Operator):
    """The inputs one after the other along `axis` (batch not counted). Integer inputs have one binary point."""

    is_layout = True

    axis: int

    def shape(self, *inputs: Shape) -> Shape:
        first = inputs[0]
        for other in inputs[1:]:
            if len(other) != len(first) or any(
                a != b for k, (a, b) in enumerate(zip(first, other, strict=True)) if k != self.axis
            ):
                raise ModelError(f"cannot join shapes {[list(shape) for shape in inputs]} along axis {self.axis + 1}")
        total = sum(shape[self.axis] for shape in inputs)
        return (*first[: self.axis], total, *first[self.axis + 1 :])

    def ranges(self, *inputs: TensorType) -> TensorType:
        first = inputs[0]
        formats = {(given.width, given.signed, given.fraction) for given in inputs}
        if len(formats) > 1:
            raise PassError(f"joins tensors of different types {[str(given.fixed) for given in inputs]}")
        low, high = min(given.low for given in inputs), max(given.high for given in inputs)
        shape = self.shape(*(given.shape for given in inputs))
        return TensorType(shape, first.width, first.signed, (first.fraction,), low, high)

    def evaluate(self, *inputs: Array) -> Array:
        return np.concatenate(inputs, axis=self.axis + 1)

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return replace(self, axis=axes[self.axis])

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        """All operands get one format, chosen on what the concatenation holds; binary trees keep the hardware small."""
        format = lowering.format(node)
        return self.joined(lowering, node, [lowering.to_format(value, format) for value in inputs])

    def joined(self, lowering: Lowering, node: Node, values: list[str]) -> str:
        """The concatenation of values of one type."""
        while len(values) > 2:
            values = [
                lowering.add(node, self, (values[0], values[1]), part=f"join{len(values)}"),
                *values[2:],
            ]
        return lowering.add(node, self, tuple(values))

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        rank = len(renderer.graph.types[node.name].shape)
        axis = {0: 2, 1: 3, 2: 1}[self.axis] if rank == 3 else self.axis + 1
        return renderer.op("Concat", *inputs, axis=axis)

    def lanes_divide(self, *inputs: Shape) -> int:
        return math.gcd(*(shape[-1] for shape in inputs))

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        a, b = inputs
        lanes = folding.lanes
        outer = math.prod(output.shape[: self.axis])
        words = [given.size // outer // lanes for given in inputs]
        config: dict[str, int | str] = {
            "OUTER": outer,
            "WORDS_A": words[0],
            "WORDS_B": words[1],
            "LANES": lanes,
            "BITS": output.width,
        }
        both = sum(words)
        schedule = Schedule(
            outer * both,
            (nest((outer, both), (words[0], 1)), nest((outer, both), (words[1], 1), start=words[0])),
            nest((outer * both, 1)),
        )
        return [
            Kernel("concat", "ops/concat.h", config, (Port(a, lanes), Port(b, lanes)), Port(output, lanes), schedule)
        ]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for axis in range(3):
            a, b = [3, 2, 4], [3, 2, 4]
            b[axis] += 2
            type = FixedType(int(rng.integers(1, 20)), 3, bool(rng.integers(2)))
            yield Sample(cls(axis), (TensorType.of((a[0], a[1], a[2]), type), TensorType.of((b[0], b[1], b[2]), type)))


@importer("Concat")
def import_concat(importing: Importer, node: OnnxNode) -> None:
    values = [importing.value(node, k) for k in range(len(node.inputs))]
    axis = importing.axis(node.attribute("axis", 1), len(importing.shape(values[0])))
    if len(values) == 1:
        importing.bind(node, values[0])
        return
    importing.bind(node, importing.add(node, Concat(axis), *values))
