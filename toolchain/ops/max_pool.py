"""Maximum over windows, or over the whole picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.codegen.kernel import Cost, Folding, Kernel, Port, Schedule, every, nest
from toolchain.codegen.windows import sliding_window
from toolchain.errors import PassError, UnsupportedOperator
from toolchain.frontends.windows import import_window, import_windows, windowed, windowed_twice
from toolchain.ir import Array, FixedType, Node, Shape, TensorType
from toolchain.ir.window import Window
from toolchain.ops.base import Operator, Sample, importer, operator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering
    from toolchain.simulation.render import Renderer


OUTSIDE = "has windows that lie in the padding altogether"


@operator
@dataclass(frozen=True)
class MaxPool(Operator):
    """y = max of x over the taps of the window that lie inside the picture."""

    window: Window

    def shape(self, *inputs: Shape) -> Shape:
        return (*self.window.output(inputs[0]), inputs[0][2])

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        if not self.window.counts(given.shape).all():
            raise PassError(OUTSIDE)
        return TensorType(self.shape(given.shape), given.width, given.signed, (given.fraction,), given.low, given.high)

    def evaluate(self, *inputs: Array) -> Array:
        values = inputs[0]
        lowest = values.min(initial=0) if values.dtype.kind != "f" else -np.inf
        result: Array = self.window.patches(values, lowest).max(axis=(3, 4))
        return result

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        return lowering.add(node, self, (lowering.narrow(inputs[0]),))

    def render(self, renderer: Renderer, node: Node, inputs: tuple[str, ...]) -> str | None:
        if any(self.window.pads[k] >= self.window.kernel[k % 2] for k in range(4)):
            return None  # ONNX Runtime refuses such padding, even where dilation makes it sensible
        return renderer.op(
            "MaxPool",
            inputs[0],
            kernel_shape=self.window.kernel,
            strides=self.window.strides,
            dilations=self.window.dilations,
            pads=self.window.pads,
        )

    def kernels(self, inputs: tuple[TensorType, ...], output: TensorType, folding: Folding) -> list[Kernel]:
        (given,) = inputs
        lanes = folding.lanes
        blocks = given.shape[2] // lanes
        cost = Cost(memories=((blocks, lanes * given.width),), lut=lanes * given.width * 2)
        if self.window.covers(given.shape):
            pixels = given.shape[0] * given.shape[1]
            config: dict[str, int | str] = {
                "PIXELS": pixels,
                "CHANNELS": given.shape[2],
                "LANES": lanes,
                "input_t": given.cpp,
            }
            schedule = Schedule(pixels * blocks, (every(pixels * blocks),), every(blocks, start=(pixels - 1) * blocks))
            port = Port(given, lanes)
            return [
                Kernel("global_max_pool", "ops/max_pool.h", config, (port,), Port(output, lanes), schedule, cost=cost)
            ]
        windows = sliding_window(given, self.window, lanes, lanes, padding=given.fixed.low)
        count, taps = output.size // lanes, self.window.taps
        config = {"COUNT": count, "TAPS": taps, "LANES": lanes, "input_t": given.cpp}
        schedule = Schedule(count * taps, (every(count * taps),), nest((count, taps), start=taps - 1))
        pool = Kernel("max_pool", "ops/max_pool.h", config, (windows.output,), Port(output, lanes), schedule, cost=cost)
        return [windows, pool]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for window in (
            Window((2, 2), (2, 2)),
            Window((3, 3), (1, 2), (1, 1), (1, 0, 1, 2)),
            Window((6, 5)),
            Window((2, 1), (3, 3), (2, 1), (0, 0, 1, 0)),
        ):
            yield Sample(cls(window), (TensorType.of((6, 5, 4), FixedType(8, 3, bool(rng.integers(2)))),))


@importer("MaxPool")
def import_max_pool(importing: Importer, node: OnnxNode) -> None:
    node.ignore("storage_order")
    if len(node.outputs) > 1 and node.outputs[1]:
        raise UnsupportedOperator("gives the indices of the maxima")
    kernel: list[int] = node.attribute("kernel_shape", [])
    shape = importing.shape(importing.value(node, 0))
    if len(kernel) == len(shape) - 1 == 3:
        deep, flat = import_windows(node, shape[1:], kernel)
        if not (flat.counts((*shape[2:], 1)).all() and deep.counts((shape[1], 1, 1)).all()):
            raise UnsupportedOperator(OUTSIDE)
        windowed_twice(importing, node, MaxPool(flat), MaxPool(deep))
        return
    window = import_window(importing, node, kernel)
    if not window.counts((*((1,) if len(shape) == 2 else ()), *shape[1:], 1)).all():
        raise UnsupportedOperator(OUTSIDE)
    windowed(importing, node, MaxPool, window)


@importer("GlobalMaxPool")
def import_global_max_pool(importing: Importer, node: OnnxNode) -> None:
    kernel = importing.shape(importing.value(node, 0))[1:]
    windowed(importing, node, MaxPool, import_window(importing, node, kernel))
