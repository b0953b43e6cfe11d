"""ConvTranspose: a convolution that gives all phases of the stride at once, and its outputs interleaved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.ir import Array, Constant
from toolchain.ir.window import Window
from toolchain.ops.base import importer
from toolchain.ops.conv import Conv
from toolchain.ops.pixel_shuffle import interleaved
from toolchain.ops.reshape import Reshape
from toolchain.ops.slice import Slice
from toolchain.ops.transpose import Transpose

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode


@dataclass(frozen=True)
class Axis:
    """One spatial axis: the picture of `size` becomes one of `wanted`, from `start` of the whole on.

    Output o of the whole is the sum of x[i] * w[k] over i * stride + k = o. With o = q * stride + phase that is a
    convolution over x[q - m] with the taps w[phase + m * stride], m from 0 to taps - 1.
    """

    size: int
    stride: int
    kernel: int
    start: int
    wanted: int

    @property
    def taps(self) -> int:
        return -(-self.kernel // self.stride)

    @property
    def first(self) -> int:
        """The first q that is computed; earlier ones would have no padding to stand on."""
        return min(self.start // self.stride, self.taps - 1)

    @property
    def pads(self) -> tuple[int, int]:
        last = -(-(self.start + self.wanted) // self.stride)
        return self.taps - 1 - self.first, max(last - self.size, 0)

    @property
    def crop(self) -> int:
        """Entries of the interleaved outputs in front of the wanted ones."""
        return self.start - self.first * self.stride


def phases(kernel: Array, strides: tuple[int, int]) -> Array:
    """(rows, columns, channels, outputs) to (row taps, column taps, channels, phases, outputs): see `Axis`."""
    taps = [-(-size // stride) for size, stride in zip(kernel.shape, strides, strict=False)]
    whole = np.zeros((taps[0] * strides[0], taps[1] * strides[1], *kernel.shape[2:]))
    whole[: kernel.shape[0], : kernel.shape[1]] = kernel
    parted = whole.reshape(taps[0], strides[0], taps[1], strides[1], *kernel.shape[2:])
    flipped = parted[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    return flipped.reshape(taps[0], taps[1], kernel.shape[2], strides[0] * strides[1], kernel.shape[3])


@importer("ConvTranspose")
def import_conv_transpose(importing: Importer, node: OnnxNode) -> None:
    """ONNX weights are (C, M/group, kernel...)."""
    value = importing.value(node, 0)
    shape = importing.shape(value)
    weights = importing.constant(node, 1, "the kernel")
    rank, groups = weights.ndim - 2, int(node.attribute("group", 1))
    if rank not in (1, 2) or len(shape) != rank + 1:
        raise UnsupportedOperator(f"works on {len(shape) - 1} spatial dimensions, 1 and 2 are supported")
    if groups < 1 or len(weights) != shape[0] or shape[0] % groups:
        raise ModelError(f"has a kernel of shape {list(weights.shape)} for {shape[0]} channels in {groups} groups")
    outputs = weights.shape[1] * groups
    bias = importing.constant(node, 2, "the bias").astype(float) if node.has(2) else np.zeros(outputs)
    if list(node.attribute("kernel_shape", list(weights.shape[2:]))) != list(weights.shape[2:]):
        raise ModelError("has a kernel_shape that is not its kernel's")
    if rank == 1:
        shape = (shape[0], 1, shape[1])
        value = importing.add(node, Reshape(shape), value, part="row")

    def spelt_out(kernel: Array) -> Array:
        return _dilated(node, kernel if rank == 2 else kernel[:, :, None], rank)

    axes = _axes(node, shape[1:], spelt_out(weights).shape[2:], rank)
    strides = (axes[0].stride, axes[1].stride)

    def arrange(kernel: Array) -> Array:
        parts = [phases(part, strides) for part in np.split(spelt_out(kernel).transpose(2, 3, 0, 1), groups, axis=2)]
        return np.concatenate([part.reshape(*part.shape[:3], -1) for part in parts], axis=3)

    window = Window(
        (axes[0].taps, axes[1].taps), pads=(axes[0].pads[0], axes[1].pads[0], axes[0].pads[1], axes[1].pads[1])
    )
    each = bias.reshape(groups, 1, -1).repeat(math.prod(strides), axis=1).ravel()
    value = importing.add(node, Transpose((1, 2, 0)), value, part="channels_last")
    value = importing.add(
        node, Conv(importing.weights(node, 1, "the kernel", arrange), Constant(each), window, groups), value
    )
    value = _phases_first(importing, node, value, groups, strides)
    if strides != (1, 1):
        value = interleaved(importing, node, value, strides, "picture")
    sizes = (axes[0].wanted, axes[1].wanted, outputs)
    if importing.shape(value) != sizes:
        value = importing.add(node, Slice((axes[0].crop, axes[1].crop, 0), (1, 1, 1), sizes), value, part="cropped")
    value = importing.add(node, Transpose((2, 0, 1)), value, part="channels_first")
    if rank == 1:
        value = importing.add(node, Reshape((outputs, axes[1].wanted)), value, part="no_row")
    importing.bind(node, value)


def _phases_first(importing: Importer, node: OnnxNode, value: str, groups: int, strides: tuple[int, int]) -> str:
    """Channels (group, phase, output) as (phase, group, output)."""
    count = math.prod(strides)
    if groups == 1 or count == 1:
        return value
    rows, columns, depth = importing.shape(value)
    value = importing.add(
        node, Reshape((rows, columns, groups, count, depth // groups // count)), value, part="group_phases"
    )
    value = importing.add(node, Transpose((0, 1, 3, 2, 4)), value, part="phases_first")
    return importing.add(node, Reshape((rows, columns, depth)), value, part="phases")


def _dilated(node: OnnxNode, weights: Array, rank: int) -> Array:
    """Kernels (C, M/group, rows, columns) with the zeros of the dilation spelt out."""
    dilations = [1] * (2 - rank) + [int(d) for d in node.attribute("dilations", [1] * rank)]
    sizes = [(n - 1) * d + 1 for n, d in zip(weights.shape[2:], dilations, strict=True)]
    whole = np.zeros((*weights.shape[:2], *sizes))
    whole[:, :, :: dilations[0], :: dilations[1]] = weights
    return whole


def _axes(node: OnnxNode, sizes: tuple[int, ...], kernel: tuple[int, ...], rank: int) -> tuple[Axis, Axis]:
    """Paddings as ONNX computes them from output_shape, auto_pad and output_padding."""
    strides = [int(v) for v in node.attribute("strides", [1] * rank)]
    extra = [int(v) for v in node.attribute("output_padding", [0] * rank)]
    pads = [int(v) for v in node.attribute("pads", [0] * 2 * rank)]
    given: list[int] = node.attribute("output_shape", [])
    shape = [int(v) for v in given][-rank:]
    auto_pad = node.attribute("auto_pad", "NOTSET")
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""):
        raise UnsupportedOperator(f"auto_pad {auto_pad!r} is not supported")
    if len(strides) != rank or len(extra) != rank or len(pads) != 2 * rank or min(strides) < 1 or min(pads) < 0:
        raise ModelError("has strides, output_padding or pads that do not fit its kernel")
    found = [] if rank == 2 else [Axis(1, 1, 1, 0, 1)]
    for k in range(rank):
        size, taps, stride = sizes[k - rank], kernel[k - rank], strides[k]
        whole = (size - 1) * stride + taps + extra[k]
        before, after = (0, 0) if auto_pad == "VALID" else (pads[k], pads[k + rank])
        if shape or auto_pad.startswith("SAME"):
            total = whole - (shape[k] if shape else size * stride)
            before = total // 2 if auto_pad == "SAME_UPPER" else -(-total // 2)
            after = total - before
        if before < 0 or whole - before - after < 1:
            raise UnsupportedOperator(f"has an output of {whole - before - after} from {size} inputs")
        found.append(Axis(size, stride, taps, before, whole - before - after))
    return found[0], found[1]
