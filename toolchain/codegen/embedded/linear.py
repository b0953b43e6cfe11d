"""C of convolutions and matrices."""

from __future__ import annotations

import math

import numpy as np

from toolchain.codegen.embedded.function import Function, computes
from toolchain.codegen.embedded.storage import Storage, constant_storage, storage
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
    terms, outputs = op.weights.shape
    rows(function, op.weights.array.T, math.prod(function.types[0].shape[:-1]), terms, outputs)


def rows(function: Function, matrix: np.ndarray, pixels: int, terms: int, outputs: int) -> None:
    """Every pixel's vector times a matrix (outputs, terms)."""
    dot = _dot(function, matrix)
    weights = function.table("weights", matrix, "weights")
    with function.loops(pixel=pixels):
        function.line(f"const {storage(function.types[0]).ctype}* const vector = {function.input()} + pixel * {terms};")
        with function.loops(output=outputs):
            product = f"{dot}(vector, {weights} + output * {terms}, {terms})"
            function.line(f"const int32_t i = pixel * {outputs} + output;")
            function.finish(product + bias(function, "output"), "i", "output")


def _dot(function: Function, matrix: np.ndarray) -> str:
    return function.dot(storage(function.types[0]), constant_storage(matrix), function.bits)


@computes(Conv)
def conv(function: Function) -> None:
    """As a matrix, as windows that are copied together, or channel by channel."""
    op: Conv = function.operator
    matrix = op.weights.array.reshape(-1, op.outputs).T
    terms = op.window.taps * op.weights.shape[2]
    if op.window.is_pointwise() and op.groups == 1:
        rows(function, matrix, math.prod(function.types[0].shape[:2]), terms, op.outputs)
    elif op.weights.shape[2] == 1 and op.groups > 1:
        depthwise(function, op)
    else:
        windows(function, op, matrix, terms)


def windows(function: Function, op: Conv, matrix: np.ndarray, terms: int) -> None:
    """What the kernel meets is copied together, group by group, and goes through one matrix."""
    held, channels, outputs = storage(function.types[0]), op.weights.shape[2], op.outputs // op.groups
    dot, weights = _dot(function, matrix), function.table("weights", matrix, "weights")
    window = window_table(function, op.window)
    function.reserve(terms, held)
    picture = _bytes(function.input(), held)
    rows, columns, _ = function.output.shape
    with function.loops(row=rows, column=columns, group=op.groups):
        first = f"group * {channels}"
        function.line(f"dct_gather(scratch, {picture}, {window}, row, column, {first}, {channels}, {held.bytes});")
        with function.loops(k=outputs):
            function.line(f"const int32_t output = group * {outputs} + k;")
            function.line(f"const int32_t i = (row * {columns} + column) * {op.outputs} + output;")
            product = f"{dot}(patch, {weights} + output * {terms}, {terms})"
            function.finish(product + bias(function, "output"), "i", "output")


def depthwise(function: Function, op: Conv) -> None:
    """Each output channel looks at one input channel."""
    held, taps, depth = storage(function.types[0]), op.window.taps, function.types[0].shape[2]
    weights = function.table("weights", op.weights.array.reshape(taps, op.outputs), "weights")
    window = window_table(function, op.window)
    function.reserve(taps * depth, held)
    rows, columns, _ = function.output.shape
    each = op.outputs // op.groups
    with function.loops(row=rows, column=columns):
        function.line(
            f"dct_gather(scratch, {_bytes(function.input(), held)}, {window}, row, column, 0, {depth}, {held.bytes});"
        )
        with function.loops(output=op.outputs):
            function.line(f"const int32_t i = (row * {columns} + column) * {op.outputs} + output;")
            function.line(f"int{function.bits}_t sum = 0;")
            source = "output" if each == 1 else f"output / {each}"
            with function.loops(tap=taps):
                x = f"(int{function.bits}_t)patch[tap * {depth} + {source}]"
                function.line(f"sum += {x} * {weights}[tap * {op.outputs} + output];")
            function.finish("sum" + bias(function, "output"), "i", "output")


def _bytes(pointer: str, held: Storage) -> str:
    return f"(const uint8_t*){pointer}" if held.bytes > 1 or held.signed else pointer


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
