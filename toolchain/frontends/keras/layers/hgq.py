"""HGQ2's layers by name."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields, is_integer, show
from toolchain.frontends.keras.fixed_points import FixedPoint, read_fixed_point
from toolchain.frontends.keras.layers import activation, convolution, dense, merge, normalization, pooling
from toolchain.frontends.keras.layers.base import Layer, Role, Unary
from toolchain.frontends.keras.layers.fixed import Fixed, FixedMerge
from toolchain.frontends.keras.quantizers import Grid
from toolchain.frontends.keras.quantizers import Quantizer as Levels
from toolchain.ops.table import INDEX_BITS


class Weighted(Fixed):
    """A layer with a kernel and a bias."""

    keys: ClassVar[Mapping[str, str]] = {"kq_conf": "kernel", "bq_conf": "bias"}


class QDense(Weighted):
    """Dense."""

    kind = dense.Dense


class QConv1D(Weighted):
    """Conv1D."""

    kind = convolution.Conv1D


class QConv2D(Weighted):
    """Conv2D."""

    kind = convolution.Conv2D


@dataclass(frozen=True)
class NormalizedDense(dense.Dense):
    """Dense with a normalization of its inputs."""

    epsilon: float
    scale: bool

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a QBatchNormDense layer."""
        plain = dense.Dense.read(fields)
        return cls(plain.units, plain.use_bias, plain.activation, fields.number("epsilon"), fields.flag("scale"))


class QBatchNormDense(Weighted):
    """Dense whose kernel and bias hold a normalization of its inputs, as `get_fused_qkernel_and_qbias` has it."""

    kind = NormalizedDense

    def stored(self) -> tuple[Role, ...]:
        """Statistics come last."""
        assert isinstance(self.layer, NormalizedDense)
        kernel, bias, *counters = super().stored()
        scale = [Role("bn_gamma")] if self.layer.scale else []
        statistics = [Role(name, trainable=False) for name in ("moving_mean", "moving_variance")]
        return (kernel, bias, *scale, *counters, *statistics)

    def prepared(self, call: Call, value: Value) -> Mapping[str, NDArray[np.float32]]:
        """In float32, as there."""
        layer, size = self.layer, value.shape[-1]
        assert isinstance(layer, NormalizedDense)
        kernel, bias = call.weight("kernel", (size, layer.units)), call.weight("bias", (layer.units,))
        gamma = call.weight("bn_gamma", (size,)) if layer.scale else np.ones(size, np.float32)
        mean, variance = call.weight("moving_mean", (size,)), call.weight("moving_variance", (size,))
        factors = gamma / np.sqrt(variance + np.float32(layer.epsilon))
        return {"kernel": factors[:, None] * kernel, "bias": bias - mean @ kernel}


@dataclass(frozen=True)
class Normalization(normalization.BatchNormalization):
    """BatchNormalization as a factor and an addend for each channel: a depthwise convolution of one pixel."""

    def apply(self, call: Call, value: Value) -> Value:
        """Channels go to axis 1 and back; a vector has one pixel."""
        axis = call.axis(value, self.axis)
        if axis != value.rank - 1:
            raise call.unsupported("axis", "is not the last one")
        size, rank = value.shape[-1], value.rank
        kernel = call.weight("kernel", (size,)).reshape(size, *(1,) * max(rank - 1, 2))
        if rank == 2:
            value = call.node("Unsqueeze", [value, call.integers("pixel", [2])], (size, 1), "pixel")
        else:
            value = call.channels_first(value, "channels_last")
        inputs: list[Value | str] = [
            value,
            call.constant("kernel", kernel),
            call.constant("bias", call.weight("bias", (size,))),
        ]
        value = call.node("Conv", inputs, value.shape, group=size, kernel_shape=list(kernel.shape[2:]))
        if rank == 2:
            return call.node("Flatten", [value], (size,), "vector", axis=1)
        return call.channels_back(value, "channels_last")


class QBatchNormalization(Weighted):
    """BatchNormalization whose factor and addend are quantized; without center the latter has 1 for beta, as there."""

    kind = Normalization

    def prepared(self, call: Call, value: Value) -> Mapping[str, NDArray[np.float32]]:
        """`_scaler_and_offset`, in float32."""
        layer, size = self.layer, value.shape[-1]
        assert isinstance(layer, Normalization)
        gamma = call.weight("gamma", (size,)) if layer.scale else np.ones(size, np.float32)
        beta = call.weight("beta", (size,)) if layer.center else np.ones(size, np.float32)
        mean, variance = call.weight("moving_mean", (size,)), call.weight("moving_variance", (size,))
        factors = gamma / np.sqrt(variance + np.float32(layer.epsilon))
        return {"kernel": factors, "bias": beta - mean * factors}


class QMaxPooling1D(Fixed):
    """MaxPooling1D."""

    kind = pooling.MaxPooling1D


class QMaxPooling2D(Fixed):
    """MaxPooling2D."""

    kind = pooling.MaxPooling2D


