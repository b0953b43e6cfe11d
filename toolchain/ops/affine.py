"""Scale and offset by constants: batch normalization that could not be folded, Mul and Add with constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.elementwise import elementwise
from toolchain.codegen.kernel import Cost, Folding, Kernel, integer_array, integer_type
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.broadcasting import broadcast_values
from toolchain.ir import Array, Constant, FixedType, Node, Shape, TensorType
from toolchain.ops.base import Operator, Sample, importer, operator
from toolchain.ops.product import Product

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer


@operator
@dataclass(frozen=True)
class Affine(Operator):
    """y = x * scale + offset. Both constants have the rank of x and sizes that broadcast to it.

    With integers, `fractions` holds the binary point of the scale (one, or one per entry of the last axis), to which
    those of x are added, and `weight_type` its format; the offset stands on the grid of the product.
    """

    scale: Constant
    offset: Constant
    weight_type: FixedType | None = None
    fractions: tuple[int, ...] = ()

    def shape(self, *inputs: Shape) -> Shape:
        for constant in (self.scale, self.offset):
            if np.broadcast_shapes(constant.shape, inputs[0]) != inputs[0]:
                raise ModelError(
                    f"has constants of shape {list(constant.shape)} for a tensor of shape {list(inputs[0])}"
                )
        return inputs[0]

    @property
    def period(self) -> Shape:
        """The joint shape of scale and offset, after which they repeat."""
        return tuple(np.broadcast_shapes(self.scale.shape, self.offset.shape))

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        scale, offset = self.scale.array.astype(object), self.offset.array.astype(object)
        ends = [scale * end + offset for end in (given.low, given.high)]
        low, high = min(int(e.min()) for e in ends), max(int(e.max()) for e in ends)
        points = tuple(int(p) for p in np.add(self.fractions, given.fractions))
        return TensorType.holding(self.shape(given.shape), low, high, points)

    def bound(self, *inputs: TensorType) -> int:
        magnitude = inputs[0].magnitude
        scale, offset = (np.abs(constant.array.astype(object)) for constant in (self.scale, self.offset))
        return max(magnitude, int((scale * magnitude + offset).max()))

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0]
        product: Array = values * self.scale.array.astype(values.dtype) + self.offset.array.astype(values.dtype)
        return product

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        back = np.argsort(axes)
        return replace(
            self,
            scale=Constant(self.scale.array.transpose(back)),
            offset=Constant(self.offset.array.transpose(back)),
        )

    def after(self, first: Affine) -> Affine:
        """The one operator that equals `first` and then this one, in real numbers."""
        return Affine(
            Constant(first.scale.array * self.scale.array),
            Constant(first.offset.array * self.scale.array + self.offset.array),
        )

    @property
    def is_per_channel(self) -> bool:
        """Do scale and offset depend on the last axis only?"""
        return all(d == 1 for d in self.period[:-1])

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        value = lowering.narrow(inputs[0])
        scale, fractions, weight_type = lowering.quantized(node, self.scale.array, value)
        return lowering.linear(
            node,
            value,
            self.offset.array,
            fractions,
            lambda offset: Affine(Constant(scale), offset, weight_type, fractions),
        )

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        scale, offset = (renderer.like(constant.array, node.name) for constant in (self.scale, self.offset))
        return renderer.op("Add", renderer.op("Mul", inputs[0], scale), offset)

    def multiplications(self, *inputs: Shape) -> int:
        size = int(np.prod(inputs[0]))
        return 0 if (self.scale.array == 1).all() else size

    def parameters(self) -> int:
        return int(self.scale.array.size) + int(self.offset.array.size)

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        assert self.weight_type is not None
        shape = given.shape if not self.is_per_channel else (given.shape[-1],)
        scale, offset = (
            np.broadcast_to(c.array, (*((1,) * (len(given.shape) - len(shape))), *shape)).ravel()
            for c in (self.scale, self.offset)
        )
        config: dict[str, int | str] = {
            "PERIOD": scale.size // folding.lanes,
            "scale_t": integer_type(self.weight_type.width, self.weight_type.signed),
        }
        arrays = {"scale": integer_array(scale), "offset": integer_array(offset)}
        multipliers = ((folding.lanes, given.width, self.weight_type.width),)
        return [elementwise("affine", inputs, output, folding, config, arrays, Cost(multipliers))]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        weight_type = FixedType(7, 2)
        for shape, period in (((3, 4, 6), (1, 1, 6)), ((5,), (5,)), ((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (1, 1, 1))):
            scale = Constant(rng.integers(-64, 64, period))
            offset = Constant(rng.integers(-300, 300, period))
            fractions = tuple(int(f) for f in rng.integers(0, 5, period[-1]))
            given = TensorType.of(shape, FixedType(8, 3, bool(rng.integers(2))))
            yield Sample(cls(scale, offset, weight_type, fractions), (given,))


def import_affine(importing: Importer, node: OnnxNode, index: int, scale: Array, offset: Array) -> None:
    """The node is x * scale + offset of its input `index`."""
    importing.bind(node, add_affine(importing, node, importing.value(node, index), scale, offset))


def add_affine(importing: Importer, node: OnnxNode, value: str, scale: Array, offset: Array, part: str = "") -> str:
    """Adds value * scale + offset; the constants follow ONNX's broadcasting, batch axis included."""
    shape = importing.shape(value)
    constants = []
    for constant in (scale, offset):
        rank = len(shape) + 1
        if constant.ndim > rank or (constant.ndim == rank and constant.shape[0] != 1):
            raise UnsupportedOperator(f"has a constant of shape {list(constant.shape)} that changes the output's shape")
        full = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)[0]
        if np.broadcast_shapes(full.shape, shape) != shape:
            raise UnsupportedOperator(f"has a constant of shape {list(constant.shape)} that changes the output's shape")
        constants.append(Constant(full))
    return importing.add(node, Affine(constants[0], constants[1]), value, part=part)


