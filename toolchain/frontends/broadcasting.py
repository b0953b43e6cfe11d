"""ONNX's broadcasting of computed values: what is repeated becomes an operator that repeats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from toolchain.errors import UnsupportedOperator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.ir import Shape
    from toolchain.ops.base import Operator


def broadcast_values(importing: Importer, node: OnnxNode, a: str, b: str) -> tuple[str, str]:
    """Both values in their common shape. Raises UnsupportedOperator where samples of a batch would meet."""
    shapes = importing.shape(a), importing.shape(b)
    if len(shapes[0]) != len(shapes[1]) or any(
        m != n and 1 not in (m, n) for m, n in zip(shapes[0], shapes[1], strict=False)
    ):
        raise UnsupportedOperator(
            f"has operands of shapes {list(shapes[0])} and {list(shapes[1])}, which do not broadcast sample by sample"
        )
    common = tuple(max(pair) for pair in zip(*shapes, strict=True))
    return tuple(repeated(importing, node, v, common, f"repeat{k}") for k, v in enumerate((a, b)))  # type: ignore[return-value]


def repeated(importing: Importer, node: OnnxNode, value: str, wanted: Shape, part: str) -> str:
    """The value repeated along its axes of size 1 until it has the shape `wanted`."""
    from toolchain.ops.transpose import Transpose  # the operators import this package

    shape = importing.shape(value)
    if shape == wanted:
        return value
    if len(shape) == 3 and shape[0] == wanted[0]:  # channels first: repeat whole pixels, as the hardware holds them
        value = importing.add(node, Transpose((1, 2, 0)), value, part=f"{part}_last")
        value = repeated(importing, node, value, (*wanted[1:], wanted[0]), part)
        return importing.add(node, Transpose((2, 0, 1)), value, part=f"{part}_first")
    for name, operator in repetition(shape, wanted, part):
        value = importing.add(node, operator, value, part=name)
    return value


def repetition(shape: Shape, wanted: Shape, part: str) -> list[tuple[str, Operator]]:
    """The operators, by their names, that repeat a tensor along its axes of size 1 until it has the shape `wanted`."""
    from toolchain.ops.resample import repeat  # the operators import this package
    from toolchain.ops.reshape import Reshape

    grows = [k for k, (have, want) in enumerate(zip(shape, wanted, strict=True)) if have != want]
    found: list[tuple[str, Operator]] = []
    while grows:
        first = last = grows.pop(0)
        while grows and all(shape[k] == 1 for k in range(last + 1, grows[0])):
            last = grows.pop(0)
        count, inner = math.prod(wanted[first : last + 1]), math.prod(shape[last + 1 :])
        found.append((f"{part}_one", Reshape((math.prod(shape[:first]), 1, inner))))
        found.append((part, repeat(math.prod(shape[:first]), count)))
        shape = (*shape[:first], *wanted[first : last + 1], *shape[last + 1 :])
        found.append((f"{part}_shape", Reshape(shape)))
    return found
