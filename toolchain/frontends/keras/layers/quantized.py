"""QKeras's layers: Keras's own with quantizers on their weights and activations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import fields as settings_of
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields
from toolchain.frontends.keras.layers import convolution, dense, normalization
from toolchain.frontends.keras.layers.base import Layer, Role, Unary
from toolchain.frontends.keras.quantizers import Quantizer, read_quantizer


@dataclass
class QuantizedCall(Call):
    """A call whose constants of these names are quantized."""

    quantizers: Mapping[str, Quantizer] = field(default_factory=dict)

    def constant(self, suffix: str, array: NDArray[Any]) -> str:
        """A constant of the layer, or the value of its quantizer."""
        quantizer = self.quantizers.get(suffix)
        if quantizer is None:
            return super().constant(suffix, array)
        return quantizer.weights(self, suffix, array.astype(np.float32))


@dataclass(frozen=True)
class Quantized(Layer):
    """A layer of Keras with quantized constants."""

    layer: Layer
    quantizers: Mapping[str, Quantizer]
    kind: ClassVar[type[Layer]]
    constants: ClassVar[Mapping[str, str]] = {"kernel_quantizer": "kernel", "bias_quantizer": "bias"}
    ranges: ClassVar[tuple[str, ...]] = ("kernel_range", "bias_range")

    @property
    def roles(self) -> tuple[Role, ...]:
        """Those of the layer itself."""
        return self.layer.roles

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads the quantizers, then the layer; ranges are notes of QKeras's for itself."""
        fields.ignore(*cls.ranges)
        found = {name: read_quantizer(fields, key, is_kernel=name != "bias") for key, name in cls.constants.items()}
        quantizers = {name: quantizer for name, quantizer in found.items() if quantizer is not None}
        return cls(cls.kind.read(fields), quantizers)

    def translate(self, call: Call, inputs: Sequence[Value]) -> Value:
        """The layer's own nodes."""
        given = {one.name: getattr(call, one.name) for one in settings_of(call)}
        return self.layer.translate(QuantizedCall(**given, quantizers=self.quantizers), inputs)


class QDense(Quantized):
    """Dense."""

    kind = dense.Dense


class QConv1D(Quantized):
    """Conv1D."""

    kind = convolution.Conv1D


class QConv2D(Quantized):
    """Conv2D."""

    kind = convolution.Conv2D


class QDepthwiseConv2D(Quantized):
    """DepthwiseConv2D."""

    kind = convolution.DepthwiseConv2D
    constants: ClassVar[Mapping[str, str]] = {"depthwise_quantizer": "kernel", "bias_quantizer": "bias"}
    ranges: ClassVar[tuple[str, ...]] = ("depthwise_range", "bias_range")


class QSeparable(Quantized):
    """What both separable convolutions share."""

    constants: ClassVar[Mapping[str, str]] = {
        "depthwise_quantizer": "depthwise_kernel",
        "pointwise_quantizer": "kernel",
        "bias_quantizer": "bias",
    }
    ranges: ClassVar[tuple[str, ...]] = ("depthwise_range", "pointwise_range", "bias_range")


class QSeparableConv1D(QSeparable):
    """SeparableConv1D."""

    kind = convolution.SeparableConv1D


class QSeparableConv2D(QSeparable):
    """SeparableConv2D."""

    kind = convolution.SeparableConv2D


class QBatchNormalization(Quantized):
    """BatchNormalization whose parameters are not quantized: what QKeras does with those that are is not exact."""

    kind = normalization.BatchNormalization
    constants: ClassVar[Mapping[str, str]] = {}
    ranges: ClassVar[tuple[str, ...]] = ("beta_range", "gamma_range")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Refuses quantizers, which QKeras has by default."""
        for key in ("beta", "gamma", "mean", "variance", "inverse"):
            fields.only(f"{key}_quantizer", None)
        return super().read(fields)


@dataclass(frozen=True)
class QActivation(Unary):
    """A quantizer, or a function of Keras."""

    quantizer: Quantizer | None

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads the one setting that matters."""
        fields.ignore("activation")
        if fields.config.get("activation") is None:
            fields.refuse("activation", "is missing")
        return cls(read_quantizer(fields, "activation"))

    def apply(self, call: Call, value: Value) -> Value:
        """The quantizer's nodes; the last one bears the layer's name."""
        assert self.quantizer is not None
        return self.quantizer.emit(call, value, "")
