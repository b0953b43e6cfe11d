"""Values that a model quantized itself, on their way through the lowering: integers with a real scale beside them.

An integer r of such a value means unit * r * 2**-fraction + offset. Linear operators with the model's own integers,
sums, maxima and moves keep r exact; scales and offsets gather until the next quantization of the model, which is the
only place where r is multiplied and rounded. What else reads such a value gets it on a binary point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from toolchain.errors import UnsupportedOperator
from toolchain.ir import Array, Constant, FixedType, Levels, Meaning, Node, Overflow, TensorType
from toolchain.ir.types import needed_width
from toolchain.ops.add import Add
from toolchain.ops.affine import Affine
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.clip import Clip
from toolchain.ops.concat import Concat
from toolchain.ops.conv import Conv
from toolchain.ops.fake_quantize import FakeQuantize
from toolchain.ops.linear import LinearOperator
from toolchain.ops.lookup import Lookup
from toolchain.ops.matrix_product import MatrixProduct
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.pad import Pad
from toolchain.ops.product import Product
from toolchain.ops.resample import Resample
from toolchain.ops.rescale import Rescale
from toolchain.ops.transpose import Transpose
from toolchain.quantization.formats import choose_format
from toolchain.quantization.multipliers import are_powers, find_multipliers, snapped

if TYPE_CHECKING:
    from toolchain.quantization.lowering import Lowering

SETTLED_BITS = 16
"""Width of a value that leaves its scale for a binary point."""
BIAS_LIMIT = 1 << 40
WHOLE = 1e-9
"""Products and quotients of scales so close to a whole number are it."""
OPERAND_BITS = 24
"""Of multipliers that bring two summands to one unit: what one port of a DSP48 takes beside a sign."""


@dataclass(frozen=True)
class Scale:
    """What integers mean: unit * r * 2**-fraction + offset, one of each or one for each entry of the last axis."""

    unit: Array
    offset: Array

    @classmethod
    def of(cls, unit: Array | float, offset: Array | float = 0.0) -> Scale:
        """Equal entries become one."""
        pair = [np.atleast_1d(np.asarray(v, dtype=np.float64)) + 0.0 for v in (unit, offset)]  # no -0.0
        return cls(*(v[:1] if (v == v[0]).all() else v for v in pair))

    @property
    def is_plain(self) -> bool:
        """Is it no more than a binary point?"""
        return bool((self.unit == 1).all() and not self.offset.any())

    @property
    def is_per_tensor(self) -> bool:
        return self.unit.size == self.offset.size == 1

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Scale)
            and np.array_equal(self.unit, other.unit)
            and np.array_equal(self.offset, other.offset)
        )

    def __hash__(self) -> int:
        return hash((self.unit.tobytes(), self.offset.tobytes()))


class Scaled:
    """The scales of a program under construction, and how operators work on the integers below them."""

    def __init__(self, lowering: Lowering) -> None:
        self._lowering = lowering
        self._scales: dict[str, Scale] = {}
        self._settled: dict[str, str] = {}

    def has(self, value: str) -> bool:
        """Is it one that the model quantized?"""
        return value in self._scales

    def scale(self, value: str) -> Scale:
        """What the integers of a value mean that the model quantized."""
        return self._scales[value]

    def mark(self, value: str, scale: Scale) -> str:
        """Says what the integers of a value mean."""
        self._scales[value] = scale
        return value

    def real(self, value: str, raw: Array) -> Array:
        """What raw integers of a value mean, float64."""
        plain = np.ldexp(raw.astype(np.float64), -np.array(self._lowering.type(value).fractions))
        scale = self._scales.get(value)
        return plain if scale is None else np.asarray(plain * scale.unit + scale.offset)

    def lower(self, node: Node, inputs: tuple[str, ...]) -> str | None:
        """The node on the integers as they are, where it can work on them; None where it needs binary points."""
        if not any(self.has(value) for value in inputs):
            if isinstance(node.operator, LinearOperator) and isinstance(node.operator.weights, Levels):
                return self._linear(node, node.operator, self._lowering.narrow(inputs[0]))
            return None
        for kind, rule in RULES.items():
            if isinstance(node.operator, kind):
                value = rule(self, node, node.operator, inputs)
                return None if value is None else self._owned(node, value)
        if node.operator.is_layout and len(inputs) == 1 and self._scales[inputs[0]].is_per_tensor:
            return self._kept(node, (self._aligned(inputs[0]),))
        return None

    def settled(self, value: str) -> str:
        """The value with a meaning that is a binary point alone."""
        scale = self._scales.get(value)
        if scale is None or scale.is_plain:
            return self._lowering.aligned(value) if scale else value
        if value not in self._settled:
            lowering = self._lowering
            type = choose_format(self._seen(value), max(SETTLED_BITS, lowering.configuration.activation_bits), True)
            self._settled[value] = lowering.keep(self._on_step(value, lowering.origin(value), type, "settled"))
        return self._settled[value]

    def as_output(self, value: str) -> str:
        """The value as it leaves the program: its own integers where one scale and zero point say what they mean."""
        scale, given = self._scales[value], self._lowering.type(value)
        if scale.is_plain:
            return self._lowering.aligned(value)
        unit = scale.unit * np.ldexp(1.0, -np.array(given.fractions))
        step = np.float32(unit[0])
        zero = -scale.offset / unit
        if unit.size > 1 or zero.size > 1 or zero[0] != np.rint(zero[0]) or abs(zero[0]) >= 1 << 31 or given.width > 32:
            return self.settled(value)
        lowering, node = self._lowering, self._lowering.origin(value)
        whole = self._whole(node, value)
        low, high = given.low, given.high
        away = Rescale.identity(0, low, high, Meaning(float(step), int(zero[0])))
        return self.mark(lowering.add(node, away, (whole,), part="output"), Scale.of(unit, scale.offset))

    def quantized(self, node: Node, operator: FakeQuantize, value: str) -> str:
        """Where the model quantizes: the levels less their zero point, each what real arithmetic gives."""
        if not self.has(value):
            self.mark(value, Scale.of(1.0))
        along = [axis for axis, size in enumerate(operator.scale.shape) if size != 1]
        if along and along != [operator.scale.array.ndim - 1] and self._scales[value].is_per_tensor:
            return self._turned(node, operator, value, along)
        return self._owned(node, self._levels(node, operator, value))

    def looked_up(self, node: Node, operator: Lookup, value: str) -> str:
        """Levels by levels."""
        table = operator.table(self._lowering.type(value))
        name = self._lowering.add(node, table, (value,))
        return self.mark(name, Scale.of(1.0 if table.type.fraction or operator.step == 1 else operator.step))

    def _turned(self, node: Node, operator: FakeQuantize, value: str, along: list[int]) -> str:
        """Scales along another axis than the last, which it is for a while; the result gets a binary point."""
        rank = operator.scale.array.ndim
        if len(along) > 1:
            raise UnsupportedOperator(f"has a scale of shape {list(operator.scale.shape)}, one axis is supported")
        axes = (*(axis for axis in range(rank) if axis != along[0]), along[0])
        turn, back = Transpose(axes), Transpose(tuple(int(axis) for axis in np.argsort(axes)))
        turned = replace(operator, scale=Constant(operator.scale.array.transpose(axes)))
        source = self.mark(self._lowering.add(node, turn, (value,), part="turned"), self._scales[value])
        settled = self.settled(self._levels(node, turned, source))
        return self.mark(self._lowering.add(node, back, (settled,)), Scale.of(1.0))

    def _levels(self, node: Node, operator: FakeQuantize, value: str) -> str:
        lowering = self._lowering
        given, scale = lowering.type(value), self._scales[value]
        step = self._steps(operator)
        ratios = snapped(scale.unit * np.ldexp(1.0, -np.array(given.fractions)) / step)
        offsets = scale.offset / step + operator.zero_point
        within = operator.low <= given.low and given.high <= operator.high
        if (ratios == 1).all() and not offsets.any() and within:
            return value
        is_binary = step.size == 1 and are_powers(step)
        fraction = -int(np.log2(step[0])) if is_binary else 0
        width, signed = needed_width(operator.low, operator.high)
        symmetric = signed and operator.low == -operator.high
        overflow = Overflow.SAT_SYM if symmetric else Overflow.SAT
        type = FixedType(width, width - fraction, signed, operator.rounding, overflow)
        if is_binary and not offsets.any() and (scale.unit == 1).all():
            value = lowering.to_format(value, type)
        else:
            value = self._multiplied(node, value, ratios, offsets, type, (operator.low, operator.high), "scaled")
        unit = 1.0 if is_binary else step
        if (operator.low, operator.high) != (type.low + symmetric, type.high):
            value = lowering.add(node, Clip(operator.low, operator.high), (value,), part="limited")
        return self._less_zero_point(node, operator.zero_point, value, unit)

    def kept(self, node: Node, operator: LinearOperator, inputs: tuple[str, ...]) -> str | None:
        if isinstance(operator.weights, Levels):
            return self._linear(node, operator, inputs[0])
        return None

    def moved(self, node: Node, operator: Pad, inputs: tuple[str, ...]) -> str | None:
        """The border holds the integer of its number, if there is one."""
        scale = self._scales[inputs[0]]
        if not scale.is_per_tensor:
            return None
        value = self._aligned(inputs[0])
        given = self._lowering.type(value)
        border = (operator.value - scale.offset[0]) / scale.unit[0] * np.ldexp(1.0, given.fraction)
        raw = int(np.rint(border))
        if abs(border - raw) > WHOLE * max(abs(border), 1) or not given.fixed.low <= raw <= given.fixed.high:
            return None
        return self.mark(self._lowering.add(node, replace(operator, value=raw), (value,)), scale)

    def joined(self, node: Node, operator: Concat, inputs: tuple[str, ...]) -> str | None:
        """Values of one unit, in a type that holds them all."""
        lowering = self._lowering
        scales = {self._scales.get(value) for value in inputs}
        types = [lowering.type(value) for value in inputs]
        if len(scales) > 1 or not all(type.is_scalar for type in types):
            return None
        (scale,) = scales
        if scale is None or not scale.is_per_tensor:
            return None
        signed, finest = any(type.signed for type in types), max(type.fraction for type in types)
        width = max(type.width + finest - type.fraction + (signed and not type.signed) for type in types)
        common = FixedType(width, width - finest, signed)
        return self.mark(operator.joined(lowering, node, [lowering.to_format(v, common) for v in inputs]), scale)

    def largest(self, node: Node, operator: MaxPool, inputs: tuple[str, ...]) -> str | None:
        positive = (self._scales[inputs[0]].unit > 0).all()
        return self._kept(node, (self._aligned(inputs[0]),)) if positive else None

    def limited(self, node: Node, operator: Clip, inputs: tuple[str, ...]) -> str | None:
        """Relu on what is 0 where the integers are."""
        scale = self._scales[inputs[0]]
        stays = operator.is_relu and (scale.unit > 0).all() and not scale.offset.any()
        return self._kept(node, inputs) if stays else None

    def added(self, node: Node, operator: Add, inputs: tuple[str, ...]) -> str | None:
        """Sums of values of one unit; of two units in a third that is fine enough for both."""
        if not all(self.has(value) for value in inputs):
            return None
        (a, b), types = (self._scales[value] for value in inputs), [self._lowering.type(value) for value in inputs]
        if not np.array_equal(a.unit, b.unit) or not all(type.is_scalar for type in types):
            inputs = self._in_one_unit(node, inputs)
            (a, b), types = (self._scales[value] for value in inputs), [self._lowering.type(value) for value in inputs]
        finest = max(type.fraction for type in types)
        left = (finest - types[0].fraction, finest - types[1].fraction)
        value = self._lowering.add(node, Add(left, operator.subtract), inputs)
        return self.mark(value, Scale.of(a.unit, a.offset - b.offset if operator.subtract else a.offset + b.offset))

    def averaged(self, node: Node, operator: AveragePool, inputs: tuple[str, ...]) -> str | None:
        """The exact sums, whose unit is smaller by the number of summands."""
        value, window = self._aligned(inputs[0]), operator.window
        given, scale = self._lowering.type(value), self._scales[value]
        divisors = np.unique(operator.divisors.array)
        if divisors.size > 1 or (window.is_padded and scale.offset.any()):
            return None
        channels = given.shape[-1]
        ones = Constant(np.ones((*window.kernel, 1, channels), dtype=np.int64))
        sums = Conv(ones, Constant(np.zeros(channels, np.int64)), window, channels, FixedType(2, 2), (0,) * channels)
        divisor = float(divisors[0])
        total = self._lowering.add(node, sums, (value,))
        return self.mark(total, Scale.of(scale.unit / divisor, scale.offset * (window.taps / divisor)))

    def multiplied(self, node: Node, operator: Product | MatrixProduct, inputs: tuple[str, ...]) -> str | None:
        """Exact products, whose unit is the product of the units."""
        if not all(self.has(value) for value in inputs):
            return None
        centred = [self._centred(value) for value in inputs]
        values = tuple(value for value in centred if value is not None)
        if len(values) < len(inputs):
            return None
        units = [self._scales[value].unit for value in values]
        return self.mark(self._lowering.add(node, operator, values), Scale.of(units[0] * units[1]))

    def copied(self, node: Node, operator: Resample, inputs: tuple[str, ...]) -> str | None:
        if not operator.copies or not self._scales[inputs[0]].is_per_tensor:
            return None
        value = self._aligned(inputs[0])
        return self.mark(self._lowering.add(node, operator.copying(), (value,)), self._scales[value])

    def rescaled(self, node: Node, operator: Affine, inputs: tuple[str, ...]) -> str | None:
        """The same integers, which mean something else from here on."""
        if not operator.is_per_channel:
            return None
        scale, factors = self._scales[inputs[0]], operator.scale.array.ravel()
        meaning = Scale.of(scale.unit * factors, scale.offset * factors + operator.offset.array.ravel())
        return self.mark(self._lowering.alias(inputs[0], node), meaning)

    # Helpers.

    def _owned(self, node: Node, value: str) -> str:
        """The value under a handle that lives as long as the node's real value does."""
        lowering = self._lowering
        if lowering.origin(value).name == node.name:
            return value
        return self.mark(lowering.alias(value, node), self._scales[value])

    def _aligned(self, value: str) -> str:
        """The value with one binary point for all channels, nothing lost."""
        aligned = self._lowering.aligned(value)
        return value if aligned == value else self.mark(aligned, self._scales[value])

    def _kept(self, node: Node, inputs: tuple[str, ...]) -> str:
        """The node itself on integers, which mean what they meant."""
        return self.mark(self._lowering.add(node, node.operator, inputs), self._scales[inputs[0]])

    def _linear(self, node: Node, operator: LinearOperator, value: str) -> str:
        """Sums of products of the model's own integers; what of the bias is not on their grid waits in the offset."""
        lowering, levels = self._lowering, operator.weights
        assert isinstance(levels, Levels)
        centred = self._centred(value) if self.has(value) else value
        if centred is None:
            centred = self.settled(value)
        value, scale = centred, self._scales.get(centred, Scale.of(1.0))
        outputs, given = operator.outputs, lowering.type(value)
        if are_powers(levels.scales):
            fractions, unit = tuple(-int(e) for e in np.log2(levels.scales)), scale.unit
        else:
            fractions, unit = (0,) * outputs, scale.unit * levels.scales
        grid = unit * np.ldexp(1.0, -(np.array(fractions) + given.fraction))
        bias = operator.bias.array / grid
        fits = bool((bias == np.rint(bias)).all() and np.abs(bias).max(initial=0) < BIAS_LIMIT)
        width, signed = needed_width(int(levels.integers.min(initial=0)), int(levels.integers.max(initial=0)))
        type = FixedType(width, width - min(fractions), signed)
        raw = bias.astype(np.int64) if fits else np.zeros(outputs, dtype=np.int64)
        integer = operator.with_integers(Constant(levels.integers), Constant(raw), type, fractions)
        name = lowering.add(node, integer, (value,))
        return self.mark(name, Scale.of(unit, 0.0 if fits else operator.bias.array))

    def _centred(self, value: str) -> str | None:
        """The value with integers that are 0 where it is 0; None where no integer is, or where channels differ."""
        scale = self._scales[value]
        if scale.unit.size > 1:
            return None
        value = self._aligned(value)
        given = self._lowering.type(value)
        if not scale.offset.any():
            return value
        zero = scale.offset / scale.unit[0] * np.ldexp(1.0, given.fraction)
        if zero.size > 1 or abs(zero[0] - np.rint(zero[0])) > WHOLE * max(abs(zero[0]), 1):
            return None
        node = self._lowering.origin(value)
        return self._shifted(node, value, 1, int(np.rint(zero[0])), 0, scale.unit)

    def _less_zero_point(self, node: Node, zero_point: float, value: str, unit: Array | float) -> str:
        if not zero_point:
            return self.mark(value, Scale.of(unit))
        half = int(zero_point != int(zero_point))
        return self._shifted(node, value, 1 << half, -int(zero_point * (1 << half)), half, np.atleast_1d(unit))

    def _shifted(self, node: Node, value: str, factor: int, addend: int, fraction: int, unit: Array) -> str:
        ones = (1,) * len(self._lowering.type(value).shape)
        moved = Affine(
            Constant(np.full(ones, factor)), Constant(np.full(ones, addend)), FixedType(3, 3 - fraction), (fraction,)
        )
        return self.mark(self._lowering.add(node, moved, (value,), part="centred"), Scale.of(unit))

    def _in_one_unit(self, node: Node, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """The values times multipliers of OPERAND_BITS, in fractions of the step that the model takes next."""
        lowering, graph = self._lowering, self._lowering.graph
        units = [self._scales[v].unit * np.ldexp(1.0, -np.array(lowering.type(v).fractions)) for v in inputs]
        readers = [reader.operator for reader in graph.consumers[node.name]]
        steps = {o.scale.array.flat[0] for o in readers if isinstance(o, FakeQuantize) and o.is_per_tensor}
        step = float(steps.pop()) if len(steps) == 1 else 1.0
        largest = max(float(np.abs(unit).max()) for unit in units)
        fraction = OPERAND_BITS - int(np.frexp(largest / step)[1])
        results = []
        for k, (value, unit) in enumerate(zip(inputs, units, strict=True)):
            given = lowering.type(value)
            factors = np.rint(np.ldexp(unit / step, fraction)).astype(np.int64)
            points = np.broadcast_to(fraction - np.array(given.fractions), factors.shape)
            multiplied = product(given, factors, np.zeros_like(factors), points)
            name = lowering.add(node, multiplied, (value,), part=f"operand{k}")
            results.append(self.mark(name, Scale.of(step, self._scales[value].offset)))
        return tuple(results)

    def _whole(self, node: Node, value: str) -> str:
        """The same integers with the binary point 0."""
        given = self._lowering.type(value)
        if set(given.fractions) == {0}:
            return value
        ones = (1,) * len(given.shape)
        operator = Affine(
            Constant(np.ones(ones, np.int64)),
            Constant(np.zeros(ones, np.int64)),
            FixedType(2, 2),
            tuple(-f for f in given.fractions),
        )
        return self._lowering.add(node, operator, (value,), part="whole")

    def _on_step(self, value: str, node: Node, type: FixedType, part: str) -> str:
        given, scale = self._lowering.type(value), self._scales[value]
        step = np.ldexp(1.0, -type.fraction)
        ratios = snapped(scale.unit * np.ldexp(1.0, -np.array(given.fractions)) / step)
        return self._multiplied(node, value, ratios, scale.offset / step, type, (type.low, type.high), part)

    def _multiplied(
        self,
        node: Node,
        value: str,
        ratios: Array,
        offsets: Array,
        type: FixedType,
        levels: tuple[int, int],
        part: str,
    ) -> str:
        """round(ratio * r + offset) in a type: one product with an addend, then one rounding shift."""
        lowering, given = self._lowering, self._lowering.type(value)
        ratios, offsets = np.broadcast_arrays(ratios, offsets)
        found = find_multipliers(ratios, offsets, (given.low, given.high), levels, type.rounding)
        points = np.broadcast_to(found.shift + type.fraction - np.array(given.fractions), ratios.shape)
        if not points.any() and not found.offsets.any() and (found.factors == 1).all():
            return lowering.to_format(value, type)
        multiplied = product(given, found.factors, found.offsets, points)
        return lowering.to_format(lowering.add(node, multiplied, (value,), part=part), type)

    def _steps(self, operator: FakeQuantize) -> Array:
        scale = operator.scale.array
        if any(d != 1 for d in scale.shape[:-1]):
            raise UnsupportedOperator(f"has a scale of shape {list(scale.shape)}, one or one per channel is supported")
        return Scale.of(scale.ravel()).unit

    def _seen(self, value: str) -> Array:
        """Real values to choose a format on: those of calibration, or the ends of what is possible without any."""
        lowering = self._lowering
        if not lowering.invented:
            return lowering.real(value)
        given = lowering.type(value)
        return np.concatenate([self.real(value, np.full(given.shape[-1:], end)) for end in (given.low, given.high)])


def product(given: TensorType, factors: Array, addends: Array, points: Array) -> Affine:
    """r * factor + addend per channel, whose results have the binary points of r plus `points`."""
    shape = (*(1,) * (len(given.shape) - 1), factors.size)
    width, signed = needed_width(int(min(factors)), int(max(factors)))
    return Affine(
        Constant(factors.reshape(shape)),
        Constant(addends.reshape(shape)),
        FixedType(width, width - int(min(points)), signed),
        tuple(int(p) for p in points) if len(set(points.tolist())) > 1 else (int(points[0]),),
    )


RULES: dict[type, Callable[..., str | None]] = {
    LinearOperator: Scaled.kept,
    Affine: Scaled.rescaled,
    Pad: Scaled.moved,
    Concat: Scaled.joined,
    MaxPool: Scaled.largest,
    Clip: Scaled.limited,
    Add: Scaled.added,
    AveragePool: Scaled.averaged,
    Product: Scaled.multiplied,
    MatrixProduct: Scaled.multiplied,
    Resample: Scaled.copied,
}
"""Operators that work on the integers below a scale."""
