"""Fixed-point types and their exact arithmetic: the one definition every engine and code generator follows.

A value is a raw integer ``r`` of ``width`` bits which means ``r * 2**(integer - width)``. The truth is
``ap_fixed<W, I, Q, O>`` of the vendor's headers (AMD UG902 "C++ arbitrary precision fixed-point types", UG1399
"Arbitrary precision fixed-point data types"; the code is ``ap_fixed_base::operator=`` in ``ap_fixed_base.h``):
round first, then bring into range.

The headers differ from the documented meaning in three places, and this module follows them, because C simulation
and hardware do what the headers do:

* ``WRAP_SM`` takes the sign from the lowest deleted bit *before* rounding. When rounding carries out of all ``W``
  kept bits (``W`` ones become zero) and the result is out of range, the documented order (round, then wrap) would
  use the bit after rounding, which is the opposite one. So the result is 0 where it should be -1 and the reverse.
  Hence ``requantize`` is not ``apply_overflow(round_shift(...))`` for this mode.
* ``SAT_SYM`` on a signed type of one bit saturates to -1, although the symmetric range holds 0 only.
* ``ap_ufixed`` with ``WRAP_SM`` ends the simulation with ``exit(1)``. Such a type is refused here.

Generated C++ has to know one thing more: where a shift is larger than the source's width and the rounding is not
TRN, the headers read a bit that is not there (``op.V.get_bit(F2 - _AP_F - 1)``). The result is right, but without
``NDEBUG`` an assertion aborts the simulation. Assign such a value to a wider type of the same binary point first.
"""

import operator
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from toolchain.errors import ConfigurationError, InputError
from toolchain.ir.integers import INT64_HIGH, IntegerArray, as_float, elementwise, integers, smallest
from toolchain.ir.rounding import Rounding, round_shift, shift_counts

__all__ = [
    "FixedType",
    "IntegerArray",
    "Overflow",
    "Rounding",
    "apply_overflow",
    "dequantize",
    "quantize",
    "requantize",
    "round_shift",
]

MAX_WIDTH = 1024
"""``AP_INT_MAX_W`` of the vendor's headers, unless redefined."""

_MAX_FRACTION = 1022  # the step and its inverse stay normal float64 numbers
_Mode = TypeVar("_Mode", bound=StrEnum)
_EXAMPLE = "Write for example fixed<8,3,RND,SAT> or ufixed<8,3>."


class Overflow(StrEnum):
    """What happens to a value outside the target's range (``ap_o_mode``, UG1399)."""

    WRAP = "WRAP"
    """Keep the low bits, the default of ap_fixed."""
    SAT = "SAT"
    """The nearest limit."""
    SAT_ZERO = "SAT_ZERO"
    """Zero."""
    SAT_SYM = "SAT_SYM"
    """The nearest limit of the symmetric range: the lowest signed value is never produced, even from itself."""
    WRAP_SM = "WRAP_SM"
    """Sign-magnitude wrap: the lowest deleted bit becomes the sign; if that changes it, all bits are inverted."""


