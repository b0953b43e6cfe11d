"""Builds the ONNX graph: nodes, constants and names. Shapes are known at every step and never hold the batch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.names import Names

OPSET: Final = 17
IR_VERSION: Final = 8
# Nested models that are called twice double at every level: a small file could ask for 2^100 nodes.
MAX_NODES: Final = 100_000
MAX_ELEMENTS: Final = 1 << 40


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name and its shape without the batch dimension."""

    name: str
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of dimensions with the batch, as Keras and ONNX count them."""
        return len(self.shape) + 1


@dataclass
class Builder(Names):
    """The graph while it grows."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def constant(self, wanted: str, array: NDArray[Any]) -> str:
        """An initializer; the same array under the same name is stored once."""
        known = self.constants.get(wanted)
        if known is not None and known.dtype == array.dtype and np.array_equal(known, array):
            return wanted
        name = self.value_name(wanted)
        self.constants[name] = array
        return name

    def append(self, operator: str, inputs: Sequence[str], output: str, name: str, attributes: dict[str, Any]) -> None:
        """Adds one node."""
        if len(self.nodes) >= MAX_NODES:
            raise ModelError(f"the model unfolds to more than {MAX_NODES} operators", where=name)
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))

    def rename(self, old: str, new: str, first: int) -> None:
        """Renames a value made by one of the nodes from index `first` on."""
        for node in self.nodes[first:]:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new

    def model(self, name: str, inputs: Sequence[Value], outputs: Sequence[Value]) -> onnx.ModelProto:
        """The finished model."""

        def typed(value: Value) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["N", *value.shape])

        used = {source for node in self.nodes for source in node.input}
        initializers = [
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in self.constants.items()
            if name in used
        ]
        sources, results = [typed(value) for value in inputs], [typed(value) for value in outputs]
        domains = sorted({node.domain for node in self.nodes} - {""})
        graph = helper.make_graph(self.nodes, name, sources, results, initializers)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(domain, 1 if domain else OPSET) for domain in ("", *domains)],
            ir_version=IR_VERSION,
            producer_name="toolchain.frontends.keras",
        )


@dataclass
class Call:
    """One call of one layer: what the layer's translation works with.

    Attributes:
        builder: the graph.
        name: name of the call, `layer`, `model/layer`, or `layer/call_1` for the second call of a shared layer.
        layer: name of the layer, which its weights are stored under.
        kind: its Keras class.
        weights: reads a weight by role after comparing its shape.
    """

    builder: Builder
    name: str
    layer: str
    kind: str
    weights: Callable[[str, tuple[int, ...]], NDArray[np.float32]]

    def node(
        self, operator: str, inputs: Sequence[Value | str], shape: tuple[int, ...], suffix: str = "", **attributes: Any
    ) -> Value:
        """Adds a node named after the layer, `layer/suffix` with a suffix, and gives its output of that shape."""
        if any(size < 1 for size in shape):
            raise ModelError(f"the output shape {shape} is empty", where=self.name, fix="Give larger inputs")
        if math.prod(shape) > MAX_ELEMENTS:
            raise ModelError(f"the output shape {shape} is too large", where=self.name)
        name = self.builder.node_name(f"{self.name}/{suffix}" if suffix else self.name)
        output = self.builder.value_name(f"{name}/output")
        sources = [source.name if isinstance(source, Value) else source for source in inputs]
        self.builder.append(operator, sources, output, name, attributes)
        return Value(output, shape)

    def constant(self, suffix: str, array: NDArray[Any]) -> str:
        """A constant of the layer, shared by all its calls."""
        return self.builder.constant(f"{self.layer}/{suffix}", array)

    def real(self, suffix: str, value: float | Sequence[float]) -> str:
        """A float32 constant."""
        return self.constant(suffix, np.asarray(value, dtype=np.float32))

    def integers(self, suffix: str, values: Sequence[int]) -> str:
        """An int64 constant, as shapes and pads are."""
        return self.constant(suffix, np.asarray(values, dtype=np.int64))

    def weight(self, role: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A weight tensor, its shape compared with the one the configuration asks for."""
        return self.weights(role, shape)

    def transpose(self, value: Value, order: Sequence[int], suffix: str) -> Value:
        """Transposes; `order` counts the batch as dimension 0."""
        shape = tuple(value.shape[axis - 1] for axis in order[1:])
        return self.node("Transpose", [value], shape, suffix, perm=list(order))

    def channels_first(self, value: Value, data_format: str) -> Value:
        """Brings a tensor of the layer's data format to ONNX's layout."""
        if data_format == "channels_first":
            return value
        rank = value.rank
        return self.transpose(value, (0, rank - 1, *range(1, rank - 1)), "to_channels_first")

    def channels_back(self, value: Value, data_format: str) -> Value:
        """Brings a tensor from ONNX's layout back to the layer's data format."""
        if data_format == "channels_first":
            return value
        rank = value.rank
        return self.transpose(value, (0, *range(2, rank), 1), "to_channels_last")

    def expect_rank(self, value: Value, *ranks: int) -> None:
        """Refuses an input of another rank, counted with the batch."""
        if value.rank not in ranks:
            wanted = " or ".join(str(rank) for rank in ranks)
            raise ModelError(f"the input has {value.rank} dimensions instead of {wanted}", where=self.name)

    def axis(self, value: Value, axis: int) -> int:
        """The axis counted from 0 with the batch; the batch itself is refused."""
        positive = axis + value.rank if axis < 0 else axis
        if not 0 <= positive < value.rank:
            raise ModelError(f"axis {axis} does not exist in {value.rank} dimensions", where=self.name)
        if positive == 0:
            raise self.unsupported("axis", "works across the batch")
        return positive

    def unsupported(self, attribute: str, reason: str) -> UnsupportedOperator:
        """The error for something that shows only when shapes are known."""
        return unsupported([f"{self.name} ({self.kind}): {attribute}: {reason}"])


class UnsupportedLayers(UnsupportedOperator):
    """Everything unsupported in a model.

    Attributes:
        problems: one entry each, `layer (class): attribute: reason`.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def unsupported(problems: list[str]) -> UnsupportedOperator:
    """One error that lists all problems."""
    return UnsupportedLayers(problems)
