"""Activation functions, as layers of their own and fused into others."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Self, TypeAlias

from toolchain.errors import ModelError
from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields, show
from toolchain.frontends.keras.layers.base import Role, Unary
from toolchain.frontends.keras.quantizers import Quantizer, is_quantizer, read_quantizer

Emitter: TypeAlias = Callable[[Call, Value, str], Value]


def _plain(operator: str, **attributes: float) -> Emitter:
    def emit(call: Call, value: Value, suffix: str) -> Value:
        return call.node(operator, [value], value.shape, suffix, **attributes)

    return emit


def _relu6(call: Call, value: Value, suffix: str) -> Value:
    bounds = [call.real("zero", 0.0), call.real("max_value", 6.0)]
    return call.node("Clip", [value, *bounds], value.shape, suffix)


def _silu(call: Call, value: Value, suffix: str) -> Value:
    gate = call.node("Sigmoid", [value], value.shape, f"{suffix}_gate" if suffix else "gate")
    return call.node("Mul", [value, gate], value.shape, suffix)


def _gelu(call: Call, value: Value, suffix: str) -> Value:
    # x * (1 + erf(x / sqrt 2)) / 2; opset 17 has no Gelu.
    inner = f"{suffix}_" if suffix else ""
    scaled = call.node("Mul", [value, call.real("half_root", 0.5**0.5)], value.shape, f"{inner}scale")
    error = call.node("Erf", [scaled], value.shape, f"{inner}erf")
    gate = call.node("Add", [error, call.real("one", 1.0)], value.shape, f"{inner}gate")
    product = call.node("Mul", [value, gate], value.shape, f"{inner}product")
    return call.node("Mul", [product, call.real("half", 0.5)], value.shape, suffix)


def _mish(call: Call, value: Value, suffix: str) -> Value:
    inner = f"{suffix}_" if suffix else ""
    plus = call.node("Softplus", [value], value.shape, f"{inner}softplus")
    gate = call.node("Tanh", [plus], value.shape, f"{inner}tanh")
    return call.node("Mul", [value, gate], value.shape, suffix)


FUNCTIONS: Final[dict[str, Emitter]] = {
    "linear": lambda _call, value, _suffix: value,
    "relu": _plain("Relu"),
    "relu6": _relu6,
    "leaky_relu": _plain("LeakyRelu", alpha=0.2),
    "elu": _plain("Elu", alpha=1.0),
    "selu": _plain("Selu", alpha=1.6732632423543772, gamma=1.0507009873554805),
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "softmax": _plain("Softmax", axis=-1),
    "log_softmax": _plain("LogSoftmax", axis=-1),
    "softplus": _plain("Softplus"),
    "softsign": _plain("Softsign"),
    "exponential": _plain("Exp"),
    "hard_silu": _plain("HardSwish"),
    "silu": _silu,
    "gelu": _gelu,
    "mish": _mish,
}
ALIASES: Final = {"swish": "silu", "hard_swish": "hard_silu"}
# Keras 2 has clip(0.2 x + 0.5), Keras 3 relu6(x + 3) / 6.
HARD_SIGMOID_SLOPES: Final = {2: 0.2, 3: 1 / 6}


@dataclass(frozen=True)
class Activation(Unary):
    """The function `name`, or a layer used as one."""

    name: str = "linear"
    slope: float = 0.0
    layer: Unary | None = None
    quantizer: Quantizer | None = None

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads an Activation layer."""
        return cls.fused(fields, required=True)

    @classmethod
    def fused(cls, fields: Fields, *, required: bool = False) -> Self:
        """Reads the `activation` of any layer."""
        value = fields.take("activation") if required else fields.take("activation", None)
        if value is None:
            return cls()
        if is_quantizer(value):
            return cls("quantizer", quantizer=read_quantizer(fields, "activation"))
        if isinstance(value, dict):
            return cls._layer(fields, value)
        name = ALIASES.get(value, value) if isinstance(value, str) else None
        if name == "hard_sigmoid":
            if fields.keras_major not in HARD_SIGMOID_SLOPES:
                fields.refuse("activation", "hard_sigmoid differs between Keras versions and the file names none")
                return cls()
            return cls(name, HARD_SIGMOID_SLOPES[fields.keras_major])
        if name not in FUNCTIONS:
            fields.refuse("activation", f"{show(value)} is not supported")
            return cls()
        return cls(name)

    @classmethod
    def _layer(cls, fields: Fields, value: dict[str, object]) -> Self:
        kind, config, module = value.get("class_name"), value.get("config"), value.get("module")
        known = module is None or str(module).split(".")[0] in ("keras", "tf_keras", "tensorflow")
        layer = LAYERS.get(kind) if isinstance(kind, str) and known and value.get("registered_name") is None else None
        if layer is None or not isinstance(config, dict):
            reason = "is a custom function" if kind == "function" else f"{show(kind)} is not supported as an activation"
            fields.refuse("activation", reason)
            return cls()
        inner = Fields(fields.name, f"{fields.kind}/{kind}", config, fields.problems, fields.keras_major)
        found = layer.read(inner)
        inner.finish()
        return cls(str(kind), layer=found)

    def apply(self, call: Call, value: Value) -> Value:
        """As a layer of its own the node bears the layer's name."""
        return self._emit(call, value, "")

    def after(self, call: Call, value: Value) -> Value:
        """As the last step of another layer the node is `layer/activation`."""
        return self._emit(call, value, self.name)

    def _emit(self, call: Call, value: Value, suffix: str) -> Value:
        if self.layer is not None:
            return self.layer.apply(replace(call, name=f"{call.name}/{suffix}" if suffix else call.name), value)
        if self.quantizer is not None:
            return self.quantizer.emit(call, value, suffix)
        if self.name == "hard_sigmoid":
            return call.node("HardSigmoid", [value], value.shape, suffix, alpha=self.slope, beta=0.5)
        return FUNCTIONS[self.name](call, value, suffix)


