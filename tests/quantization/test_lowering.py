"""From a real graph to integers: bias correction, forced choices, counted saturations, raw and gridded inputs."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.small import Model, dense, rows, run
from toolchain.compiler import compile_model
from toolchain.errors import CalibrationError, ToolchainError
from toolchain.frontends import read_graph
from toolchain.ir import FixedType
from toolchain.ir import fixed as arithmetic
from toolchain.ops.gemm import Gemm
from toolchain.ops.quantize import Quantize
from toolchain.ops.requantize import Requantize
from toolchain.passes import pipeline
from toolchain.project import load
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import lower
from toolchain.simulation import reference

LAYERS = """
[layers.first]
weight = "fixed<5,2,RND,SAT>"
input = "fixed<6,3,RND,SAT>"
accumulator = "fixed<14,5,TRN,SAT>"
output = "ufixed<7,2,RND_CONV,SAT>"
"""


def real_graph(path):
    return pipeline.run(read_graph(path), pipeline.REAL_PASSES)


def compiled(tmp_path, toml="", data=None, path=None, **options):
    path = path or dense(tmp_path / "net.onnx")
    config = tmp_path / "c.toml"
    config.write_text(toml)
    data = rows(64, 6) if data is None else data
    options.setdefault("pack", "none")  # the formats of plain quantization are tested here
    project = compile_model(path, tmp_path / "p", calibrate=data, config=config, force=True, **options)
    return load(project.path)


def layer_of(project, name):
    return next(layer for layer in project.report["layers"] if layer["name"] == name)


def test_bias_correction_removes_the_mean_error(tmp_path):
    """Coarse weights and inputs with a mean: the outputs' mean error goes away, up to the accumulator's step."""
    path = dense(tmp_path / "net.onnx")
    graph = real_graph(path)
    data = np.abs(rows(256, 6)) + 1
    lowered = lower(graph, {"x": data}, Configuration(weight_bits=3))
    program = lowered.graph
    real, integer = {}, {}
    given = {"x": data.astype(np.float64)}
    reference.evaluate(graph, given, lambda name, v: real.update({name: v}))
    reference.evaluate(program, given, lambda name, v: integer.update({name: v}))
    type = program.types["first"]
    got = np.ldexp(integer["first"].astype(float), -np.array(type.fractions))
    error = got - real["first"]
    uncorrected = abs(numpy_helper.to_array(onnx.load(path).graph.initializer[0])).max() * 0.02
    assert (np.abs(error.mean(axis=0)) < 0.01 * error.std(axis=0) + 2.0 ** -np.array(type.fractions)).all()
    assert error.std() > uncorrected  # there was something to correct


def test_correction_is_left_out_where_it_is_noise(tmp_path):
    """From two rows a mean error cannot be known: the bias stays near the float one."""
    graph = real_graph(dense(tmp_path / "net.onnx"))
    biases = {}
    for count in (2, 256):
        program = lower(graph, {"x": rows(256, 6)[:count]}, Configuration(weight_bits=3)).graph
        node = program.by_name["first"]
        biases[count] = np.ldexp(node.operator.bias.array.astype(float), -np.array(program.types["first"].fractions))
    float_bias = graph.by_name["first"].operator.bias.array
    assert np.abs(biases[256] - float_bias).max() < 0.5
    assert np.abs(biases[2] - float_bias).max() < 1.0


def test_forced_formats_are_honoured_and_reported(tmp_path):
    project = compiled(tmp_path, LAYERS)
    graph = project.graph
    gemm = graph.by_name["first"]
    assert gemm.operator.weight_type == FixedType.parse("fixed<5,2,RND,SAT>")
    assert set(gemm.operator.fractions) == {3}
    weights = numpy_helper.to_array(onnx.load(tmp_path / "net.onnx").graph.initializer[0])
    assert np.array_equal(gemm.operator.weights.array, np.clip(np.floor(weights * 8.0 + 0.5), -16, 15))
    given = graph.types[gemm.inputs[0]]
    assert (given.width, given.fraction, given.signed) == (6, 3, True)
    accumulator = graph.consumers["first"][0]
    assert isinstance(accumulator.operator, Requantize)
    assert str(accumulator.operator.type) == "fixed<14,5,TRN,SAT>"
    layer = layer_of(project, "first")
    assert layer["weight_type"] == "fixed<5,2,RND,SAT>"
    assert layer["input_type"] == "fixed<6,3,RND,SAT>"
    assert layer["accumulator_type"] == "fixed<14,5,TRN,SAT>"
    assert layer["output_type"] == "ufixed<7,2,RND_CONV,SAT>"
    fast, slow = (project.simulator(engine).predict_raw(rows(50, 6, seed=9)) for engine in ("fast", "reference"))
    assert np.array_equal(fast, slow)


@pytest.mark.parametrize(
    "type", ["fixed<24,8,RND,SAT>", "fixed<4,2,TRN,WRAP>", "ufixed<20,3,RND_CONV,SAT>", "fixed<40,20,RND,SAT>"]
)
def test_the_forced_output_of_the_last_layer_is_the_models_output(tmp_path, type):
    project = compiled(tmp_path, f"[layers.second]\noutput = '{type}'")
    wanted = FixedType.parse(type)
    found = project.graph.types[project.graph.outputs[0].value]
    assert (found.width, found.fraction, found.signed) == (wanted.width, wanted.fraction, wanted.signed)
    assert layer_of(project, "second")["output_type"] == type
    y = project.simulator().predict(rows(5, 6))
    assert np.array_equal(y / wanted.step, np.round(y / wanted.step))


def test_a_narrow_accumulator_loses_what_it_says(tmp_path):
    """The forced accumulator is an explicit Requantize: its rounding is visible in the result."""
    project = compiled(tmp_path, "[layers.second]\naccumulator = 'fixed<12,8,TRN,SAT>'\noutput = 'fixed<16,8,RND,SAT>'")
    graph = project.graph
    seen: dict = {}
    x = rows(20, 6)
    reference.evaluate(graph, {"x": x}, lambda name, v: seen.update({name: v}))
    exact = seen["second"]
    points = np.array(graph.types["second"].fractions)
    by_hand = arithmetic.requantize(exact, points - 4, FixedType.parse("fixed<12,8,TRN,SAT>")) << 4
    assert np.array_equal(project.simulator().predict_raw(x), by_hand)


def test_saturations_are_counted_right(tmp_path):
    """The report's numbers equal a direct count over the same calibration rows."""
    data = rows(64, 6) * 3
    project = compiled(tmp_path, "[layers.first]\noutput = 'fixed<6,1,RND,SAT>'\ninput = 'fixed<8,2,RND,SAT>'", data)
    graph = project.graph
    seen: dict = {}
    reference.evaluate(graph, {"x": data}, lambda name, v: seen.update({name: v}))
    narrowing = graph.consumers["first"][0]
    type = narrowing.operator.type
    assert str(type) == "fixed<6,1,RND,SAT>"
    real = np.ldexp(seen["first"].astype(float), -np.array(graph.types["first"].fractions))
    rounded = np.floor(np.ldexp(real, type.fraction) + 0.5)
    direct = int(((rounded < type.low) | (rounded > type.high)).sum())
    assert direct > 10
    assert layer_of(project, "first")["saturations"] == direct


