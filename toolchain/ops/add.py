"""Sums and differences of two computed tensors; a constant operand becomes an affine operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.elementwise import elementwise
from toolchain.codegen.kernel import Cost, Folding, Kernel
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.broadcasting import broadcast_values
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ops.affine import add_affine, import_affine
from toolchain.ops.base import Operator, Sample, importer, operator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer


@operator
@dataclass(frozen=True)
class Add(Operator):
    """y = a * 2**left[0] + b * 2**left[1], or the difference. The shifts align two binary points; real ones are 0."""

    left: tuple[int, int] = (0, 0)
    subtract: bool = False

    def shape(self, *inputs: Shape) -> Shape:
        if inputs[0] != inputs[1]:
            raise UnsupportedOperator(
                f"has operands of shapes {list(inputs[0])} and {list(inputs[1])}, two computed operands need equal ones"
            )
        return inputs[0]

    def ranges(self, *inputs: TensorType) -> TensorType:
        a, b = inputs
        a_low, a_high = a.low << self.left[0], a.high << self.left[0]
        b_low, b_high = b.low << self.left[1], b.high << self.left[1]
        if self.subtract:
            b_low, b_high = -b_high, -b_low
        return TensorType.holding(
            self.shape(a.shape, b.shape), a_low + b_low, a_high + b_high, (a.fraction + self.left[0],)
        )

    def bound(self, *inputs: TensorType) -> int:
        shifted = (given.magnitude << left for given, left in zip(inputs, self.left, strict=True))
        return max(self.ranges(*inputs).magnitude, *shifted)

    def evaluate(self, *inputs: Array) -> Array:
        a, b = (values * 2**left if left else values for values, left in zip(inputs, self.left, strict=True))
        return a - b if self.subtract else a + b

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        values = tuple(lowering.narrow(value) for value in inputs)
        a, b = (lowering.type(value).fraction for value in values)
        return lowering.add(node, Add((max(b - a, 0), max(a - b, 0)), self.subtract), values)

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        a, b = (
            renderer.op("Mul", value, renderer.constant(np.array(2.0**left))) if left else value
            for value, left in zip(inputs, self.left, strict=True)
        )
        return renderer.op("Sub" if self.subtract else "Add", a, b)

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        config = {"LEFT_A": self.left[0], "LEFT_B": self.left[1], "SUBTRACT": int(self.subtract)}
        return [elementwise("add", inputs, output, folding, config, cost=Cost(lut=folding.lanes * output.width))]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for subtract in (False, True):
            for fractions in ((3, 3), (5, 2), (0, 7)):
                types = tuple(TensorType.of((3, 2, 4), FixedType(8, 8 - f, bool(rng.integers(2)))) for f in fractions)
                top = max(fractions)
                yield Sample(cls((top - fractions[0], top - fractions[1]), subtract), types)


@importer("Add", "Sub")
def import_add(importing: Importer, node: OnnxNode) -> None:
    subtract = node.op_type == "Sub"
    node.ignore("axis", "broadcast")
    if importing.is_constant(node, 1):
        constant = importing.constant(node, 1, "the second operand").astype(float)
        import_affine(importing, node, 0, np.ones(1), -constant if subtract else constant)
    elif importing.is_constant(node, 0):
        constant = importing.constant(node, 0, "the first operand").astype(float)
        import_affine(importing, node, 1, -np.ones(1) if subtract else np.ones(1), constant)
    else:
        a, b = broadcast_values(importing, node, importing.value(node, 0), importing.value(node, 1))
        importing.bind(node, importing.add(node, Add(subtract=subtract), a, b))


@importer("Sum")
def import_sum(importing: Importer, node: OnnxNode) -> None:
    """A chain of additions; constant terms are one offset at its end."""
    computed = [k for k in range(len(node.inputs)) if not importing.is_constant(node, k)]
    constants = [k for k in range(len(node.inputs)) if importing.is_constant(node, k)]
    if not computed:
        raise UnsupportedOperator("adds constants only")
    value = importing.value(node, computed[0])
    for place, index in enumerate(computed[1:], 1):
        part = f"term{place}" if place < len(computed) - 1 or constants else ""
        a, b = broadcast_values(importing, node, value, importing.value(node, index))
        value = importing.add(node, Add(), a, b, part=part)
    if constants:
        offset = np.zeros(1)
        for index in constants:
            term = importing.constant(node, index, "a term").astype(float)
            try:
                offset = offset + term
            except ValueError:
                raise ModelError(f"has terms whose shapes do not fit, {list(term.shape)} is one") from None
        value = add_affine(importing, node, value, np.ones(1), offset)
    importing.bind(node, value)