@dataclass(frozen=True)
class ReLU(Unary):
    """x where x > threshold, at most max_value; below, negative_slope * (x - threshold)."""

    max_value: float | None
    negative_slope: float
    threshold: float

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a ReLU layer."""
        maximum = fields.optional_number("max_value")
        if maximum is not None and maximum < 0:
            fields.refuse("max_value", f"{maximum} is negative")
        slope, threshold = fields.number("negative_slope", 0.0), fields.number("threshold", 0.0)
        if threshold < 0:
            fields.refuse("threshold", f"{threshold} is negative")
        return cls(maximum, slope, threshold)

    def apply(self, call: Call, value: Value) -> Value:
        """One node in the usual cases."""
        shape, bounded = value.shape, self.max_value is not None
        if self.negative_slope == 0:
            return self._positive(call, value, "")
        if self.threshold == 0 and not bounded:
            return call.node("LeakyRelu", [value], shape, alpha=self.negative_slope)
        positive = self._positive(call, value, "positive")
        distance = call.node("Sub", [call.real("threshold", self.threshold), value], shape, "distance")
        negative = call.node("Relu", [distance], shape, "negative")
        scaled = call.node("Mul", [negative, call.real("negative_slope", self.negative_slope)], shape, "scaled")
        return call.node("Sub", [positive, scaled], shape)

    def _positive(self, call: Call, value: Value, suffix: str) -> Value:
        bounds = [] if self.max_value is None else [call.real("zero", 0.0), call.real("max_value", self.max_value)]
        if self.threshold == 0:
            return call.node("Clip" if bounds else "Relu", [value, *bounds], value.shape, suffix)
        if not bounds:
            return call.node("ThresholdedRelu", [value], value.shape, suffix, alpha=self.threshold)
        cut = call.node("ThresholdedRelu", [value], value.shape, "cut", alpha=self.threshold)
        return call.node("Clip", [cut, *bounds], value.shape, suffix)


@dataclass(frozen=True)
class LeakyReLU(Unary):
    """negative_slope * x below zero."""

    slope: float

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """The slope is called alpha in Keras 2."""
        if "alpha" in fields.config:
            return cls(fields.number("alpha"))
        return cls(fields.number("negative_slope", 0.3))

    def apply(self, call: Call, value: Value) -> Value:
        """One node."""
        return call.node("LeakyRelu", [value], value.shape, alpha=self.slope)


@dataclass(frozen=True)
class PReLU(Unary):
    """alpha * x below zero, alpha learnt per element but shared along `shared_axes`."""

    shared_axes: tuple[int, ...]

    @property
    def roles(self) -> tuple[Role, ...]:
        """The slopes."""
        return (Role("alpha"),)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a PReLU layer."""
        axes = fields.take("shared_axes", None)
        if axes is None:
            return cls(())
        length = len(axes) if isinstance(axes, list) else 1
        return cls(fields.integers("shared_axes", length))

    def apply(self, call: Call, value: Value) -> Value:
        """PRelu broadcasts its slopes like Keras."""
        if any(axis >= value.rank for axis in self.shared_axes):
            raise ModelError(f"shared_axes {self.shared_axes} do not exist", where=call.name)
        shape = tuple(1 if i + 1 in self.shared_axes else size for i, size in enumerate(value.shape))
        slopes = call.constant("alpha", call.weight("alpha", shape))
        return call.node("PRelu", [value, slopes], value.shape)


@dataclass(frozen=True)
class ELU(Unary):
    """alpha * (exp(x) - 1) below zero."""

    alpha: float

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads an ELU layer."""
        return cls(fields.number("alpha", 1.0))

    def apply(self, call: Call, value: Value) -> Value:
        """One node."""
        return call.node("Elu", [value], value.shape, alpha=self.alpha)


@dataclass(frozen=True)
class Softmax(Unary):
    """Softmax along one axis."""

    axis: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a Softmax layer; several axes at once are refused."""
        axis = fields.take("axis", -1)
        if isinstance(axis, list) and len(axis) == 1:
            axis = axis[0]
        if isinstance(axis, int) and not isinstance(axis, bool):
            return cls(axis)
        fields.refuse("axis", f"{show(axis)} is not one axis")
        return cls(-1)

    def apply(self, call: Call, value: Value) -> Value:
        """One node."""
        return call.node("Softmax", [value], value.shape, axis=call.axis(value, self.axis))


class Function(Activation):
    """A bare function of `keras.ops`, named by its class."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """The class is the function."""
        return cls(fields.kind.lower())


# Layers without weights that Keras accepts as the activation of another layer.
LAYERS: Final[dict[str, type[Unary]]] = {"ReLU": ReLU, "LeakyReLU": LeakyReLU, "ELU": ELU, "Softmax": Softmax}
