"""The training graph: the integer program in Keras, its packed weights as real coefficients behind a rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from toolchain.errors import UnsupportedOperator
from toolchain.ir import Array, Constant, FixedType, Graph, Node, TensorType
from toolchain.ir.types import needed_width
from toolchain.ops.linear import LinearOperator
from toolchain.ops.quantize import Quantize
from toolchain.ops.softmax import IntegerSoftmax
from toolchain.packing.basis import Transform
from toolchain.packing.packed import Coding, Packed
from toolchain.quantization.reweighting import visible_fraction
from toolchain.training.layers import LAYERS, linear, precision
from toolchain.training.rounding import Tensor, limited

WHOLE = float(2**52)
"""No bias is cut off."""


@dataclass(frozen=True)
class Latent:
    """What is trained of a layer: `coefficients` (taps, channels, outputs) in steps of their frequency, and the bias.

    The deployed levels are the coefficients rounded half up and cut off at `limit`, which is 2**(bits - 1) - 1.
    """

    coefficients: Array
    bias: Array
    limit: int


class PackedLayer(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """A convolution or matrix whose kernel is the inverse transform of rounded coefficients times their steps.

    Convolution in the frequency domain equals convolution in space (Wang et al., CNNpack, eq. 3), so gradients flow
    through the transform. `mask` holds the support: 0 where a coefficient stays 0.
    """

    def __init__(self, program: Graph, node: Node, latent: Latent) -> None:
        super().__init__(name="".join(c if c.isalnum() else "_" for c in node.name))
        operator, (given,) = node.operator, program.input_types(node)
        assert isinstance(operator, LinearOperator)
        assert isinstance(given, TensorType)
        assert isinstance(operator.weights, Packed)
        self.operator, self.coding, self.limit = operator, operator.weights.coding, latent.limit
        self.fraction = operator.fractions[0]
        self.points = self.fraction + given.fraction
        self.kept_points = min(self.points, visible_fraction(program, node, self.points))
        self.kind = precision(operator.bound(given))
        shape = latent.coefficients.shape
        self.coefficients = self.add_weight(shape=shape, initializer="zeros", name="coefficients")
        self.mask = self.add_weight(shape=shape, initializer="ones", trainable=False, name="mask")
        self.bias = self.add_weight(shape=latent.bias.shape, initializer="zeros", name="bias")
        self.unit = 2.0 ** -(visible_fraction(program, node, self.points) - 3)
        self.coefficients.assign(latent.coefficients)
        self.bias.assign(latent.bias / self.unit)

    def levels(self) -> Tensor:
        """(taps, channels, outputs) integers in float."""
        return limited(self.coefficients, 1.0, -self.limit, self.limit) * self.mask

    def real_bias(self) -> Tensor:
        """On the grid of the deployed one."""
        return limited(ops.cast(self.bias, "float64") * self.unit, 2.0**-self.kept_points, -WHOLE, WHOLE)

    def call(self, x: Tensor) -> Tensor:
        taps, channels, _ = self.coefficients.shape
        transform = self.coding.transform
        steps = np.ldexp(1.0, np.array(self.coding.shifts) - self.fraction)[transform.frequency(taps, channels)]
        levels = ops.cast(self.levels(), self.kind) * steps[:, :, None].astype(self.kind)
        weights = inverse(transform, levels)
        bias = ops.cast(self.real_bias(), self.kind)
        return linear(self.operator, ops.cast(x, self.kind), ops.reshape(weights, self.operator.weights.shape), bias)

    def deployed(self) -> LinearOperator:
        """The operator with the trained integers."""
        levels = np.rint(ops.convert_to_numpy(self.levels())).astype(np.int64)
        bias = np.ldexp(ops.convert_to_numpy(self.real_bias()).astype(np.float64), self.points)
        coding = Coding(Constant(levels), self.coding.transform, self.coding.shifts)
        packed = Packed(coding, self.operator.weights.shape)
        width, _ = needed_width(int(packed.array.min(initial=-1)), int(packed.array.max(initial=0)))
        type = FixedType(width, width - self.fraction)
        constant = Constant(np.rint(bias).astype(np.int64))
        return self.operator.with_integers(packed, constant, type, self.operator.fractions)


def inverse(transform: Transform, coefficients: Tensor) -> Tensor:
    """`Transform.inverse` on tensors (taps, channels, outputs)."""
    if transform.kind == "none":
        return coefficients
    taps, channels, outputs = coefficients.shape
    matrix = ops.cast(transform.matrix.astype(np.float64), coefficients.dtype)
    if transform.kind == "taps":
        return ops.reshape(ops.matmul(ops.transpose(matrix), ops.reshape(coefficients, (taps, -1))), coefficients.shape)
    blocks = ops.reshape(coefficients, (taps, channels // transform.size, transform.size, outputs))
    return ops.reshape(ops.einsum("fx,abfo->abxo", matrix, blocks), coefficients.shape)


class TrainingNetwork(keras.Model):  # type: ignore[misc] # Keras has no types
    """The program up to the scores of its classes; a softmax behind them is left to the loss.

    Inputs are real numbers on the grid of the program's entry (`enter`), channels last; outputs are real scores,
    exactly the program's integers times their step. Raises UnsupportedOperator for what cannot be trained.
    """

    def __init__(self, program: Graph, latents: Mapping[str, Latent]) -> None:
        super().__init__()
        self.program = program
        self.scores = scores_of(program)
        (self.entry,) = [node for node in program.nodes if isinstance(node.operator, Quantize)]
        self.nodes = _needed(program, self.scores)
        self.packed: dict[str, PackedLayer] = {}
        for node in self.nodes:
            if node.name in latents:
                self.packed[node.name] = PackedLayer(program, node, latents[node.name])
            elif not isinstance(node.operator, Quantize | LinearOperator) and type(node.operator) not in LAYERS:
                raise UnsupportedOperator(
                    f"{type(node.operator).__name__} cannot be trained through",
                    where=f"layer {node.layer!r}",
                    fix=f"What can: {', '.join(sorted(one.__name__ for one in LAYERS))}.",
                )
        self.layers_in_order = list(self.packed.values())

    def call(self, x: Tensor) -> Tensor:
        values = {self.entry.name: x}
        for node in self.nodes:
            if node.name in values:
                continue
            given = tuple(values[name] for name in node.inputs)
            types = tuple(self._type(name) for name in node.inputs)
            if node.name in self.packed:
                values[node.name] = self.packed[node.name](given[0])
            elif isinstance(node.operator, LinearOperator):
                values[node.name] = _constant(node.operator, types[0], given[0])
            else:
                values[node.name] = LAYERS[type(node.operator)](node.operator, types, given)
        return values[self.scores]

    def enter(self, x: Array) -> Array:
        """Model inputs (N, ...) as the graph takes them: quantized, channels last, float32."""
        given = next(one for one in self.program.inputs if one.name == self.entry.inputs[0])
        raw = self.entry.operator.evaluate(given.from_model(np.asarray(x)))
        return np.asarray(np.ldexp(raw.astype(np.float32), -self._type(self.entry.name).fraction))

    def raw_scores(self, x: Array) -> Array:
        """The program's integers at the scores for model inputs, int64: (N, classes)."""
        found = ops.convert_to_numpy(self(self.enter(x))).astype(np.float64)
        return np.asarray(np.rint(np.ldexp(found, self._type(self.scores).fraction)), dtype=np.int64)

    def deployed(self) -> Graph:
        """The integer program with what was trained."""
        nodes = []
        for node in self.program.nodes:
            operator = self.packed[node.name].deployed() if node.name in self.packed else node.operator
            nodes.append(Node(node.name, operator, node.inputs, node.layer))
        return self.program.with_nodes(tuple(nodes))

    def _type(self, name: str) -> TensorType:
        found = self.program.types[name]
        assert isinstance(found, TensorType)
        return found


