"""Quantized transposed convolutions: a convolution that gives all phases of the stride, and its pixels interleaved."""

from __future__ import annotations

import numpy as np

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.tflite.integers import Step, translates
from toolchain.frontends.tflite.kernels import (
    integer_bias,
    integer_weights,
    limits,
    same_pads,
    weight_type,
    weighted_scales,
)
from toolchain.frontends.tflite.multipliers import factors
from toolchain.ir import Constant
from toolchain.ir.window import Window
from toolchain.ops.base import Operator
from toolchain.ops.conv import Conv
from toolchain.ops.conv_transpose import Axis, phases
from toolchain.ops.pixel_shuffle import interleaving
from toolchain.ops.rescale import Rescale
from toolchain.ops.slice import Slice

MAX_PHASES = 1 << 12
"""Each has weights of its own; a damaged file may ask for any number."""


@translates("TRANSPOSE_CONV")
def transposed_convolution(step: Step) -> None:
    """The rescaling stands in front of the interleaving, where each phase has its own copy of the scales."""
    step.ignore("QuantizedBiasType")
    value, weights = step.value(2), integer_weights(step, 1)
    given, wanted = step.type(value).shape, step.output.shape
    if len(given) != 3 or len(wanted) != 4 or weights.ndim != 4 or weights.size == 0 or weights.shape[3] != given[2]:
        raise ModelError(f"has weights of shape {list(weights.shape)} for an input of shape {list(given)}")
    axes = _axes(step, given, weights.shape[1:3])
    strides, outputs = (axes[0].stride, axes[1].stride), len(weights)
    copies = strides[0] * strides[1]
    if copies > MAX_PHASES:
        raise UnsupportedOperator(f"has strides {list(strides)}, with a product of up to {MAX_PHASES} supported")
    kernel = phases(weights.transpose(1, 2, 3, 0), strides).astype(np.int64)
    kernel = kernel.reshape(*kernel.shape[:3], -1)
    pads = axes[0].pads[0], axes[1].pads[0], axes[0].pads[1], axes[1].pads[1]
    bias = np.tile(integer_bias(step, 3, outputs), copies)
    window = Window((axes[0].taps, axes[1].taps), pads=pads)
    sums = step.add(Conv(Constant(kernel), Constant(bias), window, 1, weight_type(kernel), (0,)), value)
    scales = weighted_scales(step, 2, 1)
    scales = scales * copies if len(scales) > 1 else scales
    rescale = Rescale(*factors(scales), *limits(step, step.option("FusedActivationFunction")))
    step.give(step.chain([("rescale", rescale), *_arranged(axes, window.output(given), outputs)], sums))


def _arranged(axes: tuple[Axis, Axis], sizes: tuple[int, int], outputs: int) -> list[tuple[str, Operator]]:
    """Phases become pixels; those that were not wanted are cut off."""
    strides, wanted = (axes[0].stride, axes[1].stride), (axes[0].wanted, axes[1].wanted, outputs)
    whole = (sizes[0] * strides[0], sizes[1] * strides[1], outputs)
    found: list[tuple[str, Operator]] = []
    if strides != (1, 1):
        found += interleaving((*sizes, outputs * strides[0] * strides[1]), strides, "picture")
    if whole != wanted:
        found.append(("cropped", Slice((axes[0].crop, axes[1].crop, 0), (1, 1, 1), wanted)))
    return found


def _axes(step: Step, given: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[Axis, Axis]:
    """What is cut off in front is what a convolution from the output's size to the input's would pad there."""
    strides, wanted = (int(step.option("StrideH")), int(step.option("StrideW"))), step.output.shape[1:3]
    if min(strides) < 1:
        raise ModelError("has a stride below 1")
    pads = same_pads(step, wanted, kernel, strides, (1, 1))
    rows, columns = (Axis(given[k], strides[k], kernel[k], pads[k], wanted[k]) for k in range(2))
    return rows, columns
