"""Where real inputs enter the integer program."""

from __future__ import annotations

from dataclasses import dataclass

from toolchain.errors import PassError
from toolchain.ir import Array, FixedType, Shape, TensorType, Type
from toolchain.ir import fixed as arithmetic
from toolchain.ops.base import Operator, operator


@operator
@dataclass(frozen=True)
class Quantize(Operator):
    """r = sat(floor(x * 2**fraction + 1/2)), as if computed exactly. The host does it; hardware takes the integers."""

    type: FixedType

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def infer(self, inputs: tuple[Type, ...]) -> Type:
        if isinstance(inputs[0], TensorType):
            raise PassError("Quantize takes real values")
        return TensorType.of(inputs[0].shape, self.type)

    def evaluate(self, *inputs: Array) -> Array:
        """float (or integer) array to int64. Raises ToolchainError on NaN and infinity."""
        return arithmetic.quantize(inputs[0], self.type)
