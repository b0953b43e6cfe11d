"""The one place where integers lose information: a binary point moves, then rounding, then overflow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, KernelArray, Port, Schedule
from toolchain.errors import PassError
from toolchain.ir import Array, FixedType, Node, Overflow, Rounding, Shape, TensorType
from toolchain.ir import fixed as arithmetic
from toolchain.ops.base import Operator, Sample, operator

if TYPE_CHECKING:
    from toolchain.simulation.render import Renderer


@operator
@dataclass(frozen=True)
class Requantize(Operator):
    """y = overflow(round(x * 2**-shift)), with one shift for the tensor or one per entry of the last axis.

    A negative shift is a left shift and loses nothing. Rounding and overflow are those of `type`.
    """

    type: FixedType
    shifts: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    @classmethod
    def between(cls, given: TensorType, type: FixedType) -> Requantize:
        """The one that brings a tensor of type `given` to the binary point, width and modes of `type`."""
        return cls(type, tuple(f - type.fraction for f in given.fractions))

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        if tuple(f - self.type.fraction for f in given.fractions) != self._shifts_like(given):
            raise PassError(f"shifts {self.shifts} do not lead from binary points {given.fractions} to {self.type}")
        low, high = self._rounded(given)
        if low < self.lowest or high > self.type.high:
            low, high = self._overflowed(low, high)
        return TensorType(given.shape, self.type.width, self.type.signed, (self.type.fraction,), low, high)

    def _shifts_like(self, given: TensorType) -> tuple[int, ...]:
        return self.shifts if len(self.shifts) == len(given.fractions) else self.shifts * len(given.fractions)

    def _rounded(self, given: TensorType) -> tuple[int, int]:
        """The range before overflow; rounding is monotone in all modes."""
        ends = np.array([[given.low], [given.high]], dtype=object)
        rounded = arithmetic.round_shift(ends, np.array(self.shifts), self.type.rounding)
        return int(rounded[0].min()), int(rounded[1].max())

    @property
    def lowest(self) -> int:
        """The lowest value that overflow leaves alone; a symmetric type of several bits gives up its lowest integer."""
        symmetric = self.type.overflow == Overflow.SAT_SYM and self.type.signed and self.type.width > 1
        return self.type.low + symmetric

    def _overflowed(self, low: int, high: int) -> tuple[int, int]:
        if self.type.overflow in (Overflow.SAT, Overflow.SAT_SYM):
            return max(min(low, self.type.high), self.lowest), min(max(high, self.lowest), self.type.high)
        return self.type.low, self.type.high

    def can_overflow(self, given: TensorType) -> bool:
        """Does a value of this range fall outside the type?"""
        low, high = self._rounded(given)
        return low < self.lowest or high > self.type.high

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0]
        if values.dtype.kind == "f":
            integers = arithmetic.requantize(values.astype(np.int64), np.array(self.shifts), self.type)
            return integers.astype(values.dtype)
        return arithmetic.requantize(values, np.array(self.shifts), self.type)

    def overflows(self, values: Array) -> int:
        """How many of these inputs fall outside the type after rounding."""
        exact = values if values.dtype == object else values.astype(np.int64)
        rounded = arithmetic.round_shift(exact, np.array(self.shifts), self.type.rounding)
        return int(((rounded < self.lowest) | (rounded > self.type.high)).sum())

    def bound(self, *inputs: TensorType) -> int:
        return self.bound_behind(inputs[0], inputs[0].magnitude)

    def bound_behind(self, given: TensorType, sums: int) -> int:
        """The bound when rounding's half is added to sums of up to `sums`, which end within the type `given`."""
        largest = max(abs(end) for end in self._rounded(given))
        half = 1 << max(0, *(s - 1 for s in self.shifts))
        if min(self.shifts) <= 0 < max(self.shifts):  # the half of the other channels is added to whole numbers too
            largest, sums = 2 * largest + 1, 2 * sums + 1
        return max(sums + half, largest, self.ranges(given).magnitude)  # what wraps may grow

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        given = renderer.integer_type(node.inputs[0])
        if not renderer.can_overflow_in_float(self, given):
            return None
        scale, _ = renderer.per_channel(np.array([2.0**-s for s in self.shifts]), node.name)
        value = inputs[0]
        if any(self.shifts):
            value = renderer.op("Mul", value, scale)
        return renderer.round_and_saturate(value, self, given)

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        lanes = folding.lanes
        words = given.size // lanes
        largest = max(self.shifts)
        left = np.array([largest - s for s in self.shifts])
        modes = f"AP_{self.type.rounding}, AP_{self.type.overflow}"
        config: dict[str, int | str] = {
            "COUNT": words,
            "LANES": lanes,
            "SHIFT": largest,
            "LEFT_MAX": int(left.max()),
            "PERIOD": given.shape[-1] // lanes,
            "input_t": given.cpp,
            "output_t": output.cpp,
            "fixed_t": f"ap_{'' if output.signed else 'u'}fixed<{output.width}, {output.width}, {modes}>",
        }
        arrays = {"left": KernelArray("unsigned char", lambda: left)} if len(left) > 1 else {}
        schedule = Schedule.streaming(words)
        lut = lanes * (given.width + output.width)
        steps, farthest = given.shape[-1] // lanes, int(left.max())
        if steps > 1 and farthest > 0:  # a lane serves several channels, so its shift is computed
            lut += lanes * (given.width + farthest) * farthest.bit_length() // 2
        cost = Cost(lut=lut)
        return [
            Kernel(
                "requantize",
                "ops/requantize.h",
                config,
                (Port(given, lanes),),
                Port(output, lanes),
                schedule,
                arrays,
                cost,
            )
        ]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for rounding in Rounding:
            for overflow in Overflow:
                channels = int(rng.integers(1, 7))
                points = tuple(int(p) for p in rng.integers(-1, 9, channels if rng.integers(2) else 1))
                width, signed = int(rng.integers(2, 20)), bool(rng.integers(2))
                low, high = FixedType(width, 0, signed).low, FixedType(width, 0, signed).high
                given = TensorType((3, 2, channels), width, signed, points, low, high)
                target_signed = bool(rng.integers(2)) or overflow == Overflow.WRAP_SM  # which unsigned types lack
                target = FixedType(int(rng.integers(1, 10)), int(rng.integers(0, 9)), target_signed, rounding, overflow)
                yield Sample(cls.between(given, target), (given,))
