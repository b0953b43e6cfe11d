"""Formats that a user forces for one layer hold for that layer's values, and for no others."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolchain.frontends.importer import Importer
from toolchain.frontends.onnx import normalize
from toolchain.ir import FixedType, TensorType
from toolchain.passes import pipeline
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import lower
from toolchain.simulation import reference

SEED = 5


def lowered(nodes, constants, shape, layers):
    """The program of a small network x -> y, with its calibration data."""
    graph = helper.make_graph(
        nodes,
        "forced",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    real = pipeline.run(Importer(normalize(model), "forced").run(), pipeline.REAL_PASSES)
    data = {"x": np.random.default_rng(SEED).normal(size=(16, *shape))}
    configuration = Configuration.model_validate({"layers": layers})
    return pipeline.run(lower(real, data, configuration).graph, pipeline.EXACT_PASSES), data


def output_type(program):
    type = program.types[program.outputs[0].value]
    assert isinstance(type, TensorType)
    return type.fixed


def test_the_transposition_behind_a_convolution_does_not_get_its_input_format():
    weights = np.random.default_rng(SEED).normal(size=(3, 2, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["v"], name="conv"),
        helper.make_node("Flatten", ["v"], ["y"], name="flat"),
    ]
    layers = {"conv": {"input": "fixed<5,3,RND,SAT>", "output": "fixed<12,5,RND,SAT>"}}
    program, _ = lowered(nodes, {"w": weights}, (2, 5, 4), layers)
    assert output_type(program) == FixedType(12, 5)


def test_partial_sums_keep_their_bits():
    """Sum is a chain of additions; only its inputs and its result have the layer's formats."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="relu"),
        helper.make_node("Sum", ["x", "a", "x"], ["y"], name="sum"),
    ]
    layers = {"sum": {"input": "fixed<4,2,RND,SAT>", "output": "fixed<9,6,RND,SAT>"}}
    program, data = lowered(nodes, {}, (6,), layers)
    assert output_type(program) == FixedType(9, 6)
    values = np.clip(np.floor(data["x"] * 4 + 0.5), -8, 7)
    expected = np.clip(np.floor((2 * values + np.maximum(values, 0)) * 2 + 0.5), -256, 255)
    got = reference.evaluate(program, data)["y"]
    assert np.array_equal(got, (2 * values + np.maximum(values, 0)) * 2)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("overflow", ["SAT", "SAT_SYM"])
def test_a_symmetric_format_gives_up_the_lowest_integer(overflow):
    """Also where width and binary point are already the wanted ones."""
    layers = {"same": {"input": "fixed<8,3,RND,SAT>", "output": f"fixed<8,3,RND,{overflow}>"}}
    program, _ = lowered([helper.make_node("MaxPool", ["x"], ["y"], name="same", kernel_shape=[1])], {}, (2, 3), layers)
    got = reference.evaluate(program, {"x": np.full((1, 2, 3), -100.0)})["y"]
    assert (got == (-127 if overflow == "SAT_SYM" else -128)).all()
