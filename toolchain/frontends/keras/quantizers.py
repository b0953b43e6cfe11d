"""QKeras's quantizers, read as data: their settings, and the QONNX operators that mean the same.

Source: QKeras, `qkeras/quantizers.py` (Coelho et al., arXiv:2006.10159), in inference: stochastic rounding is rounding
there, halves go to even (`tf.round`), and `relu_upper_bound` only bends gradients.
"""

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import UnsupportedOperator
from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields, Json, is_integer, is_number, show

DOMAIN: Final = "qonnx.custom_op.general"
WIDEST: Final = 32
SETTINGS: Final[dict[str, dict[str, Json]]] = {
    "quantized_bits": {
        "bits": 8, "integer": 0, "symmetric": 0, "keep_negative": True, "alpha": None,
        "use_stochastic_rounding": False, "scale_axis": None, "qnoise_factor": 1.0, "var_name": None, "use_ste": True,
        "use_variables": False, "post_training_scale": None,
    },
    "quantized_relu": {
        "bits": 8, "integer": 0, "use_sigmoid": 0, "negative_slope": 0.0, "use_stochastic_rounding": False,
        "relu_upper_bound": None, "is_quantized_clip": True, "qnoise_factor": 1.0, "var_name": None, "use_ste": True,
        "use_variables": False,
    },
    "binary": {"use_01": False, "alpha": None, "use_stochastic_rounding": False},
    "stochastic_binary": {"alpha": None, "temperature": 6.0, "use_real_sigmoid": True},
    "ternary": {"alpha": None, "threshold": None, "use_stochastic_rounding": False, "number_of_unrolls": 5},
    "stochastic_ternary": {
        "alpha": None, "threshold": None, "temperature": 8.0, "use_real_sigmoid": True, "number_of_unrolls": 5,
        "use_stochastic_rounding": False,
    },
    "quantized_tanh": {"bits": 8, "use_stochastic_rounding": False, "use_real_tanh": False, "symmetric": False},
    "quantized_sigmoid": {
        "bits": 8, "use_real_sigmoid": False, "use_stochastic_rounding": False, "symmetric": False,
    },
}  # fmt: skip
"""By name: the settings in order, with QKeras's defaults."""
THRESHOLD: Final = 0.33


