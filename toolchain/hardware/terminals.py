"""Inputs and outputs of a design as its host sees them: integers in memory, in another order than the model's."""

from __future__ import annotations

from dataclasses import dataclass

from toolchain.errors import ModelError, PassError
from toolchain.ir import Input, Node, Output, Shape, TensorType
from toolchain.ops.quantize import Quantize

TERMINAL_DIMENSIONS = 5
"""Dimensions that a host may walk; the leading ones are 1."""
LANE_BITS = (8, 16, 32, 64)


@dataclass(frozen=True)
class Terminal:
    """An input or output of the design: an AXI4-Stream with `lanes` elements a beat, each in `lane_bits` bits.

    `sizes` and `strides` (TERMINAL_DIMENSIONS each) walk the model's own layout in stream order. `ties_to_even` says
    how the host rounds the halves of an input.
    """

    name: str
    identifier: str
    value: str
    type: TensorType
    lanes: int
    lane_bits: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    ties_to_even: bool = False


def lane_bits(width: int) -> int:
    """Bits that an element takes in memory: 8, 16, 32 or 64. Raises PassError beyond."""
    for bits in LANE_BITS:
        if width <= bits:
            return bits
    raise PassError(f"has elements of {width} bits, {LANE_BITS[-1]} are possible")


def input_terminal(given: Input, entry: Node, type: TensorType, identifier: str, lanes: int) -> Terminal:
    """The terminal of a model's input, whose integers have the `type` that its `entry` gives."""
    assert isinstance(entry.operator, Quantize)
    sizes, strides = _walk(given.name, type.shape, given.axes, given.model_shape)
    ties = entry.operator.ties_to_even
    return Terminal(given.name, identifier, entry.name, type, lanes, lane_bits(type.width), sizes, strides, ties)


def output_terminal(output: Output, type: TensorType, identifier: str, lanes: int) -> Terminal:
    """The terminal of a model's output."""
    model = output_shape(type.shape, output.axes)
    back = tuple(output.axes.index(k) for k in range(len(model)))
    sizes, strides = _walk(output.name, type.shape, back, model)
    return Terminal(output.name, identifier, output.value, type, lanes, lane_bits(type.width), sizes, strides)


def output_shape(shape: Shape, axes: Shape) -> Shape:
    """A value's shape in the order of the model's axes."""
    return tuple(shape[a] for a in axes)


def _walk(name: str, shape: Shape, axes: Shape, model: Shape) -> tuple[Shape, Shape]:
    """Sizes and strides of the walk through an array of the shape `model`. Axis i of the stream is its axes[i]."""
    if len(axes) > TERMINAL_DIMENSIONS:
        raise ModelError(
            f"has {len(axes)} dimensions beside the batch, inputs and outputs may have {TERMINAL_DIMENSIONS}",
            where=name,
        )
    strides = [1] * len(model)
    for k in range(len(model) - 2, -1, -1):
        strides[k] = strides[k + 1] * model[k + 1]
    missing = TERMINAL_DIMENSIONS - len(axes)
    return (1,) * missing + shape, (0,) * missing + tuple(strides[a] for a in axes)