@dataclass(frozen=True)
class FixedType:
    """The number format ``ap_[u]fixed<width, integer, rounding, overflow>``.

    Args:
        width: bits in all, 1 to 1024.
        integer: bits above the binary point, the sign included; may be negative or above the width.
        signed: two's complement, or never negative.
        rounding: how a value is narrowed into this type.
        overflow: what a value outside the range becomes.

    Raises:
        ConfigurationError: a field is impossible, or an unsigned type asks for ``WRAP_SM``, which the vendor's
            headers do not support.
    """

    width: int
    integer: int
    signed: bool = True
    rounding: Rounding = Rounding.TRN
    overflow: Overflow = Overflow.WRAP

    def __post_init__(self) -> None:
        for field in ("width", "integer"):
            value = getattr(self, field)
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise ConfigurationError(f"{field} of a fixed-point type must be an integer, not {value!r}")
            object.__setattr__(self, field, operator.index(value))  # NumPy integers become plain ones
        object.__setattr__(self, "signed", bool(self.signed))
        object.__setattr__(self, "rounding", _mode(Rounding, self.rounding))
        object.__setattr__(self, "overflow", _mode(Overflow, self.overflow))
        if not 1 <= self.width <= MAX_WIDTH:
            raise ConfigurationError(f"width {self.width} of a fixed-point type is outside 1 to {MAX_WIDTH}")
        if abs(self.fraction) > _MAX_FRACTION:
            raise ConfigurationError(
                f"a fixed-point type of width {self.width} with {self.integer} integer bits has a step of "
                f"2**{-self.fraction}, which float64 cannot hold"
            )
        if self.overflow is Overflow.WRAP_SM and not self.signed:
            raise ConfigurationError(
                f"WRAP_SM needs a signed type, and ufixed<{self.width},{self.integer}> is unsigned",
                fix="Choose WRAP, SAT or a signed type; ap_ufixed does not support AP_WRAP_SM.",
            )

    @property
    def fraction(self) -> int:
        """Bits below the binary point; negative when the step is above 1."""
        return self.width - self.integer

    @property
    def low(self) -> int:
        """Lowest raw integer."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Highest raw integer."""
        return (1 << (self.width - self.signed)) - 1

    @property
    def step(self) -> float:
        """Value of the raw integer 1, exactly."""
        return float(2.0**-self.fraction)

    @property
    def cpp(self) -> str:
        """The C++ type, such as ``ap_fixed<8, 3, AP_RND, AP_SAT>``."""
        return f"ap_{self._name}<{self.width}, {self.integer}, AP_{self.rounding}, AP_{self.overflow}>"

    @property
    def _name(self) -> str:
        return "fixed" if self.signed else "ufixed"

    def __str__(self) -> str:
        """Always the full form, such as ``fixed<8,3,RND,SAT>``; `parse` reads it back."""
        return f"{self._name}<{self.width},{self.integer},{self.rounding},{self.overflow}>"

    @classmethod
    def parse(cls, text: str) -> "FixedType":
        """Reads ``fixed<8,3,RND,SAT>``, ``ufixed<8,3>`` or the C++ spelling ``ap_fixed<8, 3, AP_RND, AP_SAT, 0>``.

        The modes are optional and default to ap_fixed's own, TRN and WRAP.

        Raises:
            ConfigurationError: the text is anything else; the message names the part that is wrong.
        """
        if not isinstance(text, str):
            raise ConfigurationError(f"a fixed-point type is a text, not {text!r}", fix=_EXAMPLE)
        shown = text if len(text) <= 80 else text[:77] + "..."

        def wrong(reason: str) -> ConfigurationError:
            return ConfigurationError(f"fixed-point type {shown!r}: {reason}", fix=_EXAMPLE)

        match = re.fullmatch(r"\s*(?:ap_)?(u?)fixed\s*<([^<>]*)>\s*", text)
        if match is None:
            raise wrong("it is not of the form fixed<...> or ufixed<...>")
        parts = [part.strip() for part in match[2].split(",")]
        if not 2 <= len(parts) <= 5:
            raise wrong(f"it has {len(parts)} of the 2 to 4 parts width, integer bits, rounding, overflow")
        numbers = []
        for name, part in zip(("width", "number of integer bits"), parts[:2], strict=True):
            if not re.fullmatch(r"[+-]?[0-9]{1,6}", part):
                raise wrong(f"{part!r} is no {name}")
            numbers.append(int(part))
        if len(parts) == 5 and parts[4] != "0":
            raise wrong("a fifth part (saturation bits) other than 0 is not supported")
        try:
            rounding = _mode(Rounding, parts[2]) if len(parts) > 2 else Rounding.TRN
            overflow = _mode(Overflow, parts[3]) if len(parts) > 3 else Overflow.WRAP
            return cls(numbers[0], numbers[1], match[1] != "u", rounding, overflow)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"fixed-point type {shown!r}: {error.message}", fix=error.fix or _EXAMPLE
            ) from None


