"""Convolutions: plain, depthwise and separable, 1-D and 2-D."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import ModelError
from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields
from toolchain.frontends.keras.layers.activation import Activation
from toolchain.frontends.keras.layers.base import Role, Unary, channels_last
from toolchain.frontends.keras.layers.window import Window


@dataclass(frozen=True)
class Convolution(Unary):
    """What all convolutions share."""

    window: Window
    data_format: str
    use_bias: bool
    activation: Activation
    rank: ClassVar[int]
    causal: ClassVar[bool] = False

    @classmethod
    def common(cls, fields: Fields) -> tuple[Window, str, bool, Activation]:
        """Reads the settings that all convolutions have."""
        data_format = channels_last(fields)
        paddings = ("valid", "same", "causal") if cls.causal and data_format == "channels_last" else ("valid", "same")
        window = Window.of_convolution(fields, cls.rank, paddings)
        return window, data_format, fields.flag("use_bias", True), Activation.fused(fields)

    def convolve(
        self, call: Call, value: Value, kernel: NDArray[np.float32], groups: int, suffix: str = "", *, bias: bool
    ) -> Value:
        """Emits one Conv over channels-first `value`; `kernel` is (outputs, inputs / groups, *window)."""
        pads, spatial = self.window.place(call, value.shape[1:])
        prefix = f"{suffix}_" if suffix else ""
        inputs: list[Value | str] = [value, call.constant(f"{prefix}kernel", kernel)]
        if bias:
            inputs.append(call.constant("bias", call.weight("bias", (kernel.shape[0],))))
        return call.node(
            "Conv",
            inputs,
            (kernel.shape[0], *spatial),
            suffix,
            kernel_shape=list(self.window.kernel),
            strides=list(self.window.strides),
            dilations=list(self.window.dilation),
            pads=pads,
            group=groups,
        )

    def finish(self, call: Call, value: Value) -> Value:
        """Back to the layer's data format, then the activation."""
        return self.activation.after(call, call.channels_back(value, self.data_format))


@dataclass(frozen=True)
class Conv(Convolution):
    """Conv1D and Conv2D."""

    filters: int
    groups: int

    @property
    def roles(self) -> tuple[Role, ...]:
        """Kernel and bias."""
        return (Role("kernel"), Role("bias")) if self.use_bias else (Role("kernel"),)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a Conv layer."""
        return cls(*cls.common(fields), fields.integer("filters"), fields.integer("groups", 1))

    def apply(self, call: Call, value: Value) -> Value:
        """Kernel (*window, inputs / groups, filters) becomes (filters, inputs / groups, *window)."""
        value = call.channels_first(value, self.data_format)
        channels = value.shape[0]
        if channels % self.groups or self.filters % self.groups:
            raise ModelError(
                f"{self.groups} groups do not divide {channels} inputs and {self.filters} filters", where=call.name
            )
        kernel = call.weight("kernel", (*self.window.kernel, channels // self.groups, self.filters))
        axes = (self.rank + 1, self.rank, *range(self.rank))
        return self.finish(call, self.convolve(call, value, kernel.transpose(axes), self.groups, bias=self.use_bias))


@dataclass(frozen=True)
class Depthwise(Convolution):
    """DepthwiseConv1D and DepthwiseConv2D."""

    multiplier: int

    @property
    def roles(self) -> tuple[Role, ...]:
        """Kernel and bias."""
        return (Role("kernel"), Role("bias")) if self.use_bias else (Role("kernel"),)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a DepthwiseConv layer; Keras 2 writes filters and groups into it, which mean nothing there."""
        fields.only("groups", 1, None)
        fields.ignore("filters")
        return cls(*cls.common(fields), fields.integer("depth_multiplier", 1))

    def apply(self, call: Call, value: Value) -> Value:
        """One group a channel."""
        value = call.channels_first(value, self.data_format)
        kernel = depthwise_kernel(call, "kernel", self.window, value.shape[0], self.multiplier)
        return self.finish(call, self.convolve(call, value, kernel, value.shape[0], bias=self.use_bias))


@dataclass(frozen=True)
class Separable(Convolution):
    """SeparableConv1D and SeparableConv2D: depthwise, then pointwise with the bias."""

    filters: int
    multiplier: int

    @property
    def roles(self) -> tuple[Role, ...]:
        """Both kernels and the bias."""
        kernels = (Role("depthwise_kernel"), Role("pointwise_kernel"))
        return (*kernels, Role("bias")) if self.use_bias else kernels

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a SeparableConv layer."""
        fields.only("groups", 1, None)
        return cls(*cls.common(fields), fields.integer("filters"), fields.integer("depth_multiplier", 1))

    def apply(self, call: Call, value: Value) -> Value:
        """Two Conv nodes, `layer/depthwise` and `layer`."""
        value = call.channels_first(value, self.data_format)
        channels = value.shape[0]
        kernel = depthwise_kernel(call, "depthwise_kernel", self.window, channels, self.multiplier)
        value = self.convolve(call, value, kernel, channels, "depthwise", bias=False)
        ones = (1,) * self.rank
        pointwise = call.weight("pointwise_kernel", (*ones, value.shape[0], self.filters))
        inner = type(self)(
            Window(ones, ones, ones, "valid"), self.data_format, self.use_bias, self.activation, self.filters, 1
        )
        axes = (self.rank + 1, self.rank, *range(self.rank))
        value = inner.convolve(call, value, pointwise.transpose(axes), 1, bias=self.use_bias)
        return self.finish(call, value)


def depthwise_kernel(call: Call, role: str, window: Window, channels: int, multiplier: int) -> NDArray[np.float32]:
    """(*window, channels, multiplier) becomes (channels * multiplier, 1, *window), the channel varying slower."""
    kernel = call.weight(role, (*window.kernel, channels, multiplier))
    rank = len(window.kernel)
    return kernel.transpose(rank, rank + 1, *range(rank)).reshape(channels * multiplier, 1, *window.kernel)


class Conv1D(Conv):
    """(N, steps, channels)."""

    rank, ranks, causal = 1, (3,), True


class Conv2D(Conv):
    """(N, rows, columns, channels)."""

    rank, ranks = 2, (4,)


class DepthwiseConv1D(Depthwise):
    """(N, steps, channels)."""

    rank, ranks = 1, (3,)


class DepthwiseConv2D(Depthwise):
    """(N, rows, columns, channels)."""

    rank, ranks = 2, (4,)


class SeparableConv1D(Separable):
    """(N, steps, channels)."""

    rank, ranks, causal = 1, (3,), True


class SeparableConv2D(Separable):
    """(N, rows, columns, channels)."""

    rank, ranks = 2, (4,)
