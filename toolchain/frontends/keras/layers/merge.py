"""Layers of several inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from toolchain.errors import ModelError
from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields, is_integer, show
from toolchain.frontends.keras.layers.base import Layer


class Merge(Layer):
    """An elementwise function of its inputs, which are broadcast to one shape."""

    pair: ClassVar[str]
    several: ClassVar[str | None] = None
    exactly: ClassVar[int | None] = None

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """There is nothing to read."""
        return cls()

    def translate(self, call: Call, inputs: Sequence[Value]) -> Value:
        """One node for two inputs; for more the n-ary operator, or a chain where ONNX has none."""
        if len(inputs) < 2 or (self.exactly is not None and len(inputs) != self.exactly):
            raise ModelError(f"the layer cannot take {len(inputs)} inputs", where=call.name)
        values = same_rank(call, inputs)
        if self.several is not None and len(values) > 2:
            return self.finish(call, call.node(self.several, values, broadcast(call, values)), len(values))
        result = values[0]
        for index, value in enumerate(values[1:], 1):
            suffix = "" if index == len(values) - 1 else f"part_{index}"
            result = call.node(self.pair, [result, value], broadcast(call, [result, value]), suffix)
        return self.finish(call, result, len(values))

    def finish(self, call: Call, value: Value, count: int) -> Value:
        """What follows the merge."""
        return value


def same_rank(call: Call, inputs: Sequence[Value]) -> list[Value]:
    """Keras gives shorter shapes axes of length one behind the batch."""
    rank = max(value.rank for value in inputs)
    values = []
    for index, value in enumerate(inputs):
        missing = rank - value.rank
        if missing == 0:
            values.append(value)
            continue
        axes = call.integers(f"axes_{missing}", range(1, missing + 1))
        values.append(call.node("Unsqueeze", [value, axes], (1,) * missing + value.shape, f"expand_{index}"))
    return values


def broadcast(call: Call, values: Sequence[Value]) -> tuple[int, ...]:
    """The common shape."""
    shape = []
    for sizes in zip(*(value.shape for value in values), strict=True):
        longest = max(sizes)
        if any(size not in (1, longest) for size in sizes):
            raise ModelError(f"the shapes {[value.shape for value in values]} do not fit", where=call.name)
        shape.append(longest)
    return tuple(shape)


class Add(Merge):
    """Sum."""

    pair, several = "Add", "Sum"


class Subtract(Merge):
    """First minus second."""

    pair, exactly = "Sub", 2


class Multiply(Merge):
    """Product."""

    pair = "Mul"


class Maximum(Merge):
    """Largest."""

    pair, several = "Max", "Max"


class Minimum(Merge):
    """Smallest."""

    pair, several = "Min", "Min"


class Average(Merge):
    """Mean, as a sum (`layer`) and a factor (`layer/scale`)."""

    pair, several = "Add", "Sum"

    def finish(self, call: Call, value: Value, count: int) -> Value:
        """Divides by the number of inputs."""
        return call.node("Mul", [value, call.real("factor", 1 / count)], value.shape, "scale")


@dataclass(frozen=True)
class Concatenate(Layer):
    """Side by side along one axis."""

    axis: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a Concatenate layer."""
        axis = fields.take("axis", -1)
        if not is_integer(axis):
            fields.refuse("axis", f"{show(axis)} is not an axis")
            axis = -1
        return cls(axis)

    def translate(self, call: Call, inputs: Sequence[Value]) -> Value:
        """One node."""
        if not inputs:
            raise ModelError("the layer has no inputs", where=call.name)
        axis = call.axis(inputs[0], self.axis) - 1
        rests = {value.shape[:axis] + value.shape[axis + 1 :] for value in inputs}
        if len(rests) != 1 or len({value.rank for value in inputs}) != 1:
            raise ModelError(f"the shapes {[value.shape for value in inputs]} do not fit", where=call.name)
        total = sum(value.shape[axis] for value in inputs)
        first = inputs[0].shape
        return call.node("Concat", inputs, (*first[:axis], total, *first[axis + 1 :]), axis=axis + 1)