@dataclass(frozen=True)
class Grid:
    """y = factor * level, level = clip(round(x / step), low, high); `bipolar` has the levels -1 and 1 by sign."""

    step: float
    low: int
    high: int
    factor: float
    rounding: str = "ROUND"
    bipolar: bool = False

    def levels(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Levels of an array; `round half to even`, or away from zero where that is the rounding."""
        if self.bipolar:
            return np.where(x >= 0, 1.0, -1.0)
        quotients = x.astype(np.float64) / self.step
        away = np.copysign(np.floor(np.abs(quotients) + 0.5), quotients)
        return np.clip(np.rint(quotients) if self.rounding == "ROUND" else away, self.low, self.high)

    @property
    def bits(self) -> tuple[int, int, int]:
        """Width, signedness and narrowness, in QONNX's terms."""
        signed = int(self.low < 0)
        width = max(self.high.bit_length(), (-self.low - 1).bit_length() if signed else 0) + signed
        return width, signed, int(signed and self.low == -self.high)


@dataclass(frozen=True)
class Quantizer:
    """What stands in front of the grid, the grid, and a number that is added behind it."""

    kind: str
    grid: Grid
    before: Callable[[Call, Value, str], Value] | None = None
    addend: float = 0.0

    def weights(self, call: Call, name: str, array: NDArray[np.float32]) -> str:
        """A constant of the layer, quantized: its levels survive in a quantizer of exactly their scale."""
        grid, levels = self.grid, self.grid.levels(array)
        if self.addend:  # -1 and 1 with a half of the factor are 0 and 1 with all of it
            grid, levels = Grid(1.0, 0, 1, 2 * grid.factor), (levels + 1) / 2
        stored = call.constant(f"{name}_levels", (levels * grid.factor).astype(np.float32))
        return _quant(call, Value(stored, array.shape), f"{name}_quantizer", grid, grid.factor).name

    def emit(self, call: Call, value: Value, suffix: str) -> Value:
        """An activation, quantized. The node that ends it bears `suffix`."""
        inner = f"{suffix}_" if suffix else ""
        if self.before is not None:
            value = self.before(call, value, inner)
        scale, factor = self.grid.step, self.grid.factor / self.grid.step
        if factor != 1 and self.grid.rounding != "ROUND":  # no halves between levels, so that it may come first
            value = call.node("Mul", [value, call.real(f"{inner}factor", factor)], value.shape, f"{inner}scaled")
            scale, factor = self.grid.factor, 1.0
        last = factor == 1 and not self.addend
        value = _quant(call, value, suffix if last else f"{inner}quantizer", self.grid, scale)
        if factor != 1:
            ends = "" if self.addend else suffix
            value = call.node(
                "Mul", [value, call.real(f"{inner}factor", factor)], value.shape, ends or f"{inner}scaled"
            )
        if self.addend:
            value = call.node("Add", [value, call.real(f"{inner}addend", self.addend)], value.shape, suffix)
        return value


def _quant(call: Call, value: Value, suffix: str, grid: Grid, scale: float) -> Value:
    """QONNX's node for a grid of this scale."""
    step = call.real(f"{suffix}_scale", scale)
    if grid.bipolar:
        return call.node("BipolarQuant", [value, step], value.shape, suffix, domain=DOMAIN)
    width, signed, narrow = grid.bits
    numbers = [step, call.real(f"{suffix}_zero", 0.0), call.real(f"{suffix}_bits", float(width))]
    options = {"signed": signed, "narrow": narrow, "rounding_mode": grid.rounding}
    return call.node("Quant", [value, *numbers], value.shape, suffix, domain=DOMAIN, **options)


def is_quantizer(value: Json) -> bool:
    """Does a setting name one of QKeras's quantizers, as text or as a mapping?"""
    if isinstance(value, str):
        return value.split("(")[0].strip() in SETTINGS or value.startswith(("quantized_", "stochastic_", "bernoulli"))
    return isinstance(value, dict) and is_quantizer(value.get("class_name"))


def read_quantizer(fields: Fields, key: str, *, is_kernel: bool = False) -> Quantizer | None:
    """The quantizer of a setting, None for null. What is unsupported goes to `fields.problems`.

    QKeras's layers turn an alpha that is not set into "auto_po2" for kernels (`_set_trainable_parameter`).
    """
    value = fields.take(key, None)
    if value is None:
        return None
    named = _parse(value)
    if named is None:
        fields.refuse(key, f"{show(value)} is no quantizer that is supported, only {', '.join(SETTINGS)}")
        return None
    kind, given = named
    unknown = sorted(set(given) - set(SETTINGS[kind]))
    if unknown:
        fields.refuse(f"{key}.{unknown[0]}", f"is no setting of {kind} that is known")
        return None
    settings = {**SETTINGS[kind], **given}
    if is_kernel and "alpha" in settings and settings["alpha"] is None:
        settings["alpha"] = "auto_po2"
    try:
        return READERS[kind](settings)
    except UnsupportedOperator as error:
        fields.refuse(f"{key} ({kind})", error.message)
        return None


def _parse(value: Json) -> tuple[str, dict[str, Json]] | None:
    """Name and settings of a quantizer; text is parsed, never evaluated."""
    if isinstance(value, dict):
        kind, config = value.get("class_name"), value.get("config")
        return (kind, config) if isinstance(kind, str) and kind in SETTINGS and isinstance(config, dict) else None
    if not isinstance(value, str) or len(value) > 1000:
        return None
    try:
        call = ast.parse(value.strip(), mode="eval").body
        if isinstance(call, ast.Name):
            call = ast.Call(call, [], [])
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in SETTINGS:
            return None
        names = list(SETTINGS[call.func.id])
        settings = {names[k]: ast.literal_eval(argument) for k, argument in enumerate(call.args)}
        settings |= {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, IndexError, RecursionError, MemoryError):
        return None
    return call.func.id, settings


def _whole(settings: dict[str, Json], key: str, least: int, most: int) -> int:
    value = settings[key]
    if isinstance(value, float) and value == math.floor(value):
        value = int(value)
    if not is_integer(value) or not least <= value <= most:
        raise UnsupportedOperator(f"{key} = {show(value)} is no integer from {least} to {most}")
    return int(value)


def _factor(settings: dict[str, Json]) -> float:
    """Alpha, a number above 0."""
    alpha = settings["alpha"]
    if isinstance(alpha, str):
        raise UnsupportedOperator(
            f"alpha = {show(alpha)} is computed from the weights, by another rule in every version of QKeras; give the "
            "numbers, or export the model to QONNX with qonnx's own converter"
        )
    if alpha is None:
        return 1.0
    if not is_number(alpha) or alpha <= 0:
        raise UnsupportedOperator(f"alpha = {show(alpha)} is no number above 0")
    return float(alpha)


def _check(settings: dict[str, Json]) -> None:
    if settings.get("post_training_scale") is not None:
        raise UnsupportedOperator("post_training_scale is not supported")
    if settings.get("qnoise_factor", 1.0) != 1:
        raise UnsupportedOperator("qnoise_factor is below 1, so that the network is only partly quantized; set it to 1")


def _bits(settings: dict[str, Json]) -> Quantizer:
    """`quantized_bits.__call__`."""
    _check(settings)
    keeps = bool(settings["keep_negative"])
    bits, integer = _whole(settings, "bits", 1, WIDEST), _whole(settings, "integer", -WIDEST, WIDEST)
    alpha, count = _factor(settings), 1 << bits - keeps
    if count == 1:
        return Quantizer("quantized_bits", Grid(alpha, -1, 1, alpha, bipolar=True))
    step = 2.0**integer / count
    low = -count + bool(settings["symmetric"]) if keeps else 0
    return Quantizer("quantized_bits", Grid(step, low, count - 1, alpha * step))


def _relu(settings: dict[str, Json]) -> Quantizer:
    """`quantized_relu.__call__`: with a slope, negative numbers have it times the levels."""
    _check(settings)
    for key, neutral in (("use_sigmoid", (0, False)), ("relu_upper_bound", (None,)), ("is_quantized_clip", (True, 1))):
        if settings[key] not in neutral:
            raise UnsupportedOperator(f"{key} = {show(settings[key])} is not supported")
    slope = settings["negative_slope"]
    if not is_number(slope) or slope < 0 or (slope and math.frexp(slope)[0] != 0.5):
        raise UnsupportedOperator(f"negative_slope = {show(slope)} is no power of two")
    bits, integer = _whole(settings, "bits", 1, WIDEST), _whole(settings, "integer", -WIDEST, WIDEST)
    count = 1 << bits - bool(slope)
    if slope and not 1 / count <= slope <= 1:
        raise UnsupportedOperator(f"negative_slope = {show(slope)} is not between 1 and the step of {bits} bits")
    step = 2.0**integer / count
    if not slope:
        return Quantizer("quantized_relu", Grid(step, 0, count - 1, step))

    def leaky(call: Call, value: Value, inner: str) -> Value:
        value = call.node("LeakyRelu", [value], value.shape, f"{inner}leaky", alpha=float(slope))
        bounds = [call.real(f"{inner}low", -slope * 2.0**integer), call.real(f"{inner}high", 2.0**integer)]
        return call.node("Clip", [value, *bounds], value.shape, f"{inner}clipped")

    return Quantizer("quantized_relu", Grid(step, -count, count - 1, step), leaky)


def _binary(settings: dict[str, Json]) -> Quantizer:
    """`binary.__call__`: 0 counts as positive; with use_01 the lower one of the two is 0."""
    alpha = _factor(settings)
    if settings.get("use_01", False):
        return Quantizer("binary", Grid(alpha / 2, -1, 1, alpha / 2, bipolar=True), addend=alpha / 2)
    return Quantizer("binary", Grid(alpha, -1, 1, alpha, bipolar=True))


def _ternary(settings: dict[str, Json]) -> Quantizer:
    """`ternary.__call__` with a number for alpha: its sign where |x| >= threshold."""
    threshold = THRESHOLD if settings["threshold"] is None else settings["threshold"]
    if not is_number(threshold) or threshold <= 0:
        raise UnsupportedOperator(f"threshold = {show(threshold)} is no number above 0")
    return Quantizer("ternary", Grid(2 * float(np.float32(threshold)), -1, 1, _factor(settings), "HALF_UP"))


def _tanh(settings: dict[str, Json]) -> Quantizer:
    """`quantized_tanh.__call__`; without use_real_tanh it is 2 * hard_sigmoid(x) - 1, a clip to [-1, 1]."""
    if settings["symmetric"]:
        raise UnsupportedOperator("symmetric = True is not supported")
    count = 1 << _whole(settings, "bits", 2, WIDEST) - 1
    real = bool(settings["use_real_tanh"])

    def curve(call: Call, value: Value, inner: str) -> Value:
        if real:
            return call.node("Tanh", [value], value.shape, f"{inner}curve")
        bounds = [call.real(f"{inner}low", -1.0), call.real(f"{inner}high", 1.0)]
        return call.node("Clip", [value, *bounds], value.shape, f"{inner}curve")

    return Quantizer("quantized_tanh", Grid(1 / count, -count + 1, count - 1, 1 / count), curve)


def _sigmoid(settings: dict[str, Json]) -> Quantizer:
    """`quantized_sigmoid.__call__`; without use_real_sigmoid it is clip(x / 2 + 1/2, 0, 1). The lowest level is 1."""
    if settings["symmetric"]:
        raise UnsupportedOperator("symmetric = True is not supported")
    count = 1 << _whole(settings, "bits", 1, WIDEST - 1)
    real = bool(settings["use_real_sigmoid"])

    def curve(call: Call, value: Value, inner: str) -> Value:
        if real:
            value = call.node("Sigmoid", [value], value.shape, f"{inner}curve")
        else:
            value = call.node("HardSigmoid", [value], value.shape, f"{inner}curve", alpha=0.5, beta=0.5)
        bounds = [call.real(f"{inner}low", 1 / count), call.real(f"{inner}high", 1.0)]
        return call.node("Clip", [value, *bounds], value.shape, f"{inner}clipped")

    return Quantizer("quantized_sigmoid", Grid(1 / count, 0, count - 1, 1 / count), curve)


READERS: Final[dict[str, Callable[[dict[str, Json]], Quantizer]]] = {
    "quantized_bits": _bits,
    "quantized_relu": _relu,
    "binary": _binary,
    "stochastic_binary": _binary,
    "ternary": _ternary,
    "stochastic_ternary": _ternary,
    "quantized_tanh": _tanh,
    "quantized_sigmoid": _sigmoid,
}
