"""Operators that quantize, one by one: QONNX's against its own executor, ONNX's against its evaluator."""

import numpy as np
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from tests.small import Model
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.importer import Importer
from toolchain.frontends.onnx import normalize
from toolchain.ir import Graph, Levels
from toolchain.passes import pipeline
from toolchain.simulation import reference

QUANTIZING = (
    "QuantizeLinear",
    "DequantizeLinear",
    "qonnx.Quant",
    "qonnx.IntQuant",
    "qonnx.BipolarQuant",
    "qonnx.Trunc",
    "qonnx.FixedQuant",
)
"""Importers that are tested here."""
DOMAIN = "qonnx.custom_op.general"
DOMAINS = (DOMAIN, "finn.custom_op.general", "onnx.brevitas")


def graph_of(model: Model) -> Graph:
    return pipeline.run(Importer(normalize(model.proto()), "case").run(), pipeline.REAL_PASSES)


def evaluated(model: Model, x: np.ndarray) -> np.ndarray:
    """The real graph's first output, in float64."""
    graph = graph_of(model)
    results = reference.evaluate(graph, {i.name: i.from_model(x).astype(np.float64) for i in graph.inputs})
    return graph.outputs[0].to_model(results[graph.outputs[0].name])


def grid(step: float) -> np.ndarray:
    """Numbers on, between and next to quarters of a step, beyond all limits."""
    quarters = np.arange(-300, 300) * step / 4
    return np.concatenate([quarters, quarters + step / 1024]).astype(np.float32).reshape(-1, 8)


def executed(model: Model, x: np.ndarray) -> np.ndarray:
    """What qonnx's own executor gives."""
    core = pytest.importorskip("qonnx.core.onnx_exec", reason="qonnx is not installed (make dev)")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    proto = model.proto()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    wrapper = ModelWrapper(proto).transform(InferShapes())
    name = model.outputs[0].name
    return np.concatenate([core.execute_onnx(wrapper, {"x": x[k : k + 1]})[name] for k in range(len(x))])


# ------------------------------------------------------------------------------------------------ QONNX


@pytest.mark.parametrize("rounding", ["ROUND", "FLOOR", "DOWN", "HALF_UP", "HALF_DOWN", "half_even"])
@pytest.mark.parametrize(
    ("bits", "signed", "narrow"), [(1, 1, 0), (1, 0, 0), (2, 1, 1), (3, 0, 1), (4, 1, 0), (8, 1, 1)]
)
def test_quant_is_what_its_executor_gives(bits, signed, narrow, rounding):
    model = Model()
    model.input("x", "N", 8)
    parameters = [model.constant(v) for v in (0.5, 0.0, float(bits))]
    options = {"signed": signed, "narrow": narrow, "rounding_mode": rounding}
    model.output(model.add("Quant", "x", *parameters, domain=DOMAIN, **options))
    x = grid(0.5)
    assert np.array_equal(evaluated(model, x), executed(model, x))


@pytest.mark.parametrize("zero_point", [3.0, -4.0])
@pytest.mark.parametrize("rounding", ["ROUND", "FLOOR", "HALF_UP"])
def test_a_zero_point_takes_part_in_rounding(zero_point, rounding):
    model = Model()
    model.input("x", "N", 8)
    parameters = [model.constant(v) for v in (0.25, zero_point, 5.0)]
    options = {"signed": 1, "narrow": 0, "rounding_mode": rounding}
    model.output(model.add("IntQuant", "x", *parameters, domain=DOMAIN, **options))
    x = grid(0.25)
    assert np.array_equal(evaluated(model, x), executed(model, x))


@pytest.mark.parametrize("domain", DOMAINS)
def test_all_domains_of_qonnx_are_read(domain):
    model = Model()
    model.input("x", "N", 8)
    model.output(model.add("BipolarQuant", "x", model.constant(0.5), domain=domain))
    x = grid(1.0)
    assert np.array_equal(evaluated(model, x), np.where(x >= 0, 0.5, -0.5))


