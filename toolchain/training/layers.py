"""Operators of the integer program in Keras, in real units: raw integers times their step, which float holds exactly.

A value is computed in float32 where the operator's bound fits 24 bits, else in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from toolchain.errors import UnsupportedOperator
from toolchain.ir import TensorType
from toolchain.ir.window import Window
from toolchain.ops.add import Add
from toolchain.ops.affine import Affine
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.base import Operator
from toolchain.ops.clip import Clip
from toolchain.ops.concat import Concat
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.pad import Pad
from toolchain.ops.requantize import Requantize
from toolchain.ops.reshape import Reshape
from toolchain.ops.slice import Slice
from toolchain.ops.transpose import Transpose
from toolchain.training.rounding import Tensor, limited, requantized

MANTISSA = 1 << 24
"""float32 holds all integers up to it."""
Layer = Callable[[Any, tuple[TensorType, ...], tuple[Tensor, ...]], Tensor]
LAYERS: dict[type[Operator], Layer] = {}


def trains(operator: type[Operator]) -> Callable[[Layer], Layer]:
    """Registers how an operator's values are computed from those of its inputs, given their types."""

    def register(function: Layer) -> Layer:
        LAYERS[operator] = function
        return function

    return register


def precision(bound: int) -> str:
    """The float that holds all integers up to a bound exactly. Raises UnsupportedOperator past float64."""
    if bound < MANTISSA:
        return "float32"
    if bound < 1 << 53:
        return "float64"
    raise UnsupportedOperator(f"has sums of {bound.bit_length()} bits, training holds 53")


def linear(operator: Any, x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """A convolution or matrix with weights of the operator's shape."""
    if isinstance(operator, Gemm):
        return ops.matmul(x, weights) + bias
    window = operator.window
    x = padded(x, window, 0.0)
    channels = weights.shape[2]
    if operator.groups == 1:
        return ops.conv(x, weights, window.strides, "valid", dilation_rate=window.dilations) + bias
    if channels == 1:
        shape = (*window.kernel, operator.groups, operator.outputs // operator.groups)
        depthwise = ops.reshape(weights, shape)
        if window.strides[0] == window.strides[1]:
            return ops.depthwise_conv(x, depthwise, window.strides, "valid", dilation_rate=window.dilations) + bias
    each = operator.outputs // operator.groups
    parts = []
    for group in range(operator.groups):
        part, kernel = (
            x[..., group * channels : (group + 1) * channels],
            weights[..., group * each : (group + 1) * each],
        )
        parts.append(ops.conv(part, kernel, window.strides, "valid", dilation_rate=window.dilations))
    return ops.concatenate(parts, -1) + bias


def padded(x: Tensor, window: Window, value: float) -> Tensor:
    """With the border that a window wants."""
    top, left, bottom, right = window.pads
    if not window.is_padded:
        return x
    return ops.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


@trains(Requantize)
def _requantize(operator: Requantize, _: tuple[TensorType, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    found = requantized(inputs[0], operator.type)
    return ops.cast(found, precision(max(-operator.type.low, operator.type.high)))


@trains(Add)
def _add(operator: Add, types: tuple[TensorType, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    kind = precision(operator.bound(*types))
    a, b = (ops.cast(one, kind) for one in inputs)
    return a - b if operator.subtract else a + b


@trains(Clip)
def _clip(operator: Clip, types: tuple[TensorType, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    low, high = operator.limits(types[0])
    step = 2.0 ** -types[0].fraction
    return ops.clip(inputs[0], low * step, high * step)


@trains(Affine)
def _affine(operator: Affine, types: tuple[TensorType, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    kind = precision(operator.bound(*types))
    points = np.array(operator.fractions)
    scale = np.ldexp(operator.scale.array.astype(np.float64), -points)
    offset = np.ldexp(operator.offset.array.astype(np.float64), -(points + types[0].fraction))
    return ops.cast(inputs[0], kind) * scale.astype(kind) + offset.astype(kind)


@trains(MaxPool)
def _max_pool(operator: MaxPool, _: tuple[TensorType, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    window = operator.window
    if window.dilations != (1, 1):
        raise UnsupportedOperator("cannot be trained with dilations")
    x = padded(inputs[0], window, float("-inf"))
    return ops.max_pool(x, window.kernel, window.strides, "valid")


@trains(AveragePool)
def _average_pool(operator: AveragePool, types: tuple[TensorType, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    """The exact sum, then the quotient rounded half up. In float64 no quotient of so short integers rounds wrongly."""
    (given,), window = types, operator.window
    if operator.zero_point is not None or operator.extra is None or window.dilations != (1, 1):
        raise UnsupportedOperator("cannot be trained in this form")
    x = ops.cast(inputs[0], precision(operator.bound(given)))
    if window.covers(given.shape):
        total = ops.sum(x, axis=(1, 2), keepdims=True)
    else:
        ones = ops.ones((*window.kernel, given.shape[2], 1), x.dtype)
        total = ops.depthwise_conv(padded(x, window, 0.0), ones, window.strides, "valid")
    divisors = operator.divisors.array.astype(np.float64)[..., None]
    step = 2.0 ** -(given.fraction + operator.extra)
    result = limited(ops.cast(total, "float64") / divisors, step, -(2.0**52), 2.0**52)
    return ops.cast(result, precision(operator.ranges(given).magnitude))


@trains(Pad)
def _pad(operator: Pad, types: tuple[TensorType, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    width = ((0, 0), *zip(operator.before, operator.after, strict=True))
    return ops.pad(inputs[0], width, constant_values=float(operator.value) * 2.0 ** -types[0].fraction)


@trains(Slice)
def _slice(operator: Slice, _: tuple[TensorType, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    cuts = [
        slice(start, start + (size - 1) * step + 1, step)
        for start, step, size in zip(operator.starts, operator.steps, operator.sizes, strict=True)
    ]
    return inputs[0][(slice(None), *cuts)]


@trains(Concat)
def _concat(operator: Concat, _: tuple[TensorType, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    return ops.concatenate([ops.cast(one, inputs[0].dtype) for one in inputs], axis=operator.axis + 1)


@trains(Reshape)
def _reshape(operator: Reshape, types: tuple[TensorType, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    return ops.reshape(inputs[0], (-1, *operator.shape(types[0].shape)))


@trains(Transpose)
def _transpose(operator: Transpose, _: tuple[TensorType, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    return ops.transpose(inputs[0], (0, *(axis + 1 for axis in operator.axes)))


LINEAR = (Conv, Gemm)
"""What is trained."""
