"""How the integers of a program lie in memory, and how C writes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolchain.errors import PassError
from toolchain.hardware.terminals import LANE_BITS, lane_bits
from toolchain.ir import Array, TensorType


@dataclass(frozen=True)
class Storage:
    """A C integer type."""

    bits: int
    signed: bool

    @property
    def ctype(self) -> str:
        return f"{'' if self.signed else 'u'}int{self.bits}_t"

    @property
    def short(self) -> str:
        """For the names of functions: `s8`, `u16`."""
        return f"{'s' if self.signed else 'u'}{self.bits}"

    @property
    def bytes(self) -> int:
        return self.bits // 8

    @property
    def dtype(self) -> npt.DTypeLike:
        """Little-endian, as all supported processors have it."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bytes}")


def storage(type: TensorType) -> Storage:
    """The narrowest C type for the elements of a tensor. Raises PassError beyond 64 bits."""
    return Storage(lane_bits(type.width), type.signed)


def constant_storage(values: Array) -> Storage:
    """The narrowest signed C type for constants, unsigned where that is narrower."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for bits in LANE_BITS:
        if -(1 << bits - 1) <= low and high < 1 << bits - 1:
            return Storage(bits, True)
        if low >= 0 and high < 1 << bits:
            return Storage(bits, False)
    raise PassError(f"has a constant of {max(-low, high).bit_length() + 1} bits, C has integers of {LANE_BITS[-1]}")


def working_bits(bound: int) -> int:
    """32 or 64: the signed integers in which nothing up to a bound overflows. Raises PassError beyond them."""
    for bits in (32, 64):
        if bound < 1 << bits - 1:
            return bits
    raise PassError(f"computes with {bound.bit_length() + 1} bits, C has integers of {LANE_BITS[-1]}")


def literal(value: int, bits: int = 32) -> str:
    """A C constant of intN_t. The most negative number has no literal of its own."""
    if bits == 32:
        return f"({value + 1} - 1)" if value == -(1 << 31) else str(value)
    return f"(INT64_C({value + 1}) - 1)" if value == -(1 << 63) else f"INT64_C({value})"
