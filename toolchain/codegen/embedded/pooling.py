"""C of poolings, and of what looks at all channels of a pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from toolchain.codegen.embedded.function import Function, computes
from toolchain.codegen.embedded.storage import literal
from toolchain.ir.window import Window
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.fixed_softmax import FRACTION, OUTPUT_BITS, SUM_BITS, FixedSoftmax
from toolchain.ops.lrn import IntegerLrn, covers, window
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.softmax import IntegerSoftmax
from toolchain.ops.top_k import TopK


@contextmanager
def taps(function: Function, pool: Window) -> Iterator[str]:
    """Loops over the elements of a channel that a window meets inside the picture."""
    rows, columns, channels = function.types[0].shape
    sizes = (rows, columns)
    for k, (axis, name) in enumerate((("row", "y"), ("column", "x"))):
        function.line(f"const int32_t {name}_start = {axis} * {pool.strides[k]} - {pool.pads[k]};")
        arguments = f"{name}_start, {pool.dilations[k]}"
        function.line(f"const int32_t {name}_end = dct_end_tap({arguments}, {sizes[k]}, {pool.kernel[k]});")
    with (
        function.writer.loop("y_tap", "y_end", f"dct_first_tap(y_start, {pool.dilations[0]})"),
        function.writer.loop("x_tap", "x_end", f"dct_first_tap(x_start, {pool.dilations[1]})"),
    ):
        y, x = (f"{name}_start + {name}_tap * {d}" for name, d in zip("yx", pool.dilations, strict=True))
        yield f"{function.input()}[(({y}) * {columns} + {x}) * {channels} + channel]"


@contextmanager
def _pixels(function: Function) -> Iterator[None]:
    rows, columns, channels = function.output.shape
    with function.loops(row=rows, column=columns, channel=channels):
        function.line(f"const int32_t i = (row * {columns} + column) * {channels} + channel;")
        yield


@computes(MaxPool)
def max_pool(function: Function) -> None:
    """The largest element of each window, channel by channel."""
    bits = function.bits
    with _pixels(function):
        function.line(f"int{bits}_t largest = {literal(function.types[0].low, bits)};")
        with taps(function, function.operator.window) as element:
            function.line(f"largest = dct_max_{bits}(largest, {element});")
        function.finish("largest", "i", "channel")


@computes(AveragePool)
def average_pool(function: Function) -> None:
    """The exact sum, then a division that rounds half up."""
    op: AveragePool = function.operator
    bits, divisors = function.bits, op.divisors.array
    assert op.extra is not None
    with _pixels(function):
        function.line(f"int{bits}_t sum = 0;")
        with taps(function, op.window) as element:
            function.line(f"sum += {element};")
        divisor = literal(int(divisors.flat[0]), bits)
        if divisors.size > 1:
            table = function.table("divisors", divisors, "parameters")
            divisor = f"(int{bits}_t){table}[row * {divisors.shape[1]} + column]"
        function.line(f"const int{bits}_t divisor = {divisor};")
        if op.zero_point is not None:
            limit = f"sum < -divisor * {literal(op.zero_point, bits)}"
            function.line(f"if (divisor % 2 == 0 && {limit}) --sum;")
        scaled = f"dct_left_{bits}(sum, {op.extra + 1}) + divisor"
        function.finish(f"dct_divide_{bits}({scaled}, 2 * divisor)", "i", "channel")


@contextmanager
def _vectors(function: Function) -> Iterator[int]:
    """Every pixel, with a pointer to its channels."""
    shape = function.types[0].shape
    channels = shape[-1]
    with function.loops(pixel=math.prod(shape[:-1])):
        function.line(f"const int32_t first = pixel * {channels};")
        yield channels


@computes(IntegerSoftmax)
def softmax(function: Function) -> None:
    """Three passes over the channels: the largest, the sum, the quotients."""
    op: IntegerSoftmax = function.operator
    table = function.table("exponentials", op.exponentials.array, "tables")
    last = len(op.exponentials.array) - 1
    x = function.input()
    with _vectors(function) as channels:
        function.line(f"int64_t largest = {x}[first];")
        function.line("int64_t total = 0;")
        with function.loops(k=channels):
            function.line(f"largest = dct_max_64(largest, {x}[first + k]);")

        def entry() -> str:
            return f"{table}[dct_softmax_index(largest - {x}[first + k], {op.shift}, {last})]"

        with function.loops(k=channels):
            function.line(f"total += (int64_t){entry()};")
        with function.loops(k=channels):
            function.line("const int32_t i = first + k;")
            numerator = f"dct_left_64((int64_t){entry()}, {op.fraction + 1}) + total"
            function.finish(f"({numerator}) / (2 * total)", "i", "k", 64)


@computes(FixedSoftmax)
def fixed_softmax(function: Function) -> None:
    """As `softmax`, with gemmlowp's reciprocal in place of a division."""
    op: FixedSoftmax = function.operator
    table = function.table("exponentials", op.exponentials.array, "tables")
    size, x = len(op.exponentials.array), function.input()

    def entry() -> None:
        function.line(f"const int64_t distance = largest - {x}[first + k];")
        function.line(f"const int64_t e = distance < {size} ? (int64_t){table}[distance] : 0;")

    with _vectors(function) as channels:
        function.line(f"int64_t largest = {x}[first];")
        function.line("int64_t total = 0;")
        with function.loops(k=channels):
            function.line(f"largest = dct_max_64(largest, {x}[first + k]);")
        with function.loops(k=channels):
            entry()
            function.line(f"total += dct_rnd_inf_64(e, {SUM_BITS});")
        function.line("const int32_t length = dct_length((uint64_t)total);")
        start = "dct_left_64(total, 32 - length) - INT64_C(2147483648)"
        function.line(f"const int64_t inverse = dct_reciprocal_q31({start});")
        function.line(f"const int32_t shift = length - {32 - SUM_BITS} + {FRACTION - OUTPUT_BITS};")
        with function.loops(k=channels):
            function.line("const int32_t i = first + k;")
            entry()
            p = "dct_rnd_inf_64(dct_product_q31(inverse, e), shift)"
            function.finish(f"dct_clamp_64({p}, 0, {(1 << OUTPUT_BITS) - 1})", "i", "k", 64)