def scores_of(program: Graph) -> str:
    """The value whose largest entry is the class: the output, or what a softmax at the end takes.

    Raises UnsupportedOperator for a network that does not end in one vector of scores.
    """
    if len(program.outputs) != 1 or len(program.inputs) != 1:
        raise UnsupportedOperator("training wants a classifier: one input, one output of scores", where=program.name)
    value = program.outputs[0].value
    node: Node | None = program.by_name[value]
    while node is not None and type(node.operator).__name__ in ("Requantize", "Reshape"):
        node = program.by_name.get(node.inputs[0])
    if node is not None and isinstance(node.operator, IntegerSoftmax):
        value = node.inputs[0]
    type_ = program.types[value]
    if len(type_.shape) != 1 or not isinstance(type_, TensorType) or not type_.is_scalar:
        raise UnsupportedOperator(f"training wants a vector of scores at the end, not {type_}", where=program.name)
    return value


def _needed(program: Graph, value: str) -> tuple[Node, ...]:
    """The nodes that a value depends on, in order."""
    wanted, found = {value}, []
    for node in reversed(program.nodes):
        if node.name in wanted:
            wanted |= set(node.inputs)
            found.append(node)
    return tuple(reversed(found))


def _constant(operator: Any, given: TensorType, x: Tensor) -> Tensor:
    """A linear operator that is not trained."""
    kind = precision(operator.bound(given))
    points = np.array(operator.fractions)
    weights = np.ldexp(operator.weights.array.astype(np.float64), -points)
    bias = np.ldexp(operator.bias.array.astype(np.float64), -(points + given.fraction))
    return linear(operator, ops.cast(x, kind), ops.cast(weights, kind), ops.cast(bias, kind))
