"""Convolutions, matrices and pooling: the operators with windows or weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tflite
from numpy.typing import NDArray

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.tflite.builder import Call, translates

PADDINGS = {tflite.Padding.SAME: "SAME_UPPER", tflite.Padding.VALID: "VALID"}


def padding(call: Call) -> str:
    """TensorFlow puts the odd row of SAME at the end, as SAME_UPPER does."""
    code = call.option("Padding")
    if code not in PADDINGS:
        raise ModelError(f"has the padding {code}, which does not exist")
    return PADDINGS[code]


def same_pads(call: Call, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> dict[str, Any]:
    """The padding as an attribute: in numbers where the picture's size is known, for what not all readers compute."""
    name, sizes = padding(call), call.tensor(0).shape[1:3]
    if name == "VALID" or min(sizes) < 1:
        return {"auto_pad": name}
    begins, ends = [], []
    for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return {"pads": [*begins, *ends]}


def pair(call: Call, rows: str, columns: str) -> tuple[int, int]:
    sizes = int(call.option(rows)), int(call.option(columns))
    if min(sizes) < 1:
        raise ModelError(f"has {rows} or {columns} below 1")
    return sizes


def bias(call: Call, index: int) -> list[str]:
    """The bias as one more input, when there is one."""
    return [call.value(index)] if call.has(index) else []


