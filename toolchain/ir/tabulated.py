"""Tables of mathematical functions: made again by every reader from their definition, and stored nowhere."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from functools import cache, cached_property

import numpy as np

from toolchain.errors import PassError
from toolchain.ir.constant import Array, Constant
from toolchain.ir.fixed import FixedType

LARGEST_INDEX, LARGEST_ENTRY, LARGEST_POINT = 12, 40, 16
"""Bits. 4,096 entries are the most that DESIGN section 4 allows; with more bits before the point an exponential leaves
what Decimal holds."""
EXACT = Context(prec=60)
"""Enough digits that no entry of up to 40 bits lies undecidably close to a rounding tie."""


def _sigmoid(x: Decimal) -> Decimal:
    return EXACT.divide(Decimal(1), EXACT.add(Decimal(1), EXACT.exp(-x)))


def _tanh(x: Decimal) -> Decimal:
    doubled = EXACT.exp(EXACT.multiply(Decimal(-2), x))
    return EXACT.divide(EXACT.subtract(Decimal(1), doubled), EXACT.add(Decimal(1), doubled))


def _decay(x: Decimal) -> Decimal:
    return EXACT.exp(-x)


FUNCTIONS: dict[str, Callable[[Decimal], Decimal]] = {"sigmoid": _sigmoid, "tanh": _tanh, "exp(-x)": _decay}


class Tabulated(Constant):
    """A function at every value of `index`, correctly rounded half up to `type` and saturated.

    Decimal arithmetic makes the same entries on every machine, so a program names the table in place of holding it.
    """

    def __init__(self, function: str, index: FixedType, type: FixedType) -> None:
        """Raises PassError for a function that is not known, or a table that is too large."""
        sizes = index.width > LARGEST_INDEX or type.width > LARGEST_ENTRY
        points = abs(index.integer) > LARGEST_POINT or max(abs(type.fraction), abs(index.fraction)) > LARGEST_ENTRY
        if function not in FUNCTIONS or sizes or points:
            raise PassError(f"there is no table of {function!r} for {index} with entries {type}")
        super().__init__(_entries(function, index, type))
        self.function = function
        self.index = index
        self.type = type

    @cached_property
    def digest(self) -> str:
        """The definition itself."""
        return f"{self.function} of {self.index} as {self.type}"


@cache
def _entries(function: str, index: FixedType, type: FixedType) -> Array:
    entries = []
    for pattern in range(1 << index.width):
        raw = pattern - (1 << index.width) if index.signed and pattern > index.high else pattern
        value = FUNCTIONS[function](EXACT.multiply(Decimal(raw), EXACT.power(Decimal(2), Decimal(-index.fraction))))
        scaled = EXACT.add(EXACT.multiply(value, EXACT.power(Decimal(2), Decimal(type.fraction))), Decimal("0.5"))
        entries.append(min(max(int(scaled.to_integral_value(rounding="ROUND_FLOOR")), type.low), type.high))
    return np.array(entries, dtype=np.int64)
