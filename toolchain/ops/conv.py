"""2-D convolution, grouped and depthwise forms included; 1-D convolutions run as one row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.basis import basis_channels, basis_window, centre_responses, frequency_coding
from toolchain.codegen.codings import random_packed
from toolchain.codegen.kernel import (
    Cost,
    Folding,
    Kernel,
    Port,
    Schedule,
    integer_array,
    integer_type,
    nest,
    packed_chunks,
)
from toolchain.codegen.sparse import Nonzeros, sparse_matrix_vector
from toolchain.codegen.sparse_rows import sparse_rows
from toolchain.codegen.streamed import streamed_matrix_vector
from toolchain.codegen.windows import matrix_vector, repacked, sliding_window
from toolchain.errors import ModelError
from toolchain.frontends.windows import import_window, windowed
from toolchain.ir import Array, Constant, FixedType, Node, Shape, TensorType
from toolchain.ir.window import Window
from toolchain.ops.base import Sample, importer, operator
from toolchain.ops.linear import LinearOperator
from toolchain.packing.basis import Transform
from toolchain.packing.filters import Filters
from toolchain.packing.packed import Coding

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.simulation.render import Renderer

CHUNK = 64 << 20
"""Bytes of unfolded windows that `evaluate` holds at once."""


@operator
@dataclass(frozen=True)
class Conv(LinearOperator):
    """y[n, oy, ox, m] = bias[m] + sum over ky, kx, c of x[n, ...] * weights[ky, kx, c, m].

    `weights` has the shape (kernel rows, kernel columns, channels / groups, output channels). With integer weights
    `fractions` holds their binary point per output channel (or one for all) and `weight_type` their format.
    """

    weights: Constant
    bias: Constant
    window: Window
    groups: int = 1
    weight_type: FixedType | None = None
    fractions: tuple[int, ...] = ()

    def shape(self, *inputs: Shape) -> Shape:
        rows, columns = self.window.output(inputs[0])
        if inputs[0][2] != self.weights.shape[2] * self.groups:
            raise ModelError(
                f"has weights for {self.weights.shape[2] * self.groups} channels, the input has {inputs[0][2]}"
            )
        return rows, columns, self.outputs

    @property
    def filters(self) -> Filters:
        rows, columns = self.window.kernel
        return Filters(self.weights.array.reshape(-1, *self.weights.shape[2:]), rows, columns, self.groups)

    def vectors(self, values: Array, chosen: Array) -> Array:
        patches = self.window.patches(values, 0)
        picked = patches[np.unravel_index(chosen, patches.shape[:3])]
        parts = picked.reshape(len(picked), self.window.taps, self.groups, -1)
        return parts.transpose(0, 2, 1, 3).reshape(len(picked), self.groups, -1)

    def reach(self, given: TensorType) -> tuple[int, int]:
        if self.window.is_padded:
            return min(given.low, 0), max(given.high, 0)
        return given.low, given.high

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0]
        rows, columns, outputs = self.shape(values.shape[1:])
        weights, bias = self.weights.array.astype(values.dtype), self.bias.array.astype(values.dtype)
        result = np.empty((len(values), rows, columns, outputs), dtype=values.dtype)
        bytes_each = rows * columns * self.window.taps * values.shape[3] * max(values.dtype.itemsize, 8)
        step = max(1, CHUNK // bytes_each)
        for start in range(0, len(values), step):
            patches = self.window.patches(values[start : start + step], 0)
            result[start : start + step] = self._products(patches, weights) + bias
        return result

    def _products(self, patches: Array, weights: Array) -> Array:
        channels, group_outputs = weights.shape[2], self.outputs // self.groups
        if channels == 1 and self.groups > 1:
            shaped = weights[:, :, 0].reshape(*self.window.kernel, self.groups, group_outputs)
            total = sum(
                patches[:, :, :, y, x, :, None] * shaped[y, x]
                for y in range(self.window.kernel[0])
                for x in range(self.window.kernel[1])
            )
            return np.asarray(total).reshape(*patches.shape[:3], self.outputs)
        parts = []
        for group in range(self.groups):
            part = patches[..., group * channels : (group + 1) * channels]
            matrix = weights[..., group * group_outputs : (group + 1) * group_outputs].reshape(-1, group_outputs)
            parts.append(part.reshape(-1, len(matrix)) @ matrix)
        joined = parts[0] if self.groups == 1 else np.concatenate(parts, axis=1)
        return joined.reshape(*patches.shape[:3], self.outputs)

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        scale, offset, finish = renderer.epilogue(node)
        top, left, bottom, right = self.window.pads
        weights = (self.weights.array * scale).transpose(3, 2, 0, 1)
        value = renderer.op(
            "Conv",
            inputs[0],
            renderer.constant(weights),
            renderer.constant(self.bias.array * scale + offset),
            strides=self.window.strides,
            dilations=self.window.dilations,
            pads=(top, left, bottom, right),
            kernel_shape=self.window.kernel,
            group=self.groups,
        )
        return finish(value)

    def multiplications(self, *inputs: Shape) -> int:
        rows, columns, _ = self.shape(*inputs)
        return rows * columns * math.prod(self.weights.shape)

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        assert self.weight_type is not None
        if folding.engine == "sparse":
            return self._sparse(given, output, folding)
        lanes = folding.lanes
        chain = self._windows(given, lanes, lanes if self.is_depthwise else given.shape[2] // self.groups)
        source = repacked(chain, Port(given, lanes), folding.simd or lanes)
        if self.is_depthwise:
            chain.append(self._depthwise(given, source, output, lanes))
        else:
            matrix = self.weights.array.reshape(-1, self.groups, self.outputs // self.groups).transpose(1, 2, 0)
            pixels = output.shape[0] * output.shape[1]
            chain.append(
                matrix_vector(given, source, output, pixels, matrix, self.bias.array, self.weight_type, folding)
            )
        return chain

    @property
    def is_depthwise(self) -> bool:
        return self.weights.shape[2] == 1 and self.groups > 1

    @property
    def frequency_coding(self) -> Coding | None:
        """What is executed in frequency, if that is possible."""
        return None if self.is_depthwise else frequency_coding(self.weights, self.window.kernel)

    @property
    def nonzeros_shape(self) -> tuple[int, int, int]:
        """(taps, channels of a group, outputs) of the weights."""
        return self.window.taps, self.weights.shape[2], self.outputs

    def _windows(self, given: TensorType, lanes: int, block: int) -> list[Kernel]:
        # One window over the whole picture lies in the order of the stream, unless groups part the channels.
        if self.window.is_pointwise() or (self.window.covers(given.shape) and self.groups == 1):
            return []
        return [sliding_window(given, self.window, lanes, block, padding=0)]

    def _sparse(self, given: TensorType, output: TensorType, folding: Folding) -> list[Kernel]:
        coding = self.frequency_coding if folding.domain == "frequency" else None
        block = given.shape[2] // self.groups
        if folding.copies == "rows":
            nonzeros = Nonzeros.of(self.weights, self.nonzeros_shape)
            return sparse_rows(given, output, self.window, nonzeros, self.groups, self.bias.array, folding)
        if coding and coding.transform.kind == "taps":
            chain, block = [basis_window(given, self.window, folding.lanes, coding)], folding.lanes
            if folding.centres:
                chain.append(centre_responses(chain[-1].output, self.reach(given), coding, folding.centres))
        else:
            # A word of a depthwise window holds a tap of several channels, each a group of its own.
            block = folding.lanes if self.is_depthwise else block
            chain = self._windows(given, folding.lanes, block)
            if coding:
                windows = chain[-1].output if chain else Port(given, folding.lanes)
                chain.append(basis_channels(windows, self.reach(given), coding))
        source = chain[-1].output if chain else Port(given, folding.lanes)
        source = repacked(chain, source, folding.simd or source.lanes)
        nonzeros = Nonzeros.of(self.weights, self.nonzeros_shape, coding, has_centres=folding.centres > 0)
        pixels = output.shape[0] * output.shape[1]
        if folding.streamed:
            return [*chain, streamed_matrix_vector(source, output, pixels, nonzeros, self.groups, block, folding)]
        unit = sparse_matrix_vector(source, output, pixels, nonzeros, self.groups, block, self.bias.array, folding)
        return [*chain, unit]

    def _depthwise(self, given: TensorType, source: Port, output: TensorType, lanes: int) -> Kernel:
        assert self.weight_type is not None
        multiplier, taps = self.outputs // self.groups, self.window.taps
        blocks, pixels = self.groups // lanes, output.shape[0] * output.shape[1]
        width = self.weight_type.width

        def elements() -> Array:
            shaped = self.weights.array.reshape(taps, blocks, lanes * multiplier)
            return shaped.transpose(1, 0, 2).reshape(blocks * taps, lanes * multiplier)

        return Kernel(
            "depthwise",
            "depthwise.h",
            {
                "PIXELS": pixels,
                "CHANNELS": self.groups,
                "LANES": lanes,
                "TAPS": taps,
                "MULTIPLIER": multiplier,
                "input_t": given.cpp,
                "weight_t": integer_type(width, self.weight_type.signed),
                "output_t": output.cpp,
            },
            (source,),
            Port(output, lanes * multiplier),
            Schedule(
                pixels * blocks * taps,
                (nest((pixels * blocks * taps, 1)),),
                nest((pixels * blocks, taps), start=taps - 1),
            ),
            {"weights": packed_chunks(elements, lanes * multiplier, width), "bias": integer_array(self.bias.array)},
            Cost(((lanes * multiplier, given.width, width),), ((blocks * taps, lanes * multiplier * width),)),
        )

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for kernel, strides, dilations, groups, multiplier in (
            ((3, 3), (1, 1), (1, 1), 1, 5),
            ((1, 1), (1, 1), (1, 1), 1, 4),
            ((2, 3), (2, 1), (1, 2), 2, 2),
            ((3, 3), (2, 2), (1, 1), 4, 1),
            ((1, 2), (1, 3), (1, 1), 4, 2),
            ((5, 5), (1, 1), (1, 1), 1, 3),
            ((1, 1), (1, 1), (1, 1), 2, 3),
            ((6, 7), (1, 1), (1, 1), 1, 3),
            ((6, 7), (1, 1), (1, 1), 2, 2),
        ):
            padded = kernel not in ((1, 1), (6, 7))  # those two need no line buffer
            pads = tuple(int(p) * padded for p in rng.integers(0, min(kernel) + 1, 4))
            window = Window(kernel, strides, dilations, (pads[0], pads[1], pads[2], pads[3]))
            outputs = groups * multiplier
            bits = int(rng.integers(2, 9))
            weight_type = FixedType(bits, 1)
            weights = rng.integers(weight_type.low, weight_type.high + 1, (*kernel, 4 // groups, outputs))
            fractions = tuple(int(f) for f in rng.integers(0, 6, outputs))
            bias = Constant(rng.integers(-50, 50, outputs))
            given = TensorType.of((6, 7, 4), FixedType(int(rng.integers(1, 9)), 4, bool(rng.integers(2))))
            yield Sample(cls(Constant(weights), bias, window, groups, weight_type, fractions), (given,))
        for kernel, strides, dilations, groups, pads, size in (  # rows whose outputs share out over several pixels
            ((3, 3), (1, 1), (1, 1), 1, (1, 1, 1, 1), (5, 8)),
            ((3, 3), (2, 2), (1, 1), 1, (0, 0, 1, 1), (7, 16)),
            ((2, 3), (1, 1), (2, 2), 2, (0, 2, 1, 2), (6, 8)),
            ((3, 2), (3, 1), (1, 1), 1, (2, 0, 0, 1), (9, 8)),
            ((1, 3), (1, 2), (1, 1), 1, (0, 1, 0, 0), (1, 8)),
            ((2, 2), (1, 1), (1, 1), 1, (0, 0, 0, 0), (6, 9)),
            ((2, 3), (2, 1), (1, 1), 1, (1, 1, 0, 1), (6, 4)),
            ((1, 3), (4, 1), (1, 1), 1, (2, 1, 0, 1), (1, 8)),  # the only row of outputs lies above the picture
        ):
            weight_type = FixedType(5, 1)
            weights = rng.integers(-16, 16, (*kernel, 4 // groups, 4)) * (rng.random((*kernel, 4 // groups, 4)) < 0.6)
            weights[..., int(rng.integers(4))] = 0
            given = TensorType.of((*size, 4), FixedType(int(rng.integers(2, 9)), 4, bool(rng.integers(2))))
            window = Window(kernel, strides, dilations, pads)
            bias = Constant(rng.integers(-50, 50, 4))
            yield Sample(cls(Constant(weights), bias, window, groups, weight_type, (1,) * 4), (given,))
        for kernel, strides, dilations, groups, channels, transform, rounded in (
            ((3, 3), (1, 1), (1, 1), 1, 4, Transform("taps", 3, 3), 0),
            ((3, 3), (2, 2), (1, 1), 2, 8, Transform("taps", 3, 3), 0),
            ((2, 2), (1, 1), (2, 1), 1, 4, Transform("taps", 2, 2), 0),
            ((3, 2), (1, 2), (1, 3), 1, 6, Transform("taps", 3, 2), 0),
            ((5, 5), (1, 1), (1, 1), 1, 2, Transform("taps", 5, 5), 0),
            ((7, 7), (3, 2), (1, 1), 1, 2, Transform("taps", 7, 7), 0),
            ((6, 7), (1, 1), (1, 1), 1, 2, Transform("taps", 6, 7), 0),
            ((1, 1), (1, 1), (1, 1), 1, 4, Transform("taps"), 0),
            ((1, 1), (1, 1), (1, 1), 1, 8, Transform("channels", 1, 4), 0),
            ((3, 3), (2, 1), (1, 1), 2, 8, Transform("channels", 2, 2), 0),
            ((6, 7), (1, 1), (1, 1), 1, 4, Transform("channels", 1, 2), 0),
            ((3, 3), (1, 1), (1, 1), 1, 4, Transform("taps", 3, 3), 2),
            ((3, 3), (1, 1), (1, 1), 1, 4, Transform(), 0),
        ):
            least = int(kernel == (7, 7))  # higher than the picture
            height, width = (int(p) for p in rng.integers(least, min(kernel), 2) * (kernel not in ((1, 1), (6, 7))))
            window = Window(kernel, strides, dilations, (height, width, height, max(width - 1, 0)))
            outputs, levels = 3 * groups, (window.taps, channels // groups)
            clustered = bool(rng.integers(2))
            packed, weight_type = random_packed(
                rng,
                transform,
                (*levels, outputs),
                (*kernel, levels[1], outputs),
                is_clustered=clustered,
                rounded=rounded,
            )
            bias = Constant(rng.integers(-50, 50, outputs))
            given = TensorType.of((6, 7, channels), FixedType(int(rng.integers(1, 9)), 4, bool(rng.integers(2))))
            yield Sample(cls(packed, bias, window, groups, weight_type, (2,) * outputs), (given,))


@importer("Conv")
def import_conv(importing: Importer, node: OnnxNode) -> None:
    """ONNX weights are (M, C/group, kernel...)."""
    weights = importing.constant(node, 1, "the kernel")
    groups = node.attribute("group", 1)
    outputs = weights.shape[0]
    if weights.ndim < 3 or groups < 1 or outputs % groups:
        raise ModelError(f"has a kernel of shape {list(weights.shape)} for {groups} groups")
    kernel = weights.shape[2:]
    claimed = node.attribute("kernel_shape", list(kernel))
    if tuple(claimed) != kernel:
        raise ModelError(f"has the kernel_shape {list(claimed)} and weights with a kernel of {list(kernel)}")
    bias = importing.constant(node, 2, "the bias") if node.has(2) else np.zeros(outputs)

    def arrange(kernel: Array) -> Array:
        return kernel.reshape(*kernel.shape[:2], -1, kernel.shape[-1]).transpose(2, 3, 1, 0)

    arranged = importing.weights(node, 1, "the kernel", arrange)

    def make(window: Window) -> Conv:
        return Conv(arranged, Constant(bias.astype(float)), window, groups)

    windowed(importing, node, make, import_window(importing, node, kernel))
