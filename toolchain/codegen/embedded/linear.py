"""C of convolutions and matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from toolchain.codegen.embedded.function import Function, computes
from toolchain.codegen.embedded.storage import Storage, constant_storage, storage
from toolchain.ir import Array
from toolchain.ir.window import Window
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.matrix_product import MatrixProduct
from toolchain.packing.packed import Packed

ROW = Storage(32, True)
"""What weights are decoded to."""
UNROLLED = 9
"""Taps of a depthwise convolution that are written one after the other."""


@dataclass(frozen=True)
class Rows:
    """Weights of some outputs: `pointer` is the first of them, `count` how many, `first` the number of the first."""

    pointer: str
    storage: Storage
    first: str
    count: int | str


def is_unpacked(function: Function) -> bool:
    """Are the weights decoded while the layer runs?"""
    return isinstance(function.operator.weights, Packed)


@contextmanager
def weight_rows(function: Function, matrix: Array, begin: str, outputs: int, once: bool = False) -> Iterator[Rows]:
    """The weights (outputs, terms) from the output `begin` on, in a loop over parts of them where they are decoded.

    Weights that are used `once` are not made narrow first.
    """
    terms = matrix.shape[1]
    if not is_unpacked(function):
        name = function.table("weights", matrix, "weights")
        yield Rows(
            f"{name} + {_times(begin, terms)}" if begin != "0" else name, constant_storage(matrix), begin, outputs
        )
        return
    held = ROW if once else constant_storage(matrix)
    each = 1 if once else min(outputs, 1 + function.room // (terms * held.bytes))
    function.reserve(terms, ROW, "row")
    if held != ROW:
        function.reserve(each * terms, held, "rows")
    whole = each == outputs
    with function.writer.block("") if whole else function.writer.step("part", outputs, each):
        count: int | str = each
        if outputs % each:
            count = "count"
            function.line(f"const int32_t count = dct_min_32({each}, {outputs} - part);")
        with function.writer.loop("k", count):
            function.line("dct_unpack_row(&unpacker, row);")
            if held != ROW:
                function.line(f"for (int32_t j = 0; j < {terms}; ++j) rows[k * {terms} + j] = ({held.ctype})row[j];")
        first = begin if whole else "part" if begin == "0" else f"{begin} + part"
        yield Rows("rows" if held != ROW else "row", held, first, count)


def begin_unpacking(function: Function) -> None:
    """Before the first output."""
    if is_unpacked(function):
        function.line("dct_unpacker unpacker;")
        function.line(f"dct_unpack_begin(&unpacker, {function.packed.layers[function.operator.weights].name});")


def _times(factor: str, number: int) -> str:
    return f"({factor}) * {number}" if " " in factor else f"{factor} * {number}"


def window_table(function: Function, window: Window) -> str:
    """The name of the description of a window over the kernel's first input."""
    given = function.types[0].shape
    numbers = [*given, *window.kernel, *window.strides, *window.dilations, *window.pads[:2]]
    function.line(f"static const dct_window window = {{{', '.join(map(str, numbers))}}};")
    return "&window"


def bias(function: Function, output: str) -> str:
    """What is added to a sum, with the sign before it."""
    values = function.operator.bias.array
    if not values.any():
        return ""
    return f" + (int{function.bits}_t){function.table('bias', values, 'biases')}[{output}]"


@computes(Gemm)
def gemm(function: Function) -> None:
    """A dot product for each output."""
    op: Gemm = function.operator
    vectors(function, op.weights.array.T, math.prod(function.types[0].shape[:-1]))


def vectors(function: Function, matrix: Array, pixels: int) -> None:
    """Every pixel's channels times a matrix (outputs, terms)."""
    outputs, terms = matrix.shape
    begin_unpacking(function)
    with weight_rows(function, matrix, "0", outputs, once=pixels == 1) as rows, function.loops(pixel=pixels):
        function.line(f"const {storage(function.types[0]).ctype}* const vector = {function.input()} + pixel * {terms};")
        products(function, rows, "vector", terms, outputs, "pixel")


