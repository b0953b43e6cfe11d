"""What a value of a graph is: a real tensor before quantization, an integer tensor after it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from toolchain.errors import PassError
from toolchain.ir.constant import Array
from toolchain.ir.fixed import FixedType, dequantize

Shape = tuple[int, ...]


def needed_width(low: int, high: int) -> tuple[int, bool]:
    """Fewest bits, and signedness, of an integer type that holds every integer in [low, high]."""
    if low >= 0:
        return max(1, high.bit_length()), False
    return max(max(high, 0).bit_length(), (-low - 1).bit_length()) + 1, True


@dataclass(frozen=True)
class RealType:
    """A tensor of real numbers. `shape` leaves out the batch dimension."""

    shape: Shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"real{list(self.shape)}"


@dataclass(frozen=True)
class Meaning:
    """What the integers of a model that brings its own quantization mean: scale * (r - zero_point).

    `scale` is a float32 number.
    """

    scale: float
    zero_point: int


@dataclass(frozen=True)
class TensorType:
    """A tensor of integers: raw integer r means r * 2**-fraction, or what `meaning` says.

    `shape` leaves out the batch dimension and is channels-last. `fractions` holds one number of fraction bits for the
    whole tensor or one for each entry of the last axis. `low` and `high` are the raw range that values are known to
    stay in; it may be tighter than the type. With a `meaning`, which matters where values enter and leave the program,
    the binary point is 0.
    """

    shape: Shape
    width: int
    signed: bool
    fractions: tuple[int, ...]
    low: int
    high: int
    meaning: Meaning | None = None

    def __post_init__(self) -> None:
        if self.meaning is not None and self.fractions != (0,):
            raise PassError(f"binary points {self.fractions} beside a scale")
        if len(self.fractions) not in (1, self.shape[-1] if self.shape else 1):
            raise PassError(f"{len(self.fractions)} binary points for a tensor of shape {self.shape}")
        if len(self.fractions) > 1 and len(set(self.fractions)) == 1:
            object.__setattr__(self, "fractions", self.fractions[:1])
        lowest, highest = self.fixed.low, self.fixed.high
        if not lowest <= self.low <= self.high <= highest:
            raise PassError(f"range [{self.low}, {self.high}] does not fit {self.fixed}")

    @classmethod
    def of(cls, shape: Shape, fixed: FixedType) -> TensorType:
        """The whole range of a scalar fixed-point type."""
        return cls(shape, fixed.width, fixed.signed, (fixed.fraction,), fixed.low, fixed.high)

    @classmethod
    def holding(cls, shape: Shape, low: int, high: int, fractions: tuple[int, ...]) -> TensorType:
        """The narrowest type for raw integers in [low, high]."""
        width, signed = needed_width(low, high)
        return cls(shape, width, signed, fractions, low, high)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def fixed(self) -> FixedType:
        """The fixed-point type; of several binary points the one with the largest values."""
        return FixedType(self.width, self.width - min(self.fractions), self.signed)

    @property
    def is_scalar(self) -> bool:
        """One binary point for the whole tensor?"""
        return len(self.fractions) == 1

    @property
    def fraction(self) -> int:
        """The one number of fraction bits; an error when there are several."""
        if not self.is_scalar:
            raise PassError(f"a single binary point is needed, the tensor has {sorted(set(self.fractions))}")
        return self.fractions[0]

    def real(self, raw: Array) -> Array:
        """What raw integers mean, float64. Raises InputError when float64 cannot hold one exactly."""
        if self.meaning is None:
            return dequantize(raw, self.fraction)
        return np.asarray((raw - self.meaning.zero_point) * np.float64(self.meaning.scale))

    @property
    def magnitude(self) -> int:
        """Largest absolute raw value."""
        return max(abs(self.low), abs(self.high))

    @property
    def cpp(self) -> str:
        """The vendor's type of one element."""
        return f"ap_{'' if self.signed else 'u'}int<{self.width}>"

    @property
    def format(self) -> str:
        """The fixed-point format without modes, which a value does not have: `ufixed<8,3>`."""
        return f"{'' if self.signed else 'u'}fixed<{self.width},{self.fixed.integer}>"

    def __str__(self) -> str:
        points = "" if self.is_scalar else f" points {list(self.fractions)}"
        if self.meaning is not None:
            points = f" scale {self.meaning.scale!r} zero {self.meaning.zero_point}"
        return f"{self.format}{list(self.shape)} in [{self.low}, {self.high}]{points}"


Type = RealType | TensorType
