"""Recurrent layers as frameworks export them: the batch is brought to the second dimension and back."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.ops.test_onnx_semantics import in_floats
from toolchain.errors import UnsupportedOperator
from toolchain.frontends.importer import Importer
from toolchain.frontends.onnx import normalize
from toolchain.passes import pipeline
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import lower
from toolchain.simulation.simulator import Simulator

SEED = 31
STEPS, INPUTS, HIDDEN = 5, 3, 4
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def exported(op: str, direction: str, gives: str, **attributes) -> onnx.ModelProto:
    """x (batch, steps, inputs) -> Transpose -> layer -> the whole sequence, or the last state, batch first again."""
    rng = np.random.default_rng(SEED)
    count, gates = DIRECTIONS[direction], GATES[op]
    shapes = {"W": (gates * HIDDEN, INPUTS), "R": (gates * HIDDEN, HIDDEN), "B": (2 * gates * HIDDEN,)}
    arrays = {name: rng.uniform(-1, 1, (count, *shape)).astype(np.float32) for name, shape in shapes.items()}
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
        helper.make_node(
            op,
            ["turned", *arrays],
            ["all", "last"],
            name="layer",
            hidden_size=HIDDEN,
            direction=direction,
            **attributes,
        ),
    ]
    if gives == "last":
        constants.append(numpy_helper.from_array(np.array([0, -1, count * HIDDEN]), "sizes"))
        nodes.append(helper.make_node("Transpose", ["last"], ["turned_last"], perm=[1, 0, 2]))
        nodes.append(helper.make_node("Reshape", ["turned_last", "sizes"], ["y"]))
    else:
        constants.append(numpy_helper.from_array(np.array([0, 0, -1]), "sizes"))
        nodes.append(helper.make_node("Transpose", ["all"], ["side_by_side"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", ["side_by_side", "sizes"], ["joined"]))
        nodes.append(helper.make_node("Transpose", ["joined"], ["y"], perm=[1, 0, 2]))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", STEPS, INPUTS])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "recurrent", [given], [result], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("gives", ["all", "last"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("op", "attributes"), [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})]
)
def test_exported_layer_is_what_onnxruntime_says(op, attributes, direction, gives):
    print(f"seed {SEED}")
    model = exported(op, direction, gives, **attributes)
    x = np.random.default_rng(SEED).uniform(-1.5, 1.5, (6, STEPS, INPUTS)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x})
    graph = pipeline.run(Importer(normalize(model), "recurrent").run(), pipeline.REAL_PASSES)
    np.testing.assert_allclose(in_floats(graph, {"x": x}), wanted, rtol=1e-5, atol=1e-5)
    lowered = lower(graph, {"x": x}, Configuration(weight_bits=16, activation_bits=16)).graph
    exact = pipeline.run(lowered, pipeline.EXACT_PASSES)
    raw = Simulator(exact, "reference").raw_outputs({"x": x})["y"]
    np.testing.assert_array_equal(raw, Simulator(exact, "fast").raw_outputs({"x": x})["y"])
    assert np.abs(Simulator(exact, "reference").scaled("y", raw) - wanted).max() <= 0.005


def test_a_batch_in_the_second_dimension_reaches_no_other_operator():
    model = exported("LSTM", "forward", "all")
    model.graph.node[2].CopyFrom(helper.make_node("Relu", ["all"], ["side_by_side"], name="wrong"))
    with pytest.raises(UnsupportedOperator, match="Relu 'wrong': reads a value whose batch is dimension 2"):
        Importer(normalize(model), "recurrent").run()
