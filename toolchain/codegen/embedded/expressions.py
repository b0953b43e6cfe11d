"""C expressions of the operators that work element by element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolchain.codegen.embedded.storage import literal, working_bits
from toolchain.codegen.embedded.writer import Tables
from toolchain.errors import PassError
from toolchain.ir import Array, Overflow, Rounding, TensorType
from toolchain.ops.add import Add
from toolchain.ops.affine import Affine
from toolchain.ops.base import Operator
from toolchain.ops.clip import Clip
from toolchain.ops.extremum import Extremum
from toolchain.ops.prelu import PRelu
from toolchain.ops.product import Product
from toolchain.ops.requantize import Requantize
from toolchain.ops.rescale import FRACTION, Rescale, ScaleRounding
from toolchain.ops.table import Table


@dataclass(frozen=True)
class Element:
    """One element on its way through an operator.

    `operands` are C expressions of type int32_t or int64_t (`bits`), `types` the operands' tensor types. `index` counts
    the elements of the tensor, `channel` those of its last axis; `name` is a C name that constants may begin with.
    """

    operator: Any
    operands: tuple[str, ...]
    types: tuple[TensorType, ...]
    output: TensorType
    bits: int
    index: str
    channel: str
    name: str
    tables: Tables

    def function(self, stem: str, *arguments: str) -> str:
        """A call of one of dct_integers.h."""
        return f"dct_{stem}_{self.bits}({', '.join(arguments)})"

    def number(self, value: int) -> str:
        return literal(int(value), self.bits)

    def left(self, operand: str, shift: int) -> str:
        """The operand with a binary point so many bits further left; only 0 can be shifted past the integer."""
        return self.function("left", operand, str(min(shift, self.bits - 1))) if shift else operand

    def constant(self, part: str, values: Array, bits: int = 0, kind: str = "parameters") -> str:
        """The entry of a constant that broadcasts to the tensor, as intN_t."""
        bits = bits or self.bits
        flat = np.asarray(values)
        if flat.size == 1:
            return literal(int(flat.ravel()[0]), bits)
        shape = self.types[0].shape
        per_channel = flat.shape[-1] == flat.size
        if not per_channel:
            flat = np.broadcast_to(flat, shape)
        table = self.tables.add(f"{self.name}_{part}", flat, kind)
        return f"(int{bits}_t){table.name}[{self.channel if per_channel else self.index}]"


Expression = Callable[[Element], str]
EXPRESSIONS: dict[type[Operator], Expression] = {}


def expresses(*operators: type[Operator]) -> Callable[[Expression], Expression]:
    """Registers the C expression of an operator."""

    def register(function: Expression) -> Expression:
        for one in operators:
            EXPRESSIONS[one] = function
        return function

    return register


def element_bits(operator: Operator, types: tuple[TensorType, ...]) -> int:
    """The integers in which an operator works. Raises PassError beyond 64 bits."""
    return working_bits(operator.bound(*types))


def rounded(element: Element, rounding: Rounding, operand: str, shifts: Array) -> str:
    """The operand without its lowest bits, so many as the shift of its channel."""
    right = "right_" if (shifts > 0).all() else ""
    inside = np.maximum(shifts, 1 - element.bits)  # beyond, only 0 can be shifted
    return element.function(f"{right}{rounding}".lower(), operand, element.constant("shifts", inside, 32))


@expresses(Requantize)
def _requantize(e: Element) -> str:
    op: Requantize = e.operator
    given, type = e.types[0], op.type
    shifts = np.array(op.shifts)
    value = rounded(e, type.rounding, e.operands[0], shifts)
    if not op.can_overflow(given):
        return value
    ends = e.number(op.lowest), e.number(type.high)
    match type.overflow:
        case Overflow.SAT | Overflow.SAT_SYM:
            return e.function("clamp", value, *ends)
        case Overflow.SAT_ZERO:
            return e.function("zero", value, *ends)
        case Overflow.WRAP:
            return e.function("wrap" if type.signed else "wrap_unsigned", value, str(type.width))
        case Overflow.WRAP_SM:
            truncated = rounded(e, Rounding.TRN, e.operands[0], shifts)
            return e.function("wrap_sm", value, truncated, str(type.width))
    raise PassError(f"has the overflow mode {type.overflow}")


@expresses(Add)
def _add(e: Element) -> str:
    a, b = (e.left(operand, shift) for operand, shift in zip(e.operands, e.operator.left, strict=True))
    return f"{a} {'-' if e.operator.subtract else '+'} {b}"


@expresses(Product)
def _product(e: Element) -> str:
    return " * ".join(e.operands)


@expresses(Extremum)
def _extremum(e: Element) -> str:
    a, b = (e.left(operand, shift) for operand, shift in zip(e.operands, e.operator.left, strict=True))
    return e.function("max" if e.operator.largest else "min", a, b)


@expresses(Clip)
def _clip(e: Element) -> str:
    (given,), value = e.types, e.operands[0]
    low, high = e.operator.limits(given)
    if low > given.low:
        value = e.function("max", value, e.number(low))
    if high < given.high:
        value = e.function("min", value, e.number(high))
    return value


@expresses(Affine)
def _affine(e: Element) -> str:
    op: Affine = e.operator
    value = e.operands[0]
    if not (op.scale.array == 1).all():
        value = f"{value} * {e.constant('scale', op.scale.array)}"
    if op.offset.array.any():
        value = f"{value} + {e.constant('offset', op.offset.array)}"
    return value


@expresses(PRelu)
def _prelu(e: Element) -> str:
    op: PRelu = e.operator
    (x,) = e.operands
    if e.types[0].low >= 0:
        return e.left(x, op.fraction or 0)
    return f"{x} >= 0 ? {e.left(x, op.fraction or 0)} : {x} * {e.constant('slopes', op.slopes.array)}"


@expresses(Table)
def _table(e: Element) -> str:
    op: Table = e.operator
    table = e.tables.add(f"{e.name}_entries", op.entries.array, "tables")
    return f"(int{e.bits}_t){table.name}[(uint32_t){e.operands[0]} & {len(op.entries.array) - 1}U]"


@expresses(Rescale)
def _rescale(e: Element) -> str:
    op: Rescale = e.operator
    factors = op.multipliers.array.astype(object) << op.left.astype(object)
    right = op.right
    product = f"{e.operands[0]} * {e.constant('factors', factors)}"
    if op.rounding == ScaleRounding.DOUBLE:
        value = rounded(e, Rounding.RND, product, np.array([FRACTION]))
        if right.any():
            value = rounded(e, Rounding.RND_INF, value, right)
    else:
        mode = Rounding.RND if op.rounding == ScaleRounding.SINGLE else Rounding.RND_CONV
        value = rounded(e, mode, product, FRACTION + right)
    if op.offset:
        value = f"{value} + {e.number(op.offset)}"
    if op.low is not None and op.high is not None:
        value = e.function("clamp", value, e.number(op.low), e.number(op.high))
    return value
