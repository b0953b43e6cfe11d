"""Functions of one number by table: Sigmoid, Tanh. The program holds every entry, so all machines agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.elementwise import elementwise
from toolchain.codegen.kernel import Cost, Folding, Kernel, integer_array
from toolchain.errors import PassError
from toolchain.ir import Array, Constant, FixedType, Node, Overflow, Rounding, Shape, TensorType
from toolchain.ops.base import Operator, Sample, importer, operator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering

INDEX_BITS = 12
"""4,096 entries, the most that DESIGN section 4 allows."""

EXACT = Context(prec=60)
"""Enough digits that no entry of up to 40 bits lies undecidably close to a rounding tie."""


@operator
@dataclass(frozen=True)
class Table(Operator):
    """y = entries[x as an unsigned pattern of its bits]; the entries are raw integers of `type`."""

    entries: Constant
    type: FixedType

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        given.fraction  # noqa: B018 - raises when there are several binary points
        if self.entries.shape != (1 << given.width,):
            raise PassError(f"has {self.entries.shape} entries for an index of {given.width} bits")
        entries = self.entries.array
        return TensorType(
            given.shape,
            self.type.width,
            self.type.signed,
            (self.type.fraction,),
            int(entries.min()),
            int(entries.max()),
        )

    def evaluate(self, *inputs: Array) -> Array:
        index = inputs[0].astype(np.int64) & (len(self.entries.array) - 1)
        return np.asarray(self.entries.array[index].astype(inputs[0].dtype))

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        config: dict[str, int | str] = {"SIZE": len(self.entries.array)}
        cost = Cost(memories=((len(self.entries.array), output.width),) * folding.lanes)
        arrays = {"entries": integer_array(self.entries.array)}
        return [elementwise("table", inputs, output, folding, config, arrays, cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for bits, signed in ((5, True), (8, False)):
            type = FixedType(7, 2)
            entries = Constant(rng.integers(type.low, type.high + 1, 1 << bits))
            yield Sample(cls(entries, type), (TensorType.of((3, 4), FixedType(bits, 2, signed)),))


def tabulate(function: Callable[[Decimal], Decimal], index: FixedType, type: FixedType) -> Constant:
    """The function at every value of `index`, correctly rounded half up to `type` and saturated."""
    entries = []
    for pattern in range(1 << index.width):
        raw = pattern - (1 << index.width) if index.signed and pattern > index.high else pattern
        value = function(EXACT.multiply(Decimal(raw), EXACT.power(Decimal(2), Decimal(-index.fraction))))
        scaled = EXACT.add(EXACT.multiply(value, EXACT.power(Decimal(2), Decimal(type.fraction))), Decimal("0.5"))
        entries.append(min(max(int(scaled.to_integral_value(rounding="ROUND_FLOOR")), type.low), type.high))
    return Constant(entries)


def sigmoid(x: Decimal) -> Decimal:
    return EXACT.divide(Decimal(1), EXACT.add(Decimal(1), EXACT.exp(-x)))


def tanh(x: Decimal) -> Decimal:
    doubled = EXACT.exp(EXACT.multiply(Decimal(-2), x))
    return EXACT.divide(EXACT.subtract(Decimal(1), doubled), EXACT.add(Decimal(1), doubled))


@dataclass(frozen=True)
class _Function(Operator):
    """A real function that lowers to a table."""

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self

    def _lower(
        self, lowering: Lowering, node: Node, value: str, integer: int, signed: bool, f: Callable[[Decimal], Decimal]
    ) -> str:
        index = FixedType(INDEX_BITS, integer, True, Rounding.RND, Overflow.SAT)
        bits = lowering.width(node)
        type = FixedType(bits, 1, True) if signed else FixedType(bits, 0, False)
        return lowering.add(node, Table(tabulate(f, index, type), type), (lowering.to_format(value, index),))


@operator
@dataclass(frozen=True)
class Sigmoid(_Function):
    """y = 1 / (1 + exp(-x))."""

    def evaluate(self, *inputs: Array) -> Array:
        return np.asarray(0.5 * (1 + np.tanh(inputs[0] / 2)))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return self._lower(lowering, node, inputs[0], 4, False, sigmoid)


@operator
@dataclass(frozen=True)
class Tanh(_Function):
    """y = tanh(x)."""

    def evaluate(self, *inputs: Array) -> Array:
        return np.asarray(np.tanh(inputs[0]))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return self._lower(lowering, node, inputs[0], 3, True, tanh)


@importer("Sigmoid")
def import_sigmoid(importing: Importer, node: OnnxNode) -> None:
    importing.bind(node, importing.add(node, Sigmoid(), importing.value(node, 0)))


@importer("Tanh")
def import_tanh(importing: Importer, node: OnnxNode) -> None:
    importing.bind(node, importing.add(node, Tanh(), importing.value(node, 0)))
