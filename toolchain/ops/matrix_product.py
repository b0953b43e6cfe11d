"""Products of two computed matrices, for attention."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, Loops, Port, Schedule
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.broadcasting import repeated
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ops.base import Operator, Sample, operator
from toolchain.ops.reshape import Reshape

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering


@operator
@dataclass(frozen=True)
class MatrixProduct(Operator):
    """y[h, m, n] = sum over k of a[h, m, k] * b[h, k, n], exactly."""

    def shape(self, *inputs: Shape) -> Shape:
        a, b = inputs
        if len(a) != 3 or len(b) != 3 or a[0] != b[0] or a[2] != b[1]:
            raise ModelError(f"multiplies matrices of shapes {list(a)} and {list(b)}")
        return a[0], a[1], b[2]

    def ranges(self, *inputs: TensorType) -> TensorType:
        a, b = inputs
        terms = a.shape[-1]
        ends = [x * y * terms for x in (a.low, a.high) for y in (b.low, b.high)]
        return TensorType.holding(self.shape(a.shape, b.shape), min(ends), max(ends), (a.fraction + b.fraction,))

    def bound(self, *inputs: TensorType) -> int:
        return max(inputs[0].magnitude * inputs[1].magnitude * inputs[0].shape[-1], *(t.magnitude for t in inputs))

    def evaluate(self, *inputs: Array) -> Array:
        return np.asarray(inputs[0] @ inputs[1])

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return lowering.add(node, self, tuple(lowering.narrow(value) for value in inputs))

    def multiplications(self, *inputs: Shape) -> int:
        return math.prod(inputs[0]) * inputs[1][-1]

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        """All of b is held, then the rows of a meet it one after the other."""
        a, b = inputs
        lanes = folding.lanes
        heads, rows, terms = a.shape
        row_words, words = terms // lanes, b.shape[2] // lanes
        filled, each = terms * words, row_words + words * terms
        steps = filled + rows * each
        config: dict[str, int | str] = {
            "HEADS": heads,
            "ROWS": rows,
            "TERMS": terms,
            "WORDS": words,
            "LANES": lanes,
            "a_t": a.cpp,
            "b_t": b.cpp,
            "output_t": output.cpp,
        }
        schedule = Schedule(
            heads * steps,
            (
                (Loops(filled, ((heads, steps), (rows, each), (row_words, 1))),),
                (Loops(0, ((heads, steps), (filled, 1))),),
            ),
            (Loops(filled + row_words + terms - 1, ((heads, steps), (rows, each), (words, terms))),),
        )
        cost = Cost(
            ((lanes, a.width, b.width),),
            ((row_words, lanes * a.width),),
            written=(("matrix", 1, filled, lanes * b.width),),
        )
        ports = (Port(a, lanes), Port(b, lanes))
        return [
            Kernel("matrix_product", "ops/matrix_product.h", config, ports, Port(output, lanes), schedule, cost=cost)
        ]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for heads, rows, terms, columns in ((1, 3, 4, 6), (2, 2, 4, 4), (3, 1, 2, 5)):
            types = [FixedType(int(rng.integers(2, 9)), 2, bool(rng.integers(2))) for _ in range(2)]
            a, b = TensorType.of((heads, rows, terms), types[0]), TensorType.of((heads, terms, columns), types[1])
            yield Sample(cls(), (a, b))


def add_matrix_product(importing: Importer, node: OnnxNode, a: str, b: str) -> str:
    """ONNX's MatMul of two computed tensors, whose leading axes broadcast."""
    shapes = importing.shape(a), importing.shape(b)
    if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 2:
        raise UnsupportedOperator(
            f"multiplies computed tensors of shapes {list(shapes[0])} and {list(shapes[1])}; equal ranks are needed, "
            "with rows and columns beside the batch"
        )
    leading = tuple(max(pair) for pair in zip(shapes[0][:-2], shapes[1][:-2], strict=True))
    if any(m != n and 1 not in (m, n) for m, n in zip(shapes[0][:-2], shapes[1][:-2], strict=True)):
        raise ModelError(f"multiplies matrices of shapes {list(shapes[0])} and {list(shapes[1])}")
    stacked = []
    for value, shape, part in ((a, shapes[0], "left"), (b, shapes[1], "right")):
        whole = repeated(importing, node, value, (*leading, *shape[-2:]), f"{part}_repeat")
        stacked.append(importing.add(node, Reshape((math.prod(leading), *shape[-2:])), whole, part=part))
    value = importing.add(node, MatrixProduct(), *stacked, part="product")
    return importing.add(node, Reshape((*leading, shapes[0][-2], shapes[1][-1])), value)
