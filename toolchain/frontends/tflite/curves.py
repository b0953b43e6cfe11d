"""Functions of one quantized number: tables over all integers that the input can be, made as LiteRT makes its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import UnsupportedOperator
from toolchain.frontends.tflite.integers import TYPES, Step, meaning_of, translates
from toolchain.frontends.tflite.multipliers import factors, ratio
from toolchain.ir import Constant, FixedType, TensorType
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


def tabulated(step: Step, entries: NDArray[np.int64]) -> str:
    """A table by the centred input; `entries` are centred outputs for the file's integers from the lowest on."""
    value = step.value(0)
    type = step.type(value)
    zero, own = meaning_of(step.tensor(0)).zero_point, TYPES[step.tensor(0).element]
    held = patterns(type) + zero
    table = entries[(held.clip(own.low, own.high) - own.low)]
    width, signed = needed_width(int(entries.min()), int(entries.max()))
    return step.add(Table(Constant(table), FixedType(width, width, signed)), value)


def patterns(type: TensorType) -> NDArray[np.int64]:
    """The integer that each pattern of a type's bits is."""
    bits = np.arange(1 << type.width)
    return np.where(bits > type.fixed.high, bits - (1 << type.width), bits)
