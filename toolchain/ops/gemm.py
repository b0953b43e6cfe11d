"""Fully connected layers: a constant matrix applied to the last axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.basis import basis_channels, basis_window, centre_responses, frequency_coding
from toolchain.codegen.codings import random_packed
from toolchain.codegen.kernel import Folding, Kernel, Port
from toolchain.codegen.sparse import Nonzeros, sparse_matrix_vector
from toolchain.codegen.streamed import streamed_matrix_vector
from toolchain.codegen.windows import matrix_vector, repacked
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.ir import Array, Constant, FixedType, Node, Shape, TensorType
from toolchain.ir.window import Window
from toolchain.ops.base import Sample, importer, operator
from toolchain.ops.linear import LinearOperator
from toolchain.ops.matrix_product import add_matrix_product
from toolchain.ops.reshape import Reshape
from toolchain.packing.basis import Transform
from toolchain.packing.filters import Filters
from toolchain.packing.packed import Coding

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

    @property
    def filters(self) -> Filters:
        rows, columns, channels = self.geometry or (1, 1, self.weights.shape[0])
        return Filters(self.weights.array.reshape(rows * columns, channels, self.outputs), rows, columns)

    def vectors(self, values: Array, chosen: Array) -> Array:
        return values.reshape(-1, 1, values.shape[-1])[chosen]

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
        if folding.engine == "sparse":
            return self._sparse(given, output, folding)
        pixels = math.prod(given.shape[:-1])
        matrix = self.weights.array.T[None]
        source = Port(given, folding.lanes)
        return [matrix_vector(given, source, output, pixels, matrix, self.bias.array, self.weight_type, folding)]

    @property
    def frequency_coding(self) -> Coding | None:
        """What is executed in frequency, if that is possible: over taps only where the input was a picture."""
        return frequency_coding(self.weights, self.geometry[:2])

    @property
    def nonzeros_shape(self) -> tuple[int, int, int]:
        """(taps, channels, outputs) of weights that are not seen as coefficients."""
        return 1, self.weights.shape[0], self.outputs

    def _sparse(self, given: TensorType, output: TensorType, folding: Folding) -> list[Kernel]:
        coding = self.frequency_coding if folding.domain == "frequency" else None
        pixels, source = math.prod(given.shape[:-1]), Port(given, folding.lanes)
        nonzeros = Nonzeros.of(self.weights, self.nonzeros_shape, coding, has_centres=folding.centres > 0)
        chain, block = [], nonzeros.values.shape[1]
        if coding and coding.transform.kind == "taps":
            # The inputs are pictures on top of each other, and a window covers each.
            rows, columns, channels = self.geometry
            picture = replace(given, shape=(pixels * rows, columns, channels))
            chain = [basis_window(picture, Window((rows, columns), (rows, columns)), folding.lanes, coding)]
            block = folding.lanes
            if folding.centres:
                reach = given.low, given.high
                chain.append(centre_responses(chain[-1].output, reach, coding, folding.centres))
        elif coding:
            chain = [basis_channels(source, (given.low, given.high), coding)]
        source = chain[-1].output if chain else source
        source = repacked(chain, source, folding.simd or source.lanes)
        if folding.streamed:
            return [*chain, streamed_matrix_vector(source, output, pixels, nonzeros, 1, block, folding)]
        return [*chain, sparse_matrix_vector(source, output, pixels, nonzeros, 1, block, self.bias.array, folding)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, outputs in (((12,), 6), ((5, 8), 3), ((2, 3, 4), 8), ((1,), 1)):
            weight_type = FixedType(int(rng.integers(2, 17)), 1)
            weights = rng.integers(weight_type.low, weight_type.high + 1, (shape[-1], outputs))
            fractions = tuple(int(f) for f in rng.integers(-2, 6, outputs))
            bias = Constant(rng.integers(-99, 99, outputs))
            given = TensorType.of(shape, FixedType(int(rng.integers(1, 17)), 4, bool(rng.integers(2))))
            yield Sample(cls(Constant(weights), bias, weight_type, fractions), (given,))
        for shape, geometry, transform, levels, rounded in (
            ((24,), (3, 4, 2), Transform("taps", 3, 4), (12, 2, 5), 0),
            ((3, 24), (2, 3, 4), Transform("taps", 2, 3), (6, 4, 4), 0),
            ((24,), (), Transform("channels", 1, 4), (1, 24, 5), 0),
            ((2, 12), (), Transform("channels", 2, 2), (1, 12, 6), 0),
            ((24,), (2, 3, 4), Transform("channels", 2, 2), (6, 4, 3), 0),
            ((12,), (), Transform("channels", 1, 6), (1, 12, 3), 1),
        ):
            packed, weight_type = random_packed(
                rng, transform, levels, (shape[-1], levels[2]), is_clustered=bool(rng.integers(2)), rounded=rounded
            )
            bias = Constant(rng.integers(-99, 99, levels[2]))
            given = TensorType.of(shape, FixedType(int(rng.integers(1, 17)), 4, bool(rng.integers(2))))
            yield Sample(cls(packed, bias, weight_type, (1,) * levels[2], geometry), (given,))


@importer("Gemm")
def import_gemm(importing: Importer, node: OnnxNode) -> None:
    """y = alpha * x @ b + beta * c with constant b and c."""
    if node.attribute("transA", 0):
        raise UnsupportedOperator("transA mixes the samples of a batch")
    matrix = importing.constant(node, 1, "the matrix")
    if matrix.ndim != 2:
        raise ModelError(f"has a matrix of shape {list(matrix.shape)}")
    turned = bool(node.attribute("transB", 0))
    weights = importing.weights(node, 1, "the matrix", lambda array: array.T if turned else array)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    node.ignore("broadcast")
    bias = importing.constant(node, 2, "the bias").astype(float) if node.has(2) else np.zeros(1)
    try:
        bias = np.broadcast_to(bias.reshape(bias.shape[-1:] or (1,)), weights.shape[1:]) * beta
    except ValueError:
        raise UnsupportedOperator(f"has a bias of shape {list(bias.shape)} for {weights.shape[1]} outputs") from None
    value = importing.value(node, 0)
    if len(importing.shape(value)) != 1:
        raise ModelError(f"needs a matrix, the input has the shape {list(importing.shape(value))} beside the batch")
    scaled = weights if alpha == 1 else weights.scaled(np.full(weights.shape[-1], alpha))
    importing.bind(node, importing.add(node, Gemm(scaled, Constant(bias)), value))


@importer("MatMul")
def import_matmul(importing: Importer, node: OnnxNode) -> None:
    """x @ constant matrix, over the last axis, or two computed matrices."""
    if not importing.is_constant(node, 0) and not importing.is_constant(node, 1):
        product = add_matrix_product(importing, node, importing.value(node, 0), importing.value(node, 1))
        importing.bind(node, product)
        return
    if importing.is_constant(node, 0) or not importing.is_constant(node, 1):
        raise UnsupportedOperator("is supported with a computed left and a constant right side")
    matrix = importing.constant(node, 1, "the matrix")
    shape = importing.shape(importing.value(node, 0))
    if matrix.ndim == 1 and len(shape) > 1:
        weights = importing.weights(node, 1, "the matrix", lambda array: array[:, None])
        column = Gemm(weights, Constant(np.zeros(1)))
        value = importing.add(node, column, importing.value(node, 0), part="column")
        importing.bind(node, importing.add(node, Reshape(shape[:-1]), value))
        return
    if matrix.ndim != 2:
        raise UnsupportedOperator(f"has a matrix of shape {list(matrix.shape)}, two dimensions are supported")
    operator = Gemm(importing.weights(node, 1, "the matrix", lambda array: array), Constant(np.zeros(matrix.shape[1])))
    importing.bind(node, importing.add(node, operator, importing.value(node, 0)))
