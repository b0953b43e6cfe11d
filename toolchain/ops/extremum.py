"""The larger or smaller of computed tensors; constant operands are limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.elementwise import elementwise
from toolchain.codegen.kernel import Cost, Folding, Kernel
from toolchain.errors import ModelError
from toolchain.frontends.broadcasting import broadcast_values
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ops.affine import add_affine
from toolchain.ops.base import Operator, Sample, importer, operator
from toolchain.ops.clip import Clip

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer


@operator
@dataclass(frozen=True)
class Extremum(Operator):
    """y = max(a * 2**left[0], b * 2**left[1]), or the minimum. The shifts align two binary points; real ones are 0."""

    largest: bool
    left: tuple[int, int] = (0, 0)

    def shape(self, *inputs: Shape) -> Shape:
        if inputs[0] != inputs[1]:
            raise ModelError(f"compares shapes {list(inputs[0])} and {list(inputs[1])}")
        return inputs[0]

    def ranges(self, *inputs: TensorType) -> TensorType:
        a, b = inputs
        pick = max if self.largest else min
        low = pick(a.low << self.left[0], b.low << self.left[1])
        high = pick(a.high << self.left[0], b.high << self.left[1])
        return TensorType.holding(self.shape(a.shape, b.shape), low, high, (a.fraction + self.left[0],))

    def bound(self, *inputs: TensorType) -> int:
        return max(given.magnitude << left for given, left in zip(inputs, self.left, strict=True))

    def evaluate(self, *inputs: Array) -> Array:
        a, b = (values * 2**left if left else values for values, left in zip(inputs, self.left, strict=True))
        return np.asarray(np.maximum(a, b) if self.largest else np.minimum(a, b))

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        values = tuple(lowering.narrow(value) for value in inputs)
        a, b = (lowering.type(value).fraction for value in values)
        return lowering.add(node, replace(self, left=(max(b - a, 0), max(a - b, 0))), values)

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        a, b = (
            renderer.op("Mul", value, renderer.constant(np.array(2.0**left))) if left else value
            for value, left in zip(inputs, self.left, strict=True)
        )
        return renderer.op("Max" if self.largest else "Min", a, b)

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        width = max(given.width + left for given, left in zip(inputs, self.left, strict=True)) + 1
        config: dict[str, int | str] = {"LEFT_A": self.left[0], "LEFT_B": self.left[1], "LARGEST": int(self.largest)}
        config["wide_t"] = f"ap_int<{width}>"
        return [elementwise("extremum", inputs, output, folding, config, cost=Cost(lut=2 * folding.lanes * width))]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for largest in (False, True):
            for fractions in ((3, 3), (5, 2), (0, 7)):
                types = tuple(TensorType.of((3, 2, 4), FixedType(8, 8 - f, bool(rng.integers(2)))) for f in fractions)
                top = max(fractions)
                yield Sample(cls(largest, (top - fractions[0], top - fractions[1])), types)


@importer("Max", "Min")
def import_extremum(importing: Importer, node: OnnxNode) -> None:
    """A chain of comparisons; a constant c gives max(x, c) = max(x - c, 0) + c, or one limit where it is a number."""
    largest = node.op_type == "Max"
    computed = [k for k in range(len(node.inputs)) if not importing.is_constant(node, k)]
    constants = [k for k in range(len(node.inputs)) if importing.is_constant(node, k)]
    value = importing.value(node, computed[0]) if computed else ""
    for index in computed[1:]:
        a, b = broadcast_values(importing, node, value, importing.value(node, index))
        value = importing.add(node, Extremum(largest), a, b, part=f"operand{index}")
    for index in constants:
        limit = importing.constant(node, index, "an operand", infinite=True).astype(float)
        if np.isinf(limit).any() and limit.size > 1:
            raise ModelError("has a constant operand that holds infinity")
        if limit.size == 1:
            number = float(limit.ravel()[0])
            if not np.isinf(number):
                value = importing.add(node, Clip(*((number, None) if largest else (None, number))), value, part="limit")
            continue
        value = add_affine(importing, node, value, np.ones(1), -limit, part="distance")
        value = importing.add(node, Clip(*((0.0, None) if largest else (None, 0.0))), value, part="limit")
        value = add_affine(importing, node, value, np.ones(1), limit, part="back")
    importing.bind(node, value)