def test_a_scale_for_each_channel_of_a_picture():
    model = Model()
    model.input("x", "N", 3, 2, 2)
    scale = model.constant(np.array([0.5, 0.25, 2.0]).reshape(1, 3, 1, 1))
    options = {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}
    model.output(model.add("Quant", "x", scale, model.constant(0.0), model.constant(4.0), domain=DOMAIN, **options))
    x = grid(0.5)[:144].reshape(-1, 3, 2, 2)
    assert np.array_equal(evaluated(model, x), executed(model, x))


@pytest.mark.parametrize("outputs", [(3.0,), (2.0, 3.0)])
def test_trunc_drops_low_bits(outputs):
    """Version 1 by its output bits, version 2 by its scale and output bits."""
    model = Model()
    model.input("x", "N", 8)
    parameters = [model.constant(v) for v in (0.5, 0.0, 6.0, *outputs)]
    model.output(model.add("Trunc", "x", *parameters, domain=DOMAIN, rounding_mode="FLOOR"))
    x = np.rint(grid(2.0)) * np.float32(0.5)
    levels = np.rint(x / 0.5)
    first, second = np.floor(levels / 8) * 0.5, np.floor(np.clip(levels / 4, -4, 3)) * 2
    assert np.array_equal(evaluated(model, x), first if len(outputs) == 1 else second)


@pytest.mark.parametrize("overflow", ["WRAP", "SAT"])
def test_fixed_quant_has_formats_for_each_element(overflow):
    model = Model()
    model.input("x", "N", 8)
    signs, integers = np.float32([0, 1] * 4), np.float32([1, 1, 0, 0, 2, 2, -1, -1])
    parameters = [model.constant(v) for v in (signs, integers, np.full(8, 2.0))]
    model.output(model.add("FixedQuant", "x", *parameters, domain=DOMAIN, rounding_mode="TRN", overflow_mode=overflow))
    x, counts = grid(4.0), 2 ** (integers + 2)
    levels = np.floor(x * 4)
    if overflow == "SAT":
        levels = np.clip(levels, -signs * counts, counts - 1)
    else:
        levels = (levels + signs * counts) % (counts * (1 + signs)) - signs * counts
    assert np.array_equal(evaluated(model, x), levels / 4)


@pytest.mark.parametrize(
    ("kind", "parameters", "options", "complaint"),
    [
        ("Quant", (0.5, 0.0, 4.0), {"rounding_mode": "CEIL"}, "rounding_mode 'CEIL'"),
        ("Quant", (0.5, 0.0, 4.5), {}, "the bit width is"),
        ("Quant", (0.5, 0.0, 33.0), {}, "has 33 bits"),
        ("Quant", (0.5, 0.5, 4.0), {}, "zero points"),
        ("Quant", (0.5, 0.0, 4.0), {"colour": "blue"}, "attribute 'colour'"),
        ("Trunc", (0.5, 1.0, 6.0, 3.0), {}, "zero point"),
        ("FixedQuant", (1.0, 2.0, 3.0), {"rounding_mode": "UP"}, "'UP'"),
        ("FixedQuant", (1.0, 2.0, 3.5), {}, "no whole number"),
        ("FloatQuant", (0.5,), {}, "of domain"),
    ],
)
def test_what_qonnx_has_and_we_have_not_is_refused_by_name(kind, parameters, options, complaint):
    model = Model()
    model.input("x", "N", 8)
    model.output(model.add(kind, "x", *(model.constant(v) for v in parameters), domain=DOMAIN, name="mine", **options))
    with pytest.raises(UnsupportedOperator, match=complaint) as error:
        graph_of(model)
    assert f"{kind} 'mine'" in str(error.value)


def test_a_scale_of_zero_is_a_fault_of_the_model():
    model = Model()
    model.input("x", "N", 8)
    model.output(model.add("BipolarQuant", "x", model.constant(0.0), domain=DOMAIN, name="mine"))
    with pytest.raises(ModelError, match="not above 0"):
        graph_of(model)


# ------------------------------------------------------------------------------------------------ ONNX's own