@translates("CONV_2D")
def convolution(call: Call) -> None:
    call.rank(0, 4)
    weights = call.constant(1)
    channels = call.shape(call.tensor(0), 1, 2)[3]
    if weights.ndim != 4 or channels % max(weights.shape[3], 1) or weights.size == 0:
        raise ModelError(f"has weights of shape {list(weights.shape)} for {channels} channels")
    _convolution(call, weights.transpose(0, 3, 1, 2), channels // weights.shape[3])


@translates("DEPTHWISE_CONV_2D")
def depthwise(call: Call) -> None:
    call.rank(0, 4)
    weights = call.constant(1)
    channels = call.shape(call.tensor(0), 1, 2)[3]
    multiplier = call.option("DepthMultiplier")
    shaped = weights.ndim == 4 and weights.shape[0] == 1 and weights.size > 0
    if not shaped or multiplier not in (0, weights.shape[3] // channels) or weights.shape[3] % channels:
        raise ModelError(f"has weights of shape {list(weights.shape)} for {channels} channels")
    _convolution(call, weights.transpose(3, 0, 1, 2), channels)


def _convolution(call: Call, weights: NDArray[Any], groups: int) -> None:
    call.ignore("QuantizedBiasType")
    strides, dilations = pair(call, "StrideH", "StrideW"), pair(call, "DilationHFactor", "DilationWFactor")
    source = call.channels_first(call.value(0))
    value = call.node(
        "Conv",
        [source, call.add_constant("weights", weights), *bias(call, 2)],
        strides=strides,
        dilations=dilations,
        kernel_shape=weights.shape[2:],
        group=groups,
        **same_pads(call, weights.shape[2:], strides, dilations),
    )
    call.give(call.activated(call.channels_last(value)))


@translates("TRANSPOSE_CONV")
def transposed_convolution(call: Call) -> None:
    """Its shape is that of the output; what SAME cuts off is split as the convolution would have padded."""
    call.ignore("QuantizedBiasType")
    weights = call.constant(1)
    rows, columns = call.shape(call.tensor(2))[1:3], call.shape(call.output)[1:3]
    if weights.ndim != 4:
        raise ModelError(f"has weights of shape {list(weights.shape)}")
    strides, begins, ends, extra = pair(call, "StrideH", "StrideW"), [], [], []
    same = padding(call) == "SAME_UPPER"
    for size, wanted, kernel, stride in zip(rows, columns, weights.shape[1:3], strides, strict=True):
        surplus = (size - 1) * stride + kernel - wanted
        if surplus <= -stride or (surplus < 0 and same) or (surplus > 0 and not same):
            raise ModelError(f"cannot give {wanted} from {size} at stride {stride}")
        begins.append(max(surplus, 0) // 2)
        ends.append(max(surplus, 0) - begins[-1])
        extra.append(max(-surplus, 0))
    value = call.node(
        "ConvTranspose",
        [
            call.channels_first(call.value(2)),
            call.add_constant("weights", weights.transpose(3, 0, 1, 2)),
            *bias(call, 3),
        ],
        strides=strides,
        pads=[*begins, *ends],
        output_padding=extra,
        kernel_shape=weights.shape[1:3],
    )
    call.give(call.activated(call.channels_last(value)))


@translates("FULLY_CONNECTED")
def fully_connected(call: Call) -> None:
    """y = x W^T + b on the last axis, or on all of a sample's elements when the rows of W are as long."""
    call.ignore("AsymmetricQuantizeInputs", "QuantizedBiasType", "KeepNumDims")
    if call.option("WeightsFormat"):
        raise UnsupportedOperator("weights are shuffled for one kind of processor")
    weights, given, wanted = call.constant(1), call.tensor(0), call.output
    if weights.ndim != 2:
        raise ModelError(f"has weights of shape {list(weights.shape)}")
    outputs, length = weights.shape
    value = call.value(0)
    if len(given.shape) > 2 and len(wanted.shape) == 2:
        if math.prod(call.shape(given)[1:]) != length:
            raise UnsupportedOperator("takes the dimensions of a sample for a part of the batch")
        value = call.node("Reshape", [value, call.list_of("flat", (0, -1))], "flatten")
    matrix = call.add_constant("weights", weights)
    if len(given.shape) == 2 or len(wanted.shape) == 2:
        result = call.node("Gemm", [value, matrix, *bias(call, 2)], transB=1)
    else:
        result = call.node("MatMul", [value, call.add_constant("matrix", weights.T)])
        if call.has(2):
            result = call.node("Add", [result, call.value(2)], "bias")
    if wanted.shape[-1] not in (outputs, -1):
        raise ModelError(f"gives {outputs} values for {wanted.where}")
    call.give(call.activated(result))


@translates("BATCH_MATMUL")
def batch_matmul(call: Call) -> None:
    call.ignore("AsymmetricQuantizeInputs")
    operands = []
    for index, option in enumerate(("AdjX", "AdjY")):
        value, rank = call.value(index), call.rank(index)
        if call.option(option):
            order = (*range(rank - 2), rank - 1, rank - 2)
            value = call.node("Transpose", [value], f"transpose_{index}", perm=order)
        operands.append(value)
    call.give(call.node("MatMul", operands))


@translates("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(call: Call) -> None:
    """Averages leave the padding out, as ONNX does by default."""
    call.rank(0, 4)
    kernel, strides = pair(call, "FilterHeight", "FilterWidth"), pair(call, "StrideH", "StrideW")
    value = call.node(
        "AveragePool" if call.operation.kind == "AVERAGE_POOL_2D" else "MaxPool",
        [call.channels_first(call.value(0))],
        kernel_shape=kernel,
        strides=strides,
        **same_pads(call, kernel, strides, (1, 1)),
    )
    call.give(call.activated(call.channels_last(value)))


REDUCTIONS = {
    "MEAN": ("ReduceMean", "GlobalAveragePool"),
    "REDUCE_MAX": ("ReduceMax", "GlobalMaxPool"),
    "REDUCE_MIN": ("ReduceMin", ""),
    "REDUCE_PROD": ("ReduceProd", ""),
    "SUM": ("ReduceSum", ""),
}


@translates(*REDUCTIONS)
def reduction(call: Call) -> None:
    """Over the rows and columns of a picture a pooling, which hardware has a kernel for."""
    rank = call.rank(0)
    axes = sorted({call.axis(axis, rank) for axis in call.integers(1)})
    kind, pooling = REDUCTIONS[call.operation.kind]
    keep = int(call.option("KeepDims"))
    value = call.value(0)
    if pooling and rank == 4 and axes == [1, 2]:
        value = call.channels_last(call.node(pooling, [call.channels_first(value)]))
        if not keep:
            value = call.node("Reshape", [value, call.list_of("flat", (0, -1))], "flatten")
        call.give(value)
    else:
        call.give(call.node(kind, [value, call.list_of("axes", axes)], keepdims=keep))


@translates("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(call: Call) -> None:
    bilinear = call.operation.kind == "RESIZE_BILINEAR"
    sizes = call.integers(1)
    channels = call.shape(call.tensor(0), 1, 2)[3]
    call.rank(0, 4)
    if len(sizes) != 2 or min(sizes) < 1:
        raise ModelError(f"has the size {sizes}")
    corners, centers = bool(call.option("AlignCorners")), bool(call.option("HalfPixelCenters"))
    transform = "align_corners" if corners else "half_pixel" if centers else "asymmetric"
    modes = {"mode": "linear"} if bilinear else {"mode": "nearest", "nearest_mode": _nearest(corners, centers)}
    batch = 1
    value = call.node(
        "Resize",
        [call.channels_first(call.value(0)), "", "", call.list_of("sizes", (batch, channels, *sizes))],
        coordinate_transformation_mode=transform,
        **modes,
    )
    call.give(call.channels_last(value))


def _nearest(corners: bool, centers: bool) -> str:
    """TFLite rounds half up between corners. From centres it takes floor((x + 1/2) * scale), ONNX half a step less."""
    return "round_prefer_ceil" if corners or centers else "floor"
