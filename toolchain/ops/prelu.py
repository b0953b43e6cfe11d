"""Rectifiers with a slope for negative values: LeakyRelu and PRelu."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.elementwise import elementwise
from toolchain.codegen.kernel import Cost, Folding, Kernel, integer_array
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.ir import Array, Constant, FixedType, Node, Shape, TensorType
from toolchain.ir.types import needed_width
from toolchain.ops.base import Operator, Sample, importer, operator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer

SLOPE_BITS = 8
"""A slope has the bits of weights, but never fewer than these."""


@operator
@dataclass(frozen=True)
class PRelu(Operator):
    """y = x where x >= 0, x * slopes elsewhere; `slopes` has the rank of x and broadcasts to it.

    On integers y = x * 2**fraction where x >= 0, x * slopes elsewhere: the slopes are raw with `fraction` bits.
    """

    slopes: Constant
    fraction: int | None = None

    def shape(self, *inputs: Shape) -> Shape:
        if np.broadcast_shapes(self.slopes.shape, inputs[0]) != inputs[0]:
            raise ModelError(f"has slopes of shape {list(self.slopes.shape)} for a tensor of shape {list(inputs[0])}")
        return inputs[0]

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        assert self.fraction is not None
        ends = [max(given.low, 0) << self.fraction, max(given.high, 0) << self.fraction]
        if given.low < 0:
            slopes = self.slopes.array
            for end in (given.low, min(given.high, -1)):
                ends += [int(slopes.min()) * end, int(slopes.max()) * end]
        return TensorType.holding(self.shape(given.shape), min(ends), max(ends), (given.fraction + self.fraction,))

    def bound(self, *inputs: TensorType) -> int:
        """Both branches are computed for every element."""
        factor = max(1 << (self.fraction or 0), int(np.abs(self.slopes.array).max()))
        return inputs[0].magnitude * factor

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0]
        positive = values * 2**self.fraction if self.fraction else values
        return np.where(values >= 0, positive, values * self.slopes.array.astype(values.dtype))

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return replace(self, slopes=Constant(self.slopes.array.transpose(np.argsort(axes))))

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        value = lowering.narrow(inputs[0])
        largest = float(np.abs(self.slopes.array).max())
        integer = max(0, int(np.ceil(np.log2(largest + 2.0**-SLOPE_BITS)))) if largest else 0
        fraction = max(0, max(SLOPE_BITS, lowering.configuration.weight_bits) - 1 - integer)
        raw = np.floor(self.slopes.array * 2.0**fraction + 0.5).astype(np.int64)
        return lowering.add(node, PRelu(Constant(raw), fraction), (value,))

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        assert self.fraction is not None
        scaled = renderer.op("Mul", inputs[0], renderer.constant(np.array(2.0**self.fraction)))
        slopes = renderer.like(self.slopes.array * 2.0**-self.fraction, node.name)
        return renderer.op("PRelu", scaled, slopes)

    def multiplications(self, *inputs: Shape) -> int:
        return int(np.prod(inputs[0]))

    def parameters(self) -> int:
        return int(self.slopes.array.size)

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        assert self.fraction is not None
        per_channel = all(d == 1 for d in self.slopes.shape[:-1])
        slopes = np.broadcast_to(
            self.slopes.array, (1,) * (len(given.shape) - 1) + given.shape[-1:] if per_channel else given.shape
        ).ravel()
        config: dict[str, int | str] = {"PERIOD": slopes.size // folding.lanes, "FRACTION": self.fraction}
        cost = Cost(((folding.lanes, given.width, needed_width(int(slopes.min()), int(slopes.max()))[0]),))
        return [elementwise("prelu", inputs, output, folding, config, {"slopes": integer_array(slopes)}, cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        given = TensorType.of((3, 2, 4), FixedType(8, 3))
        yield Sample(cls(Constant([[[26]]]), 7), (given,))
        yield Sample(cls(Constant(rng.integers(-127, 128, (1, 1, 4))), 6), (given,))
        yield Sample(cls(Constant(rng.integers(0, 128, (3, 2, 4))), 5), (given,))
        yield Sample(cls(Constant([5]), 4), (TensorType.of((6,), FixedType(8, 3, False)),))


@importer("LeakyRelu")
def import_leaky_relu(importing: Importer, node: OnnxNode) -> None:
    value = importing.value(node, 0)
    slope = np.full((1,) * len(importing.shape(value)), float(node.attribute("alpha", 0.01)))
    importing.bind(node, importing.add(node, PRelu(Constant(slope)), value))


@importer("PRelu")
def import_prelu(importing: Importer, node: OnnxNode) -> None:
    """The slope follows unidirectional broadcasting; old exporters give (channels,) for (batch, channels, ...)."""
    value = importing.value(node, 0)
    shape = importing.shape(value)
    slope = importing.constant(node, 1, "the slope").astype(float)
    if slope.ndim == 1 and slope.size == shape[0] != 1 and slope.size != shape[-1]:
        slope = slope.reshape(-1, *(1,) * (len(shape) - 1))
    if slope.ndim > len(shape) + 1 or (slope.ndim == len(shape) + 1 and slope.shape[0] != 1):
        raise UnsupportedOperator(f"has a slope of shape {list(slope.shape)}")
    slope = slope.reshape((1,) * (len(shape) + 1 - slope.ndim) + slope.shape)[0]
    importing.bind(node, importing.add(node, PRelu(Constant(slope)), value))
