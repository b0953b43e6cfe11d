"""Quantization in real numbers to fixed-point formats that may differ from element to element, as HGQ2 trains them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.qonnx import QONNX
from toolchain.ir import Array, Constant, Node, Overflow, Rounding, Shape
from toolchain.ir.rounding import round_real
from toolchain.ops.base import Operator, importer, operator
from toolchain.ops.fake_quantize import FakeQuantize, ranked

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering

WIDEST = 32
OVERFLOWS = (Overflow.WRAP, Overflow.SAT, Overflow.SAT_SYM)


@operator
@dataclass(frozen=True)
class FixedQuantize(Operator):
    """y = overflow(round(x * 2**fraction)) * 2**-fraction, in `magnitude` bits beside the sign where there is one.

    The constants have the rank of x and sizes that broadcast to it. An element of no bits is 0. What wraps here wraps
    in the integer program too.
    """

    signs: Constant
    magnitudes: Constant
    fractions: Constant
    rounding: Rounding
    overflow: Overflow

    @classmethod
    def of(cls, formats: Sequence[Array], rounding: Rounding, overflow: Overflow) -> FixedQuantize:
        """From HGQ2's k, i and f. Elements of no bits, or of a sign alone that nothing takes, all become alike."""
        signs, integers, fractions = np.broadcast_arrays(*(v.astype(np.int64) for v in formats))
        magnitudes = integers + fractions
        alive = (magnitudes > 0) | ((magnitudes == 0) & (signs > 0) & (overflow != Overflow.SAT_SYM))
        coarsest = fractions[alive].min() if alive.any() else 0
        signs, magnitudes = (np.where(alive, v, 0) for v in (signs, magnitudes))
        fractions = np.where(alive, fractions, coarsest)
        return cls(Constant(signs), Constant(magnitudes), Constant(fractions), rounding, overflow)

    @property
    def widths(self) -> Array:
        return np.asarray(self.signs.array + self.magnitudes.array)

    @property
    def is_uniform(self) -> bool:
        """Is there one format for all elements?"""
        return all((c.array == c.array.flat[0]).all() for c in (self.signs, self.magnitudes, self.fractions))

    @property
    def is_per_channel(self) -> bool:
        """Do formats depend on the last axis only?"""
        return all(size == 1 for size in self.signs.shape[:-1])

    @property
    def finest(self) -> int:
        """Fraction bits that hold all results."""
        return int(self.fractions.array.max())

    @property
    def limits(self) -> tuple[Array, Array]:
        """The lowest and the highest level of each element."""
        count = 1 << self.magnitudes.array
        return self.signs.array * ((self.overflow == Overflow.SAT_SYM) - count), count - 1

    def shape(self, *inputs: Shape) -> Shape:
        sizes = self.signs.shape
        if len(sizes) != len(inputs[0]) or np.broadcast_shapes(sizes, inputs[0]) != inputs[0]:
            raise ModelError(f"has formats of shape {list(sizes)} for {list(inputs[0])}")
        return inputs[0]

    def evaluate(self, *inputs: Array) -> Array:
        fractions, (low, high) = self.fractions.array, self.limits
        levels = round_real(np.ldexp(inputs[0].astype(np.float64), fractions), self.rounding)
        wraps = self.overflow == Overflow.WRAP
        levels = np.mod(levels - low, high - low + 1) + low if wraps else np.clip(levels, low, high)
        return np.asarray(np.ldexp(levels, -fractions) + 0.0)

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        back = np.argsort(axes)
        return self._changed(lambda formats: formats.transpose(back))

    def _changed(self, change: Callable[[Array], Array]) -> FixedQuantize:
        parts = (Constant(change(one.array)) for one in (self.signs, self.magnitudes, self.fractions))
        return FixedQuantize(next(parts), next(parts), next(parts), self.rounding, self.overflow)

    def simplified(self) -> FixedQuantize | FakeQuantize:
        """A FakeQuantize where one format does that does not wrap."""
        if not self.is_uniform:
            return self
        ones = (1,) * len(self.signs.shape)
        if self.overflow == Overflow.WRAP:
            return self._changed(lambda formats: formats.flat[:1].reshape(ones))
        low, high = (int(limit.flat[0]) for limit in self.limits)
        return FakeQuantize(Constant(np.full(ones, 2.0**-self.finest)), low, high, rounding=self.rounding)

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        from toolchain.quantization.fixed_points import fixed

        return fixed(lowering, node, self, inputs[0])


@importer(f"{QONNX}.FixedQuant")
def import_fixed_quant(importing: Importer, node: OnnxNode) -> None:
    """x and HGQ2's k, i, f: sign, integer bits without it, fraction bits. The Keras front end writes it."""
    formats = [importing.constant(node, k, "a format") for k in (1, 2, 3)]
    if not all(np.isfinite(v).all() and (v == np.rint(v)).all() for v in formats):
        raise UnsupportedOperator("has a format that is no whole number")
    rounding, overflow = node.attribute("rounding_mode", "RND"), node.attribute("overflow_mode", "SAT")
    if rounding not in list(Rounding) or overflow not in OVERFLOWS:
        raise UnsupportedOperator(f"has the modes {rounding!r} and {overflow!r}, which are not supported")
    value = importing.value(node, 0)
    rank = len(importing.shape(value))
    real = FixedQuantize.of([ranked(v, rank) for v in formats], Rounding(rounding), Overflow(overflow))
    check(real)
    importing.bind(node, importing.add(node, real.simplified(), value))


def check(real: FixedQuantize) -> None:
    """Raises UnsupportedOperator for formats that the integer program does not have."""
    if not np.isin(real.signs.array, (0, 1)).all():
        raise UnsupportedOperator("has a sign that is neither 0 nor 1")
    widths = real.widths
    if not widths.any():
        raise UnsupportedOperator("quantizes everything to 0")
    if widths.max() > WIDEST or np.abs(real.fractions.array).max() > 2 * WIDEST:
        raise UnsupportedOperator(f"has {int(widths.max())} bits, up to {WIDEST} are supported")
    if real.overflow == Overflow.SAT_SYM and len(np.unique(real.signs.array[widths > 0])) > 1:
        raise UnsupportedOperator("has SAT_SYM with and without sign in one tensor; use SAT or WRAP")
