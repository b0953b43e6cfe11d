"""Mean over windows, or over the whole picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, KernelArray, Port, Schedule, every, integer_array, nest
from toolchain.codegen.windows import sliding_window
from toolchain.errors import PassError, UnsupportedOperator
from toolchain.frontends.windows import import_window, import_windows, windowed, windowed_twice
from toolchain.ir import Array, Constant, FixedType, Node, Shape, TensorType
from toolchain.ir.integers import INT64_HIGH
from toolchain.ir.types import needed_width
from toolchain.ir.window import Window
from toolchain.ops.base import Operator, Sample, importer, operator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer


@operator
@dataclass(frozen=True)
class AveragePool(Operator):
    """y = sum of the window / divisor; padding counts as real zero.

    `divisors` has one entry for each output pixel (rows, columns), or (1, 1) for all. On integers the sum is exact and
    y = floor(sum * 2**extra / divisor + 1/2), with `extra` more fraction bits than x; None for real numbers. With a
    `zero_point`, and extra 0, x + zero point are the model's own integers, and their mean is rounded half away from 0.
    """

    window: Window
    divisors: Constant
    extra: int | None = None
    zero_point: int | None = None

    def shape(self, *inputs: Shape) -> Shape:
        rows, columns = self.window.output(inputs[0])
        if self.divisors.shape not in ((1, 1), (rows, columns)):
            raise PassError(f"has divisors of shape {self.divisors.shape} for {rows} x {columns} pixels")
        return rows, columns, inputs[0][2]

    def _sums(self, given: TensorType) -> tuple[int, int]:
        """The range of the exact sum."""
        taps = self.window.taps
        low, high = (min(given.low, 0), max(given.high, 0)) if self.window.is_padded else (given.low, given.high)
        return low * taps, high * taps

    def _rounded(self, total: int, divisor: int) -> int:
        assert self.extra is not None
        total -= int(self._is_tie_down(total, divisor))
        return ((total << self.extra + 1) + divisor) // (2 * divisor)

    def _is_tie_down(self, totals: Any, divisors: Any) -> Any:
        """Where a half may go down: a sum less 1 gives then what is wanted, since no other quotient changes by it."""
        if self.zero_point is None:
            return 0
        return (totals < -divisors * self.zero_point) & (divisors % 2 == 0)

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        if self.extra is None:
            raise PassError("a real average has no integer form, it must be lowered first")
        if self.zero_point is not None and (self.extra or set(given.fractions) != {0}):
            raise PassError("has a zero point beside fraction bits")
        low, high = self._sums(given)
        divisor = int(self.divisors.array.min())
        return TensorType.holding(
            self.shape(given.shape),
            self._rounded(low, divisor),
            self._rounded(high, divisor),
            (given.fraction + self.extra,),
        )

    def bound(self, *inputs: TensorType) -> int:
        low, high = self._sums(inputs[0])
        return (max(abs(low), abs(high)) << (self.extra or 0) + 1) + int(self.divisors.array.max())

    def evaluate(self, *inputs: Array) -> Array:
        totals = self.window.patches(inputs[0], 0).sum(axis=(3, 4))
        divisors = self.divisors.array.astype(totals.dtype)[..., None]
        if self.extra is None:
            return np.asarray(totals / divisors)
        totals = totals - self._is_tie_down(totals, divisors)
        return np.asarray((totals * 2 ** (self.extra + 1) + divisors) // (2 * divisors))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        value = lowering.narrow(inputs[0])
        wanted = lowering.format(node)
        extra = min(max(wanted.fraction - lowering.type(value).fraction, 0), 12)
        return lowering.add(node, replace(self, extra=extra), (value,))

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        assert self.extra is not None
        if self.zero_point is not None:
            return None
        given = renderer.integer_type(node.inputs[0])
        if self.window.covers(given.shape):
            total = renderer.op("ReduceSum", inputs[0], renderer.axes(2, 3), keepdims=1)
        else:
            ones = np.ones((given.shape[2], 1, *self.window.kernel))
            total = renderer.op(
                "Conv",
                inputs[0],
                renderer.constant(ones),
                strides=self.window.strides,
                dilations=self.window.dilations,
                pads=self.window.pads,
                kernel_shape=self.window.kernel,
                group=given.shape[2],
            )
        divisors = self.divisors.array[None, None].astype(float)
        # The quotient of integers below the mantissa's limit never rounds across an integer.
        numerator = renderer.op(
            "Add",
            renderer.op("Mul", total, renderer.constant(np.array(2.0 ** (self.extra + 1)))),
            renderer.constant(divisors),
        )
        return renderer.op("Floor", renderer.op("Div", numerator, renderer.constant(2 * divisors)))

    def reciprocals(self, given: TensorType) -> tuple[Array, int, int]:
        """Multipliers m (one a divisor n), rounding constant r, shift s: (sum * m + r) >> s is `evaluate`.

        m = ceil(2**(s + extra) / n) exceeds the true reciprocal by e / n / 2**s, e = m * n - 2**(s + extra) in [0, n).
        The quotient plus 1/2 is a multiple of 1 / (2 n), so the floor is right when, times 2**s, the error
        sum * e / n + delta lies in [0, 2**s / (2 n)) for every sum; delta = max(-sum * e / n) lifts negative sums.
        Raises PassError if that did not hold, which the choice of s excludes.
        """
        assert self.extra is not None
        low, high = self._sums(given)
        low -= self.zero_point is not None
        divisors = [int(n) for n in self.divisors.array.ravel()]
        largest = max(abs(low), abs(high), 1)
        shift = (8 * largest * max(divisors)).bit_length() + 1
        multipliers = [-(-(1 << (shift + self.extra)) // n) for n in divisors]
        errors = {n: m * n - (1 << (shift + self.extra)) for n, m in zip(divisors, multipliers, strict=True)}
        delta = max(-(-max(-low, 0) * e // n) for n, e in errors.items())
        for n, e in errors.items():
            if not (low * e + delta * n >= 0 and 2 * (max(high, 0) * e + delta * n) < 1 << shift):
                raise PassError(f"no reciprocal of {n} is exact for sums in [{low}, {high}]")
        return np.array(multipliers, dtype=object), (1 << (shift - 1)) + delta, shift

    def _tie_limits(self, lowest: int) -> Array:
        """For each divisor the sum below which a half goes down; none lies below the lowest."""
        divisors = self.divisors.array.ravel()
        return np.where(divisors % 2 == 0, -divisors * (self.zero_point or 0), lowest)

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        lanes = folding.lanes
        blocks, pixels = given.shape[2] // lanes, output.shape[0] * output.shape[1]
        multipliers, rounding, shift = self.reciprocals(given)
        if max(multipliers) > INT64_HIGH:
            raise PassError(f"needs a reciprocal of more than 64 bits for inputs of {given.width} bits")
        low, high = self._sums(given)
        low -= self.zero_point is not None
        width, signed = needed_width(low, high)
        product = max(abs(low), abs(high)) * int(max(multipliers)) + rounding
        factor_bits = int(max(multipliers)).bit_length()
        config: dict[str, int | str] = {
            "CHANNELS": given.shape[2],
            "LANES": lanes,
            "ROUND": rounding,
            "ROUND_SHIFT": shift,
            "POSITIONS": len(multipliers),
            "input_t": given.cpp,
            "sum_t": f"ap_{'' if signed else 'u'}int<{width}>",
            "output_t": output.cpp,
            "product_t": f"ap_int<{product.bit_length() + 1}>",
        }
        arrays = {"multipliers": KernelArray("long long", lambda: multipliers.astype(np.int64))}
        if self.zero_point is not None:
            arrays["below"] = integer_array(self._tie_limits(low))
        cost = Cost(((lanes, width, factor_bits),), ((blocks, lanes * width),), lut=lanes * width * 3)
        if self.window.covers(given.shape):
            count = given.shape[0] * given.shape[1]
            schedule = Schedule(count * blocks, (every(count * blocks),), every(blocks, start=(count - 1) * blocks))
            whole = {"PIXELS": count, **config}
            port = Port(given, lanes)
            return [
                Kernel(
                    "global_average_pool",
                    "ops/average_pool.h",
                    whole,
                    (port,),
                    Port(output, lanes),
                    schedule,
                    arrays,
                    cost,
                )
            ]
        windows = sliding_window(given, self.window, lanes, lanes, padding=0)
        taps, words = self.window.taps, pixels * blocks
        schedule = Schedule(words * taps, (every(words * taps),), nest((words, taps), start=taps - 1))
        pool = Kernel(
            "average_pool",
            "ops/average_pool.h",
            {"PIXELS": pixels, "TAPS": taps, **config},
            (windows.output,),
            Port(output, lanes),
            schedule,
            arrays,
            cost,
        )
        return [windows, pool]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        shape = (6, 5, 4)
        for window, counted in (
            (Window((2, 2), (2, 2)), False),
            (Window((3, 3), (1, 2), (1, 1), (1, 1, 1, 1)), True),
            (Window((3, 2), (2, 1), (1, 1), (0, 1, 2, 0)), False),
            (Window((6, 5)), True),
        ):
            divisors = np.array([[window.taps]]) if counted else window.counts(shape)
            given = TensorType.of(shape, FixedType(int(rng.integers(2, 10)), 3, bool(rng.integers(2))))
            yield Sample(cls(window, Constant(divisors), int(rng.integers(0, 5))), (given,))
            whole = TensorType.of(shape, FixedType(8, 8, False))
            yield Sample(cls(window, Constant(divisors), 0, -int(rng.integers(90, 140))), (whole,))


@importer("AveragePool")
def import_average_pool(importing: Importer, node: OnnxNode) -> None:
    counted = bool(node.attribute("count_include_pad", 0))
    kernel: list[int] = node.attribute("kernel_shape", [])
    rank, shape = len(kernel), importing.shape(importing.value(node, 0))
    auto = node.attribute("auto_pad", "NOTSET") not in ("NOTSET", "")
    own = None if auto or not counted else [int(v) for v in node.attribute("pads", [0] * 2 * rank)]
    if rank == len(shape) - 1 == 3:
        deep, flat = import_windows(node, shape[1:], kernel)
        over, through = (None, None) if own is None else ([own[k] for k in (1, 2, 4, 5)], [own[0], 0, own[3], 0])
        pixels = math.prod(flat.output((*shape[2:], 1)))
        pools = _pool(flat, shape[2:], counted, over), _pool(deep, (shape[1], pixels), counted, through)
        windowed_twice(importing, node, *pools)
        return
    window = import_window(importing, node, kernel)
    spatial = (1, *shape[1:]) if rank == 1 else shape[1:]
    pool = _pool(window, spatial, counted, [0, own[0], 0, own[1]] if own and rank == 1 else own)
    windowed(importing, node, lambda _: pool, window)


def _pool(window: Window, spatial: Shape, counted: bool, own: list[int] | None) -> AveragePool:
    """Divisors that include the model's `own` padding where it is `counted`, but not what ceil_mode adds behind it."""
    divisors = window.counts((*spatial, 1))
    if counted:
        top, left, bottom, right = own or window.pads
        inside = (spatial[0] + top + bottom, spatial[1] + left + right, 1)
        divisors = replace(window, pads=(0, 0, window.pads[2] - bottom, window.pads[3] - right)).counts(inside)
    if (divisors == 0).any():
        raise UnsupportedOperator("has windows that lie in the padding altogether")
    if (divisors == divisors[0, 0]).all():
        divisors = divisors[:1, :1]
    return AveragePool(window, Constant(divisors))


@importer("GlobalAveragePool")
def import_global_average_pool(importing: Importer, node: OnnxNode) -> None:
    kernel = importing.shape(importing.value(node, 0))[1:]
    window = import_window(importing, node, kernel)
    windowed(importing, node, lambda w: AveragePool(w, Constant([[w.taps]])), window)
