"""The softmax of quantized models, in the fixed-point arithmetic of LiteRT's reference kernels (gemmlowp's)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, Loops, Port, Schedule, integer_array
from toolchain.errors import PassError
from toolchain.ir import Array, Constant, FixedType, Rounding, Shape, TensorType
from toolchain.ir.rounding import round_shift
from toolchain.ops.base import Operator, Sample, operator

FRACTION = 31
SUM_BITS = 12
"""Integer bits of the sum of exponentials: so many channels, as powers of two, are possible."""
STEPS = 3
"""Newton-Raphson steps of the reciprocal."""
LARGEST = (1 << 31) - 1
OUTPUT_BITS = 8


@operator
@dataclass(frozen=True)
class FixedSoftmax(Operator):
    """p = clip(e * (1 / S) * 256, 0, 255), e = exponentials[max - x], S = sum of e: as LiteRT's reference computes it.

    e has 31 fraction bits, 0 beyond the table, and 19 in the sum; the reciprocal takes three Newton-Raphson steps.
    Every product is rounded half up, every shift half away from zero.
    """

    exponentials: Constant

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        given.fraction  # noqa: B018 - raises when there are several binary points
        table = self.exponentials.array
        if table.ndim != 1 or table[0] != LARGEST or table.min() < 0 or table.max() > LARGEST:
            raise PassError("has a table that does not begin with 1")
        if given.shape[-1] >= 1 << SUM_BITS:
            raise PassError(f"adds {given.shape[-1]} exponentials, {(1 << SUM_BITS) - 1} fit its sum")
        return TensorType.holding(given.shape, 0, (1 << OUTPUT_BITS) - 1, (0,))

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0].astype(np.int64)
        distance = values.max(axis=-1, keepdims=True) - values
        table = self.exponentials.array
        e = np.where(distance < len(table), table[np.minimum(distance, len(table) - 1)], 0)
        total = round_shift(e, SUM_BITS, Rounding.RND_INF).sum(axis=-1, keepdims=True)
        bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)  # of a number below 2**31, so exact
        inverse = reciprocal((total << (32 - bits)) - (1 << 31))
        over_unit = bits - (32 - SUM_BITS)
        p = round_shift(product(inverse, e), over_unit + FRACTION - OUTPUT_BITS, Rounding.RND_INF)
        return np.asarray(p.clip(0, (1 << OUTPUT_BITS) - 1).astype(inputs[0].dtype))

    def bound(self, *inputs: TensorType) -> int:
        return 1 << 62  # products of two numbers of 31 bits

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        lanes, channels = folding.lanes, given.shape[-1]
        pixels, words = math.prod(given.shape[:-1]), given.shape[-1] // lanes
        size = len(self.exponentials.array)
        config: dict[str, int | str] = {
            "PIXELS": pixels,
            "CHANNELS": channels,
            "LANES": lanes,
            "SIZE": size,
            "SUM_BITS": SUM_BITS,
            "STEPS": STEPS,
            "input_t": given.cpp,
            "output_t": output.cpp,
        }
        schedule = Schedule(
            pixels * words * 3,
            ((Loops(0, ((pixels, 3 * words), (words, 1))),),),
            (Loops(2 * words, ((pixels, 3 * words), (words, 1))),),
        )
        arrays = {"exponentials": integer_array(self.exponentials.array)}
        products = ((lanes, 32, 32), (3 * STEPS + 1, 32, 32))
        cost = Cost(products, memories=((size, FRACTION), (words, lanes * FRACTION)) * lanes, lut=2000 + lanes * 300)
        port = Port(given, lanes)
        return [
            Kernel("fixed_softmax", "ops/fixed_softmax.h", config, (port,), Port(output, lanes), schedule, arrays, cost)
        ]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for width, step, size, shape in ((8, 0.1, 256, (10,)), (9, 0.02, 100, (3, 4)), (8, 1.5, 9, (2, 2, 3))):
            raw = [exponential(-round(k * step * (1 << 26))) for k in range(size)]
            given = TensorType.of(shape, FixedType(width, width, bool(rng.integers(2))))
            yield Sample(cls(Constant(raw)), (given,))
        yield Sample(cls(Constant([LARGEST])), (TensorType.of((1,), FixedType(8, 8)),))


def product(a: Array, b: Array | int) -> Array:
    """a * b * 2**-31, half up."""
    sums: Array = a * b + (1 << (FRACTION - 1))
    return np.asarray(sums >> FRACTION)


def reciprocal(a: Array) -> Array:
    """1 / (1 + a) for a in [0, 1), 31 fraction bits each: Newton-Raphson from 48/17 - 32/17 d with d = (1 + a) / 2."""
    half = (a + LARGEST + 1) >> 1
    x = _constant(48 / 17, 29) + product(half, _constant(-32 / 17, 29))
    for _ in range(STEPS):
        rest = (1 << 29) - product(half, x)
        x = x + _saturated(product(x, rest) << 2)
    return _saturated(x << 1)


def _saturated(values: Array) -> Array:
    return np.asarray(values.clip(-LARGEST - 1, LARGEST))


def _constant(value: float, fraction: int) -> int:
    return math.floor(value * (1 << fraction) + 0.5)


def exponential(raw: int) -> int:
    """exp(raw * 2**-26) with 31 fraction bits for raw <= 0 above -32: Taylor's series on a quarter, then factors."""
    if raw == 0:
        return LARGEST
    quarter = 1 << 24
    part = (raw & (quarter - 1)) - quarter
    constant = _constant(math.exp(-1 / 8), FRACTION)
    x = (part << 5) + (1 << 28)
    square = _product(x, x)
    cube, fourth = _product(square, x), _product(square, square)
    third = _constant(1 / 3, FRACTION)
    tail = _shifted(_product(_shifted(fourth, 2) + cube, third) + square, 1)
    result = constant + _product(constant, x + tail)
    remainder = part - raw
    for exponent in range(-2, 5):
        if remainder >> (26 + exponent) & 1:
            result = _product(result, _constant(math.exp(-(2.0**exponent)), FRACTION))
    return result


def _product(a: int, b: int) -> int:
    return (a * b + (1 << (FRACTION - 1))) >> FRACTION


def _shifted(value: int, count: int) -> int:
    """Half away from zero."""
    return int(round_shift(np.int64(value), count, Rounding.RND_INF))
