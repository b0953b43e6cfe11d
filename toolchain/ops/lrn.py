"""Local response normalization: exact sums of squares, one table entered like a floating-point number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, Loops, Port, Schedule, integer_array
from toolchain.errors import ModelError, PassError, UnsupportedOperator
from toolchain.ir import Array, Constant, FixedType, Node, Shape, TensorType
from toolchain.ir.constant import bordered
from toolchain.ir.tabulated import EXACT
from toolchain.ops.affine import Affine
from toolchain.ops.base import Operator, Sample, importer, operator
from toolchain.ops.transpose import Transpose

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering

TABLE_BITS = 12
"""4,096 entries, the most that DESIGN section 4 allows."""
TOTAL_BITS = 60
"""The offset and the sum have fewer bits, so that int64 and a C++ literal hold them."""
OFFSET_BITS = 13
"""The offset is rounded to an integer; with so many bits that costs less than an index of 12 bits does."""
GUARD_BITS = 2
"""The smallest entry has so many bits more than an activation."""
ENTRY_BITS = 40
"""Unless that makes the largest one wider than this."""


def window(size: int) -> tuple[int, int]:
    """Channels below and above the one that is normalized."""
    return (size - 1) // 2, size // 2


def covers(size: int, channels: int) -> bool:
    """Does every window hold all channels?"""
    return min(window(size)) >= channels - 1


def sums_of_squares(values: Array, size: int) -> Array:
    """The sum of x * x over the window around each entry of the last axis."""
    below, above = window(size)
    channels = values.shape[-1]
    if covers(size, channels):
        return np.broadcast_to((values * values).sum(axis=-1, keepdims=True), values.shape)
    rest = (0,) * (values.ndim - 1)
    squares = bordered(values * values, (*rest, below), (*rest, above), 0)
    total = squares[..., :channels]
    for step in range(1, size):
        total = total + squares[..., step : step + channels]
    return total


@operator
@dataclass(frozen=True)
class Lrn(Operator):
    """y = x / (bias + alpha / size * (sum of x * x over `size` neighbouring channels)) ** beta; channels are last."""

    size: int
    alpha: float
    beta: float
    bias: float

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def evaluate(self, *inputs: Array) -> Array:
        total = sums_of_squares(inputs[0], self.size)
        return np.asarray(inputs[0] * (self.bias + self.alpha / self.size * total) ** -self.beta)

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self if axes[-1] == rank - 1 else None

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        value = lowering.narrow(inputs[0])
        given = lowering.type(value)
        squares = min(self.size, given.shape[-1]) * given.magnitude**2
        ratio = Fraction(self.bias) * self.size / Fraction(self.alpha) * Fraction(2) ** (2 * given.fraction)
        if ratio >= 1 << TOTAL_BITS - 1:  # then no sum is above 2**-20 of it: what is left is a constant factor
            ones = (1,) * len(given.shape)
            factor = Affine(Constant(np.full(ones, self.bias**-self.beta)), Constant(np.zeros(ones)))
            return factor.lower(lowering, node, inputs)
        left = min(OFFSET_BITS - math.floor(ratio).bit_length(), TOTAL_BITS - 1 - squares.bit_length())
        left = max(left, 0)
        offset = max(1, math.floor(ratio * (1 << left) + Fraction(1, 2)))
        unit = Fraction(self.alpha) / self.size / Fraction(2) ** (2 * given.fraction + left)
        octaves = range(offset.bit_length(), (offset + (squares << left)).bit_length() + 1)
        bits = min(TABLE_BITS - (len(octaves) - 1).bit_length(), octaves[-1] - 1)
        middles = [middle for octave in octaves for middle in _middles(octave, bits)]
        powers = [EXACT.power(_decimal(unit * middle), -Decimal(self.beta)) for middle in middles]
        smallest, largest = _exponent(min(powers)), _exponent(max(powers))
        fraction = min(lowering.width(node) + GUARD_BITS - 1 - smallest, ENTRY_BITS - 2 - largest)
        entries = [_rounded(power, fraction) for power in powers]
        return lowering.add(
            node, IntegerLrn(self.size, offset, left, octaves[0], bits, Constant(entries), fraction), (value,)
        )


def _middles(octave: int, bits: int) -> list[Fraction]:
    """The middle of the integers that share an index, for all indices of one octave."""
    step = Fraction(2) ** (octave - 1 - bits)
    middle = (step - 1) / 2 if step > 1 else Fraction(0)
    return [((1 << bits) + k) * step + middle for k in range(1 << bits)]


def _decimal(value: Fraction) -> Decimal:
    return EXACT.divide(Decimal(value.numerator), Decimal(value.denominator))


def _exponent(value: Decimal) -> int:
    """The power of two at or just below the value, give or take one where it is within 60 digits of the next."""
    return math.floor(EXACT.divide(EXACT.ln(value), EXACT.ln(Decimal(2))))


def _rounded(value: Decimal, fraction: int) -> int:
    """The value with so many fraction bits, rounded half up."""
    scaled = EXACT.add(EXACT.multiply(value, EXACT.power(Decimal(2), Decimal(fraction))), Decimal("0.5"))
    return int(scaled.to_integral_value(rounding="ROUND_FLOOR"))


@operator
@dataclass(frozen=True)
class IntegerLrn(Operator):
    """y = x * entries[i], u = offset + (sum of x * x over `size` neighbouring channels) * 2**left.

    With n bits in u, i = (n - octave) * 2**bits + (the `bits` bits below the highest one): every octave of u has as
    many entries, the first of them for u of `octave` bits. Entries are positive, with `fraction` fraction bits.
    """

    size: int
    offset: int
    left: int
    octave: int
    bits: int
    entries: Constant
    fraction: int

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def most(self, given: TensorType) -> int:
        """The largest u."""
        return self.offset + (min(self.size, given.shape[-1]) * given.magnitude**2 << self.left)

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        longest, octaves = self.most(given).bit_length(), len(self.entries.array) >> self.bits
        whole = self.entries.shape == (octaves << self.bits,)
        covered = self.octave <= self.offset.bit_length() and longest < self.octave + octaves
        if self.offset < 1 or self.size < 1 or not whole or not covered or self.bits >= longest:
            raise PassError(f"has a table of {self.entries.shape} entries that does not cover sums of {longest} bits")
        if self.entries.array.min() < 0 or len(self.entries.array) > 1 << TABLE_BITS:
            raise PassError("has a table that is too large or negative")
        least, most = int(self.entries.array.min()), int(self.entries.array.max())
        low, high = min(given.low * least, given.low * most), max(given.high * least, given.high * most)
        return TensorType.holding(given.shape, low, high, (given.fraction + self.fraction,))

    def bound(self, *inputs: TensorType) -> int:
        longest = self.most(inputs[0]).bit_length()
        return max(inputs[0].magnitude * int(self.entries.array.max()), 1 << longest, len(self.entries.array))

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0].astype(np.int64) if inputs[0].dtype.kind == "f" else inputs[0]
        total = self.offset + sums_of_squares(values, self.size) * (1 << self.left)
        longest = self.octave - 1 + (len(self.entries.array) >> self.bits)
        powers = np.array([1 << k for k in range(longest)], dtype=values.dtype)
        lengths = np.searchsorted(powers, total.ravel(), side="right").reshape(total.shape).astype(values.dtype)
        normal = total << (longest - lengths)
        mantissa = normal >> (longest - 1 - self.bits)  # its highest bit is always set
        index = ((lengths - self.octave - 1) << self.bits) + mantissa
        entries = self.entries.array[index.astype(np.int64)].astype(values.dtype)
        return np.asarray(values * entries).astype(inputs[0].dtype)

    def multiplications(self, *inputs: Shape) -> int:
        return 2 * math.prod(inputs[0])

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        below, above = window(self.size)
        lanes, channels = folding.lanes, given.shape[-1]
        pixels, words, ahead = math.prod(given.shape[:-1]), channels // lanes, -(-above // lanes)
        largest, square = int(self.entries.array.max()), given.magnitude**2
        longest = self.octave - 1 + (len(self.entries.array) >> self.bits)
        config: dict[str, int | str] = {
            "PIXELS": pixels,
            "CHANNELS": channels,
            "LANES": lanes,
            "BELOW": below,
            "ABOVE": above,
            "OFFSET": self.offset,
            "LEFT": self.left,
            "OCTAVE": self.octave,
            "BITS": self.bits,
            "SIZE": len(self.entries.array),
            "input_t": given.cpp,
            "square_t": f"ap_uint<{max(square.bit_length(), 1)}>",
            "total_t": f"ap_uint<{longest}>",
            "entry_t": f"ap_uint<{largest.bit_length()}>",
            "output_t": output.cpp,
        }
        whole = covers(self.size, channels)
        if whole:
            del config["BELOW"], config["ABOVE"]
            ahead = words
        schedule = Schedule(
            pixels * (words + ahead),
            ((Loops(0, ((pixels, words + ahead), (words, 1))),),),
            (Loops(ahead, ((pixels, words + ahead), (words, 1))),),
        )
        arrays = {"entries": integer_array(self.entries.array)}
        cost = Cost(
            ((lanes, given.width, given.width), (lanes, given.width, largest.bit_length())),
            ((len(self.entries.array), largest.bit_length()),) * (1 if whole else lanes),
            lut=lanes * longest * (1 if whole else self.size + longest.bit_length()),
        )
        port = Port(given, lanes)
        function = "lrn_whole" if whole else "lrn"
        return [Kernel(function, "ops/lrn.h", config, (port,), Port(output, lanes), schedule, arrays, cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for size, offset, left, bits, shape in (
            (3, 40, 0, 3, (2, 6)),
            (4, 1, 2, 5, (4,)),
            (9, 700, 1, 2, (2, 3, 4)),
            (11, 9, 0, 4, (3, 6)),
        ):
            given = TensorType.of(shape, FixedType(int(rng.integers(3, 9)), 3, bool(rng.integers(2))))
            most = cls(size, offset, left, 1, bits, Constant([1]), 0).most(given)
            octave = offset.bit_length()
            count = (most.bit_length() - octave + 1) << bits
            entries = Constant(rng.integers(1, 500, count))
            yield Sample(cls(size, offset, left, octave, bits, entries, int(rng.integers(0, 9))), (given,))


@importer("LRN")
def import_lrn(importing: Importer, node: OnnxNode) -> None:
    """Over ONNX's axis 1, which is brought to the end and back."""
    value = importing.value(node, 0)
    rank = len(importing.shape(value))
    size = int(node.attribute("size", 0))
    alpha, beta, bias = node.attribute("alpha", 1e-4), node.attribute("beta", 0.75), node.attribute("bias", 1.0)
    if size < 1:
        raise ModelError(f"has a size of {size}, 1 is the least")
    if not (alpha > 0 and bias > 0 and math.isfinite(alpha * bias * beta)):
        raise UnsupportedOperator(f"has alpha {alpha}, beta {beta} and bias {bias}; alpha and bias must be above 0")
    normalize = Lrn(size, alpha, beta, bias)
    if rank == 1:
        importing.bind(node, importing.add(node, normalize, value))
        return
    value = importing.add(node, Transpose((*range(1, rank), 0)), value, part="channels_last")
    value = importing.add(node, normalize, value)
    importing.bind(node, importing.add(node, Transpose((rank - 1, *range(rank - 1))), value, part="channels_first"))
