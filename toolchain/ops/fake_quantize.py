"""Quantization in real numbers, as models bring it along: QONNX's Quant and its kin, QuantizeLinear and its inverse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.qonnx import QONNX
from toolchain.ir import Array, Constant, Node, Rounding, Shape
from toolchain.ir.rounding import round_real
from toolchain.ops.affine import Affine
from toolchain.ops.base import Operator, importer, operator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering

ROUNDINGS = {
    "ROUND": Rounding.RND_CONV,
    "HALF_EVEN": Rounding.RND_CONV,
    "FLOOR": Rounding.TRN,
    "DOWN": Rounding.TRN_ZERO,
    "HALF_UP": Rounding.RND_INF,
    "HALF_DOWN": Rounding.RND_ZERO,
}
"""QONNX's names; its HALF_UP rounds halves away from zero and its HALF_DOWN towards zero."""
WIDEST = 32
INTEGER_TYPES = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "uint16": (0, (1 << 16) - 1),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int2": (-2, 1),
    "uint2": (0, 3),
}


@operator
@dataclass(frozen=True)
class FakeQuantize(Operator):
    """y = scale * (clip(round(x / scale + zero_point), low, high) - zero_point).

    `scale` has the rank of x and sizes that broadcast to it. The zero point of levels -1 and 0 that stand for
    -scale / 2 and scale / 2 is -1/2. The integer program keeps the levels, less the zero point, exactly.
    """

    scale: Constant
    low: int
    high: int
    zero_point: float = 0.0
    rounding: Rounding = Rounding.RND_CONV

    def shape(self, *inputs: Shape) -> Shape:
        if len(self.scale.shape) != len(inputs[0]) or np.broadcast_shapes(self.scale.shape, inputs[0]) != inputs[0]:
            raise ModelError(f"has a scale of shape {list(self.scale.shape)} for {list(inputs[0])}")
        return inputs[0]

    def levels(self, values: Array) -> Array:
        """clip(round(x / scale + zero_point), low, high) as float64."""
        return np.clip(round_real(values / self.scale.array + self.zero_point, self.rounding), self.low, self.high)

    def evaluate(self, *inputs: Array) -> Array:
        return np.asarray((self.levels(inputs[0]) - self.zero_point) * self.scale.array)

    def limited(self, low: float | None, high: float | None) -> FakeQuantize:
        """What equals a clip to [low, high] and then this operator: rounding is monotone, so its levels are clipped."""

        def level(bound: float | None, end: int) -> int:
            return end if bound is None else int(self.levels(np.full((1,) * self.scale.array.ndim, bound)).flat[0])

        return replace(self, low=level(low, self.low), high=level(high, self.high))

    def number(self, value: float) -> float:
        """What becomes of one number, where one scale is that of the tensor."""
        return float(self.evaluate(np.full((1,) * self.scale.array.ndim, value)).flat[0])

    def ranked(self, rank: int) -> FakeQuantize:
        """The same for a tensor of another rank, where one scale is that of the tensor."""
        return replace(self, scale=Constant(self.scale.array.reshape((1,) * rank)))

    @property
    def ends(self) -> Array:
        """The lowest and the highest result."""
        levels = np.array([self.low, self.high]) - self.zero_point
        return np.asarray(np.multiply.outer(levels, [self.scale.array.min(), self.scale.array.max()]))

    @property
    def is_per_tensor(self) -> bool:
        return self.scale.array.size == 1

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return replace(self, scale=Constant(self.scale.array.transpose(np.argsort(axes))))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return lowering.scaled.quantized(node, self, inputs[0])


@importer(f"{QONNX}.Quant", f"{QONNX}.IntQuant")
def import_quant(importing: Importer, node: OnnxNode) -> None:
    """x, scale, zero point, bit width; QONNX 1.0, `int_quant`."""
    scale, zero_point = _scale(importing, node, 1), _numbers(importing, node, 2, "the zero point")
    bits = _whole(importing, node, 3, "the bit width")
    signed, narrow = bool(node.attribute("signed", 1)), bool(node.attribute("narrow", 1))
    rounding = _rounding(node, "ROUND")
    if bits == 1 and signed:
        if zero_point.any():
            raise UnsupportedOperator("has one signed bit and a zero point")
        _bipolar(importing, node, scale)
        return
    low, high = _limits(bits, signed, narrow)
    _quantize(importing, node, FakeQuantize(Constant(scale), low, high, rounding=rounding), zero_point)


@importer(f"{QONNX}.BipolarQuant")
def import_bipolar_quant(importing: Importer, node: OnnxNode) -> None:
    """scale where x >= 0, -scale elsewhere."""
    _bipolar(importing, node, _scale(importing, node, 1))


