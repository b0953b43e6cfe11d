"""C of convolutions and matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from toolchain.codegen.embedded.function import Function, computes
from toolchain.codegen.embedded.rows import Rows, begin_unpacking, bias, levels, meets_levels, weight_rows
from toolchain.codegen.embedded.storage import Storage, storage
from toolchain.ir import Array
from toolchain.ir.window import Window
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.matrix_product import MatrixProduct


def window_table(function: Function, window: Window) -> str:
    """The name of the description of a window over the kernel's first input."""
    given = function.types[0].shape
    numbers = [*given, *window.kernel, *window.strides, *window.dilations, *window.pads[:2]]
    function.line(f"static const dct_window window = {{{', '.join(map(str, numbers))}}};")
    return "&window"


@computes(Gemm)
def gemm(function: Function) -> None:
    """A dot product for each output."""
    op: Gemm = function.operator
    vectors(function, op.weights.array.T, math.prod(function.types[0].shape[:-1]))


def vectors(function: Function, matrix: Array, pixels: int) -> None:
    """Every pixel's channels times a matrix (outputs, terms)."""
    outputs, terms = matrix.shape
    if pixels == 1 and meets_levels(function):
        levels(function, outputs, terms)
        return
    begin_unpacking(function)
    with weight_rows(function, matrix, "0", outputs, once=pixels == 1) as rows, pairs(function, pixels) as pair:
        function.line(f"const {storage(function.types[0]).ctype}* const vector = {function.input()} + pixel * {terms};")
        products(function, rows, "vector", terms, outputs, pair)


@contextmanager
def pairs(function: Function, pixels: int) -> Iterator[int | str]:
    """A loop over pixels, two at a time: how many they are, which is 1 for the last of an odd number."""
    if pixels == 1:
        with function.loops(pixel=1):
            yield 1
        return
    with function.writer.step("pixel", pixels, 2):
        if pixels % 2:
            function.line(f"const int32_t pair = dct_min_32(2, {pixels} - pixel);")
        yield "pair" if pixels % 2 else 2


def products(function: Function, rows: Rows, vector: str, terms: int, outputs: int, pair: int | str) -> None:
    """The vectors of the pixels from `pixel` on, a `pair` or 1, times each row, two rows at a time."""

    def finish(pixel: str, output: str, value: str) -> None:
        first = "" if rows.first == "0" else f"{rows.first} + "
        function.line(f"const int32_t output = {first}{output};")
        function.line(f"const int32_t i = {pixel} * {outputs} + output;")
        function.finish(value + bias(function, "output"), "i", "output")

    if rows.is_sparse:
        dot = function.sparse_dot(storage(function.types[0]), function.bits)
        with function.writer.loop("k", rows.count), function.writer.loop("t", pair):
            finish(
                "(pixel + t)",
                "k",
                f"{dot}({vector} + t * {terms}, {rows.pointer} + starts[k], starts[k + 1] - starts[k])",
            )
        return
    dot = function.dot(storage(function.types[0]), rows.storage, function.bits)
    if rows.count == 1:
        with function.writer.loop("t", pair):
            finish("(pixel + t)", "0", f"{dot}({vector} + t * {terms}, {rows.pointer}, {terms})")
        return
    if pair != 1:
        # A row or a pixel behind the last one is not there: the last one stands for it.
        other = f"{vector} + {terms}" if pair == 2 else f"pair > 1 ? {vector} + {terms} : {vector}"
        function.line(f"const {storage(function.types[0]).ctype}* const other = {other};")
        function.reserve(terms, Storage(32, True), "joined")
        function.line(f"{dot}_join({vector}, other, {terms}, joined);")
    with function.writer.step("k", rows.count, 2):
        is_even = isinstance(rows.count, int) and rows.count % 2 == 0
        function.line(f"const {rows.storage.ctype}* const row_0 = {rows.pointer} + k * {terms};")
        second = f"row_0 + {terms}" if is_even else f"k + 1 < {rows.count} ? row_0 + {terms} : row_0"
        last = "2" if is_even else f"dct_min_32(2, {rows.count} - k)"
        function.line(f"int{function.bits}_t sums[{2 if pair == 1 else 4}];")
        if pair == 1:
            function.line(f"{dot}_pair({vector}, row_0, {second}, {terms}, sums);")
        else:
            function.line(f"{dot}_tile({vector}, other, joined, row_0, {second}, {terms}, sums);")
        with function.writer.loop("j", last):
            if pair == 1:
                finish("pixel", "k + j", "sums[j]")
            else:  # written twice: in a loop the sums would not stay in registers
                with function.writer.block(""):
                    finish("pixel", "k + j", "sums[j]")
                with function.writer.block("" if pair == 2 else "if (pair > 1)"):
                    finish("(pixel + 1)", "k + j", "sums[2 + j]")