def apply_overflow(raw: npt.ArrayLike, width: int, signed: bool, overflow: Overflow) -> IntegerArray:
    """Brings integers into the range of a type of ``width`` bits, as an ap_fixed of equal fraction bits would.

    Args:
        raw: integers of any shape; any NumPy integer type, or object holding Python integers.
        width: bits of the target.
        signed: whether the target is signed.
        overflow: what an integer outside becomes. ``SAT_SYM`` on an unsigned target equals ``SAT``; on a signed
            target of one bit it also equals ``SAT`` (see the module's text).

    Returns:
        Same shape; int64 when every result fits, else object (Python integers).

    Raises:
        ConfigurationError: impossible width, or ``WRAP_SM`` on an unsigned target.
        TypeError: ``raw`` does not hold integers.
    """
    values = integers(raw).copy()  # a result that shares memory with the argument would be a trap
    return _overflowed(values, values, FixedType(width, width, signed, Rounding.TRN, overflow))


def requantize(raw: npt.ArrayLike, shift: int | npt.ArrayLike, type: FixedType) -> IntegerArray:
    """The assignment ``target = source`` of ap_fixed: rounds away ``shift`` bits, then brings into range.

    Args:
        raw: integers of any shape; any NumPy integer type, or object holding Python integers.
        shift: source's fraction bits minus the target's, as in `round_shift`.
        type: the target; only its width, sign and modes matter.

    Returns:
        Broadcast shape; int64 when every result fits, else object (Python integers). The result depends on the
        value alone, not on the width of the type it came from.

    Raises:
        ConfigurationError: a left shift of more than 65,536 bits.
        TypeError: ``raw`` or ``shift`` does not hold integers.
    """
    rounded = round_shift(raw, shift, type.rounding)
    if type.overflow is Overflow.WRAP_SM and type.rounding is not Rounding.TRN:
        # The header looks at the deleted bit before the carry of the rounding reaches it: see the module's text.
        return _overflowed(rounded, round_shift(raw, shift, Rounding.TRN), type)
    return _overflowed(rounded, rounded, type)


def quantize(values: npt.ArrayLike, type: FixedType) -> IntegerArray:
    """Turns real inputs into raw integers: ``clip(floor(x * 2**fraction + 1/2), low, high)``, as if exactly.

    This is the entry to the integer program. It saturates and rounds half up, but half to even for a type with
    ``RND_CONV``; the other modes say how values *inside* the program are narrowed and have no part in it.

    Args:
        values: float16, float32 or float64 of any shape, in the model's own units; widened to float64 first.
        type: the target.

    Returns:
        Same shape; int64 when every result fits, else object (Python integers).

    Raises:
        InputError: NaN or infinity, with the first index; or an element type that float64 does not contain.
    """
    real = _finite(values)
    with np.errstate(over="ignore", under="ignore"):
        # Exact but for magnitudes far above any limit (infinity, saturates) or far below 1/2 (zero either way).
        scaled = np.ldexp(real, type.fraction)
    floor = np.floor(scaled)
    with np.errstate(invalid="ignore"):  # infinity - infinity, saturated below
        # Adding 1/2 to `scaled` could round across the tie. The remainder is exact, or so close to 1 that it
        # rounds to something still above 1/2.
        nearest = np.asarray(floor + (scaled - floor >= 0.5))
        if type.rounding is Rounding.RND_CONV:
            nearest = np.rint(scaled)
    bits = type.width - type.signed
    above = nearest >= (2.0**bits if bits < 1024 else np.inf)
    below = nearest < float(type.low)
    inside = np.where(above | below, 0.0, nearest)
    if bits <= 63:
        result: IntegerArray = inside.astype(np.int64)
        result[above] = type.high
        result[below] = type.low
        return result
    exact = elementwise(int, inside).astype(np.object_)
    exact[above] = type.high
    exact[below] = type.low
    return smallest(exact)