def products(function: Function, rows: Rows, vector: str, terms: int, outputs: int, pixel: str) -> None:
    """A vector times each row."""
    dot = function.dot(storage(function.types[0]), rows.storage, function.bits)
    if rows.count == 1:
        function.line(f"const int32_t output = {rows.first};")
        function.line(f"const int32_t i = {pixel} * {outputs} + output;")
        product = f"{dot}({vector}, {rows.pointer}, {terms})"
        function.finish(product + bias(function, "output"), "i", "output")
        return
    with function.writer.step("k", rows.count, 2):
        is_even = isinstance(rows.count, int) and rows.count % 2 == 0
        function.line(f"const {rows.storage.ctype}* const row_0 = {rows.pointer} + k * {terms};")
        # The row behind the last one is not there.
        second = f"row_0 + {terms}" if is_even else f"k + 1 < {rows.count} ? row_0 + {terms} : row_0"
        function.line(f"int{function.bits}_t sums[2];")
        function.line(f"{dot}_pair({vector}, row_0, {second}, {terms}, sums);")
        last = "2" if is_even else f"dct_min_32(2, {rows.count} - k)"
        with function.writer.loop("j", last):
            function.line(f"const int32_t output = {'' if rows.first == '0' else f'{rows.first} + '}k + j;")
            function.line(f"const int32_t i = {pixel} * {outputs} + output;")
            function.finish("sums[j]" + bias(function, "output"), "i", "output")


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
    function.reserve(terms, held, "patch")
    begin_unpacking(function)
    rows, columns, _ = function.output.shape
    groups = op.groups
    begin = f"group * {outputs}" if groups > 1 else "0"
    with (
        function.loops(**{"group": groups} if groups > 1 else {}),
        weight_rows(function, matrix, begin, outputs) as weights,
        function.loops(y_row=rows, column=columns),
    ):
        first = f"group * {channels}" if groups > 1 else "0"
        arguments = f"(uint8_t*)patch, (const uint8_t*){function.input()}, {window}, y_row, column"
        function.line(f"dct_gather({arguments}, {first}, {channels}, {held.bytes});")
        products(function, weights, "patch", terms, op.outputs, f"(y_row * {columns} + column)")


def depthwise(function: Function, op: Conv, matrix: Array) -> None:
    """Each output channel looks at one input channel."""
    held, taps, depth = storage(function.types[0]), op.window.taps, function.types[0].shape[2]
    window = window_table(function, op.window)
    function.reserve(taps * depth, held, "patch")
    begin_unpacking(function)
    function.room = taps * op.outputs * ROW.bytes
    rows, columns, _ = function.output.shape
    each = op.outputs // op.groups
    with (
        weight_rows(function, matrix, "0", op.outputs) as weights,
        function.loops(y_row=rows, column=columns),
    ):
        arguments = f"(uint8_t*)patch, (const uint8_t*){function.input()}, {window}, y_row, column"
        function.line(f"dct_gather({arguments}, 0, {depth}, {held.bytes});")
        with function.loops(output=op.outputs):
            function.line(f"const int32_t i = (y_row * {columns} + column) * {op.outputs} + output;")
            source = "output" if each == 1 else f"output / {each}"
            function.line(f"const {held.ctype}* const x = patch + {source};")
            function.line(f"const {weights.storage.ctype}* const w = {weights.pointer} + output * {taps};")
            function.line(f"int{function.bits}_t sum = 0;")
            if taps <= UNROLLED:
                for tap in range(taps):
                    function.line(f"sum += (int{function.bits}_t)x[{tap * depth}] * w[{tap}];")
            else:
                with function.loops(tap=taps):
                    function.line(f"sum += (int{function.bits}_t)x[tap * {depth}] * w[tap];")
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