@computes(Conv)
def conv(function: Function) -> None:
    """As a matrix, as windows that are copied together, or channel by channel."""
    op: Conv = function.operator
    matrix = op.weights.array.reshape(-1, op.outputs).T
    if op.window.is_pointwise() and op.groups == 1:
        vectors(function, matrix, math.prod(function.types[0].shape[:2]))
    elif op.weights.shape[2] == 1 and op.groups > 1:
        depthwise(function, op, matrix)
    else:
        windows(function, op, matrix)


def windows(function: Function, op: Conv, matrix: Array) -> None:
    """What the kernel meets is copied together, group by group, and goes through one matrix."""
    held, channels, outputs = storage(function.types[0]), op.weights.shape[2], op.outputs // op.groups
    terms = matrix.shape[1]
    window = window_table(function, op.window)
    rows, columns, _ = function.output.shape
    function.reserve(terms * min(2, rows * columns), held, "patch")
    begin_unpacking(function)
    groups = op.groups
    begin = f"group * {outputs}" if groups > 1 else "0"
    with (
        function.loops(**{"group": groups} if groups > 1 else {}),
        weight_rows(function, matrix, begin, outputs) as weights,
        pairs(function, rows * columns) as pair,
    ):
        first = f"group * {channels}" if groups > 1 else "0"
        with function.writer.loop("t", pair):
            place = f"(pixel + t) / {columns}, (pixel + t) % {columns}"
            arguments = f"(uint8_t*)(patch + t * {terms}), (const uint8_t*){function.input()}, {window}, {place}"
            function.line(f"dct_gather({arguments}, {first}, {channels}, {held.bytes});")
        products(function, weights, "patch", terms, op.outputs, pair)


def depthwise(function: Function, op: Conv, matrix: Array) -> None:
    """Each output channel looks at one input channel."""
    held, taps, depth = storage(function.types[0]), op.window.taps, function.types[0].shape[2]
    window = window_table(function, op.window)
    function.reserve(taps * depth, held, "patch")
    begin_unpacking(function)
    rows, columns, _ = function.output.shape
    each = op.outputs // op.groups
    with (
        weight_rows(function, matrix, "0", op.outputs, by_terms=True) as weights,
        function.loops(y_row=rows, column=columns),
    ):
        arguments = f"(uint8_t*)patch, (const uint8_t*){function.input()}, {window}, y_row, column"
        function.line(f"dct_gather({arguments}, 0, {depth}, {held.bytes});")
        place = f"(y_row * {columns} + column) * {op.outputs}"
        if each == 1 and depth % 4 == 0:
            four = function.dot(held, weights.storage, function.bits)
            with function.writer.step("first", depth, 4):
                function.line(f"int{function.bits}_t sums[4];")
                function.line(f"{four}_four(patch + first, {weights.pointer} + first, {depth}, {taps}, sums);")
                with function.loops(j=4):
                    function.line("const int32_t output = first + j;")
                    function.line(f"const int32_t i = {place} + output;")
                    function.finish("sums[j]" + bias(function, "output"), "i", "output")
            return
        with function.loops(output=op.outputs):
            function.line(f"const int32_t i = {place} + output;")
            source = "output" if each == 1 else f"output / {each}"
            function.line(f"const {held.ctype}* const x = patch + {source};")
            function.line(f"const {weights.storage.ctype}* const w = {weights.pointer} + output;")
            function.line(f"int{function.bits}_t sum = 0;")
            with function.loops(tap=taps):
                function.line(f"sum += (int{function.bits}_t)x[tap * {depth}] * w[tap * {op.outputs}];")
            function.finish("sum" + bias(function, "output"), "i", "output")


@computes(MatrixProduct)
def matrix_product(function: Function) -> None:
    """Both matrices lie in memory."""
    heads, rows, terms = function.types[0].shape
    columns, bits = function.types[1].shape[2], function.bits
    a, b = function.input(0), function.input(1)
    with function.loops(head=heads, row=rows, column=columns):
        function.line(f"const int32_t i = (head * {rows} + row) * {columns} + column;")
        function.line(f"int{bits}_t sum = 0;")
        with function.loops(k=terms):
            left = f"{a}[(head * {rows} + row) * {terms} + k]"
            function.line(f"sum += (int{bits}_t){left} * (int{bits}_t){b}[(head * {terms} + k) * {columns} + column];")
        function.finish("sum", "i", "column")