def test_saturations_of_entry_and_of_both_requantizations(tmp_path):
    lowered = lower(
        real_graph(dense(tmp_path / "net.onnx")), {"x": rows(64, 6) * 3},
        Configuration.model_validate({"layers": {"first": {"input": "fixed<8,2,RND,SAT>"}}}),
    )  # fmt: skip
    (entry,) = [node.name for node in lowered.graph.nodes if isinstance(node.operator, Quantize)]
    scaled = np.floor(np.float64(rows(64, 6) * 3) * 64 + 0.5)
    assert lowered.saturations[entry] == int(((scaled < -128) | (scaled > 127)).sum()) > 0
    project = compiled(tmp_path, "[layers.first]\naccumulator = 'fixed<12,1,RND,SAT>'\noutput = 'fixed<6,0,RND,SAT>'")
    seen: dict = {}
    graph = project.graph
    reference.evaluate(graph, {"x": rows(64, 6)}, lambda name, v: seen.update({name: v}))
    total, name = 0, "first"
    while graph.consumers[name] and isinstance(graph.consumers[name][0].operator, Requantize):
        node = graph.consumers[name][0]
        total += node.operator.overflows(seen[name])
        name = node.name
    assert total > 0
    assert layer_of(project, "first")["saturations"] == total


def test_forced_foldings_are_in_the_report_and_in_the_hardware(tmp_path):
    project = compiled(tmp_path, "[layers.first]\npe = 5\nsimd = 2\n[layers.second]\npe = 1\nsimd = 5")
    for name, pe, simd in (("first", 5, 2), ("second", 1, 5)):
        layer = layer_of(project, name)
        assert (layer["pe"], layer["simd"]) == (pe, simd)
        text = (project.path / "hls/src/configs.h").read_text()
        block = text[text.index(f"struct {name}_matrix_vector_config") :].split("};")[0]
        assert f"PE = {pe};" in block
        assert f"SIMD = {simd};" in block


