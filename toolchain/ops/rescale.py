"""Requantize by a real-valued scale: a 31-bit multiplier and a shift, with a named rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from toolchain.codegen.elementwise import elementwise
from toolchain.codegen.kernel import Cost, Folding, Kernel, integer_array
from toolchain.errors import PassError
from toolchain.ir import Array, Constant, FixedType, Meaning, Rounding, Shape, TensorType
from toolchain.ir.rounding import round_shift
from toolchain.ops.base import Operator, Sample, operator

FRACTION = 31
"""A multiplier m stands for m * 2**-31, in [1/2, 1) where it is not 0."""


class ScaleRounding(StrEnum):
    """How x * m * 2**-31 * 2**shift becomes an integer. The three differ on real data."""

    DOUBLE = "double"
    """Half up to x * m * 2**-31 after a left shift, then right shift, half away from zero (gemmlowp, LiteRT)."""
    SINGLE = "single"
    """One product, one shift, half up."""
    HALF_EVEN = "half_even"
    """One product, one shift, half to even."""


@operator
@dataclass(frozen=True)
class Rescale(Operator):
    """y = clip(offset + round(x * 2**before * multiplier * 2**(shift - 31)), low, high).

    One multiplier and shift for the tensor or one per entry of the last axis; without `low` and `high` nothing is
    clipped. The result has binary point 0 and, if it leaves the program, a meaning. LiteRT's int32 wraps where the
    shifted x would pass 32 bits; here nothing does.
    """

    multipliers: Constant
    shifts: Constant
    low: int | None = None
    high: int | None = None
    offset: int = 0
    before: int = 0
    rounding: ScaleRounding = ScaleRounding.DOUBLE
    meaning: Meaning | None = None

    @classmethod
    def identity(cls, offset: int, low: int, high: int, meaning: Meaning | None = None) -> Rescale:
        """y = clip(x + offset, low, high)."""
        return cls(Constant([1 << (FRACTION - 1)]), Constant([1]), low, high, offset, meaning=meaning)

    def shape(self, *inputs: Shape) -> Shape:
        channels = inputs[0][-1] if inputs[0] else 1
        sizes = {self.multipliers.shape, self.shifts.shape}
        if len(sizes) != 1 or self.multipliers.shape not in ((1,), (channels,)):
            raise PassError(f"has multipliers and shifts of shapes {sorted(sizes)} for {channels} channels")
        return inputs[0]

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        if set(given.fractions) != {0}:
            raise PassError("takes integers with binary point 0")
        if self.multipliers.array.min() < 0 or self.multipliers.array.max() >= 1 << FRACTION:
            raise PassError(f"has multipliers outside 0 to 2**{FRACTION} - 1")
        ends = self._rounded(np.array([[given.low], [given.high]], dtype=object)) + self.offset
        low, high = int(ends[0].min()), int(ends[1].max())  # rounding is monotone in all modes
        shape = self.shape(given.shape)
        if self.low is None or self.high is None:
            return TensorType.holding(shape, low, high, (0,))
        held = TensorType.holding(shape, self.low, self.high, (0,))
        low, high = (min(max(end, self.low), self.high) for end in (low, high))
        return TensorType(shape, held.width, held.signed, (0,), low, high, self.meaning)

    @property
    def left(self) -> Array:
        return np.maximum(self.shifts.array, 0) + self.before

    @property
    def right(self) -> Array:
        return np.maximum(-self.shifts.array, 0)

    def _rounded(self, values: Array) -> Array:
        factors = self.multipliers.array.astype(object) * 2 ** self.left.astype(object)
        products = values * factors.astype(values.dtype)
        if self.rounding == ScaleRounding.DOUBLE:
            return round_shift(round_shift(products, FRACTION, Rounding.RND), self.right, Rounding.RND_INF)
        single = Rounding.RND if self.rounding == ScaleRounding.SINGLE else Rounding.RND_CONV
        return round_shift(products, FRACTION + self.right, single)

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0] if inputs[0].dtype == object else inputs[0].astype(np.int64)
        result = self._rounded(values) + self.offset
        if self.low is not None and self.high is not None:
            result = result.clip(self.low, self.high)
        return np.asarray(result.astype(inputs[0].dtype))

    def bound(self, *inputs: TensorType) -> int:
        (given,) = inputs
        factor = max(int(m) << int(s) for m, s in zip(self.multipliers.array, self.left, strict=True))
        half = 1 << FRACTION + int(self.right.max()) - 1
        return given.magnitude * max(factor, 1) + half + abs(self.offset)

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self if self.multipliers.shape == (1,) else None

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        lanes, channels = folding.lanes, len(self.multipliers.array)
        left, right = int(self.left.max()), int(self.right.max())
        factor = given.width + (not given.signed)
        # Bits for the half that rounding adds, the offset, and the limits.
        wide = max(factor + left + FRACTION, FRACTION + right, output.width, abs(self.offset).bit_length()) + 3
        config: dict[str, int | str] = {
            "OFFSET": self.offset,
            "LOW": output.low if self.low is None else self.low,
            "HIGH": output.high if self.high is None else self.high,
            "ROUNDING": list(ScaleRounding).index(self.rounding),
            "signed_t": f"ap_int<{factor}>",
            "wide_t": f"ap_int<{wide}>",
        }
        powers = all(int(m) & (int(m) - 1) == 0 for m in self.multipliers.array)
        cost = Cost(() if powers else ((lanes, factor, FRACTION + 1),), lut=lanes * 3 * (factor + FRACTION))
        if channels == 1:
            config |= {"MULTIPLIER": int(self.multipliers.array[0]), "LEFT": left, "RIGHT": right, "PERIOD": 1}
            return [elementwise("rescale", inputs, output, folding, config, cost=cost)]
        config["PERIOD"] = channels // lanes
        arrays = {
            "multipliers": integer_array(self.multipliers.array),
            "left": integer_array(self.left),
            "right": integer_array(self.right),
        }
        cost += Cost(memories=((channels // lanes, lanes * (FRACTION + left.bit_length() + right.bit_length())),))
        return [elementwise("rescale", inputs, output, folding, config, arrays, cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for rounding in ScaleRounding:
            for channels in (1, 6):
                size = 6 if channels > 1 else int(rng.integers(1, 7))
                multipliers = rng.integers(1 << FRACTION - 1, 1 << FRACTION, channels)
                if channels > 1:
                    multipliers[:2] = 0, (1 << FRACTION) - 1
                shifts = rng.integers(-12, 3, channels)
                width, signed = int(rng.integers(2, 24)), bool(rng.integers(2))
                given = TensorType.of((3, 2, size), FixedType(width, width, signed))
                low, high = (-100, 101) if rng.integers(2) else (None, None)
                offset, before = int(rng.integers(-9, 9)), int(rng.integers(0, 3))
                operator = cls(Constant(multipliers), Constant(shifts), low, high, offset, before, rounding)
                yield Sample(operator, (given,))
            # Ties: halves after the first product, and after the shift behind it.
            given = TensorType.of((2, 8), FixedType(8, 8))
            yield Sample(cls(Constant([1 << 30]), Constant([-3]), rounding=rounding), (given,))
        yield Sample(cls.identity(-128, -128, 127), (TensorType.of((4,), FixedType(8, 8, False)),))
