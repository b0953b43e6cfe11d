"""Limits: Relu, Relu6 and Clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.elementwise import elementwise
from toolchain.codegen.kernel import Cost, Folding, Kernel
from toolchain.errors import ModelError
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ir.integers import INT64_HIGH, INT64_LOW
from toolchain.ops.base import Operator, Sample, importer, operator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer


@operator
@dataclass(frozen=True)
class Clip(Operator):
    """y = min(max(x, low), high); None leaves an end open. Integer bounds stand on the grid of x.

    Only with `low` 0 (Relu) does it take a tensor with several binary points.
    """

    low: float | None
    high: float | None

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    @property
    def is_relu(self) -> bool:
        return self.low == 0 and self.high is None

    def limits(self, given: TensorType) -> tuple[int, int]:
        """Raw bounds, those of the range where an end is open."""
        if self.low is None:
            high = given.high if self.high is None else int(self.high)
            return min(given.low, high), high
        low = int(self.low)
        return low, max(low, given.high if self.high is None else int(self.high))

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        if not self.is_relu:
            given.fraction  # noqa: B018 - raises when there are several binary points
        low, high = self.limits(given)
        return TensorType.holding(
            given.shape, min(max(given.low, low), high), max(min(given.high, high), low), given.fractions
        )

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0]
        if self.low is not None:
            values = np.maximum(values, values.dtype.type(self.low) if values.dtype != object else int(self.low))
        if self.high is not None:
            values = np.minimum(values, values.dtype.type(self.high) if values.dtype != object else int(self.high))
        return values

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        if self.is_relu:
            return lowering.add(node, self, inputs)
        value = lowering.narrow(inputs[0], like=node)
        type = lowering.type(value).fixed
        return lowering.add(node, Clip(_on_grid(self.low, type), _on_grid(self.high, type)), (value,))

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        if self.is_relu:
            return renderer.op("Relu", inputs[0])
        return renderer.clip(inputs[0], *self.limits(renderer.integer_type(node.inputs[0])))

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        low, high = self.limits(given)
        config: dict[str, int | str] = {"CLIPS_LOW": int(low > given.low), "CLIPS_HIGH": int(high < given.high)}
        # A bound that no value passes may need more bits than C++ has literals for.
        config |= {"LOW": low * (low > given.low), "HIGH": high * (high < given.high)}
        cost = Cost(lut=folding.lanes * given.width)
        return [elementwise("clip", inputs, output, folding, config, cost=cost)]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        given = TensorType.of((3, 4), FixedType(9, 4))
        yield Sample(cls(0, None), (TensorType((2, 3), 9, True, (1, 2, 3), -256, 255),))
        yield Sample(cls(0, 96), (given,))
        yield Sample(cls(-17, 100), (given,))
        yield Sample(cls(None, int(rng.integers(-90, 90))), (given,))


def _on_grid(bound: float | None, type: FixedType) -> int | None:
    """The raw bound. One that no 64 bits hold is moved to the end of the type, beyond which no value lies."""
    if bound is None:
        return None
    raw = int(np.floor(bound * 2.0**type.fraction + 0.5))
    return raw if INT64_LOW <= raw <= INT64_HIGH else min(max(raw, type.low), type.high)


@importer("Relu")
def import_relu(importing: Importer, node: OnnxNode) -> None:
    importing.bind(node, importing.add(node, Clip(0, None), importing.value(node, 0)))


@importer("Clip")
def import_clip(importing: Importer, node: OnnxNode) -> None:
    bounds: list[float | None] = []
    for index, what in ((1, "min"), (2, "max")):
        given = importing.constant(node, index, what, infinite=True) if node.has(index) else None
        if given is not None and given.size != 1:
            raise ModelError(f"has a {what} of shape {list(given.shape)}, one number is needed")
        bound = None if given is None else float(given.reshape(-1)[0])
        # Exporters write the largest float, or infinity, for an open end.
        bounds.append(None if bound is None or abs(bound) >= np.finfo(np.float32).max else bound)
    low, high = bounds
    if low is not None and high is not None:
        low = min(low, high)  # bounds that cross give the upper one, as ONNX has it
    importing.bind(node, importing.add(node, Clip(low, high), importing.value(node, 0)))
