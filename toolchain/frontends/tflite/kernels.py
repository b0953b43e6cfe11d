"""The operators of quantized TFLite models, each as the integer operators that LiteRT's reference kernel amounts to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.tflite.builder import along
from toolchain.frontends.tflite.files import Tensor
from toolchain.frontends.tflite.integers import TYPES, Step, meaning_of, translates
from toolchain.frontends.tflite.multipliers import (
    channel_scales,
    factors,
    ratio,
    softmax_table,
    tensor_scale,
)
from toolchain.ir import Constant, FixedType
from toolchain.ir.types import needed_width
from toolchain.ir.window import Window
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.conv import Conv
from toolchain.ops.fixed_softmax import FixedSoftmax
from toolchain.ops.gemm import Gemm
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.rescale import Rescale, ScaleRounding
from toolchain.ops.reshape import Reshape

LIMITS = {
    tflite.ActivationFunctionType.NONE: (None, None),
    tflite.ActivationFunctionType.RELU: (0.0, None),
    tflite.ActivationFunctionType.RELU6: (0.0, 6.0),
    tflite.ActivationFunctionType.RELU_N1_TO_1: (-1.0, 1.0),
}
"""Of fused activations, as real numbers."""
ACTIVATIONS = {
    "RELU": tflite.ActivationFunctionType.RELU,
    "RELU6": tflite.ActivationFunctionType.RELU6,
}


def limits(step: Step, code: int) -> tuple[int, int]:
    """The range of the output, centred, that an activation leaves: its bounds on the output's grid."""
    if code not in LIMITS:
        raise UnsupportedOperator(f"fused activation {code} is not supported")
    meaning, type = meaning_of(step.output), TYPES[step.output.element]
    low, high = type.low - meaning.zero_point, type.high - meaning.zero_point

    def on_grid(bound: float) -> int:
        quotient = float(np.float32(bound) / np.float32(meaning.scale))
        return int(math.copysign(math.floor(abs(quotient) + 0.5), quotient))

    least, most = LIMITS[code]
    low = low if least is None else max(low, on_grid(least))
    high = high if most is None else min(high, on_grid(most))
    if low > high:
        raise ModelError(f"has an activation whose range {step.output.where} does not hold")
    return low, high


def rescaled(
    step: Step, value: str, scales: list[float], code: int, rounding: ScaleRounding = ScaleRounding.DOUBLE
) -> str:
    """The sums of a layer in the output's scale and range."""
    operator = Rescale(*factors(scales), *limits(step, code), rounding=rounding)
    return step.add(operator, value, part="rescale")


def integer_weights(step: Step, index: int) -> NDArray[np.int64]:
    """The file's weights without their zero point."""
    tensor = step.tensor(index)
    if tensor.data is None or tensor.quantization is None or tensor.element not in TYPES:
        raise UnsupportedOperator(
            f"{tensor.where} holds {tensor.element}, constant int8 or uint8 weights are supported"
        )
    array: NDArray[np.int64] = tensor.data.astype(np.int64) - along(tensor.quantization.zero_points, tensor)
    return array


def weight_scales(tensor: Tensor) -> NDArray[np.float32]:
    assert tensor.quantization is not None
    return tensor.quantization.scales


def integer_bias(step: Step, index: int, outputs: int) -> NDArray[np.int64]:
    if index >= len(step.operation.inputs) or step.operation.inputs[index] is None:
        return np.zeros(outputs, dtype=np.int64)
    tensor = step.tensor(index)
    if tensor.data is None or tensor.element != "INT32" or tensor.data.size != outputs:
        raise UnsupportedOperator(f"{tensor.where} is no constant int32 bias of {outputs} entries")
    return tensor.data.astype(np.int64).ravel()


def weight_type(weights: NDArray[np.int64]) -> FixedType:
    """The narrowest signed integers that hold the weights."""
    width, signed = needed_width(min(int(weights.min()), -1), max(int(weights.max()), 0))
    return FixedType(width, width, signed)