# Weights that the outputs cannot show.


def normalized(path, gamma, beta):
    """Convolution, batch normalization of tiny scale, Relu, convolution."""
    m = Model()
    m.input("x", "N", 3, 6, 6)
    conv = m.add("Conv", "x", m.noise(4, 3, 3, 3), m.noise(4), name="first", pads=[1] * 4)
    constants = (m.constant(np.full(4, gamma)), m.constant(beta), m.constant(np.zeros(4)), m.constant(np.ones(4)))
    norm = m.add("BatchNormalization", conv, *constants, name="norm")
    m.output(m.add("Conv", m.add("Relu", norm, name="relu"), m.noise(2, 4, 3, 3), m.noise(2), name="second"))
    return m.save(path)


@pytest.mark.parametrize("gamma", [1e-9, 1e-16, 1e-20, 1e-30])
@pytest.mark.parametrize("beta", [[0.3, 1.2, -0.4, 0.7], [0.0] * 4], ids=["offset", "no offset"])
def test_a_normalization_of_tiny_scale_makes_no_wide_sums(tmp_path, gamma, beta):
    """The scale is below what the offsets, or the next layer's bias, leave to be seen."""
    data = rows(32, 3, 6, 6)
    project = compiled(tmp_path, data=data, path=normalized(tmp_path / "tiny.onnx", gamma, beta))
    types = project.graph.types
    assert max(types[name].width for name in ("first", "second")) <= 32
    y, float_y = (simulator.predict(data) for simulator in (project.simulator("fast"), project.simulator("reference")))
    assert np.array_equal(y, float_y)
    assert y.std() > 0.1


def test_tiny_weights_without_offsets_keep_their_bits(tmp_path):
    """Outputs of 1e-20 have a binary point of their own, so nothing is lost."""
    m = Model()
    m.input("x", "N", 6)
    m.output(m.add("MatMul", "x", m.constant(m.rng.normal(size=(6, 3)) * 1e-20), name="first"))
    project = compiled(tmp_path, path=m.save(tmp_path / "tiny.onnx"))
    weights = numpy_helper.to_array(onnx.load(tmp_path / "tiny.onnx").graph.initializer[0])
    wanted = rows(64, 6) @ weights
    error = project.simulator().predict(rows(64, 6)) - wanted
    assert np.sqrt(np.square(error).mean()) < 0.02 * wanted.std()


def test_weights_below_a_large_bias_become_zero(tmp_path):
    m = Model()
    m.input("x", "N", 6)
    m.output(m.add("Gemm", "x", m.constant(m.rng.normal(size=(6, 3)) * 1e-20), m.noise(3), name="first"))
    project = compiled(tmp_path, path=m.save(tmp_path / "tiny.onnx"))
    bias = numpy_helper.to_array(onnx.load(tmp_path / "tiny.onnx").graph.initializer[1])
    assert np.abs(project.simulator().predict(rows(5, 6)) - bias).max() < 1e-4
    assert project.graph.types["first"].width <= 32