class QAveragePooling1D(Fixed):
    """AveragePooling1D."""

    kind = pooling.AveragePooling1D


class QAveragePooling2D(Fixed):
    """AveragePooling2D."""

    kind = pooling.AveragePooling2D


class QGlobalMaxPooling1D(Fixed):
    """GlobalMaxPooling1D."""

    kind = pooling.GlobalMaxPooling1D


class QGlobalMaxPooling2D(Fixed):
    """GlobalMaxPooling2D."""

    kind = pooling.GlobalMaxPooling2D


class QGlobalAveragePooling1D(Fixed):
    """GlobalAveragePooling1D."""

    kind = pooling.GlobalAveragePooling1D


class QGlobalAveragePooling2D(Fixed):
    """GlobalAveragePooling2D."""

    kind = pooling.GlobalAveragePooling2D


class QUnaryFunctionLUT(Fixed):
    """A function of single numbers between two quantizers: one table of all levels that the first one gives."""

    kind = activation.Activation
    ignored = (*Fixed.ignored, "allow_heterogeneous_table", "allow_heterogeneous_input")

    def _quantized(self, call: Call, inputs: Sequence[Value]) -> list[Value]:
        """The levels once more, on the one grid that holds them all."""
        values, quantizer = super()._quantized(call, inputs), self.inputs[0]
        if quantizer is None or getattr(self.layer, "name", "") in ("linear", "relu"):
            return values
        low, high = quantizer.range(call, values[0])
        if high - low >= 1 << INDEX_BITS:
            raise call.unsupported("iq_conf", f"has {high - low + 1} levels, a table has {1 << INDEX_BITS}")
        step = 2.0 ** -quantizer.finest(call, values[0])
        return [Levels("levels", Grid(step, low, high, step)).emit(call, values[0], "levels")]


class QAdd(FixedMerge):
    """Add."""

    kind = merge.Add


class QSubtract(FixedMerge):
    """Subtract."""

    kind = merge.Subtract


class QMultiply(FixedMerge):
    """Multiply."""

    kind = merge.Multiply


@dataclass(frozen=True)
class Sum(Unary):
    """The sum over some axes, times a power of two; None for the one nearest to the mean."""

    axes: tuple[int, ...]
    scale: float | None
    keepdims: bool

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a QSum or QMeanPow2 layer."""
        axes = fields.take("axes", -1)
        axes = [axes] if is_integer(axes) else axes
        if not isinstance(axes, list) or not all(is_integer(axis) for axis in axes):
            fields.refuse("axes", f"{show(axes)} are no axes")
            axes = []
        scale = fields.number("scale", 1.0) if fields.kind == "QSum" else None
        if scale is not None and math.frexp(scale)[0] != 0.5:
            fields.refuse("scale", f"{scale} is no power of two")
        return cls(tuple(axes), scale, fields.flag("keepdims", False))

    def apply(self, call: Call, value: Value) -> Value:
        """ReduceSum, and Mul where there is a factor."""
        axes = sorted({call.axis(value, axis) for axis in self.axes})
        count = math.prod(value.shape[axis - 1] for axis in axes)
        sizes = [(1 if k in axes else size) for k, size in enumerate(value.shape, 1) if self.keepdims or k not in axes]
        shape = tuple(sizes)
        factor = 2.0 ** round(math.log2(1 / count)) if self.scale is None else self.scale
        inputs: list[Value | str] = [value, call.integers("axes", axes)]
        total = call.node("ReduceSum", inputs, shape, "sum" if factor != 1 else "", keepdims=int(self.keepdims))
        return total if factor == 1 else call.node("Mul", [total, call.real("factor", factor)], shape)


class QSum(Fixed):
    """A sum over axes."""

    kind = Sum


class QMeanPow2(Fixed):
    """A sum over axes, over the power of two nearest to their size."""

    kind = Sum


@dataclass(frozen=True)
class Quantizer(Unary):
    """A quantizer alone."""

    quantizer: FixedPoint | None

    @property
    def roles(self) -> tuple[Role, ...]:
        """Its variables lie right below the layer's group."""
        return tuple(Role(r.name, place="quantizer") for r in self.quantizer.roles) if self.quantizer else ()

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads the one setting that matters."""
        return cls(read_fixed_point(fields, "config", "quantizer"))

    def apply(self, call: Call, value: Value) -> Value:
        """One node."""
        return value if self.quantizer is None else self.quantizer.emit(call, value, "")


LAYERS: Final[dict[str, type[Layer]]] = {
    kind.__name__: kind
    for kind in (
        QDense, QConv1D, QConv2D, QBatchNormDense, QBatchNormalization, QMaxPooling1D, QMaxPooling2D,
        QAveragePooling1D, QAveragePooling2D, QGlobalMaxPooling1D, QGlobalMaxPooling2D, QGlobalAveragePooling1D,
        QGlobalAveragePooling2D, QUnaryFunctionLUT, QAdd, QSubtract, QMultiply, QSum, QMeanPow2, Quantizer,
    )
}  # fmt: skip