Pair = tuple[int, int]


def window(step: Step, given: tuple[int, ...], kernel: tuple[int, ...], dilations: Pair = (1, 1)) -> Window:
    strides = int(step.option("StrideH")), int(step.option("StrideW"))
    if min(strides) < 1 or min(dilations) < 1 or min(kernel) < 1:
        raise ModelError("has a stride, dilation or kernel size below 1")
    return Window((kernel[0], kernel[1]), strides, dilations, same_pads(step, given, kernel, strides, dilations))


def same_pads(
    step: Step, given: tuple[int, ...], kernel: tuple[int, ...], strides: Pair, dilations: Pair
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right): SAME puts the odd row at the end, VALID pads nothing."""
    code = step.option("Padding")
    if code not in (tflite.Padding.SAME, tflite.Padding.VALID):
        raise ModelError(f"has the padding {code}, which does not exist")
    pads = [0, 0, 0, 0]
    if code == tflite.Padding.SAME:
        for k in range(2):
            extent = (kernel[k] - 1) * dilations[k] + 1
            total = max(0, (-(-given[k] // strides[k]) - 1) * strides[k] + extent - given[k])
            pads[k], pads[k + 2] = total // 2, total - total // 2
    return pads[0], pads[1], pads[2], pads[3]


@translates("CONV_2D", "DEPTHWISE_CONV_2D")
def convolution(step: Step) -> None:
    """int8 weights have a scale per channel and no zero point; uint8 ones have one scale, multiplied in float32."""
    step.ignore("QuantizedBiasType", "DepthMultiplier")
    value, weights = step.value(0), integer_weights(step, 1)
    given = step.type(value).shape
    if len(given) != 3 or weights.ndim != 4 or weights.size == 0:
        raise ModelError(f"has an input of {len(given) + 1} dimensions and weights of shape {list(weights.shape)}")
    if step.operation.kind == "DEPTHWISE_CONV_2D":
        if weights.shape[0] != 1 or weights.shape[3] % given[2]:
            raise ModelError(f"has weights of shape {list(weights.shape)} for {given[2]} channels")
        shaped, groups = weights[0][:, :, None, :], given[2]
    else:
        shaped, groups = weights.transpose(1, 2, 3, 0), given[2] // weights.shape[3]
    outputs = shaped.shape[3]
    dilations = int(step.option("DilationHFactor")), int(step.option("DilationWFactor"))
    operator = Conv(
        Constant(shaped),
        Constant(integer_bias(step, 2, outputs)),
        window(step, given, shaped.shape[:2], dilations),
        max(groups, 1),
        weight_type(shaped),
        (0,),
    )
    sums = step.add(operator, value)
    step.give(rescaled(step, sums, weighted_scales(step, 0, 1), step.option("FusedActivationFunction")))


def weighted_scales(step: Step, given_index: int, index: int) -> list[float]:
    """From products of an input and the weights to the output."""
    given, result, weights = (
        meaning_of(step.tensor(given_index)).scale,
        meaning_of(step.output).scale,
        step.tensor(index),
    )
    assert weights.quantization is not None
    if weights.element == "INT8":
        if weights.quantization.zero_points.any():
            raise UnsupportedOperator(f"{weights.where} has int8 weights with a zero point")
        return channel_scales(given, weight_scales(weights), result)
    if len(weight_scales(weights)) != 1:
        raise UnsupportedOperator(f"{weights.where} has uint8 weights quantized per channel")
    return [tensor_scale(given, float(weight_scales(weights)[0]), result)]


@translates("FULLY_CONNECTED")
def fully_connected(step: Step) -> None:
    """The rows of the matrix are as long as a sample."""
    step.ignore("AsymmetricQuantizeInputs", "QuantizedBiasType", "KeepNumDims")
    if step.option("WeightsFormat"):
        raise UnsupportedOperator("weights are shuffled for one kind of processor")
    value, weights, tensor = step.value(0), integer_weights(step, 1), step.tensor(1)
    if weights.ndim != 2 or weights.size == 0:
        raise ModelError(f"has weights of shape {list(weights.shape)}")
    given = step.type(value).shape
    if len(given) > 1 and len(step.output.shape) == 2:
        if math.prod(given) != weights.shape[1]:
            raise UnsupportedOperator("takes the dimensions of a sample for a part of the batch")
        value = step.add(Reshape((math.prod(given),)), value, part="flatten")
    bias = integer_bias(step, 2, len(weights))
    sums = step.add(Gemm(Constant(weights.T), Constant(bias), weight_type(weights), (0,)), value)
    given_scale, result = meaning_of(step.tensor(0)).scale, meaning_of(step.output).scale
    scales = weight_scales(tensor)
    if len(scales) == 1:
        wanted = [tensor_scale(given_scale, float(scales[0]), result)]
    else:
        wanted = channel_scales(given_scale, scales, result)
    step.give(rescaled(step, sums, wanted, step.option("FusedActivationFunction"), ScaleRounding.SINGLE))


@translates(*ACTIVATIONS)
def activation(step: Step) -> None:
    scale = ratio(meaning_of(step.tensor(0)).scale, meaning_of(step.output).scale)
    code = ACTIVATIONS[step.operation.kind]
    step.give(step.add(Rescale(*factors([scale]), *limits(step, code)), step.value(0)))


@translates("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(step: Step) -> None:
    """An average of the file's integers is rounded half away from 0, which is not real zero."""
    step.same_meaning(0)
    value = step.value(0)
    given = step.type(value).shape
    kernel = int(step.option("FilterHeight")), int(step.option("FilterWidth"))
    places = window(step, given, kernel)
    operator: Any = MaxPool(places)
    if step.operation.kind == "AVERAGE_POOL_2D":
        divisors = places.counts(given)
        if (divisors == divisors[0, 0]).all():
            divisors = divisors[:1, :1]
        zero = meaning_of(step.output).zero_point
        has_ties_below = step.type(value).low + zero < 0 and (divisors % 2 == 0).any()
        operator = AveragePool(places, Constant(divisors), 0, zero if has_ties_below else None)
    value = step.add(operator, value)
    low, high = limits(step, step.option("FusedActivationFunction"))
    type = step.type(value)
    if type.low < low or type.high > high:
        value = step.add(Rescale.identity(0, low, high), value, part="clip")
    step.give(value)


