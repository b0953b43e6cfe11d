"""Where real inputs enter the integer program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolchain.errors import InputError, PassError
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
        """Real numbers to int64. Integer arrays are raw already and are only checked.

        Raises InputError on NaN, infinity, and integers that the type does not hold.
        """
        values = inputs[0]
        if values.dtype.kind not in "iub":
            return arithmetic.quantize(values, self.type)
        outside = (values < self.type.low) | (values > self.type.high)
        if outside.any():
            raise InputError(
                f"the integer {values[outside][0]} does not fit {self.type}",
                fix="Integer arrays are taken as raw integers; give real values as floats.",
            )
        return values.astype(np.int64)
