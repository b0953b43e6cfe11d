"""Products of two computed tensors, for gates and squeeze-and-excite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.elementwise import elementwise
from toolchain.codegen.kernel import Cost, Folding, Kernel
from toolchain.errors import ModelError
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ops.base import Operator, Sample, operator

if TYPE_CHECKING:
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer


@operator
@dataclass(frozen=True)
class Product(Operator):
    """y = a * b, exactly; equal shapes."""

    def shape(self, *inputs: Shape) -> Shape:
        if inputs[0] != inputs[1]:
            raise ModelError(f"multiplies shapes {list(inputs[0])} and {list(inputs[1])}")
        return inputs[0]

    def ranges(self, *inputs: TensorType) -> TensorType:
        a, b = inputs
        ends = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        return TensorType.holding(self.shape(a.shape, b.shape), min(ends), max(ends), (a.fraction + b.fraction,))

    def evaluate(self, *inputs: Array) -> Array:
        return np.asarray(inputs[0] * inputs[1])

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return lowering.add(node, self, tuple(lowering.narrow(value) for value in inputs))

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        return renderer.op("Mul", *inputs)

    def multiplications(self, *inputs: Shape) -> int:
        return math.prod(inputs[0])

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        cost = Cost(((folding.lanes, inputs[0].width, inputs[1].width),))
        return [elementwise("product", inputs, output, folding, {}, cost=cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for widths in ((8, 8), (3, 12), (1, 5)):
            types = tuple(TensorType.of((3, 2, 4), FixedType(w, 2, bool(rng.integers(2)))) for w in widths)
            yield Sample(cls(), types)
