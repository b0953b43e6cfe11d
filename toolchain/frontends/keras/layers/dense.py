"""Fully connected layers."""

from dataclasses import dataclass
from typing import Self

from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields
from toolchain.frontends.keras.layers.activation import Activation
from toolchain.frontends.keras.layers.base import Role, Unary


@dataclass(frozen=True)
class Dense(Unary):
    """The same matrix at every position of the last axis."""

    units: int
    use_bias: bool
    activation: Activation

    @property
    def roles(self) -> tuple[Role, ...]:
        """Kernel and bias."""
        return (Role("kernel"), Role("bias")) if self.use_bias else (Role("kernel"),)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a Dense layer."""
        return cls(fields.integer("units"), fields.flag("use_bias", True), Activation.fused(fields))

    def apply(self, call: Call, value: Value) -> Value:
        """Gemm for vectors, MatMul and Add (`layer/bias`) for more dimensions."""
        shape = (*value.shape[:-1], self.units)
        kernel = call.weight("kernel", (value.shape[-1], self.units))
        inputs: list[Value | str] = [value, call.constant("kernel", kernel)]
        bias = call.constant("bias", call.weight("bias", (self.units,))) if self.use_bias else None
        if bias is None:
            value = call.node("MatMul", inputs, shape)
        elif value.rank == 2:
            value = call.node("Gemm", [*inputs, bias], shape)
        else:
            value = call.node("Add", [call.node("MatMul", inputs, shape), bias], shape, "bias")
        return self.activation.after(call, value)