@importer("Mul", "Div")
def import_mul(importing: Importer, node: OnnxNode) -> None:
    node.ignore("axis", "broadcast")
    if node.op_type == "Div":
        divisor = importing.constant(node, 1, "the divisor")
        if divisor.dtype.kind != "f":
            raise UnsupportedOperator("divides integers, which cuts fractions off; only real numbers are supported")
        constant = divisor.astype(float)
        if (constant == 0).any():
            raise ModelError("divides by zero")
        import_affine(importing, node, 0, 1 / constant, np.zeros(1))
        return
    for index, other in ((0, 1), (1, 0)):
        if importing.is_constant(node, other):
            constant = importing.constant(node, other, "the factor").astype(float)
            import_affine(importing, node, index, constant, np.zeros(1))
            return
    a, b = broadcast_values(importing, node, importing.value(node, 0), importing.value(node, 1))
    importing.bind(node, importing.add(node, Product(), a, b))


@importer("BatchNormalization")
def import_batch_normalization(importing: Importer, node: OnnxNode) -> None:
    """y = (x - mean) / sqrt(variance + epsilon) * scale + bias over axis 1."""
    if node.attribute("training_mode", 0):
        raise UnsupportedOperator("is in training mode")
    node.ignore("momentum", "spatial", "is_test", "consumed_inputs")
    names = ("the scale", "the bias", "the mean", "the variance")
    scale, bias, mean, variance = (importing.constant(node, k + 1, what).astype(float) for k, what in enumerate(names))
    spread = variance + node.attribute("epsilon", 1e-5)
    if (spread <= 0).any():
        raise ModelError("has a variance that is not positive")
    factor = scale / np.sqrt(spread)
    trailing = (1,) * (len(importing.shape(importing.value(node, 0))) - 1)
    import_affine(importing, node, 0, factor.reshape(-1, *trailing), (bias - mean * factor).reshape(-1, *trailing))
