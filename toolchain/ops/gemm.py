"""Fully connected layers: a constant matrix applied to the last axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Folding, Kernel, Port
from toolchain.codegen.windows import matrix_vector
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.ir import Array, Constant, FixedType, Node, Shape, TensorType
from toolchain.ops.base import Sample, importer, operator
from toolchain.ops.linear import LinearOperator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.simulation.render import Renderer


@operator
@dataclass(frozen=True)
class Gemm(LinearOperator):
    """y[..., m] = bias[m] + sum over k of x[..., k] * weights[k, m].

    With integer weights `fractions` holds their binary point per output (or one for all), `weight_type` their format.
    `geometry` is the (rows, columns, channels) that a flattened input had, () when there was none.
    """

    weights: Constant
    bias: Constant
    weight_type: FixedType | None = None
    fractions: tuple[int, ...] = ()
    geometry: tuple[int, ...] = ()

    def shape(self, *inputs: Shape) -> Shape:
        if inputs[0][-1] != self.weights.shape[0]:
            raise ModelError(f"has weights for {self.weights.shape[0]} inputs, got {inputs[0][-1]}")
        return (*inputs[0][:-1], self.outputs)

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0]
        product: Array = values @ self.weights.array.astype(values.dtype) + self.bias.array.astype(values.dtype)
        return product

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        scale, offset, finish = renderer.epilogue(node)
        value = renderer.flat_gemm(
            renderer.channels_last(node.inputs[0], inputs[0]),
            renderer.graph.types[node.inputs[0]].shape,
            self.weights.array * scale,
            self.bias.array * scale + offset,
        )
        return finish(renderer.from_channels_last(node.name, value))

    def multiplications(self, *inputs: Shape) -> int:
        return math.prod(inputs[0][:-1]) * math.prod(self.weights.shape)

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        assert self.weight_type is not None
        pixels = math.prod(given.shape[:-1])
        matrix = self.weights.array.T[None]
        source = Port(given, folding.lanes)
        return [matrix_vector(given, source, output, pixels, matrix, self.bias.array, self.weight_type, folding)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, outputs in (((12,), 6), ((5, 8), 3), ((2, 3, 4), 8), ((1,), 1)):
            weight_type = FixedType(int(rng.integers(2, 17)), 1)
            weights = rng.integers(weight_type.low, weight_type.high + 1, (shape[-1], outputs))
            fractions = tuple(int(f) for f in rng.integers(-2, 6, outputs))
            bias = Constant(rng.integers(-99, 99, outputs))
            given = TensorType.of(shape, FixedType(int(rng.integers(1, 17)), 4, bool(rng.integers(2))))
            yield Sample(cls(Constant(weights), bias, weight_type, fractions), (given,))


@importer("Gemm")
def import_gemm(importing: Importer, node: OnnxNode) -> None:
    """y = alpha * x @ b + beta * c with constant b and c."""
    if node.attribute("transA", 0):
        raise UnsupportedOperator("transA mixes the samples of a batch")
    matrix = importing.constant(node, 1, "the matrix").astype(float)
    if matrix.ndim != 2:
        raise ModelError(f"has a matrix of shape {list(matrix.shape)}")
    matrix = matrix.T if node.attribute("transB", 0) else matrix
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    node.ignore("broadcast")
    bias = importing.constant(node, 2, "the bias").astype(float) if node.has(2) else np.zeros(1)
    try:
        bias = np.broadcast_to(bias.reshape(bias.shape[-1:] or (1,)), matrix.shape[1:]) * beta
    except ValueError:
        raise UnsupportedOperator(f"has a bias of shape {list(bias.shape)} for {matrix.shape[1]} outputs") from None
    value = importing.value(node, 0)
    if len(importing.shape(value)) != 1:
        raise ModelError(f"needs a matrix, the input has the shape {list(importing.shape(value))} beside the batch")
    importing.bind(node, importing.add(node, Gemm(Constant(matrix * alpha), Constant(bias)), value))


@importer("MatMul")
def import_matmul(importing: Importer, node: OnnxNode) -> None:
    """x @ constant matrix, over the last axis."""
    if importing.is_constant(node, 0) or not importing.is_constant(node, 1):
        raise UnsupportedOperator("is supported with a computed left and a constant right side")
    matrix = importing.constant(node, 1, "the matrix").astype(float)
    if matrix.ndim != 2:
        raise UnsupportedOperator(f"has a matrix of shape {list(matrix.shape)}, two dimensions are supported")
    operator = Gemm(Constant(matrix), Constant(np.zeros(matrix.shape[1])))
    importing.bind(node, importing.add(node, operator, importing.value(node, 0)))
