"""ReduceMean, ReduceSum, ReduceMax and ReduceMin: poolings over all of the reduced axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from toolchain.errors import UnsupportedOperator
from toolchain.ir import Constant
from toolchain.ir.window import Window
from toolchain.ops.affine import Affine
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.base import importer
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.reshape import Reshape
from toolchain.ops.transpose import Transpose

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.ir import Shape
    from toolchain.ops.base import Operator


@importer("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
def import_reduction(importing: Importer, node: OnnxNode) -> None:
    """Reduced axes become the rows of a picture, the others its channels."""
    value = importing.value(node, 0)
    shape = importing.shape(value)
    given = importing.integers(node, 1, "axes", None)
    if node.attribute("noop_with_empty_axes", 0) and not given:
        node.ignore("keepdims")
        importing.bind(node, value)
        return
    axes = sorted({importing.axis(a, len(shape)) for a in given} if given else {-1})
    if axes == [-1]:
        raise UnsupportedOperator("reduces all axes, the batch dimension included")
    keeps = bool(node.attribute("keepdims", 1))
    wanted = tuple(1 if k in axes else d for k, d in enumerate(shape) if keeps or k not in axes)
    if not wanted:
        raise UnsupportedOperator("leaves only the batch dimension, keepdims 1 is needed")
    if node.op_type == "ReduceMin":
        value = _negated(importing, node, value, "negative")
    kind = "ReduceMax" if node.op_type == "ReduceMin" else node.op_type
    value = reduced(importing, node, value, axes, kind, "reduced")
    if node.op_type == "ReduceMin":
        value = _negated(importing, node, value, "positive")
    importing.bind(node, importing.add(node, Reshape(wanted), value))


def reduced(importing: Importer, node: OnnxNode, value: str, axes: list[int], kind: str, part: str) -> str:
    """The (1, 1, rest) of a value over some of its axes: `kind` is ReduceMean, ReduceSum or ReduceMax."""
    operators, window = pictured(importing.shape(value), axes, part)
    divisor = Constant([[window.taps if kind == "ReduceMean" else 1]])
    pool: Operator = MaxPool(window) if kind == "ReduceMax" else AveragePool(window, divisor)
    for name, operator in [*operators, (part, pool)]:
        value = importing.add(node, operator, value, part=name)
    return value


def pictured(shape: Shape, axes: list[int], part: str) -> tuple[list[tuple[str, Operator]], Window]:
    """The operators, by their names, that make `axes` the rows and columns of a picture, and its one window."""
    kept = [k for k in range(len(shape)) if k not in axes]
    order = (*axes, *kept)
    picture = _picture(tuple(shape[k] for k in axes), math.prod(shape[k] for k in kept))
    found: list[tuple[str, Operator]] = [(f"{part}_picture", Reshape(picture))]
    if order != tuple(range(len(shape))):
        found.insert(0, (f"{part}_order", Transpose(order)))
    return found, Window((picture[0], picture[1]))


def _picture(sizes: Shape, channels: int) -> Shape:
    """Two of the reduced axes stay rows and columns, so that the transposition is one that cancels."""
    return (sizes[0], math.prod(sizes[1:]), channels)


def _negated(importing: Importer, node: OnnxNode, value: str, part: str) -> str:
    ones = (1,) * len(importing.shape(value))
    return importing.add(node, Affine(Constant(-np.ones(ones)), Constant(np.zeros(ones))), value, part=part)
