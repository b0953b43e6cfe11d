"""QLinear operators of ONNX Runtime's own domain against ONNX Runtime, on scales with which float32 is exact."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from tests.small import Model
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.importer import Importer
from toolchain.frontends.onnx import normalize
from toolchain.frontends.qoperators import EXPANSIONS, MICROSOFT, spell_out_quantized
from toolchain.passes import pipeline
from toolchain.simulation import reference

ROWS = 6


def parameters(m, scale, zero, dtype=np.uint8):
    return m.constant(scale), m.constant(zero, dtype=dtype)


def quantized(m, name, scale, zero, *shape):
    """An input and its integers, with their scale and zero point."""
    m.input(name, 1, *shape)
    own = parameters(m, scale, zero)
    return (m.add("QuantizeLinear", name, *own), *own)


def finished(m, value, scale, zero):
    m.output(m.add("DequantizeLinear", value, *parameters(m, scale, zero)))
    return m


def add():
    m = Model()
    a, b = quantized(m, "a", 0.5, 10, 3, 4), quantized(m, "b", 0.125, 100, 3, 4)
    return finished(m, m.add("QLinearAdd", *a, *b, *parameters(m, 0.25, 60), domain=MICROSOFT), 0.25, 60)


def multiply():
    m = Model()
    a, b = quantized(m, "a", 0.5, 10, 3, 4), quantized(m, "b", 0.125, 100, 3, 4)
    return finished(m, m.add("QLinearMul", *a, *b, *parameters(m, 1.0, 60), domain=MICROSOFT), 1.0, 60)


def global_average():
    m = Model()
    x = quantized(m, "a", 0.25, 30, 2, 4, 4)
    value = m.add("QLinearGlobalAveragePool", *x, *parameters(m, 0.125, 12), domain=MICROSOFT, channels_last=0)
    return finished(m, value, 0.125, 12)


def average():
    m = Model()
    x = quantized(m, "a", 0.25, 30, 2, 6, 6)
    options = {"kernel_shape": [2, 2], "strides": [2, 2]}
    value = m.add("QLinearAveragePool", *x, *parameters(m, 0.125, 12), domain=MICROSOFT, **options)
    return finished(m, value, 0.125, 12)


def concatenation():
    m = Model()
    a, b = quantized(m, "a", 0.5, 10, 3, 4), quantized(m, "b", 0.125, 100, 2, 4)
    value = m.add("QLinearConcat", *parameters(m, 0.25, 60), *a, *b, domain=MICROSOFT, axis=1)
    return finished(m, value, 0.25, 60)


def leaky():
    m = Model()
    x = quantized(m, "a", 0.25, 100, 8)
    value = m.add("QLinearLeakyRelu", *x, *parameters(m, 0.125, 60), domain=MICROSOFT, alpha=0.25)
    return finished(m, value, 0.125, 60)


def gemm(turned, real):
    m = Model()
    x = quantized(m, "a", 0.25, 100, 6)
    matrix = m.constant(m.rng.integers(-20, 20, (3, 6) if turned else (6, 3)), dtype=np.int8)
    weights = (matrix, m.constant([0.5, 0.25, 0.125]), m.constant([0, 0, 0], dtype=np.int8))
    bias = m.constant(m.rng.integers(-99, 99, 3), dtype=np.int32)
    output = () if real else parameters(m, 2.0, 60)
    value = m.add("QGemm", *x, *weights, bias, *output, domain=MICROSOFT, transB=int(turned))
    if real:
        m.output(value)
        return m
    return finished(m, value, 2.0, 60)


MODELS = {
    "QLinearAdd": add,
    "QLinearMul": multiply,
    "QLinearGlobalAveragePool": global_average,
    "QLinearAveragePool": average,
    "QLinearConcat": concatenation,
    "QLinearLeakyRelu": leaky,
    "QGemm": lambda: gemm(turned=True, real=False),
    "QGemm, not turned, real": lambda: gemm(turned=False, real=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_is_what_onnx_runtime_computes(name):
    model = MODELS[name]().proto()
    rng = np.random.default_rng(4)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim][1:] for i in model.graph.input}
    data = {key: rng.uniform(-12, 12, (ROWS, *shape)).astype(np.float32) for key, shape in shapes.items()}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {key: array[k : k + 1] for key, array in data.items()})[0] for k in range(ROWS)]
    graph = pipeline.run(Importer(normalize(model), "case").run(), pipeline.REAL_PASSES)
    given = {i.name: i.from_model(data[i.name]).astype(np.float64) for i in graph.inputs}
    (output,) = graph.outputs
    wanted = np.concatenate(rows)
    assert np.array_equal(output.to_model(reference.evaluate(graph, given)[output.name]), wanted)
    assert len(np.unique(wanted)) > 8


def test_every_expansion_is_tested():
    """Those of ONNX's own domain are in ONNX's node cases; Sigmoid's table needs no more than its neighbour."""
    named = {name.split(",")[0] for name in MODELS}
    assert {kind for domain, kind in EXPANSIONS if domain} - named == {"QLinearSigmoid"}


def test_what_it_lacks_is_named():
    m = Model()
    m.input("x", 1, 8)
    m.add("QLinearAdd", "x", m.constant(0.5), name="mine", domain=MICROSOFT)
    with pytest.raises(ModelError, match="is missing") as error:
        spell_out_quantized(m.proto())
    assert error.value.where == "QLinearAdd 'mine'"


def test_channels_last_is_refused_by_name():
    m = Model()
    x = quantized(m, "a", 0.25, 30, 2, 4, 4)
    value = m.add(
        "QLinearGlobalAveragePool", *x, *parameters(m, 0.125, 12), domain=MICROSOFT, channels_last=1, name="mine"
    )
    model = finished(m, value, 0.125, 12).proto()
    with pytest.raises(UnsupportedOperator, match="'channels_last'"):
        Importer(normalize(model), "case").run()


def test_integer_operators_take_integers():
    """A convolution of integers that enter the model as such; its sums leave it."""
    m = Model()
    m.input("x", 1, 2, 4, 4, kind=TensorProto.UINT8)
    weights = m.constant(m.rng.integers(-8, 8, (3, 2, 3, 3)), dtype=np.int8)
    m.output(m.add("ConvInteger", "x", weights, m.constant(7, dtype=np.uint8)))
    model = m.proto()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    x = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 4), dtype=np.uint8)
    evaluator = ReferenceEvaluator(model)
    wanted = np.concatenate([evaluator.run(None, {"x": x[k : k + 1]})[0] for k in range(3)])
    graph = pipeline.run(Importer(normalize(model), "case").run(), pipeline.REAL_PASSES)
    (given,), (output,) = graph.inputs, graph.outputs
    results = reference.evaluate(graph, {given.name: given.from_model(x).astype(np.float64)})
    assert np.array_equal(output.to_model(results[output.name]), wanted)
