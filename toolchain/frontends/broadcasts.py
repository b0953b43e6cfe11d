"""Opset 6 says with `axis` where an operand is aligned; from opset 7 on, dimensions of 1 say it."""

from __future__ import annotations

import onnx

from toolchain.errors import ModelError, UnsupportedOperator


def spell_out_broadcasts(model: onnx.ModelProto) -> None:
    """Replaces `broadcast` and `axis` by an Unsqueeze of the second operand: onnx's converter adds one axis too many.

    Raises ModelError when the operand does not fit there.
    """
    wanted = [
        node
        for node in model.graph.node
        if node.op_type in ("Add", "Sub", "Mul", "Div") and {"axis", "broadcast"} <= {a.name for a in node.attribute}
    ]
    if not wanted:
        return
    ranks = _ranks(model)
    nodes = []
    taken = set(ranks) | {name for node in model.graph.node for name in (*node.input, *node.output)}
    for node in model.graph.node:
        if any(node is one for one in wanted):
            axes = _added_axes(node, ranks)
            if axes:
                name = f"{node.input[1]}_aligned"
                while name in taken:
                    name += "_"
                taken.add(name)
                nodes.append(onnx.helper.make_node("Unsqueeze", [node.input[1]], [name], name=name, axes=axes))
                node.input[1] = name
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for info in (*inferred.value_info, *inferred.input, *inferred.output):
        if info.type.tensor_type.HasField("shape"):
            ranks.setdefault(info.name, len(info.type.tensor_type.shape.dim))
    return ranks


def _added_axes(node: onnx.NodeProto, ranks: dict[str, int]) -> list[int]:
    """Takes the attributes off a node, and gives the axes that its second operand lacks at the end."""
    where = f"{node.op_type} {node.name or node.output[0]!r}"
    attributes = {a.name: a for a in node.attribute}
    axis, broadcast = attributes["axis"].i, attributes["broadcast"].i
    if len(node.input) != 2 or any(attributes[a].type != onnx.AttributeProto.INT for a in ("axis", "broadcast")):
        raise ModelError("has operands, an axis or a broadcast that ONNX does not know", where=where)
    for name in ("axis", "broadcast"):
        node.attribute.remove(attributes[name])
    if not broadcast:
        return []
    if any(name not in ranks for name in node.input):
        raise UnsupportedOperator("broadcasts along an axis of a tensor of unknown rank", where=where)
    rank, own = (ranks[name] for name in node.input)
    if not 0 <= axis <= rank - own:
        raise ModelError(f"broadcasts {own} dimensions from axis {axis} of {rank}", where=where)
    return list(range(own, rank - axis))
