"""What an operator is: its fields, and the meaning of them in every rendering.

An operator file defines one frozen dataclass (or a real one and its integer form) with

- `shape`: the shape it gives, for real and integer tensors alike;
- `ranges`: the exact integer type and range it gives;
- `evaluate`: its meaning. On int64 it is the living definition of the integer program; on float64 it is the real
  operator, and also an exact integer engine as long as `bound` stays below 2**53;
- `lower`: how the real operator becomes integer ones;
- `render`: the same integers as an ONNX graph of floating-point operators (optional, for the fast engine);
- `kernels`: the HLS kernels that compute it;
- `samples`: small random instances, from which tests and fuzzers are made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from toolchain.errors import PassError
from toolchain.ir.constant import Array
from toolchain.ir.types import RealType, Shape, TensorType, Type

if TYPE_CHECKING:
    from toolchain.codegen.kernel import Folding, Kernel
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.ir.graph import Node
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer


@dataclass(frozen=True)
class Sample:
    """A random instance for tests: an integer operator with the types of its inputs."""

    operator: Operator
    inputs: tuple[TensorType, ...]


@dataclass(frozen=True)
class Operator:
    """Base of all operators. The fields of the dataclass are the operator's fields."""

    is_layout: ClassVar[bool] = False
    """Moves elements without changing any."""
    keeps_fractions: ClassVar[bool] = False
    """Works element by element, so that a binary point per channel passes through."""

    def shape(self, *inputs: Shape) -> Shape:
        """The output's shape, batch left out. Raises ModelError when the inputs do not fit."""
        raise NotImplementedError

    def ranges(self, *inputs: TensorType) -> TensorType:
        """The exact integer type of the output. Raises PassError when the operator has no integer form."""
        raise PassError(f"{type(self).__name__} has no integer form, it must be lowered first")

    def infer(self, inputs: tuple[Type, ...]) -> Type:
        integers = tuple(t for t in inputs if isinstance(t, TensorType))
        if len(integers) == len(inputs):
            return self.ranges(*integers)
        return RealType(self.shape(*(t.shape for t in inputs)))

    def typed(self, inputs: tuple[Type, ...]) -> Type:
        """`infer`, remembered: interval arithmetic over many weights is not free."""
        last: tuple[tuple[Type, ...], Type] | None = self.__dict__.get("_typed")
        if last is None or last[0] != inputs:
            last = (inputs, self.infer(inputs))
            self.__dict__["_typed"] = last
        return last[1]

    def evaluate(self, *inputs: Array) -> Array:
        """Arrays with the batch first, channels last, to the output array of the same kind."""
        raise NotImplementedError

    def bound(self, *inputs: TensorType) -> int:
        """Largest absolute value that any order of evaluation can meet on the way, the result included."""
        return max(self.ranges(*inputs).magnitude, *(t.magnitude for t in inputs))

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        """The operator p with transpose(p(x)) == self(transpose(x)), where transpose(y).shape[i] = y.shape[axes[i]].

        None when there is none: the transposition stays in front.
        """
        return None

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        """Adds the integer form to the program, given integer inputs, and returns its value's name."""
        return lowering.add(node, self, inputs)

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        """Adds floating-point ONNX operators that give the same integers; None when numpy has to do it."""
        return None

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        """The chain of HLS kernels: the first reads all inputs, each next one the kernel before it."""
        raise PassError(f"{type(self).__name__} has no hardware form")

    def lanes_divide(self, *inputs: Shape) -> int:
        """The number that the lanes of its words must divide."""
        return math.gcd(inputs[0][-1], self.shape(*inputs)[-1])

    def multiplications(self, *inputs: Shape) -> int:
        """Multiplications by weights for one input (the MACs of the field's tables)."""
        return 0

    def parameters(self) -> int:
        """Trained numbers held."""
        return 0

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        """Small random instances of the integer operator, for tests."""
        return iter(())


OperatorClass = TypeVar("OperatorClass", bound=Operator)
OPERATORS: dict[str, type[Operator]] = {}
Import = Callable[["Importer", "OnnxNode"], None]
IMPORTERS: dict[str, Import] = {}


def operator(cls: type[OperatorClass]) -> type[OperatorClass]:
    """Registers an operator class under its name."""
    OPERATORS[cls.__name__] = cls
    return cls


def importer(*onnx_types: str) -> Callable[[Import], Import]:
    """Registers a function that translates ONNX nodes of these types."""

    def register(function: Import) -> Import:
        for name in onnx_types:
            IMPORTERS[name] = function
        return function

    return register


def operator_fields(op: Operator) -> dict[str, Any]:
    return {f.name: getattr(op, f.name) for f in fields(op)}