@importer(f"{QONNX}.Trunc")
def import_trunc(importing: Importer, node: OnnxNode) -> None:
    """Drops low bits of integers times a scale.

    Version 1 (x, scale, zero point, input bits, output bits) keeps the scale, version 2 (x, scale, zero point, input
    bits, output scale, output bits) has its own and clips.
    """
    scale, zero_point = _scale(importing, node, 1), _numbers(importing, node, 2, "the zero point")
    bits = _whole(importing, node, 3, "the input bit width")
    rounding = _rounding(node, "FLOOR")
    if zero_point.any():
        raise UnsupportedOperator("has a zero point")
    if node.has(5):
        result, wanted = _scale(importing, node, 4), _whole(importing, node, 5, "the output bit width")
        dropped = np.round(np.log2(result / scale))
        low, high = _limits(wanted, bool(node.attribute("signed", 1)), bool(node.attribute("narrow", 0)))
    else:
        dropped = np.full(1, bits - _whole(importing, node, 4, "the output bit width"))
        result, low, high = scale, -(1 << WIDEST - 1), (1 << WIDEST - 1) - 1
    coarse = scale * 2.0**dropped
    value = importing.value(node, 0)
    rank = len(importing.shape(value))
    kept = FakeQuantize(Constant(ranked(coarse, rank)), low, high, rounding=rounding)
    value = importing.add(node, kept, value, part="kept" if (coarse != result).any() else "")
    if (coarse != result).any():
        value = _affine(importing, node, value, ranked(result / coarse, rank), 0.0)
    importing.bind(node, value)


@importer("QuantizeLinear")
def import_quantize_linear(importing: Importer, node: OnnxNode) -> None:
    """clip(round(x / scale) + zero point), half to even: integers."""
    scale, zero_point = _linear_parameters(importing, node)
    kind = _element_type(importing, node)
    if kind not in INTEGER_TYPES:
        raise UnsupportedOperator(f"gives elements of type {kind}, {', '.join(INTEGER_TYPES)} are supported")
    low, high = INTEGER_TYPES[kind]
    node.ignore("saturate")
    if importing.is_constant(node, 0):
        array = importing.constant(node, 0, "the weights").astype(np.float32)
        scale, zero_point = _along(importing, node, scale, array.ndim), _along(importing, node, zero_point, array.ndim)
        integers = np.clip(np.rint(array / scale.astype(np.float32)) + zero_point, low, high)
        importing.define(node, integers.astype(np.int64))
        return
    value = quantized(importing, node, importing.value(node, 0), scale, zero_point, (low, high))
    importing.bind(node, value)


def quantized(
    importing: Importer, node: OnnxNode, value: str, scale: Array, zero_point: Array, ends: tuple[int, int]
) -> str:
    """The integers clip(round(x / scale) + zero point, *ends) of a real value."""
    rank = len(importing.shape(value))
    scale = ranked(_along(importing, node, scale, rank + 1), rank)
    zero = _one(zero_point, "zero points")
    real = FakeQuantize(Constant(scale), ends[0] - zero, ends[1] - zero)
    value = importing.add(node, real, value, part="real")
    return _affine(importing, node, value, 1 / scale, float(zero))


@importer("DequantizeLinear")
def import_dequantize_linear(importing: Importer, node: OnnxNode) -> None:
    """(x - zero point) * scale."""
    scale, zero_point = _linear_parameters(importing, node)
    node.ignore("output_dtype")
    if importing.is_constant(node, 0):
        integers = importing.constant(node, 0, "the integers")
        if integers.dtype.kind not in "iu":
            raise UnsupportedOperator(f"takes elements of type {integers.dtype}, integers are needed")
        wide, points = _along(importing, node, scale, integers.ndim), _along(importing, node, zero_point, integers.ndim)
        importing.define_levels(node, integers.astype(np.int64) - points.astype(np.int64), wide)
        return
    value = importing.value(node, 0)
    rank = len(importing.shape(value))
    wide = ranked(_along(importing, node, scale, rank + 1), rank)
    offset = -wide * ranked(_along(importing, node, zero_point, rank + 1), rank)
    importing.bind(node, importing.add(node, Affine(Constant(wide), Constant(offset)), value))


def _linear_parameters(importing: Importer, node: OnnxNode) -> tuple[Array, Array]:
    if node.attribute("block_size", 0):
        raise UnsupportedOperator("quantizes in blocks (block_size), one scale per tensor or per channel is supported")
    scale = _positive(importing.constant(node, 1, "the scale").astype(np.float64))
    points = importing.constant(node, 2, "the zero point") if node.has(2) else np.zeros_like(scale, dtype=np.int64)
    if points.dtype.kind not in "iu":
        raise UnsupportedOperator(f"has a zero point of type {points.dtype}, integers are supported")
    return scale, points.astype(np.int64)


def _element_type(importing: Importer, node: OnnxNode) -> str:
    if node.has(2):
        node.ignore("output_dtype")
        return importing.element_type(node, 2)
    return importing.type_name(node.attribute("output_dtype", 0)) or "uint8"