def test_a_wide_input_takes_nothing_from_the_weights(tmp_path):
    project = compiled(tmp_path, "[layers.first]\ninput = 'fixed<60,4,RND,SAT>'\nweight = 'fixed<8,2,RND,SAT>'")
    free = compiled(tmp_path, "[layers.first]\ninput = 'fixed<40,4,RND,SAT>'")
    forced, chosen = (one.graph.by_name["first"].operator for one in (project, free))
    real = numpy_helper.to_array(onnx.load(tmp_path / "net.onnx").graph.initializer[0])
    for operator in (forced, chosen):
        found = np.ldexp(operator.weights.array.astype(float), -np.array(operator.fractions))
        assert np.abs(found - real).max() < 0.02


def test_dead_outputs_compile(tmp_path):
    m = Model()
    m.input("x", "N", 6)
    dead = m.add("Relu", m.add("Gemm", "x", m.noise(6, 4), m.constant([-99.0] * 4), name="first"), name="relu")
    m.output(m.add("MatMul", dead, m.noise(4, 3), name="second"))
    project = compiled(tmp_path, path=m.save(tmp_path / "dead.onnx"))
    assert not project.simulator().predict(rows(5, 6)).any()
    assert project.graph.by_name["second"].operator.weights.array.any()


# Inputs.


def entry_type(project):
    return next(node.operator.type for node in project.graph.nodes if isinstance(node.operator, Quantize))


@pytest.mark.parametrize(
    ("data", "type"),
    [
        (np.random.default_rng(1).integers(0, 256, (16, 6)).astype(np.uint8), "ufixed<8,8,RND,SAT>"),
        (np.random.default_rng(1).integers(-128, 128, (16, 6)).astype(np.int8), "fixed<8,8,RND,SAT>"),
        (np.random.default_rng(1).integers(0, 1000, (16, 6)), "ufixed<10,10,RND,SAT>"),
        (np.random.default_rng(1).integers(0, 2, (16, 6)).astype(bool), "ufixed<8,8,RND,SAT>"),
        (np.random.default_rng(1).integers(0, 256, (16, 6)) / np.float32(256), "ufixed<8,0,RND,SAT>"),
        (np.random.default_rng(1).integers(0, 256, (16, 6)).astype(np.float32), "ufixed<8,8,RND,SAT>"),
    ],
    ids=["u8", "i8", "ten bits", "bool", "u8/256", "u8 as float"],
)
def test_integers_are_raw_and_grids_are_found(tmp_path, data, type):
    project = compiled(tmp_path, data=data)
    assert str(entry_type(project)) == type
    raw = data if data.dtype.kind in "iub" else (data * 2.0 ** entry_type(project).fraction).astype(np.int64)
    seen: dict = {}
    reference.evaluate(project.graph, {"x": data}, lambda name, v: seen.update({name: v}))
    assert np.array_equal(next(iter(seen.values())), raw)


def test_u8_over_255_gets_a_format(tmp_path):
    data = np.random.default_rng(1).integers(0, 256, (16, 6)) / np.float32(255)
    assert entry_type(compiled(tmp_path, data=data)).width == 8


def test_constant_and_zero_calibration(tmp_path):
    for data in (np.zeros((4, 6), np.float32), np.full((4, 6), 0.1, np.float32), -np.ones((1, 6), np.float32)):
        project = compiled(tmp_path, data=data)
        fast, slow = (project.simulator(engine).predict_raw(rows(5, 6)) for engine in ("fast", "reference"))
        assert np.array_equal(fast, slow)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30, 1e37])
def test_inputs_of_any_scale(tmp_path, scale):
    """Compiled and equal in both engines, or refused; never an exception of Python's."""
    data = rows(16, 6) * np.float32(scale)
    try:
        project = compiled(tmp_path, data=data)
    except ToolchainError:
        return
    fast, slow = (project.simulator(engine).predict_raw(data) for engine in ("fast", "reference"))
    assert np.array_equal(fast, slow)


