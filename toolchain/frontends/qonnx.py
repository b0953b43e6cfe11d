"""QONNX: operators of other domains that quantize in real numbers (arXiv:2206.07527)."""

from __future__ import annotations

import onnx
from onnx import helper

QONNX = "qonnx"
"""The domain here, in place of those that exporters write."""
DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
OPERATORS = ("Quant", "IntQuant", "BipolarQuant", "Trunc", "FixedQuant")


def spell_out_domain(model: onnx.ModelProto) -> None:
    """Puts QONNX's operators into one domain and says that their results have the shapes of their first inputs.

    Shape inference and the converter of opsets go by the functions, which `forget_functions` removes again.
    """
    nodes = [node for node in model.graph.node if node.domain in DOMAINS and node.op_type in OPERATORS]
    for node in nodes:
        node.domain = QONNX
    if not nodes:
        return
    kept = [opset for opset in model.opset_import if opset.domain != QONNX]
    del model.opset_import[:]
    model.opset_import.extend([*kept, helper.make_opsetid(QONNX, 1)])
    for kind in sorted({node.op_type for node in nodes}):
        mine = [node for node in nodes if node.op_type == kind]
        inputs = [f"input_{k}" for k in range(max(len(node.input) for node in mine))]
        attributes = sorted({attribute.name for node in mine for attribute in node.attribute})
        body = [helper.make_node("Identity", inputs[:1], ["output"])]
        opset = [helper.make_opsetid("", 18)]
        model.functions.append(helper.make_function(QONNX, kind, inputs, ["output"], body, opset, attributes))


def forget_functions(model: onnx.ModelProto) -> None:
    """Leaves the operators as nodes that only the importer knows."""
    kept = [function for function in model.functions if function.domain != QONNX]
    del model.functions[:]
    model.functions.extend(kept)