def _along(importing: Importer, node: OnnxNode, values: Array, rank: int) -> Array:
    """One number, or one for each entry of the node's axis, to broadcast to a tensor of `rank` with the batch."""
    axis = node.attribute("axis", 1)
    if values.size == 1:
        return values.reshape(())
    if values.ndim != 1:
        raise UnsupportedOperator(f"has a scale or zero point of shape {list(values.shape)}, one axis is supported")
    shape = [1] * rank
    shape[importing.full_axis(axis, rank - 1)] = values.size
    return values.reshape(shape)


def _quantize(importing: Importer, node: OnnxNode, real: FakeQuantize, zero_point: Array) -> None:
    """Binds the quantized input of a node, constant or computed."""
    scale = real.scale.array
    if importing.is_constant(node, 0):
        array = importing.constant(node, 0, "the weights").astype(np.float32)
        try:
            quotients = array / scale.astype(np.float32) + zero_point.astype(np.float32)
        except ValueError:
            raise ModelError(f"has a scale of shape {list(scale.shape)} for {list(array.shape)}") from None
        levels = np.clip(round_real(quotients.astype(np.float64), real.rounding), real.low, real.high) - zero_point
        if (levels != np.rint(levels)).any():
            raise UnsupportedOperator("has a zero point that is no integer")
        importing.define_levels(node, levels.astype(np.int64), scale)
        return
    value = importing.value(node, 0)
    wide = Constant(ranked(scale, len(importing.shape(value))))
    zero = _one(zero_point, "zero points")
    # Where rounding does not see whole numbers, the zero point goes into the limits.
    moves = real.rounding == Rounding.TRN or (real.rounding == Rounding.RND_CONV and zero % 2 == 0) or not zero
    if moves:
        real = replace(real, scale=wide, low=real.low - zero, high=real.high - zero)
    else:
        real = replace(real, scale=wide, zero_point=float(zero))
    importing.bind(node, importing.add(node, real, value))


def _bipolar(importing: Importer, node: OnnxNode, scale: Array) -> None:
    """-scale and scale: levels -1 and 0 of twice the scale, around -1/2."""
    if importing.is_constant(node, 0):
        array = importing.constant(node, 0, "the weights")
        importing.define_levels(node, np.where(array >= 0, 1, -1), scale)
        return
    value = importing.value(node, 0)
    wide = Constant(2 * ranked(scale, len(importing.shape(value))))
    real = FakeQuantize(wide, -1, 0, zero_point=-0.5, rounding=Rounding.RND)
    importing.bind(node, importing.add(node, real, value))


def _affine(importing: Importer, node: OnnxNode, value: str, scale: Array, offset: float) -> str:
    return importing.add(node, Affine(Constant(scale), Constant(np.full_like(scale, offset))), value)


def _limits(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    if not 1 <= bits <= WIDEST:
        raise UnsupportedOperator(f"has {bits} bits, 1 to {WIDEST} are supported")
    if signed:
        return -(1 << bits - 1) + narrow, (1 << bits - 1) - 1
    return 0, (1 << bits) - 1 - narrow


def _rounding(node: OnnxNode, default: str) -> Rounding:
    name = node.attribute("rounding_mode", default).upper()
    if name not in ROUNDINGS:
        raise UnsupportedOperator(f"rounding_mode {name!r} is not supported, {', '.join(ROUNDINGS)} are")
    return ROUNDINGS[name]


def _scale(importing: Importer, node: OnnxNode, index: int) -> Array:
    return _positive(importing.constant(node, index, "the scale").astype(np.float64))


def _positive(scale: Array) -> Array:
    if not (scale > 0).all():
        raise ModelError("has a scale that is not above 0")
    return scale


def _numbers(importing: Importer, node: OnnxNode, index: int, what: str) -> Array:
    return importing.constant(node, index, what).astype(np.float64)


def _whole(importing: Importer, node: OnnxNode, index: int, what: str) -> int:
    number = _numbers(importing, node, index, what)
    if number.size != 1 or number.flat[0] != np.rint(number.flat[0]):
        raise UnsupportedOperator(f"{what} is {number.tolist()}, one integer is supported")
    return int(number.flat[0])


def _one(numbers: Array, what: str) -> int:
    """The one integer that all of them are."""
    different = sorted(set(numbers.ravel().tolist()))
    if len(different) != 1 or different[0] != np.rint(different[0]):
        raise UnsupportedOperator(f"has the {what} {different[:4]}, one integer is supported")
    return int(numbers.flat[0])


def ranked(scale: Array, rank: int) -> Array:
    """A scale that broadcasts to a tensor with its batch, without the batch."""
    if scale.ndim > rank and (scale.ndim > rank + 1 or scale.shape[0] != 1):
        raise UnsupportedOperator(f"has a scale of shape {list(scale.shape)}, one per tensor or channel is supported")
    return scale.reshape((1,) * (rank - scale.ndim) + scale.shape[max(scale.ndim - rank, 0) :])
