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


def _decay_below(x: Decimal) -> Decimal:
    return EXACT.subtract(_decay(x), Decimal(1))


def _softplus_above(x: Decimal) -> Decimal:
    return EXACT.ln(EXACT.add(Decimal(1), _decay(x)))


def _tanh_of_softplus(x: Decimal) -> Decimal:
    above = EXACT.add(max(x, Decimal(0)), _softplus_above(x.copy_abs()))
    return _tanh(above)


def _softsign(x: Decimal) -> Decimal:
    return EXACT.divide(x, EXACT.add(Decimal(1), x.copy_abs()))


def _erf(x: Decimal) -> Decimal:
    """2 / sqrt(pi) * exp(-x^2) * sum of 2^n x^(2n+1) / (1 * 3 * ... * (2n+1)), whose terms all have one sign."""
    if x.copy_abs() > ERF_SATURATES:
        return Decimal(1).copy_sign(x)
    term = total = x
    odd = 1
    square = EXACT.multiply(x, x)
    while term.copy_abs() > total.copy_abs().scaleb(-EXACT.prec):
        odd += 2
        term = EXACT.divide(EXACT.multiply(term, EXACT.multiply(Decimal(2), square)), Decimal(odd))
        total = EXACT.add(total, term)
    return EXACT.divide(EXACT.multiply(EXACT.multiply(Decimal(2), _decay(square)), total), EXACT.sqrt(PI))


def _normal(x: Decimal) -> Decimal:
    """The normal distribution, by which Gelu multiplies."""
    return EXACT.divide(EXACT.add(Decimal(1), _erf(EXACT.divide(x, EXACT.sqrt(Decimal(2))))), Decimal(2))


def _normal_by_tanh(x: Decimal) -> Decimal:
    """The approximation of it that Gelu's attribute asks for."""
    cube = EXACT.multiply(EXACT.multiply(x, x), EXACT.multiply(x, Decimal("0.044715")))
    inner = EXACT.multiply(EXACT.sqrt(EXACT.divide(Decimal(2), PI)), EXACT.add(x, cube))
    return EXACT.divide(EXACT.add(Decimal(1), _tanh(inner)), Decimal(2))


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
ERF_SATURATES = 12
"""Beyond, 1 - erf is below 2^-200."""
FUNCTIONS: dict[str, Callable[[Decimal], Decimal]] = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "exp(-x)": _decay,
    "exp(x)": EXACT.exp,
    "exp(-x)-1": _decay_below,
    "log(1+exp(-x))": _softplus_above,
    "tanh(softplus(x))": _tanh_of_softplus,
    "x/(1+|x|)": _softsign,
    "erf": _erf,
    "normal": _normal,
    "normal by tanh": _normal_by_tanh,
}


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
