"""Translates a clean ONNX model into a real-valued graph, operator by operator, and collects what it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from toolchain.errors import ModelError, ToolchainError, UnsupportedOperator
from toolchain.frontends.folding import FOLD_LIMIT, KEPT
from toolchain.frontends.missing import reason
from toolchain.frontends.onnx import constants_of, unsupported
from toolchain.ir import Array, Constant, Graph, Input, Levels, Node, Output, RealType, Shape
from toolchain.ops import IMPORTERS, Operator
from toolchain.passes.rewriting import without_dead_nodes

T = TypeVar("T")
MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
"""What may stand between weights that are quantized and the operator that takes them."""


@dataclass
class OnnxNode:
    """One ONNX node; attributes that nobody asks for are refused at the end."""

    layer: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    read: set[str] = field(default_factory=set)

    def attribute(self, name: str, default: T) -> T:
        """The attribute's value, as the type of the default (str, int, float, list)."""
        self.read.add(name)
        value = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else value  # type: ignore[return-value]

    def ignore(self, *names: str) -> None:
        """Attributes that have no meaning for inference."""
        self.read.update(names)

    def has(self, index: int) -> bool:
        return index < len(self.inputs) and bool(self.inputs[index])


class Importer:
    """The graph under construction, as importers of operators see it.

    ONNX value names are bound to names of graph values. Shapes here are without the batch dimension, which ONNX models
    carry as their first.
    """

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self.model = model
        self.name = name
        self.constants = constants_of(model)
        self._kinds = {t.name: _type_name(t.data_type).lower() for t in model.graph.initializer}
        self._levels: dict[str, tuple[Array, Array]] = {}
        self._version = next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self.problems: list[str] = []
        self._faults: list[ModelError] = []
        self.nodes: list[Node] = []
        self._inputs: list[Input] = []
        self._shapes: dict[str, Shape] = {}
        self._values: dict[str, str] = {}
        self._batch: dict[str, tuple[int, str]] = {}
        self._unknown: set[str] = set()
        self._layers: set[str] = set()
        self._inferred = {
            info.name: tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
            for info in (*model.graph.value_info, *model.graph.output)
            if info.type.tensor_type.HasField("shape")
        }

    # What importers of operators use.

    def add(self, node: OnnxNode, operator: Operator, *inputs: str, part: str = "") -> str:
        """Appends a graph node and returns its value. `part` tells helper nodes of one layer apart."""
        name = unique(f"{node.layer}/{part}" if part else node.layer, self._shapes)
        shape = operator.shape(*(self._shapes[value] for value in inputs))
        if any(d <= 0 for d in shape):
            raise ModelError(f"has an output of shape {list(shape)}")
        self._shapes[name] = shape
        self.nodes.append(Node(name, operator, inputs, node.layer))
        return name

    def value(self, node: OnnxNode, index: int, batch: int = 0) -> str:
        """The graph value of an input, whose batch must be dimension `batch`.

        Raises UnsupportedOperator when it is another one, or when the value is a constant.
        """
        onnx_name = node.inputs[index] if node.has(index) else ""
        if onnx_name in self._values:
            found, _ = self._batch.get(onnx_name, (0, ""))
            if found != batch:
                raise UnsupportedOperator(f"reads a value whose batch is dimension {found}, {batch} is supported")
            return self._values[onnx_name]
        if onnx_name in self.constants:
            raise UnsupportedOperator(f"input {index} is a constant where a computed value is expected")
        raise ModelError(f"input {index} ({onnx_name!r}) is not defined")

    def batch(self, node: OnnxNode, index: int) -> int:
        """The dimension of an input that is the batch: 0, but for what recurrent layers read and give."""
        return self._batch.get(node.inputs[index] if node.has(index) else "", (0, ""))[0]

    def shape(self, value: str) -> Shape:
        return self._shapes[value]

    def is_constant(self, node: OnnxNode, index: int) -> bool:
        return node.has(index) and node.inputs[index] in self.constants

    def constant(self, node: OnnxNode, index: int, what: str, infinite: bool = False) -> Array:
        """A constant input, with infinities only where `infinite` allows them.

        Raises UnsupportedOperator when it is computed by the network.
        """
        if not node.has(index):
            raise ModelError(f"input {index} ({what}) is missing")
        array = self.constants.get(node.inputs[index])
        if array is None:
            raise UnsupportedOperator(f"{what} is computed by the network, only constants are supported")
        if array.dtype.kind not in "fiub":
            raise UnsupportedOperator(f"{what} holds elements of type {array.dtype}, numbers are needed")
        if array.dtype.kind == "f" and not (~np.isnan(array) if infinite else np.isfinite(array)).all():
            found = "NaN" if infinite else "NaN or infinity"
            raise ModelError(f"{what} ({node.inputs[index]!r}) holds {found}", fix="Train or export again.")
        return array

    def weights(self, node: OnnxNode, index: int, what: str, arrange: Callable[[Array], Array]) -> Constant:
        """A constant input as weights, output channels on the last axis of what `arrange` gives.

        Where the model quantized them, with its own integers. Raises UnsupportedOperator where their scales differ
        within an output channel.
        """
        real = arrange(self.constant(node, index, what))
        found = self._levels.get(node.inputs[index])
        if found is None:
            return Constant(real.astype(float))
        integers, scales = arrange(found[0]), arrange(np.broadcast_to(found[1], found[0].shape))
        each = scales.reshape(-1, scales.shape[-1])
        largest = each.max(axis=0)
        if ((each != largest) & (each != 0)).any():  # 0 where `arrange` put zeros between the weights
            raise UnsupportedOperator(f"{what} has scales that differ within an output channel, one each is supported")
        return Levels(integers.astype(np.int64), largest)

    def refuse_levels(self, node: OnnxNode, index: int, what: str) -> None:
        """For weights that would lose the integers which the model gave them."""
        if node.has(index) and node.inputs[index] in self._levels:
            raise UnsupportedOperator(f"{what} is quantized by the model, which is supported for real numbers only")

    def define(self, node: OnnxNode, values: Array) -> None:
        """The node's output is a constant."""
        self.constants[node.outputs[0]] = values

    def define_levels(self, node: OnnxNode, integers: Array, scales: Array) -> None:
        """The node's output is a constant that the model quantized: integers times scales that broadcast to them."""
        try:
            real = integers * scales
        except ValueError:
            raise ModelError(f"has a scale of shape {list(scales.shape)} for {list(integers.shape)}") from None
        self.define(node, real)
        self._levels[node.outputs[0]] = (integers, scales)

    def element_type(self, node: OnnxNode, index: int) -> str:
        """The name of a constant's element type, in lower case: `uint4` too, which numpy has not."""
        return self._kinds.get(node.inputs[index], "")

    def type_name(self, code: int) -> str:
        """The name of an ONNX element type in lower case, nothing for 0."""
        return _type_name(code).lower() if code else ""

    def integers(self, node: OnnxNode, index: int, attribute: str, default: list[int] | None) -> list[int] | None:
        """A list of integers that old opsets give as an attribute and new ones as an input."""
        if node.has(index):
            return [int(v) for v in self.constant(node, index, attribute).ravel()]
        given: list[int] | None = node.attribute(attribute, default)
        return None if given is None else [int(v) for v in given]

    def full_axis(self, axis: int, rank: int) -> int:
        """An ONNX axis, which may be negative, of a tensor with `rank` dimensions beside the batch; 0 is the batch."""
        full = axis + rank + 1 if axis < 0 else axis
        if not 0 <= full <= rank:
            raise ModelError(f"axis {axis} does not exist")
        return full

    def axis(self, axis: int, rank: int) -> int:
        """An ONNX axis of a tensor with `rank` dimensions beside the batch, as an axis without it."""
        full = self.full_axis(axis, rank)
        if full == 0:
            raise UnsupportedOperator("works along the batch dimension")
        return full - 1

    def bind(self, node: OnnxNode, value: str, output: int = 0, batch: int = 0) -> None:
        """Names the graph value of an output, whose batch is dimension `batch`."""
        self._batch[node.outputs[output]] = (batch, f"{node.op_type} {node.layer!r}")
        self._values[node.outputs[output]] = value
        self._unknown.discard(node.outputs[output])
        for extra in node.outputs[output + 1 :]:
            if extra:
                self._unknown.add(extra)

    # The translation itself.

    def run(self) -> Graph:
        """The whole graph. Raises one UnsupportedOperator whose `problems` lists everything unsupported.

        A model that is only at fault gives a ModelError instead, with the same list where it is longer than one.
        """
        for given in self.model.graph.input:
            if given.name not in self.constants:
                self._input(given)
        if not self._inputs:
            raise ModelError("has no inputs", where=self.name)
        for proto in self.model.graph.node:
            self._node(proto)
        outputs = () if self.problems else self._outputs()
        if self.problems:
            if len(self.problems) == len(self._faults) == 1:
                raise self._faults[0]
            raise unsupported(self.problems, self.name, len(self._faults))
        graph = without_dead_nodes(Graph(self.name, tuple(self._inputs), tuple(self.nodes), outputs))
        for given in graph.inputs:
            if not graph.consumers[given.name] and not graph.is_output(given.name):
                raise ModelError("has no influence on any output", where=f"input {given.name!r}", fix="Remove it.")
        return graph

    def _outputs(self) -> tuple[Output, ...]:
        outputs = []
        for output in self.model.graph.output:
            if output.name not in self._values:
                raise ModelError("is not computed from the inputs", where=f"output {output.name!r}")
            batch, maker = self._batch.get(output.name, (0, ""))
            if batch:
                self.problems.append(f"{maker}: leaves the batch in another dimension than the first")
            value = self._values[output.name]
            outputs.append(Output(output.name, value, tuple(range(len(self._shapes[value])))))
        return tuple(outputs)

    def _input(self, given: onnx.ValueInfoProto) -> None:
        tensor = given.type.tensor_type
        if tensor.elem_type not in SUPPORTED_INPUT_TYPES:
            self.problems.append(f"input {given.name!r}: element type {_type_name(tensor.elem_type)}")
        shape = tuple(d.dim_value for d in tensor.shape.dim)[1:]
        if not shape:
            raise ModelError("has only a batch dimension", where=f"input {given.name!r}")
        self._inputs.append(Input(given.name, RealType(shape), tuple(range(len(shape)))))
        self._shapes[given.name] = shape
        self._values[given.name] = given.name

    def _node(self, proto: onnx.NodeProto) -> None:
        layer = proto.name or (proto.output[0] if proto.output else "")
        if layer in self._layers:
            layer = unique(proto.output[0] if proto.output else layer, self._layers)
        self._layers.add(layer)
        node = OnnxNode(
            layer,
            proto.op_type,
            tuple(proto.input),
            tuple(proto.output),
            {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute},
        )
        where = f"{proto.op_type} {layer!r}"
        translate = IMPORTERS.get(_registered(proto))
        constant = any(node.inputs) and all(name in self.constants for name in node.inputs if name)
        if constant and proto.op_type in MOVES and node.inputs[0] in self._levels:
            self._move(proto)
            return
        if constant and node.op_type not in KEPT:
            limit = f"results above {FOLD_LIMIT >> 20} MiB are not"
            self.problems.append(f"{where}: this operator on constants is not computed beforehand ({limit})")
            self._unknown.update(name for name in node.outputs if name)
            return
        if translate is None:
            domain = f" of domain {proto.domain!r}" if proto.domain not in ("", "ai.onnx") else ""
            why = "" if domain else reason(proto.op_type)
            self.problems.append(f"{where}: this operator{domain} is not supported{why and f' ({why})'}")
            self._placeholder(node)
            return
        if any(name in self._unknown for name in node.inputs):
            self._placeholder(node)
            return
        before = len(self.nodes)
        try:
            self._check(proto)
            translate(self, node)
            unread = sorted(set(node.attributes) - node.read)
            if unread:
                raise UnsupportedOperator(f"attribute {unread[0]!r} is not supported")
        except ModelError as error:
            del self.nodes[before:]
            error.where = error.where or where
            if not isinstance(error, UnsupportedOperator):
                self._faults.append(error)
            self.problems.append(f"{error.where}: {error.message}")
            self._placeholder(node)
        except ToolchainError as error:
            error.where = error.where or where
            raise

    def _move(self, proto: onnx.NodeProto) -> None:
        """Weights that the model quantized, in another order or shape."""
        version = self._version
        whole = onnx.helper.make_graph(
            [proto],
            "move",
            [onnx.ValueInfoProto(name=name) for name in proto.input if name],
            [onnx.ValueInfoProto(name=proto.output[0])],
        )
        opset = onnx.helper.make_opsetid("", version)
        move = ReferenceEvaluator(onnx.helper.make_model(whole, opset_imports=[opset]))
        integers, scales = self._levels[proto.input[0]]
        others = {name: self.constants[name] for name in proto.input[1:] if name}
        name = proto.output[0]
        try:
            moved = [
                np.asarray(move.run(None, {proto.input[0]: array, **others})[0])  # type: ignore[index]
                for array in (integers, np.array(np.broadcast_to(scales, integers.shape)))
            ]
        except Exception as error:
            raise ModelError(str(error).splitlines()[0][:200], where=f"{proto.op_type} {proto.name!r}") from error
        self._levels[name] = (moved[0].astype(np.int64), moved[1].astype(np.float64))
        self.constants[name] = self._levels[name][0] * self._levels[name][1]

    def _check(self, proto: onnx.NodeProto) -> None:
        """The numbers of inputs and outputs, and the types of attributes, are those of ONNX's own definition."""
        try:
            schema = onnx.defs.get_schema(proto.op_type, self._version, "")
        except onnx.defs.SchemaError:
            return
        if not schema.min_input <= len(proto.input) <= schema.max_input:
            raise ModelError(f"has {len(proto.input)} inputs")
        if not schema.min_output <= len(proto.output) <= schema.max_output:
            raise ModelError(f"has {len(proto.output)} outputs")
        for attribute in proto.attribute:
            known = schema.attributes.get(attribute.name)
            if known is not None and int(known.type.value) != attribute.type:  # type: ignore[attr-defined]
                raise ModelError(f"attribute {attribute.name!r} has the wrong type")

    def _placeholder(self, node: OnnxNode) -> None:
        """Lets the search for further problems go on behind an operator that cannot be translated."""
        for name in node.outputs:
            shape = self._inferred.get(name, ())
            if len(shape) > 1 and all(d > 0 for d in shape):
                self._shapes[unique(name, self._shapes)] = shape[1:]
                self._values[name] = list(self._shapes)[-1]
            elif name:
                self._unknown.add(name)


SUPPORTED_INPUT_TYPES = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.INT16,
    onnx.TensorProto.UINT16,
    onnx.TensorProto.INT32,
    onnx.TensorProto.UINT32,
    onnx.TensorProto.INT64,
    onnx.TensorProto.UINT64,
    onnx.TensorProto.INT4,
    onnx.TensorProto.UINT4,
    onnx.TensorProto.INT2,
    onnx.TensorProto.UINT2,
}


def _type_name(elem_type: int) -> str:
    try:
        return str(onnx.TensorProto.DataType.Name(elem_type))
    except ValueError:
        return str(elem_type)


def _registered(proto: onnx.NodeProto) -> str:
    """The name under which an importer of a node would be registered: that of ONNX, or with its domain."""
    return proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"


def unique(name: str, taken: dict[str, Any] | set[str]) -> str:
    """`name`, or `name.2`, `name.3`, ... when it is taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name}.{number}" in taken:
        number += 1
    return f"{name}.{number}"