@pytest.mark.parametrize(("kind", "low", "high"), [("INT8", -128, 127), ("UINT8", 0, 255), ("INT16", -32768, 32767)])
def test_quantize_linear_is_onnx_s(kind, low, high):
    zero_point = {"INT8": -5, "UINT8": 131, "INT16": 100}[kind]
    model = Model(opset=21)
    model.input("x", "N", 8)
    zero = model.constant(zero_point, dtype=np.dtype(kind.lower()))
    quantized = model.add("QuantizeLinear", "x", model.constant(0.25), zero)
    model.output(model.add("DequantizeLinear", quantized, model.constant(0.25), zero))
    x = np.concatenate([grid(0.25), grid(1.0), grid(300.0)])
    wanted = ReferenceEvaluator(model.proto()).run(None, {"x": x})[0]
    got = evaluated(model, x)
    assert np.array_equal(got, wanted)
    assert (got.min(), got.max()) == ((low - zero_point) / 4, (high - zero_point) / 4)


def test_integers_may_leave_the_model():
    model = Model(opset=21)
    model.input("x", "N", 8)
    model.add("QuantizeLinear", "x", model.constant(0.5), model.constant(3, dtype=np.uint8), name="y")
    model.output("y")
    model.outputs[0].type.tensor_type.elem_type = TensorProto.UINT8
    x = grid(0.5)
    assert np.array_equal(evaluated(model, x), ReferenceEvaluator(model.proto()).run(None, {"x": x})[0])


def test_weights_keep_their_integers_through_moves():
    """A scale for each output channel, then a transposition, as Brevitas writes it."""
    model = Model()
    model.input("x", "N", 6)
    drawn = model.rng.normal(size=(4, 6))
    scale = np.array([[0.1], [0.2], [0.3], [0.05]])
    options = {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}
    parameters = (model.constant(scale), model.constant(0.0), model.constant(4.0))
    weights = model.add("Quant", model.constant(drawn), *parameters, domain=DOMAIN, **options)
    model.output(model.add("MatMul", "x", model.add("Transpose", weights, perm=[1, 0])))
    (gemm,) = [node.operator for node in graph_of(model).nodes]
    assert isinstance(gemm.weights, Levels)
    quotients = drawn.astype(np.float32) / scale.astype(np.float32)
    assert np.array_equal(gemm.weights.integers, np.clip(np.rint(quotients), -7, 7).T)
    assert np.array_equal(gemm.weights.scales, scale.astype(np.float32).ravel().astype(np.float64))


def test_dequantized_constants_are_weights_too():
    model = Model()
    model.input("x", "N", 3, 4, 4)
    integers = model.rng.integers(-128, 128, (2, 3, 3, 3))
    zero = model.constant([0, 0], dtype=np.int8)
    scales = model.constant([0.5, 0.125])
    weights = model.add("DequantizeLinear", model.constant(integers, dtype=np.int8), scales, zero, axis=0)
    model.output(model.add("Conv", "x", weights))
    graph = graph_of(model)
    (conv,) = [node.operator for node in graph.nodes if type(node.operator).__name__ == "Conv"]
    assert np.array_equal(conv.weights.integers, integers.transpose(2, 3, 1, 0))


def test_scales_within_an_output_channel_are_refused():
    model = Model()
    model.input("x", "N", 6)
    weights = model.constant(model.rng.integers(-7, 8, (6, 4)), dtype=np.int8)
    scales, zeros = model.constant(np.linspace(0.1, 1, 6)), model.constant([0] * 6, dtype=np.int8)
    real = model.add("DequantizeLinear", weights, scales, zeros, axis=0)
    model.output(model.add("MatMul", "x", real, name="mine"))
    with pytest.raises(UnsupportedOperator, match=r"MatMul 'mine'.*differ within an output channel"):
        graph_of(model)


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda m: m.add("QuantizeLinear", "x", m.constant([0.5, 0.25]), name="mine", axis=1, block_size=4), "block"),
        (lambda m: m.add("QuantizeLinear", "x", m.constant(0.5), m.constant(0, dtype=np.int32), name="mine"), "int32"),
    ],
)
def test_forms_that_are_not_supported_are_refused_by_name(build, complaint):
    model = Model(opset=21)
    model.input("x", "N", 8)
    model.output(build(model))
    with pytest.raises(UnsupportedOperator, match=complaint) as error:
        graph_of(model)
    assert "'mine'" in str(error.value)