def test_no_calibration(tmp_path, capsys):
    path = dense(tmp_path / "net.onnx")
    with pytest.raises(CalibrationError, match="--calibrate"):
        compile_model(path, tmp_path / "p")
    assert run("compile", path, "-o", tmp_path / "p") == 2
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("pack", ["auto", "spatial", "dct"])
@pytest.mark.parametrize("scale", [1e-30, 1e30, 1e37])
def test_packing_of_any_scale(tmp_path, scale, pack):
    x = (rows(64, 6) * scale).astype(np.float32)
    project = compiled(tmp_path, data=x, pack=pack)
    plain = compiled(tmp_path, data=x)
    got, wanted = project.simulator().predict(x), plain.simulator().predict(x)
    assert np.sqrt(np.square((got - wanted) / scale).mean()) < 0.2 * (wanted / scale).std()


def test_packing_of_inputs_that_hardly_vary(tmp_path):
    """Their mean is so much larger than their spread that single precision would lose the spread."""
    generator = np.random.default_rng(3)
    data = generator.integers(254, 256, (40, 3, 6, 6)).astype(np.uint8)
    data[:, 1] = 255
    m = Model()
    m.input("x", "N", 3, 6, 6)
    m.output(m.add("Conv", "x", m.noise(4, 3, 3, 3), m.noise(4), name="conv"))
    project = compiled(tmp_path, data=data, path=m.save(tmp_path / "flat.onnx"), pack="spatial")
    assert project.report["compression"]["output_error"] <= 2 * project.report["compression"]["plain_output_error"]


@pytest.mark.parametrize("bits", [2, 3, 8, 16])
def test_more_bits_are_closer(tmp_path, bits):
    x = rows(64, 6)
    project = compiled(tmp_path, data=x, weight_bits=bits, activation_bits=bits)
    values: dict = {}
    graph = real_graph(tmp_path / "net.onnx")
    wanted = reference.evaluate(graph, {"x": x.astype(np.float64)}, lambda name, v: values.update({name: v}))["second"]
    error = np.sqrt(np.square(project.simulator().predict(x) - wanted).mean()) / wanted.std()
    assert error < {2: 1.5, 3: 0.6, 8: 0.03, 16: 2e-4}[bits]
    types = [layer["weight_type"] for layer in project.report["layers"] if layer["weight_type"]]
    assert all(FixedType.parse(type).width == bits for type in types)


def test_report_is_the_same_data_as_the_program(tmp_path):
    project = compiled(tmp_path)
    report = json.loads((project.path / "report.json").read_text())
    for node in project.graph.nodes:
        if isinstance(node.operator, Gemm):
            layer = layer_of(project, node.name)
            assert layer["input_shape"] == list(project.graph.types[node.inputs[0]].shape)
            assert layer["density"] == np.count_nonzero(node.operator.weights.array) / node.operator.weights.array.size
    assert report["macs"] == sum(layer["macs"] for layer in report["layers"]) == report["multiplications"]["dense"]


def test_mixed_layers_of_one_name_prefix(tmp_path):
    """A layer called like another one's helper keeps its own settings."""
    m = Model()
    m.input("x", 1, 2, 5, 5)
    a = m.add("Conv", "x", m.noise(3, 2, 3, 3), name="a")
    b = m.add("Relu", a, name="a/channels_last")
    m.output(m.add("Flatten", m.add("Relu", b, name="a/"), name="flat"))
    path = m.save(tmp_path / "net.onnx")
    project = compiled(tmp_path, '[layers."a/channels_last"]\noutput = "fixed<5,3,RND,SAT>"', rows(8, 2, 5, 5), path)
    assert "fixed<5,3,RND,SAT>" in {
        str(n.operator.type) for n in project.graph.nodes if isinstance(n.operator, Requantize)
    }


@pytest.mark.parametrize("largest", [0, 1], ids=["zeros", "zeros and ones"])
def test_inputs_between_the_values_of_calibration_survive(tmp_path, largest):
    data = np.random.default_rng(1).integers(0, largest + 1, (16, 6)).astype(np.float32)
    project = compiled(tmp_path, data=data)
    entry = entry_type(project)
    for value in (0.4, 0.9):
        assert arithmetic.quantize(np.array([value]), entry)[0] * entry.step == pytest.approx(value, abs=0.01)
