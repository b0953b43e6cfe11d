"""C of what moves elements, and of resampling."""

from __future__ import annotations

import math

import numpy as np

from toolchain.codegen.embedded.function import Function, computes
from toolchain.codegen.embedded.storage import literal
from toolchain.ir.types import Shape
from toolchain.ops.concat import Concat
from toolchain.ops.pad import Pad
from toolchain.ops.resample import Resample
from toolchain.ops.slice import Slice
from toolchain.ops.transpose import Transpose


def strides(shape: Shape) -> list[int]:
    """Elements from one entry of each axis to the next."""
    return [math.prod(shape[k + 1 :]) for k in range(len(shape))]


def sum_of(terms: list[str]) -> str:
    """A C sum without what is 0."""
    return " + ".join(term for term in terms if term != "0") or "0"


def walk(function: Function, start: int, steps: list[int]) -> None:
    """The output in order, its elements at `start` + sum of d * step in the input."""
    shape = function.output.shape
    function.line("int32_t i = 0;")
    with function.loops(**{f"d{k}": size for k, size in enumerate(shape)}):
        place = sum_of([str(start), *(f"d{k} * {step}" for k, step in enumerate(steps))])
        last = f"d{len(shape) - 1}" if shape else "0"
        function.finish(f"{function.input()}[{place}]", "i", last)
        function.line("++i;")


@computes(Transpose)
def transpose(function: Function) -> None:
    """Walks the input in the order of the output."""
    steps = strides(function.types[0].shape)
    walk(function, 0, [steps[axis] for axis in function.operator.axes])


@computes(Slice)
def cut(function: Function) -> None:
    """Walks the part of the input that is kept."""
    op: Slice = function.operator
    steps = strides(function.types[0].shape)
    start = sum(a * b for a, b in zip(op.starts, steps, strict=True))
    walk(function, start, [a * b for a, b in zip(op.steps, steps, strict=True)])


@computes(Pad)
def pad(function: Function) -> None:
    """Each element, or the border's."""
    op: Pad = function.operator
    given, shape = function.types[0].shape, function.output.shape
    steps = strides(given)
    tests = []
    for k, (before, size) in enumerate(zip(op.before, given, strict=True)):
        if shape[k] != size:
            tests.append(f"d{k} >= {before} && d{k} < {before + size}")
    place = sum_of([f"(d{k} - {op.before[k]}) * {steps[k]}" for k in range(len(shape))])
    function.line("int32_t i = 0;")
    with function.loops(**{f"d{k}": size for k, size in enumerate(shape)}):
        element = f"{function.input()}[{place}]"
        border = literal(int(op.value), function.bits)
        inside = " && ".join(tests)
        function.finish(f"({inside}) ? (int{function.bits}_t){element} : {border}" if tests else element, "i")
        function.line("++i;")


@computes(Concat)
def concat(function: Function) -> None:
    """One input after the other, each to its places."""
    op: Concat = function.operator
    shape = function.output.shape
    outer, inner = math.prod(shape[: op.axis]), math.prod(shape[op.axis + 1 :])
    offset = 0
    for k, given in enumerate(function.types):
        size = given.shape[op.axis] * inner
        with function.loops(outer=outer, inner=size):
            function.line(f"const int32_t i = outer * {shape[op.axis] * inner} + {offset} + inner;")
            function.finish(f"{function.input(k)}[outer * {size} + inner]", "i")
        offset += size


@computes(Resample)
def resample(function: Function) -> None:
    """Weighted sums over the columns, then over the rows."""
    op: Resample = function.operator
    rows, columns, channels = function.output.shape
    line = function.types[0].shape[1]
    u, v = op.row_weights, op.column_weights
    names = {
        part: function.table(part, np.asarray(values), "parameters")
        for part, values in (("rows", op.rows), ("columns", op.columns), ("u", u.array), ("v", v.array))
    }
    bits = function.bits
    with function.loops(row=rows, column=columns, channel=channels):
        function.line(f"const int32_t i = (row * {columns} + column) * {channels} + channel;")
        function.line(f"int{bits}_t sum = 0;")
        with function.loops(s=u.shape[1]):
            function.line(f"int{bits}_t part = 0;")
            with function.loops(t=v.shape[1]):
                place = f"({names['rows']}[row] + s) * {line} + {names['columns']}[column] + t"
                x = f"(int{bits}_t){function.input()}[({place}) * {channels} + channel]"
                function.line(f"part += {x} * {names['v']}[column * {v.shape[1]} + t];")
            function.line(f"sum += part * {names['u']}[row * {u.shape[1]} + s];")
        function.finish("sum", "i", "channel")