def dequantize(raw: npt.ArrayLike, fraction: int | npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Gives the real values ``raw * 2**-fraction``, exactly.

    Args:
        raw: integers of any shape; any NumPy integer type, or object holding Python integers.
        fraction: bits below the binary point; one integer, or integers that broadcast with ``raw``.

    Raises:
        InputError: a value has more significant bits than float64 holds (53), or lies outside its range.
        TypeError: ``raw`` or ``fraction`` does not hold integers.
    """
    mantissa, exact = as_float(integers(raw))
    exponents = np.clip(-shift_counts(fraction), -5000, 5000)  # beyond, every number but zero is refused anyway
    with np.errstate(over="ignore", under="ignore"):
        result = np.asarray(np.ldexp(mantissa, exponents))
        exact = exact and bool((np.ldexp(result, -exponents) == mantissa).all())
    if not exact:
        raise InputError(
            "float64 cannot hold these values exactly: they need more than 53 significant bits or a larger exponent",
            fix="Take the raw integers instead (--raw), or choose a narrower output type.",
        )
    return result


def _mode(kind: type[_Mode], value: object) -> _Mode:
    try:
        return kind(str(value).removeprefix("AP_"))
    except ValueError:
        name = kind.__name__.lower()
        raise ConfigurationError(f"{str(value)!r} is no {name} mode; there are {', '.join(kind)}") from None


def _overflowed(raw: IntegerArray, before_rounding: IntegerArray, type: FixedType) -> IntegerArray:
    """``overflow_adjust`` of ap_fixed_base.h; ``before_rounding`` gives WRAP_SM its lowest deleted bit."""
    low, high = type.low, type.high
    if type.overflow is Overflow.SAT_SYM and type.signed and type.width > 1:
        low += 1  # a single bit keeps -1: see the module's text
    if raw.size == 0 or (low <= int(raw.min()) and int(raw.max()) <= high):
        return raw
    if high > INT64_HIGH or object in (raw.dtype, before_rounding.dtype):
        raw, before_rounding = raw.astype(np.object_), before_rounding.astype(np.object_)
    match type.overflow:
        case Overflow.SAT | Overflow.SAT_SYM:
            result = np.clip(raw, low, high)
        case Overflow.SAT_ZERO:
            result = np.where((raw < low) | (raw > high), 0, raw)
        case Overflow.WRAP:
            result = _wrapped(raw, type)
        case Overflow.WRAP_SM:
            wrapped = _wrapped(raw, type)
            sign = (before_rounding >> type.width) & 1 == 1
            inverted = ((raw < low) | (raw > high)) & (sign != (wrapped < 0))
            result = np.where(inverted, ~wrapped, wrapped)
    result = np.asarray(result)
    return smallest(result) if result.dtype == np.object_ else result


def _wrapped(raw: IntegerArray, type: FixedType) -> IntegerArray:
    """The low bits, read as the type reads them."""
    bits = raw & ((1 << type.width) - 1)
    sign = 1 << (type.width - 1)
    return np.asarray((bits ^ sign) - sign) if type.signed else np.asarray(bits)


def quantize_by_scale(values: npt.ArrayLike, type: FixedType, scale: float, zero_point: int) -> IntegerArray:
    """``clip(round(x / scale) + zero_point, low, high)``, half away from zero, as LiteRT enters a quantized model.

    Half to even, as ONNX does it, for a type with ``RND_CONV``. The quotient is the float32 one of float32 numbers,
    which is not the exact one. Raises as `quantize` does.
    """
    with np.errstate(over="ignore", under="ignore"):
        quotients = (_finite(values).astype(np.float32) / np.float32(scale)).astype(np.float64)
        if type.rounding is Rounding.RND_CONV:
            nearest = np.rint(quotients) + zero_point
        else:
            nearest = np.copysign(np.floor(np.abs(quotients) + 0.5), quotients) + zero_point
    return np.asarray(np.clip(nearest, type.low, type.high)).astype(np.int64)


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Real inputs as float64. Raises InputError on NaN, infinity, and element types that float64 does not contain."""
    array = np.asarray(values)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise InputError(
            f"cannot quantize elements of type {array.dtype}",
            fix="Give float32 or float64; integers enter the program as they are.",
        )
    real: npt.NDArray[np.float64] = array.astype(np.float64)
    finite = np.isfinite(real)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise InputError(
            f"NaN or infinity in the inputs: the first is {real[index]} at index {list(index)}",
            fix="Remove or replace it; hardware has no number for it.",
        )
    return real
