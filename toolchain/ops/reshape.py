"""Another shape for the same elements in the same order: Reshape, Flatten, Squeeze, Unsqueeze."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Folding, Kernel
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ops.base import Operator, Sample, importer, operator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer


@operator
@dataclass(frozen=True)
class Reshape(Operator):
    """Row-major elements under a new shape; costs nothing in hardware."""

    is_layout = True

    sizes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        if math.prod(inputs[0]) != math.prod(self.sizes):
            raise ModelError(f"cannot give {list(inputs[0])} the shape {list(self.sizes)}")
        return self.sizes

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        return TensorType(self.shape(given.shape), given.width, given.signed, (given.fraction,), given.low, given.high)

    def evaluate(self, *inputs: Array) -> Array:
        return inputs[0].reshape(len(inputs[0]), *self.sizes)

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return lowering.add(node, self, (lowering.narrow(inputs[0]),))

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        value = renderer.channels_last(node.inputs[0], inputs[0])
        shape = renderer.shape_constant((0 if renderer.free_batch else -1, *self.sizes))
        return renderer.from_channels_last(node.name, renderer.op("Reshape", value, shape))

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        return []  # the stream is the same

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        given = TensorType.of((2, 3, 4), FixedType(7, 3))
        for sizes in ((24,), (4, 6), (1, 24, 1), (4, 3, 2)):
            yield Sample(cls(sizes), (given,))


def add_reshape(importing: Importer, node: OnnxNode, sizes: Shape, place: int = 0, before: int | None = None) -> None:
    """The input, whose batch is dimension `before`, in another shape with the batch at `place`."""
    value = importing.value(node, 0, batch=place if before is None else before)
    importing.bind(node, importing.add(node, Reshape(sizes), value), batch=place)


@importer("Reshape")
def import_reshape(importing: Importer, node: OnnxNode) -> None:
    allow_zero = node.attribute("allowzero", 0)
    sizes = importing.integers(node, 1, "shape", None)
    if not sizes:
        raise ModelError("has no target shape")
    place = importing.batch(node, 0)
    given = importing.shape(importing.value(node, 0, batch=place))
    known_sizes = (*given[:place], 0, *given[place:])
    full = [known_sizes[k] if s == 0 and not allow_zero and k < len(known_sizes) else s for k, s in enumerate(sizes)]
    if place >= len(full) or full[:place] != list(given[:place]):
        raise UnsupportedOperator(f"to {sizes} moves elements between the samples of a batch")
    batch, rest = full[place], full[:place] + full[place + 1 :]
    total = math.prod(given)
    if rest.count(-1) > 1 or (batch == -1 and -1 in rest):
        raise ModelError(f"has the target shape {sizes} with several -1")
    known = math.prod(s for s in rest if s != -1)
    if -1 in rest and known and total % known == 0:
        rest[rest.index(-1)] = total // known
    if math.prod(rest) != total or not rest:
        raise UnsupportedOperator(f"to {sizes} moves elements between the samples of a batch")
    add_reshape(importing, node, tuple(rest), place)


@importer("Flatten")
def import_flatten(importing: Importer, node: OnnxNode) -> None:
    """axis 0 is accepted too: on one sample it gives the same."""
    given = importing.shape(importing.value(node, 0))
    axis = node.attribute("axis", 1)
    axis = axis + len(given) + 1 if axis < 0 else axis
    if axis not in (0, 1):
        raise UnsupportedOperator(f"at axis {axis} moves elements into the batch dimension")
    add_reshape(importing, node, (math.prod(given),))


@importer("Squeeze")
def import_squeeze(importing: Importer, node: OnnxNode) -> None:
    batch = importing.batch(node, 0)
    given = importing.shape(importing.value(node, 0, batch=batch))
    axes = importing.integers(node, 1, "axes", None)
    if axes is None:
        dropped = {k for k, d in enumerate(given) if d == 1}
    else:
        full = [importing.full_axis(a, len(given)) for a in axes]
        if batch in full:
            raise UnsupportedOperator("works along the batch dimension")
        dropped = {a - (a > batch) for a in full}
    if any(given[k] != 1 for k in dropped):
        raise ModelError(f"squeezes a dimension of {list(given)} that is not 1")
    sizes = tuple(d for k, d in enumerate(given) if k not in dropped)
    if not sizes:
        raise UnsupportedOperator("leaves only the batch dimension")
    add_reshape(importing, node, sizes, batch - sum(k < batch for k in dropped), batch)


@importer("Unsqueeze")
def import_unsqueeze(importing: Importer, node: OnnxNode) -> None:
    given = importing.shape(importing.value(node, 0))
    axes = importing.integers(node, 1, "axes", None) or []
    rank = len(given) + len(axes)
    places = {importing.axis(a, rank) for a in axes}
    rest = iter(given)
    add_reshape(importing, node, tuple(1 if k in places else next(rest) for k in range(rank)))
