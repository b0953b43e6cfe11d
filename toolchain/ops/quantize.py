"""Where real inputs enter the integer program."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from toolchain.errors import InputError, PassError
from toolchain.ir import Array, FixedType, Meaning, Rounding, Shape, TensorType, Type
from toolchain.ir import fixed as arithmetic
from toolchain.ops.base import Operator, operator


@operator
@dataclass(frozen=True)
class Quantize(Operator):
    """r = sat(floor(x * 2**fraction + 1/2)), as if computed exactly. The host does it; hardware takes the integers.

    With a `meaning`, r = sat(round(x / scale) + zero point), half away from zero, the quotient in float32 as LiteRT has
    it. A type with RND_CONV rounds half to even in both, as ONNX does.
    """

    type: FixedType
    meaning: Meaning | None = None

    @property
    def ties_to_even(self) -> bool:
        """Where a half goes: to even, or up (without a meaning) or away from zero (with one)."""
        return self.type.rounding == Rounding.RND_CONV

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def infer(self, inputs: tuple[Type, ...]) -> Type:
        if isinstance(inputs[0], TensorType):
            raise PassError("Quantize takes real values")
        return replace(TensorType.of(inputs[0].shape, self.type), meaning=self.meaning)

    def evaluate(self, *inputs: Array) -> Array:
        """Real numbers to int64. Integer arrays are raw already and are only checked.

        Raises InputError on NaN, infinity, and integers that the type does not hold.
        """
        values = inputs[0]
        if values.dtype.kind not in "iub":
            if self.meaning is not None:
                return arithmetic.quantize_by_scale(values, self.type, self.meaning.scale, self.meaning.zero_point)
            return arithmetic.quantize(values, self.type)
        outside = (values < self.type.low) | (values > self.type.high)
        if outside.any():
            raise InputError(
                f"the integer {values[outside][0]} does not fit {self.type}",
                fix="Integer arrays are taken as raw integers; give real values as floats.",
            )
        return values.astype(np.int64)
