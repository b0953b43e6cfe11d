"""Layers that scale and shift with stored numbers."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import ModelError
from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields, is_integer, show
from toolchain.frontends.keras.layers.base import Role, Unary

KERAS_EPSILON = 1e-7


@dataclass(frozen=True)
class BatchNormalization(Unary):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta per index of one axis."""

    axis: int
    epsilon: float
    center: bool
    scale: bool

    @property
    def roles(self) -> tuple[Role, ...]:
        """Beta and gamma are optional."""
        learnt = [Role(name) for name, used in (("gamma", self.scale), ("beta", self.center)) if used]
        return (*learnt, Role("moving_mean", trainable=False), Role("moving_variance", trainable=False))

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a BatchNormalization layer; Keras 2 stores the axis as a list."""
        axis = fields.take("axis", -1)
        if isinstance(axis, list) and len(axis) == 1:
            axis = axis[0]
        if not is_integer(axis):
            fields.refuse("axis", f"{show(axis)} is not one axis")
            axis = -1
        epsilon = fields.number("epsilon", 1e-3)
        if epsilon < 0:
            fields.refuse("epsilon", f"{epsilon} is negative")
        fields.only("renorm", False, None)
        fields.only("virtual_batch_size", None)
        fields.ignore("fused", "renorm_clipping", "renorm_momentum")
        return cls(axis, epsilon, fields.flag("center", True), fields.flag("scale", True))

    def apply(self, call: Call, value: Value) -> Value:
        """ONNX normalizes axis 1: any other axis is brought there and back."""
        axis = call.axis(value, self.axis)
        size = value.shape[axis - 1]
        gamma = call.weight("gamma", (size,)) if self.scale else np.ones(size, np.float32)
        beta = call.weight("beta", (size,)) if self.center else np.zeros(size, np.float32)
        mean, variance = call.weight("moving_mean", (size,)), call.weight("moving_variance", (size,))
        if not (variance.astype(np.float64) + self.epsilon > 0).all():
            raise ModelError("moving_variance + epsilon is not positive everywhere", where=call.layer)
        constants = [
            call.constant(name, array)
            for name, array in (("gamma", gamma), ("beta", beta), ("moving_mean", mean), ("moving_variance", variance))
        ]
        if axis != 1:
            rest = [a for a in range(1, value.rank) if a != axis]
            value = call.transpose(value, (0, axis, *rest), "to_channels_first")
        value = call.node("BatchNormalization", [value, *constants], value.shape, epsilon=self.epsilon)
        if axis != 1:
            back = [*range(2, value.rank)]
            back.insert(axis - 1, 1)
            value = call.transpose(value, (0, *back), "to_channels_last")
        return value


@dataclass(frozen=True)
class Rescaling(Unary):
    """x * scale + offset; lists hold one number for each index of the last axis."""

    scale: tuple[float, ...] | float
    offset: tuple[float, ...] | float

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a Rescaling layer."""
        offset = fields.numbers("offset") if "offset" in fields.config else 0.0
        return cls(fields.numbers("scale"), offset)

    def apply(self, call: Call, value: Value) -> Value:
        """Mul (`layer`) and, where there is an offset, Add (`layer/offset`)."""
        for numbers in (self.scale, self.offset):
            if isinstance(numbers, tuple) and len(numbers) != value.shape[-1]:
                raise ModelError(f"{len(numbers)} factors do not fit the shape {value.shape}", where=call.name)
        value = call.node("Mul", [value, call.real("scale", self.scale)], value.shape)
        if isinstance(self.offset, float) and self.offset == 0:
            return value
        return call.node("Add", [value, call.real("offset_value", self.offset)], value.shape, "offset")


@dataclass(frozen=True)
class Normalization(Unary):
    """(x - mean) / sqrt(variance), or its inverse, with numbers adapted from data or given."""

    axes: tuple[int, ...]
    invert: bool
    mean: tuple[float, ...] | float | None
    variance: tuple[float, ...] | float | None

    @property
    def roles(self) -> tuple[Role, ...]:
        """Stored unless the numbers were given to the constructor."""
        if self.mean is not None:
            return ()
        return tuple(Role(name, trainable=False) for name in ("mean", "variance", "count"))

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a Normalization layer."""
        axis = fields.take("axis", -1)
        axes = axis if isinstance(axis, list) else [] if axis is None else [axis]
        if not all(is_integer(a) for a in axes):
            fields.refuse("axis", f"{show(axis)} is not a list of axes")
            axes = []
        given = [fields.numbers(key) if fields.take(key, None) is not None else None for key in ("mean", "variance")]
        if (given[0] is None) != (given[1] is None):
            fields.refuse("mean", "is given without variance, or variance without mean")
        return cls(tuple(axes), fields.flag("invert", False), given[0], given[1])

    def apply(self, call: Call, value: Value) -> Value:
        """Sub and Mul by the reciprocal, in the inverse Mul and Add."""
        axes = sorted(call.axis(value, axis) for axis in self.axes)
        kept = tuple(value.shape[axis - 1] for axis in axes)
        broadcast = tuple(size if i + 1 in axes else 1 for i, size in enumerate(value.shape))
        mean = self._numbers(call, "mean", self.mean, kept).reshape(broadcast)
        variance = self._numbers(call, "variance", self.variance, kept).reshape(broadcast)
        if (variance < 0).any():
            raise ModelError("the variance is negative", where=call.layer)
        deviation = np.maximum(np.sqrt(variance.astype(np.float64)), KERAS_EPSILON)
        shift = call.constant("mean", mean)
        if self.invert:
            scaled = call.node("Mul", [value, call.constant("deviation", deviation.astype(np.float32))], value.shape)
            return call.node("Add", [scaled, shift], value.shape, "shift")
        centred = call.node("Sub", [value, shift], value.shape, "shift")
        return call.node("Mul", [centred, call.constant("scale", (1 / deviation).astype(np.float32))], value.shape)

    def _numbers(
        self, call: Call, role: str, given: tuple[float, ...] | float | None, shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        if given is None:
            return call.weight(role, shape)
        numbers = np.asarray(given, dtype=np.float32)
        if numbers.size not in (1, math.prod(shape)):
            raise ModelError(f"{numbers.size} numbers do not fit the axes {shape}", where=f"{call.layer}/{role}")
        return np.broadcast_to(numbers.reshape(-1), (math.prod(shape),)).reshape(shape)
