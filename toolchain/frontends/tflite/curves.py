"""Functions of one quantized number: tables over all integers that the input can be, made as LiteRT makes its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import UnsupportedOperator
from toolchain.frontends.tflite.integers import TYPES, Step, meaning_of, translates
from toolchain.frontends.tflite.multipliers import factors, multiplier, ratio
from toolchain.ir import Constant, FixedType, Rounding, TensorType
from toolchain.ir.rounding import round_shift
from toolchain.ir.types import needed_width
from toolchain.ops.rescale import Rescale
from toolchain.ops.table import Table

Curve = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.float32(1) / (np.float32(1) + _exact(np.exp, -x))


def _tanh(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return _exact(np.tanh, x)


def _exact(function: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The float32 number next to the function's value, which a C library gives but for very rare cases."""
    with np.errstate(over="ignore"):
        return np.asarray(function(x.astype(np.float64)).astype(np.float32))


CURVES: dict[str, Curve] = {"LOGISTIC": _sigmoid, "TANH": _tanh}


@translates(*CURVES)
def curve(step: Step) -> None:
    """The function of float32 numbers, its values rounded half away from 0 to the output's grid."""
    given, result = meaning_of(step.tensor(0)), meaning_of(step.output)
    type = TYPES[step.output.element]
    if TYPES[step.tensor(0).element] != type:
        raise UnsupportedOperator("has an input and an output of different elements")
    raw = np.arange(type.low, type.high + 1)
    x = np.float32(given.scale) * (raw - given.zero_point).astype(np.float32)
    scaled = CURVES[step.operation.kind](x) * (np.float32(1) / np.float32(result.scale))
    nearest = np.copysign(np.floor(np.abs(scaled.astype(np.float64)) + 0.5), scaled).astype(np.int64)
    entries = (nearest + result.zero_point).clip(type.low, type.high) - result.zero_point
    step.give(tabulated(step, entries))


@translates("LEAKY_RELU")
def leaky_relu(step: Step) -> None:
    """Both branches are rescaled, each by its own multiplier."""
    given, result = meaning_of(step.tensor(0)), meaning_of(step.output)
    type = TYPES[step.output.element]
    x = (np.arange(type.low, type.high + 1) - given.zero_point).reshape(-1, 1)
    low, high = type.low - result.zero_point, type.high - result.zero_point
    alpha = float(step.option("Alpha"))
    if not 0 < alpha <= 1:
        raise UnsupportedOperator(f"has Alpha = {alpha}, above 0 and up to 1 is supported")
    branches = [
        Rescale(*factors([ratio(given.scale, result.scale, factor)]), low, high).evaluate(x) for factor in (1.0, alpha)
    ]
    step.give(tabulated(step, np.where(x >= 0, *branches).ravel()))


@translates("HARD_SWISH")
def hard_swish(step: Step) -> None:
    """x * relu6(x + 3) / 6 in 16 bits: the input with 7 more bits, once in the output's scale, once in [-1, 1)."""
    given, result = meaning_of(step.tensor(0)), meaning_of(step.output)
    type = TYPES[step.output.element]
    fine = np.float32(1 / 128) * np.float32(given.scale)
    output_factor, output_shift = multiplier(float(fine / np.float32(result.scale)))
    ramp_factor, ramp_shift = multiplier(float(fine / np.float32(3 / 32768)))
    if output_shift > 0:
        raise UnsupportedOperator("has an output scale below a 128th of its input's")
    x = (np.arange(type.low, type.high + 1) - given.zero_point) << 7
    ramp = _saturated(x << max(ramp_shift - 1, 0))
    ramp = _half_product(ramp, _half_factor(ramp_factor))
    if ramp_shift > 0:
        ramp = _saturated(ramp << 1)
    elif ramp_shift < 0:
        ramp = round_shift(ramp, -ramp_shift, Rounding.RND_INF)
    ramp = (ramp + (1 << 15)) >> 1
    product = ramp * _half_product(x, _half_factor(output_factor))
    cut = np.sign(product) * (np.abs(product) >> 15)
    entries = round_shift(_saturated(cut), -output_shift, Rounding.RND_INF)
    low, high = type.low - result.zero_point, type.high - result.zero_point
    step.give(tabulated(step, entries.clip(low, high)))


def _half_factor(factor: int) -> int:
    """A 31-bit multiplier with 15 bits."""
    return min((factor + (1 << 15)) >> 16, (1 << 15) - 1)


def _half_product(values: NDArray[np.int64], factor: int) -> NDArray[np.int64]:
    """values * factor * 2**-15, half up."""
    return _saturated((values * factor + (1 << 14)) >> 15)


def _saturated(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return values.clip(-(1 << 15), (1 << 15) - 1)


def tabulated(step: Step, entries: NDArray[np.int64], index: int = 0) -> str:
    """A table by a centred input; `entries` are centred outputs for the file's integers from the lowest on."""
    value = step.value(index)
    type = step.type(value)
    zero, own = meaning_of(step.tensor(index)).zero_point, TYPES[step.tensor(index).element]
    held = patterns(type) + zero
    table = entries[(held.clip(own.low, own.high) - own.low)]
    width, signed = needed_width(int(entries.min()), int(entries.max()))
    part = "" if len(step.operation.inputs) == 1 else f"table_{index}"
    return step.add(Table(Constant(table), FixedType(width, width, signed)), value, part=part)


def patterns(type: TensorType) -> NDArray[np.int64]:
    """The integer that each pattern of a type's bits is."""
    bits = np.arange(1 << type.width)
    return np.where(bits > type.fixed.high, bits - (1 << type.width), bits)
