"""What HGQ2's layers share: Keras's own layers with fixed-point quantizers on inputs, weights and output."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import fields as settings_of
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import ModelError
from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields, show
from toolchain.frontends.keras.fixed_points import FixedPoint, finest_of, parse_fixed_point, read_fixed_point
from toolchain.frontends.keras.layers.base import Layer, Role
from toolchain.frontends.keras.quantizers import DOMAIN

COARSEST: Final = -48


@dataclass
class FixedCall(Call):
    """A call whose weights are quantized: `kernel` and `bias`, in Keras's layout."""

    quantizers: Mapping[str, FixedPoint] = field(default_factory=dict)
    prepared: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    input_fraction: int | None = None

    def weight(self, role: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A weight tensor, quantized where it has a quantizer; a prepared one stands for the stored one."""
        array = self.prepared[role] if role in self.prepared else super().weight(role, shape)
        return self.quantizers[role].weights(self, array) if role in self.quantizers else array

    def constant(self, suffix: str, array: NDArray[Any]) -> str:
        """A constant of the layer; the kernel in a quantizer of a step for each output, so that its levels survive."""
        if suffix != "kernel" or suffix not in self.quantizers:
            return super().constant(suffix, array)
        axis = array.ndim - 1 if array.ndim == 2 else 0
        finest = finest_of(array, axis)
        if "bias" in self.quantizers and self.input_fraction is not None:  # so that sums of products hold the bias
            bias = finest_of(self.weight("bias", (array.shape[axis],)), 0)
            finest = np.maximum(finest, bias - self.input_fraction)
        any_step = finest < COARSEST  # outputs of zeros
        finest = np.where(any_step, 0 if any_step.all() else finest.max(), finest)
        sizes = [-1 if a == axis else 1 for a in range(array.ndim)]
        scale = np.ldexp(np.float32(1), -finest).reshape(sizes)
        bits = math.ceil(math.log2(float(np.abs(array / scale).max()) + 1)) + 1
        stored = super().constant("kernel_levels", array)
        numbers = [super().constant("kernel_scale", scale)]
        numbers += [self.real("kernel_zero", 0.0), self.real("kernel_bits", float(max(bits, 2)))]
        options: dict[str, Any] = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
        value = Value(stored, array.shape)
        return self.node("Quant", [value, *numbers], array.shape, "kernel", domain=DOMAIN, **options).name


@dataclass(frozen=True)
class Fixed(Layer):
    """A layer with quantizers: those of its inputs, of its constants by name, and of its output.

    `counters` are two numbers that HGQ2 keeps about the cost of the layer.
    """

    layer: Layer
    inputs: tuple[FixedPoint | None, ...]
    constants: Mapping[str, FixedPoint]
    output: FixedPoint | None
    counters: bool
    kind: ClassVar[type[Layer]]
    keys: ClassVar[Mapping[str, str]] = {}
    ignored: ClassVar[tuple[str, ...]] = ("ebops_factor", "beta0", "parallelization_factor", "enable_iq", "enable_oq")

    @property
    def roles(self) -> tuple[Role, ...]:
        """The layer's own weights, then those of the quantizers, each in its group."""
        quantizers = [*self.inputs, *self.constants.values(), self.output]
        return (*self.stored(), *(role for one in quantizers if one for role in one.roles))

    def stored(self) -> tuple[Role, ...]:
        """The layer's own weights in the order of the file; the counters come when it is built."""
        counters = [Role(name, trainable=False) for name in ("ebops_beta", "ebops") if self.counters]
        return (*self.layer.roles, *counters)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads the quantizers, then the layer."""
        fields.ignore(*cls.ignored)
        counters = fields.flag("enable_ebops", False)
        inputs = cls.read_inputs(fields)
        constants = {role: read_fixed_point(fields, key, key[:2]) for key, role in cls.keys.items()}
        output = read_fixed_point(fields, "oq_conf", "oq")
        layer = cls.kind.read(fields)
        return cls(layer, inputs, {name: q for name, q in constants.items() if q}, output, counters)

    @classmethod
    def read_inputs(cls, fields: Fields) -> tuple[FixedPoint | None, ...]:
        """The quantizers of the inputs; one that is missing changes nothing."""
        return (read_fixed_point(fields, "iq_conf", "iq"),)

    def translate(self, call: Call, inputs: Sequence[Value]) -> Value:
        """Quantizes the inputs, then the layer's own nodes, then the output."""
        given = {one.name: getattr(call, one.name) for one in settings_of(call)}
        mine = FixedCall(**given, quantizers=self.constants)
        values = self._quantized(mine, inputs)
        if len(values) == 1 and self.inputs and self.inputs[0]:
            mine.input_fraction = self.inputs[0].finest(mine, values[0])
        mine.prepared = self.prepared(call, values[0])
        value = self.layer.translate(mine, values)
        return value if self.output is None else self.output.emit(mine, value, "quantized")

    def _quantized(self, call: Call, inputs: Sequence[Value]) -> list[Value]:
        if not any(self.inputs):
            return list(inputs)
        if len(self.inputs) != len(inputs):
            raise ModelError(f"{len(inputs)} inputs for {len(self.inputs)} quantizers", where=call.name)
        pairs = enumerate(zip(self.inputs, inputs, strict=True))
        return [value if q is None else q.emit(call, value, f"input{k or ''}") for k, (q, value) in pairs]

    def prepared(self, call: Call, value: Value) -> Mapping[str, NDArray[np.float32]]:
        """Weights that are computed from stored ones before they are quantized."""
        return {}


class FixedMerge(Fixed):
    """A layer of several inputs."""

    @classmethod
    def read_inputs(cls, fields: Fields) -> tuple[FixedPoint | None, ...]:
        """One quantizer for each, counted like Keras's layers."""
        value = fields.take("iq_confs", None) or []
        if not isinstance(value, list):
            fields.refuse("iq_confs", f"{show(value)} is no list")
            return ()
        places = [f"iq/quantizers/quantizer{f'_{k}' if k else ''}" for k in range(len(value))]
        return tuple(parse_fixed_point(fields, "iq_confs", *pair) for pair in zip(value, places, strict=True))