@computes(IntegerLrn)
def lrn(function: Function) -> None:
    """The sum of squares around each channel chooses the factor."""
    op: IntegerLrn = function.operator
    table = function.table("entries", op.entries.array, "tables")
    longest = op.octave - 1 + (len(op.entries.array) >> op.bits)
    x = function.input()
    with _vectors(function) as channels, function.loops(channel=channels):
        below, above = (channels, channels) if covers(op.size, channels) else window(op.size)
        function.line("const int32_t i = first + channel;")
        function.line(f"const int32_t begin = dct_max_32(channel - {below}, 0);")
        function.line(f"const int32_t end = dct_min_32(channel + {above}, {channels - 1});")
        function.line("int64_t sum = 0;")
        with function.writer.loop("k", "end + 1", "begin"):
            function.line(f"sum += (int64_t){x}[first + k] * (int64_t){x}[first + k];")
        function.line(f"sum = dct_left_64(sum, {op.left}) + {literal(op.offset, 64)};")
        function.line("const int32_t length = dct_length((uint64_t)sum);")
        mantissa = f"(dct_left_64(sum, {longest} - length) >> {longest - 1 - op.bits})"
        index = f"dct_left_64((int64_t)length - {op.octave + 1}, {op.bits}) + {mantissa}"
        function.finish(f"(int64_t){x}[i] * (int64_t){table}[{index}]", "i", "channel", 64)


@computes(TopK)
def top_k(function: Function) -> None:
    """One after the other: of what comes behind the last one in order, the first."""
    op: TopK = function.operator
    x = function.input()
    better, later = (">", "<") if op.largest else ("<", ">")
    first_index, next_index = ("<", ">") if not op.prefers_last else (">", "<")
    with _vectors(function) as channels:
        several = op.count > 1
        if several:
            function.line("int32_t last = -1;")
        with function.loops(place=op.count):
            function.line("int32_t best = -1;")
            with function.loops(k=channels):
                a, b, c = (f"{x}[first + {name}]" for name in ("k", "last", "best"))
                behind = f"last < 0 || {a} {later} {b} || ({a} == {b} && k {next_index} last)"
                ahead = f"best < 0 || {a} {better} {c} || ({a} == {c} && k {first_index} best)"
                test = f"({behind}) && ({ahead})" if several else ahead
                function.line(f"if ({test}) best = k;")
            if several:
                function.line("last = best;")
            function.line(f"const int32_t i = pixel * {op.count} + place;")
            function.finish("best" if op.gives_indices else f"{x}[first + best]", "i", "place")
