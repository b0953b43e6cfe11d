"""Functions of one number by table: Sigmoid, Tanh. Every entry is correctly rounded, so all machines agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.elementwise import elementwise
from toolchain.codegen.kernel import Cost, Folding, Kernel, integer_array
from toolchain.errors import PassError
from toolchain.ir import Array, Constant, FixedType, Node, Overflow, Rounding, Shape, TensorType
from toolchain.ir.tabulated import Tabulated
from toolchain.ops.base import Operator, Sample, importer, operator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering

INDEX_BITS = 12
"""4,096 entries, the most that DESIGN section 4 allows."""


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


@dataclass(frozen=True)
class _Function(Operator):
    """A real function that lowers to a table."""

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self

    def _lower(self, lowering: Lowering, node: Node, value: str, integer: int, signed: bool, function: str) -> str:
        index = FixedType(INDEX_BITS, integer, True, Rounding.RND, Overflow.SAT)
        bits = lowering.width(node)
        type = FixedType(bits, 1, True) if signed else FixedType(bits, 0, False)
        return lowering.add(node, Table(Tabulated(function, index, type), type), (lowering.to_format(value, index),))


@operator
@dataclass(frozen=True)
class Sigmoid(_Function):
    """y = 1 / (1 + exp(-x))."""

    def evaluate(self, *inputs: Array) -> Array:
        return np.asarray(0.5 * (1 + np.tanh(inputs[0] / 2)))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return self._lower(lowering, node, inputs[0], 4, False, "sigmoid")


@operator
@dataclass(frozen=True)
class Tanh(_Function):
    """y = tanh(x)."""

    def evaluate(self, *inputs: Array) -> Array:
        return np.asarray(np.tanh(inputs[0]))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return self._lower(lowering, node, inputs[0], 3, True, "tanh")


@importer("Sigmoid")
def import_sigmoid(importing: Importer, node: OnnxNode) -> None:
    importing.bind(node, importing.add(node, Sigmoid(), importing.value(node, 0)))


@importer("Tanh")
def import_tanh(importing: Importer, node: OnnxNode) -> None:
    importing.bind(node, importing.add(node, Tanh(), importing.value(node, 0)))
