"""Large weights go around the ONNX libraries and come back unchanged."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolchain.frontends import weights
from toolchain.frontends.importer import Importer
from toolchain.frontends.onnx import constants_of, normalize


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    monkeypatch.setattr(weights, "LARGE", 1)


def network(opset: int = 13, also_read: bool = False) -> onnx.ModelProto:
    """A convolution and a matrix, in opset 13 that has to be converted; `also_read` adds the kernel to the output."""
    rng = np.random.default_rng(2)
    kernel, matrix = rng.normal(size=(2, 1, 3, 3)).astype(np.float32), rng.normal(size=(18, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], name="conv"),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("Gemm", ["f", "matrix"], ["g" if also_read else "y"], name="gemm"),
    ]
    if also_read:
        nodes.append(helper.make_node("ReduceSum", ["kernel"], ["sum"], keepdims=0))
        nodes.append(helper.make_node("Add", ["g", "sum"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(matrix, "matrix")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def imported(model):
    graph = Importer(normalize(model), "large").run()
    return [(node.name, node.operator) for node in graph.nodes]


@pytest.mark.parametrize("opset", [7, 9, 13, 18, 21])
def test_a_network_is_what_it_is_with_small_weights(opset, monkeypatch):
    model = network(opset)
    before = model.SerializeToString()
    large = imported(model)
    assert model.SerializeToString() == before, "the caller's model stays as it is"
    monkeypatch.setattr(weights, "LARGE", 1 << 40)
    assert imported(model) == large


def test_the_libraries_see_shapes_only(monkeypatch):
    seen = []
    original = onnx.version_converter.convert_version

    def convert(model, version):
        seen.extend(tensor.name for tensor in model.graph.initializer)
        return original(model, version)

    monkeypatch.setattr(onnx.version_converter, "convert_version", convert)
    clean = normalize(network())
    assert seen == []
    assert set(constants_of(clean)) == {"kernel", "matrix"}
    assert [i.name for i in clean.graph.input] == ["x"]


def test_a_weight_that_something_else_reads_stays_a_constant():
    model = network(also_read=True)
    assert set(weights.large_weights(model)) == {"matrix"}
    assert len(imported(model)) > 3


def test_weights_of_a_constant_input_and_of_outputs_stay():
    model = network()
    model.graph.output.append(helper.make_tensor_value_info("kernel", TensorProto.FLOAT, [2, 1, 3, 3]))
    assert set(weights.large_weights(model)) == {"matrix"}
    model.graph.node[2].input[0] = "kernel"
    assert weights.large_weights(model) == {}
