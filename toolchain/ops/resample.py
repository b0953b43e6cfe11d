"""Pictures of another size: Resize, Upsample, and the repetition that broadcasting needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, Loops, Port, Schedule, integer_array, integer_type
from toolchain.errors import ModelError, PassError, UnsupportedOperator
from toolchain.frontends.broadcasting import repeated
from toolchain.frontends.interpolation import BEFORE_11, CROP, Interpolation
from toolchain.ir import Array, Constant, FixedType, Node, Shape, TensorType
from toolchain.ir.types import needed_width
from toolchain.ops.base import Operator, Sample, importer, operator
from toolchain.ops.reshape import Reshape
from toolchain.ops.transpose import Transpose

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering

EXACT_BITS = 15
"""Weights that so many fraction bits hold are taken exactly; others have the bits of weights, 8 at least."""
LEAST_BITS = 8


@operator
@dataclass(frozen=True)
class Resample(Operator):
    """y[i, j] = sum over s, t of u[i, s] * v[j, t] * x[rows[i] + s, columns[j] + t], for every channel.

    `rows` and `columns` never decrease. On integers the weights u and v have `fraction` fraction bits together.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    row_weights: Constant
    column_weights: Constant
    fraction: int = 0

    def shape(self, *inputs: Shape) -> Shape:
        rows, columns, channels = inputs[0]
        for first, weights, size in (
            (self.rows, self.row_weights, rows),
            (self.columns, self.column_weights, columns),
        ):
            inside = min(first) >= 0 and max(first) + weights.shape[1] <= size
            if len(weights.array) != len(first) or list(first) != sorted(first) or not inside:
                raise ModelError(f"cannot sample {list(inputs[0])} at {list(first)}")
        return len(self.rows), len(self.columns), channels

    @property
    def copies(self) -> bool:
        """Is every output one of the inputs?"""
        return self.fraction == 0 and all(
            w.shape[1] == 1 and bool((w.array == 1).all()) for w in (self.row_weights, self.column_weights)
        )

    def copying(self) -> Resample:
        """The integer form of one that `copies`."""
        rows, columns = (Constant(w.array.astype(np.int64)) for w in (self.row_weights, self.column_weights))
        return replace(self, row_weights=rows, column_weights=columns)

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        if not (self.row_weights.is_integer and self.column_weights.is_integer):
            raise PassError("real weights have no integer form, they must be lowered first")
        weights = (self.row_weights.array.astype(object), self.column_weights.array.astype(object))
        (up, un), (vp, vn) = ((np.maximum(w, 0).sum(1), np.minimum(w, 0).sum(1)) for w in weights)
        above = np.multiply.outer(up, vp) + np.multiply.outer(un, vn)
        below = np.multiply.outer(up, vn) + np.multiply.outer(un, vp)
        low = int((above * given.low + below * given.high).min())
        high = int((above * given.high + below * given.low).max())
        if self.copies:
            return replace(given, shape=self.shape(given.shape), fractions=(given.fraction,))
        return TensorType.holding(self.shape(given.shape), low, high, (given.fraction + self.fraction,))

    def bound(self, *inputs: TensorType) -> int:
        rows, columns = (int(np.abs(w.array).sum(1).max()) for w in (self.row_weights, self.column_weights))
        return inputs[0].magnitude * max(rows, 1) * max(columns, 1)

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0]
        u, v = (w.array.astype(values.dtype) for w in (self.row_weights, self.column_weights))
        rows, columns = np.array(self.rows), np.array(self.columns)
        total = sum(values[:, :, columns + t] * v[:, t, None] for t in range(v.shape[1]))
        return np.asarray(sum(total[:, rows + s] * u[:, s, None, None] for s in range(u.shape[1])))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        value = lowering.narrow(inputs[0])
        if self.copies:
            return lowering.add(node, self.copying(), (value,))
        bits = max(lowering.configuration.weight_bits, LEAST_BITS)
        u, row_bits = fixed_weights(self.row_weights.array, bits)
        v, column_bits = fixed_weights(self.column_weights.array, bits)
        return lowering.add(
            node, Resample(self.rows, self.columns, Constant(u), Constant(v), row_bits + column_bits), (value,)
        )

    def multiplications(self, *inputs: Shape) -> int:
        if self.copies:
            return 0
        taps = (self.row_weights.shape[1] + 1) * self.column_weights.shape[1]
        return math.prod(self.shape(*inputs)) * taps

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        lanes = folding.lanes
        in_rows, in_columns, channels = given.shape
        words, taps = channels // lanes, self.row_weights.shape[1]
        line, written = in_columns * words, output.shape[1] * words
        reads, writes, step, known = [], [], 0, 0
        for first in self.rows:
            fresh = max(first + taps - known, 0)
            if fresh:
                reads.append(Loops(step, ((fresh * line, 1),)))
            step, known = step + fresh * line, known + fresh
            writes.append(Loops(step, ((written, 1),)))
            step += written
        if known < in_rows:
            reads.append(Loops(step, (((in_rows - known) * line, 1),)))
            step += (in_rows - known) * line
        limits = [(int(w.array.min()), int(w.array.max())) for w in (self.row_weights, self.column_weights)]
        bits = [needed_width(*limit)[0] for limit in limits]
        weight_types = [integer_type(*needed_width(*limit)) for limit in limits]
        config: dict[str, int | str] = {
            "IN_ROWS": in_rows,
            "IN_COLUMNS": in_columns,
            "OUT_ROWS": output.shape[0],
            "OUT_COLUMNS": output.shape[1],
            "WORDS": words,
            "LANES": lanes,
            "ROW_TAPS": taps,
            "COLUMN_TAPS": self.column_weights.shape[1],
            "input_t": given.cpp,
            "row_t": weight_types[0],
            "column_t": weight_types[1],
            "output_t": output.cpp,
        }
        arrays = {
            "rows": integer_array(self.rows),
            "columns": integer_array(self.columns),
            "row_weights": integer_array(self.row_weights.array.ravel()),
            "column_weights": integer_array(self.column_weights.array.ravel()),
        }
        copies = taps * self.column_weights.shape[1]
        cost = Cost(written=(("lines", copies, line, given.width * lanes),), lut=200)
        if not self.copies:
            inner = copies * lanes
            cost += Cost(((inner, given.width, bits[1]), (taps * lanes, given.width + bits[1], bits[0])))
        port, schedule = Port(given, lanes), Schedule(step, (tuple(reads),), tuple(writes))
        return [Kernel("resample", "ops/resample.h", config, (port,), Port(output, lanes), schedule, arrays, cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        given = TensorType.of((3, 4, 4), FixedType(int(rng.integers(2, 9)), 3, bool(rng.integers(2))))
        six, five = (Constant(np.ones((n, 1), np.int64)) for n in (6, 5))
        yield Sample(cls((0, 0, 1, 1, 2, 2), (0, 1, 1, 2, 3), six, five), (given,))
        yield Sample(cls((1,) * 6, (0, 0, 0, 2, 2), six, five), (given,))
        u, v = (Constant(rng.integers(-8, 9, shape)) for shape in ((4, 2), (5, 3)))
        yield Sample(cls((0, 0, 1, 1), (0, 0, 1, 1, 1), u, v, 6), (given,))


def fixed_weights(real: Array, bits: int) -> tuple[Array, int]:
    """Rows of weights that add up to what the real ones do, and their fraction bits.

    Weights that few bits hold are exact. Of others the largest of a row takes what rounding left over.
    """
    for fraction in range(EXACT_BITS + 1):
        scaled = real * (1 << fraction)
        if (scaled == np.floor(scaled)).all():
            return scaled.astype(np.int64), fraction
    fraction = bits - 1
    raw = np.floor(real * (1 << fraction) + 0.5).astype(np.int64)
    wanted = np.floor(real.sum(axis=1) * (1 << fraction) + 0.5).astype(np.int64)
    raw[np.arange(len(raw)), np.abs(raw).argmax(axis=1)] += wanted - raw.sum(axis=1)
    return raw, fraction


def sampled(matrix: Array) -> tuple[tuple[int, ...], Constant]:
    """First elements and weights for a matrix (outputs, inputs): every row becomes one run of equally many entries."""
    runs = [np.flatnonzero(row) for row in matrix]
    taps = max(int(run[-1] - run[0]) + 1 if run.size else 1 for run in runs)
    first: list[int] = []
    for run in runs:  # one without entries may stand anywhere
        first.append(min(int(run[0]), matrix.shape[1] - taps) if run.size else (first or [0])[-1])
    if first != sorted(first):
        raise UnsupportedOperator("mirrors the picture")
    return tuple(first), Constant([row[f : f + taps] for row, f in zip(matrix, first, strict=True)])


def repeat(rows: int, count: int) -> Resample:
    """(rows, 1, channels) with its one column repeated `count` times."""
    return Resample(tuple(range(rows)), (0,) * count, Constant(np.ones((rows, 1))), Constant(np.ones((count, 1))))


@importer("Resize")
def import_resize(importing: Importer, node: OnnxNode) -> None:
    """Nearest, linear and cubic interpolation along all axes but the channels, of which there are one or two."""
    shape = importing.shape(importing.value(node, 0))
    if len(shape) not in (2, 3):
        raise UnsupportedOperator(f"works on {len(shape) - 1} spatial dimensions, 1 and 2 are supported")
    axes = [importing.full_axis(a, len(shape)) for a in node.attribute("axes", list(range(len(shape) + 1)))]
    sizes, scales = [1, *shape], [1.0] * (len(shape) + 1)
    if node.has(3) and importing.constant(node, 3, "the sizes").size:
        policy = node.attribute("keep_aspect_ratio_policy", "stretch")
        if policy not in ("stretch", "not_larger", "not_smaller"):
            raise UnsupportedOperator(f"has the keep_aspect_ratio_policy {policy!r}")
        given = [int(size) for size in importing.constant(node, 3, "the sizes").ravel()]
        ratios = [size / sizes[axis] for axis, size in zip(axes, given, strict=True)]
        one = min(ratios) if policy == "not_larger" else max(ratios)
        for axis, size, ratio in zip(axes, given, ratios, strict=True):
            scales[axis] = ratio if policy == "stretch" else one
            sizes[axis] = size if policy == "stretch" else math.floor(one * sizes[axis] + 0.5)
    elif node.has(2):
        node.ignore("keep_aspect_ratio_policy")
        for axis, scale in zip(axes, importing.constant(node, 2, "the scales").ravel(), strict=True):
            scales[axis], sizes[axis] = float(scale), math.floor(sizes[axis] * float(scale))
    else:
        raise ModelError("has neither scales nor sizes")
    if scales[:2] != [1.0, 1.0]:
        raise UnsupportedOperator(f"has the scales {scales[:2]} for batch and channels, only 1 is supported")
    regions = [(0.0, 1.0)] * (len(shape) + 1)
    if node.attribute("coordinate_transformation_mode", "half_pixel") == CROP:
        region = [float(end) for end in importing.constant(node, 1, "the region").ravel()]
        for axis, first, last in zip(axes, region[: len(axes)], region[len(axes) :], strict=True):
            regions[axis] = (first, last)
        if node.attribute("extrapolation_value", 0.0):
            raise UnsupportedOperator("has an extrapolation_value that is not 0")
    node.ignore("extrapolation_value")
    method = Interpolation(
        node.attribute("mode", "nearest"),
        node.attribute("coordinate_transformation_mode", "half_pixel"),
        node.attribute("nearest_mode", "round_prefer_floor"),
        node.attribute("cubic_coeff_a", -0.75),
        bool(node.attribute("exclude_outside", 0)),
        bool(node.attribute("antialias", 0)),
    )
    spatial = range(1, len(shape))
    maps = [sampled(method.matrix(shape[k], sizes[k + 1], scales[k + 1], regions[k + 1])) for k in spatial]
    add_resample(importing, node, maps)


def add_resample(importing: Importer, node: OnnxNode, maps: list[tuple[tuple[int, ...], Constant]]) -> None:
    """Binds the node to its input, resampled along its last axis or its last two."""
    value = importing.value(node, 0)
    shape = importing.shape(value)
    if len(shape) == 2:
        maps = [((0,), Constant(np.ones((1, 1)))), *maps]
        value = importing.add(node, Reshape((shape[0], 1, shape[1])), value, part="row")
    (rows, row_weights), (columns, column_weights) = maps
    value = importing.add(node, Transpose((1, 2, 0)), value, part="channels_last")
    value = importing.add(node, Resample(rows, columns, row_weights, column_weights), value)
    value = importing.add(node, Transpose((2, 0, 1)), value, part="channels_first")
    if len(shape) == 2:
        value = importing.add(node, Reshape((shape[0], len(columns))), value, part="no_row")
    importing.bind(node, value)


@importer("Upsample")
def import_upsample(importing: Importer, node: OnnxNode) -> None:
    """Resize of opset 9 and before."""
    shape = importing.shape(importing.value(node, 0))
    scales = [float(s) for s in importing.constant(node, 1, "the scales").ravel()]
    if len(scales) != len(shape) + 1 or scales[:2] != [1.0, 1.0] or len(shape) not in (2, 3):
        raise UnsupportedOperator(f"has the scales {scales} for a tensor of shape {list(shape)}")
    method = Interpolation(node.attribute("mode", "nearest"), "asymmetric", BEFORE_11, 0.0, False)
    sizes = [math.floor(n * s) for n, s in zip(shape[1:], scales[2:], strict=True)]
    matrices = [method.matrix(n, size, s) for n, size, s in zip(shape[1:], sizes, scales[2:], strict=True)]
    add_resample(importing, node, [sampled(matrix) for matrix in matrices])


@importer("Expand")
def import_expand(importing: Importer, node: OnnxNode) -> None:
    value = importing.value(node, 0)
    shape = importing.shape(value)
    wanted = [int(d) for d in importing.constant(node, 1, "the shape").ravel()]
    wanted = [1] * (len(shape) + 1 - len(wanted)) + wanted
    if len(wanted) != len(shape) + 1 or wanted[0] != 1:
        raise UnsupportedOperator(f"to {wanted} changes the batch dimension")
    common = tuple(max(pair) for pair in zip(shape, wanted[1:], strict=True))
    if any(1 not in (a, b) and a != b for a, b in zip(shape, wanted[1:], strict=True)):
        raise ModelError(f"cannot expand {list(shape)} to {wanted}")
    importing.bind(node, repeated(importing, node, value, common, "repeat"))
