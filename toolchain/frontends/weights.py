"""Large weights are kept out of what the ONNX libraries do to a model: each of their steps copies the whole of it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

LARGE = 1 << 20
"""Bytes."""
READERS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (1,)}
"""Operators and inputs that need no more than the shape of a weight before it is imported."""
OLDEST = 9
"""Opset from which on nothing looks at such weights when a model is converted."""


def apart(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, onnx.TensorProto]]:
    """A copy of the model without its large weights, and these."""
    try:
        weights = large_weights(model)
        return without_weights(model, weights), weights
    except ValueError:  # a damaged file has strings that are no text: what is wrong is said later
        return onnx.ModelProto.FromString(model.SerializeToString()), {}


def large_weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The large initializers that are read as weights only, by name."""
    opset = next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    found = {
        t.name: t for t in graph.initializer if opset >= OLDEST and t.HasField("raw_data") and t.ByteSize() >= LARGE
    }
    if len(constants) != len(graph.initializer):
        return {}
    for node in graph.node:
        places = READERS.get(node.op_type, ()) if node.domain in ("", "ai.onnx") else ()
        constant = bool(node.input) and node.input[0] in constants
        for index, name in enumerate(node.input):
            if name in found and (index not in places or constant):
                del found[name]
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return {}  # a subgraph may read any of them
    for output in graph.output:
        found.pop(output.name, None)
    return found


def without_weights(model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto]) -> onnx.ModelProto:
    """A copy of the model in which these weights are inputs."""
    copy = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(copy, field.name).extend(value)
        elif field.message_type is not None:
            getattr(copy, field.name).CopyFrom(value)
        else:
            setattr(copy, field.name, value)
    for field, value in model.graph.ListFields():
        kept = [t for t in value if t.name not in weights] if field.name == "initializer" else value
        if field.is_repeated:
            getattr(copy.graph, field.name).extend(kept)
        else:
            setattr(copy.graph, field.name, value)
    given = {i.name for i in copy.graph.input}
    copy.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
        for name, tensor in weights.items()
        if name not in given
    )
    return copy


def put_back(model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto]) -> None:
    """Makes the inputs initializers again."""
    inputs = [i for i in model.graph.input if i.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(tensor for name, tensor in weights.items() if name in read)