@translates("SOFTMAX")
def softmax(step: Step) -> None:
    result, type = meaning_of(step.output), TYPES[step.output.element]
    if (result.scale, result.zero_point) != (1 / 256, type.low):
        raise UnsupportedOperator(f"has the output {result}, a softmax has scale 1/256 and zero point {type.low}")
    beta = float(step.option("Beta"))
    if not 0 < beta < math.inf:
        raise ModelError(f"has Beta = {beta}")
    table = softmax_table(meaning_of(step.tensor(0)).scale, beta)
    step.give(step.add(FixedSoftmax(Constant(table)), step.value(0)))


@translates("QUANTIZE")
def quantize(step: Step) -> None:
    """The model's real input becomes integers, or integers change their scale."""
    given = step.tensor(0)
    if given.element == "FLOAT32" and given.index in step.program.inputs:
        if any(node.inputs == (given.name,) for node in step.program.nodes):
            raise UnsupportedOperator(f"quantizes {given.where} a second time")
        step.give(step.program.enter(given, step.output))
        return
    scale = meaning_of(given).scale / meaning_of(step.output).scale
    step.give(step.add(Rescale(*factors([scale]), *limits(step, 0)), step.value(0)))


@translates("DEQUANTIZE")
def dequantize(step: Step) -> None:
    """Only at the end: what leaves the program is integers with their meaning."""
    meaning_of(step.tensor(0))
    step.value(0)
