"""Pooling layers."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields
from toolchain.frontends.keras.layers.base import Unary, channels_last
from toolchain.frontends.keras.layers.window import Window


@dataclass(frozen=True)
class Pooling(Unary):
    """A pool over windows."""

    window: Window
    data_format: str
    rank: ClassVar[int]
    operator: ClassVar[str]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a pooling layer."""
        return cls(Window.of_pool(fields, cls.rank), channels_last(fields))

    def apply(self, call: Call, value: Value) -> Value:
        """Padding never counts: Keras averages over real pixels only."""
        value = call.channels_first(value, self.data_format)
        pads, spatial = self.window.place(call, value.shape[1:])
        attributes: dict[str, Any] = {"count_include_pad": 0} if self.operator == "AveragePool" else {}
        value = call.node(
            self.operator,
            [value],
            (value.shape[0], *spatial),
            kernel_shape=list(self.window.kernel),
            strides=list(self.window.strides),
            pads=pads,
            **attributes,
        )
        return call.channels_back(value, self.data_format)


@dataclass(frozen=True)
class GlobalPooling(Unary):
    """A pool over all positions."""

    data_format: str
    keepdims: bool
    operator: ClassVar[str]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a global pooling layer."""
        return cls(channels_last(fields), fields.flag("keepdims", False))

    def apply(self, call: Call, value: Value) -> Value:
        """Without keepdims a Flatten, `layer/flatten`, drops the axes of length one."""
        value = call.channels_first(value, self.data_format)
        channels = value.shape[0]
        value = call.node(self.operator, [value], (channels, *(1,) * (value.rank - 2)))
        if self.keepdims:
            return call.channels_back(value, self.data_format)
        return call.node("Flatten", [value], (channels,), "flatten", axis=1)


class MaxPooling1D(Pooling):
    """(N, steps, channels)."""

    rank, ranks, operator = 1, (3,), "MaxPool"


class MaxPooling2D(Pooling):
    """(N, rows, columns, channels)."""

    rank, ranks, operator = 2, (4,), "MaxPool"


class AveragePooling1D(Pooling):
    """(N, steps, channels)."""

    rank, ranks, operator = 1, (3,), "AveragePool"


class AveragePooling2D(Pooling):
    """(N, rows, columns, channels)."""

    rank, ranks, operator = 2, (4,), "AveragePool"


class GlobalMaxPooling1D(GlobalPooling):
    """(N, steps, channels)."""

    ranks, operator = (3,), "GlobalMaxPool"


class GlobalMaxPooling2D(GlobalPooling):
    """(N, rows, columns, channels)."""

    ranks, operator = (4,), "GlobalMaxPool"


class GlobalAveragePooling1D(GlobalPooling):
    """(N, steps, channels)."""

    ranks, operator = (3,), "GlobalAveragePool"


class GlobalAveragePooling2D(GlobalPooling):
    """(N, rows, columns, channels)."""

    ranks, operator = (4,), "GlobalAveragePool"
