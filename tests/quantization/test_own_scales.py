"""Programs of models that quantize themselves: every output is what exact arithmetic on the model's formulas gives."""

from pathlib import Path

import numpy as np
import pytest

from tests.small import Model, run
from toolchain.compiler import compile_model
from toolchain.errors import CalibrationError, ConfigurationError
from toolchain.frontends import read_graph
from toolchain.frontends.importer import Importer
from toolchain.frontends.onnx import normalize
from toolchain.ir import FixedType, Graph, Meaning, Overflow, Rounding
from toolchain.ir.rounding import round_real
from toolchain.ops.affine import Affine
from toolchain.ops.quantize import Quantize
from toolchain.ops.requantize import Requantize
from toolchain.passes import pipeline
from toolchain.project import load
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import lower
from toolchain.quantization.multipliers import find_multipliers, snapped
from toolchain.simulation import reference
from toolchain.simulation.simulator import Simulator

DOMAIN = "qonnx.custom_op.general"
ROWS = 24


def quant(m, value, scale, bits, signed=1, narrow=1, zero_point=0.0, **options):
    parameters = [m.constant(v) for v in (scale, zero_point, float(bits))]
    options = {"rounding_mode": "ROUND", **options}
    return m.add("Quant", value, *parameters, domain=DOMAIN, signed=signed, narrow=narrow, **options)


def qdq(m, value, scale, zero_point, dtype=np.uint8):
    parameters = (m.constant(scale), m.constant(zero_point, dtype=dtype))
    return m.add("DequantizeLinear", m.add("QuantizeLinear", value, *parameters), *parameters)


def network(seed: int, dyadic: bool) -> Model:
    """A convolutional network with a residual sum, pools, a concatenation, Relu, batch normalization and a matrix."""
    m, rng = Model(seed=seed), np.random.default_rng(seed)

    def step(low=0.02, high=0.3):
        drawn = rng.uniform(low, high)
        return float(2.0 ** np.round(np.log2(drawn))) if dyadic else float(np.float32(drawn))

    def weights(*shape, bits):
        scale = np.array([step() for _ in range(shape[0])]).reshape(-1, *(1,) * (len(shape) - 1))
        return quant(m, m.constant(rng.normal(0, 0.5, shape)), scale, bits)

    def normalized(value, channels):
        if dyadic:
            return m.add("Add", value, m.constant(np.rint(rng.normal(size=(channels, 1, 1)) * 64) / 64))
        positive = [m.constant(rng.uniform(0.5, 2, channels) * rng.choice([-1, 1], channels)), m.noise(channels)]
        return m.add(
            "BatchNormalization", value, *positive, m.noise(channels), m.constant(rng.uniform(0.5, 2, channels))
        )

    m.input("x", "N", 2, 8, 8)
    x = qdq(m, "x", step(), 7) if seed % 2 else quant(m, "x", step(), 5)
    conv = m.add("Conv", x, weights(4, 2, 3, 3, bits=3), pads=[1, 1, 1, 1])
    a = quant(m, m.add("Relu", normalized(conv, 4)), step(), 4, signed=0, narrow=0)
    depthwise = m.add("Conv", a, weights(4, 1, 3, 3, bits=4), group=4, pads=[1, 1, 1, 1])
    b = quant(m, normalized(depthwise, 4), step(), 6)
    total = quant(m, m.add("Relu", m.add("Add", a, b)), step(), 5, signed=0, narrow=0)
    pooled = m.add("MaxPool", total, kernel_shape=[2, 2], strides=[2, 2])
    joined = m.add("Concat", pooled, m.add("Slice", pooled, m.integers(1), m.integers(3), m.integers(1)), axis=1)
    mean = quant(m, m.add("GlobalAveragePool", joined), step(0.01, 0.05), 8)
    flat = m.add("Flatten", mean)
    sign = m.add("BipolarQuant", m.add("Add", flat, m.constant(-0.25)), m.constant(step()), domain=DOMAIN)
    parts = [m.add("MatMul", v, m.add("Transpose", weights(5, 6, bits=4), perm=[1, 0])) for v in (sign, flat)]
    m.output(quant(m, m.add("Add", *parts), step(0.01, 0.02), 8, narrow=0))
    return m


def real_graph(path) -> Graph:
    return pipeline.run(read_graph(path), pipeline.REAL_PASSES)


def outputs(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """The model's formulas in float64."""
    results = reference.evaluate(graph, {i.name: i.from_model(x).astype(np.float64) for i in graph.inputs})
    return {o.name: o.to_model(results[o.name]) for o in graph.outputs}


@pytest.mark.parametrize("dyadic", [True, False], ids=["powers_of_two", "any_scale"])
@pytest.mark.parametrize("seed", range(6))
def test_a_program_gives_what_exact_arithmetic_gives(seed, dyadic, tmp_path):
    """Every integer, with no calibration data to choose anything on."""
    graph = real_graph(network(seed, dyadic).save(tmp_path / "net.onnx"))
    x = np.random.default_rng(seed).normal(0, 1.5, (ROWS, 2, 8, 8)).astype(np.float32)
    lowered = lower(graph, {"x": x}, Configuration(), invented=True)
    program = pipeline.run(lowered.graph, pipeline.EXACT_PASSES)
    ((name, wanted),) = outputs(graph, x).items()
    simulator = Simulator(program, "reference")
    raw = simulator.raw_outputs({"x": x})[name]
    assert np.array_equal(simulator.scaled(name, raw), wanted)
    assert np.array_equal(Simulator(program, "fast").raw_outputs({"x": x})[name], raw)
    assert len(np.unique(wanted)) > 4, "the outputs say something"
    if dyadic:
        kinds = {type(node.operator) for node in program.nodes}
        factors = [n.operator.scale.array for n in program.nodes if isinstance(n.operator, Affine)]
        assert all((np.abs(f) == 2.0 ** np.round(np.log2(np.abs(f)))).all() for f in factors), "no multipliers"
        assert Requantize in kinds


@pytest.mark.csim
@pytest.mark.parametrize("dyadic", [True, False], ids=["powers_of_two", "any_scale"])
def test_hardware_agrees_and_no_data_is_needed(dyadic, tmp_path):
    path = network(1, dyadic).save(tmp_path / "net.onnx")
    assert run("compile", path, "--board", "zcu104", "-o", tmp_path / "p") == 0
    np.save(tmp_path / "x.npy", np.random.default_rng(5).normal(0, 1.5, (4, 2, 8, 8)).astype(np.float32))
    assert run("verify", tmp_path / "p", "--inputs", tmp_path / "x.npy", "--against", "hls") == 0


def test_the_entry_is_the_model_s_own(tmp_path):
    """Through a move and a scale with an offset of whole steps; halves go to even."""
    m = Model()
    m.input("x", "N", 2, 3)
    scaled = m.add("Sub", m.add("Mul", m.add("Flatten", "x"), m.constant(2.0)), m.constant(1.0))
    m.output(m.add("MatMul", quant(m, scaled, 0.5, 4, narrow=0), quant(m, m.noise(6, 2), 0.25, 3)))
    graph = real_graph(m.save(tmp_path / "net.onnx"))
    program = lower(graph, {"x": np.zeros((1, 2, 3), np.float32)}, Configuration(), invented=True).graph
    (entry,) = [node.operator for node in program.nodes if isinstance(node.operator, Quantize)]
    assert entry == Quantize(FixedType(4, 4, False, Rounding.RND_CONV, Overflow.SAT), Meaning(0.25, 6))
    x = (np.arange(-12, 24) / 16).astype(np.float32).reshape(-1, 2, 3)
    simulator = Simulator(program, "reference")
    ((name, wanted),) = outputs(graph, x).items()
    assert np.array_equal(simulator.scaled(name, simulator.raw_outputs({"x": x})[name]), wanted)


def gate(m, x):
    return m.add("Mul", x, qdq(m, m.add("Sigmoid", x), 1 / 256, 0))


CURVES = {
    "gate": gate,
    "hard swish": lambda m, x: m.add("HardSwish", x),
    "leaky": lambda m, x: m.add("LeakyRelu", x, alpha=0.1),
    "square": lambda m, x: m.add("Mul", x, x),
    "erf": lambda m, x: m.add("Erf", m.add("Mul", x, m.constant(0.7))),
}


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_between_two_quantizations_is_one_table(name, tmp_path):
    """Every level, correctly rounded."""
    m = Model()
    m.input("x", "N", 32)
    m.output(qdq(m, CURVES[name](m, qdq(m, "x", 0.05, 120)), 0.03, 40))
    path = m.save(tmp_path / "net.onnx")
    project = compile_model(path, tmp_path / "p")
    kinds = [type(node.operator).__name__ for node in project.graph.nodes if not node.operator.is_layout]
    assert kinds.count("Table") == 1
    assert not {"Product", "PRelu"} & set(kinds)
    x = np.linspace(-8, 8, 320).astype(np.float32).reshape(-1, 32)
    model = Importer(normalize(m.proto()), "case").run()  # before the passes, one of which makes the table
    ((_, wanted),) = outputs(model, x).items()
    assert np.array_equal(project.simulator().predict(x), wanted)


def test_parts_of_a_concatenation_may_have_scales_of_their_own(tmp_path):
    """An SSD's heads: each part is quantized as the whole is."""
    m = Model()
    m.input("x", "N", 2, 6)
    parts = [qdq(m, "x", 0.05, 120), qdq(m, m.add("Relu", "x"), 0.031, 0), quant(m, "x", 0.11, 4)]
    m.output(qdq(m, m.add("Concat", *parts, axis=1), 0.043, 100))
    path = m.save(tmp_path / "net.onnx")
    x = np.random.default_rng(1).normal(0, 4, (20, 2, 6)).astype(np.float32)
    model = Importer(normalize(m.proto()), "case").run()  # before the passes
    lowered = lower(real_graph(path), {"x": x}, Configuration())
    ((name, wanted),) = outputs(model, x).items()
    simulator = Simulator(pipeline.run(lowered.graph, pipeline.EXACT_PASSES), "reference")
    close = 2.0**-12  # the input has several quantizations, so that it comes in with 16 bits
    assert (np.abs(simulator.scaled(name, simulator.raw_outputs({"x": x})[name]) - wanted) > close).mean() < 0.005


def joined(m):
    """Parts of one scale, one of them signed though nothing in it is negative."""
    signed = m.add("Relu", quant(m, "x", 0.05, 8, narrow=0))
    m.output(m.add("Concat", signed, quant(m, signed, 0.05, 8, signed=0, narrow=0), axis=1))


def gated(m):
    """Squeeze and excite: a product with one number a channel."""
    x = qdq(m, "x", 0.05, 128)
    gate = qdq(m, m.add("Sigmoid", qdq(m, m.add("GlobalAveragePool", x), 0.02, 120)), 0.004, 0)
    m.output(qdq(m, m.add("Mul", x, gate), 0.03, 131))


def moved(m):
    """Levels that are compared, flattened, padded and cut before the model quantizes them, a scale a channel."""
    conv = m.add("Conv", qdq(m, "x", 0.05, 128), quant(m, m.noise(3, 2, 1, 1), np.full((3, 1, 1, 1), 0.3), 4))
    padded = m.add("Pad", m.add("MaxPool", conv, kernel_shape=[2, 2]), m.integers(0, 0, 1, 0, 0, 0, 0, 1))
    m.output(quant(m, m.add("Flatten", padded), 0.17, 6, zero_point=3.0))


def binary_channels(m):
    """A power of two for each channel, on values that leave as they are."""
    weights = quant(m, m.noise(3, 2, 1, 1), np.reshape([0.25, 0.5, 0.125], (3, 1, 1, 1)), 4)
    conv = m.add("Conv", quant(m, "x", 0.125, 6), weights)
    m.output(m.add("Transpose", conv, perm=[0, 2, 3, 1]))


@pytest.mark.parametrize("build", [joined, gated, moved, binary_channels])
def test_what_stands_between_quantizations_loses_nothing(build, tmp_path):
    m = Model(seed=4)
    m.input("x", "N", 2, 6, 6)
    build(m)
    path = m.save(tmp_path / "net.onnx")
    x = np.random.default_rng(1).normal(0, 3, (8, 2, 6, 6)).astype(np.float32)
    model = Importer(normalize(m.proto()), "case").run()  # before the passes
    ((_, wanted),) = outputs(model, x).items()
    assert np.array_equal(compile_model(path, tmp_path / "p").simulator().predict(x), wanted)


def test_weights_of_a_transposed_convolution_are_kept(tmp_path):
    m = Model(seed=2)
    m.input("x", "N", 2, 5, 5)
    weights = quant(m, m.constant(m.rng.normal(0, 0.5, (2, 3, 3, 3))), np.full((1, 3, 1, 1), 0.1), 4)
    m.output(qdq(m, m.add("ConvTranspose", qdq(m, "x", 0.05, 128), weights, strides=[2, 2]), 0.1, 120))
    path = m.save(tmp_path / "net.onnx")
    project = compile_model(path, tmp_path / "p")
    x = np.random.default_rng(1).normal(0, 3, (8, 2, 5, 5)).astype(np.float32)
    ((_, wanted),) = outputs(real_graph(path), x).items()
    assert np.array_equal(project.simulator().predict(x), wanted)


def test_raw_integers_are_the_model_s_levels(tmp_path):
    m = Model()
    m.input("x", "N", 6)
    m.output(qdq(m, m.add("MatMul", qdq(m, "x", 0.1, 3), quant(m, m.noise(6, 2), 0.3, 4)), 0.7, 9))
    project = compile_model(m.save(tmp_path / "net.onnx"), tmp_path / "p")
    simulator = project.simulator()
    x = np.random.default_rng(0).normal(0, 2, (20, 6)).astype(np.float32)
    levels = np.clip(np.rint(x / np.float32(0.1)) + 3, 0, 255).astype(np.uint8)
    assert np.array_equal(simulator.predict(x), simulator.predict(levels))
    ((name, wanted),) = outputs(real_graph(tmp_path / "net.onnx"), x).items()
    assert np.array_equal(simulator.predict(x), wanted), name


def partly(path):
    """Quantized weights and inputs, then an operator of real numbers."""
    m = Model()
    m.input("x", "N", 6)
    gemm = m.add("MatMul", quant(m, "x", 0.25, 6), quant(m, m.noise(6, 4), 0.3, 4), name="own")
    m.output(m.add("Gemm", m.add("Sigmoid", gemm, name="curve"), m.noise(4, 2), m.noise(2), name="real"))
    return m.save(path)


def test_what_a_model_leaves_open_needs_data(tmp_path):
    path = partly(tmp_path / "net.onnx")
    with pytest.raises(CalibrationError, match="does not say how this value is quantized") as error:
        compile_model(path, tmp_path / "p")
    assert error.value.where == "layer 'real'"
    x = np.random.default_rng(0).normal(0, 2, (64, 6)).astype(np.float32)
    project = compile_model(path, tmp_path / "p", calibrate=x)
    ((_, wanted),) = outputs(real_graph(path), x).items()
    assert np.abs(project.simulator().predict(x) - wanted).max() < 0.02 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"pack": "dct"}, "pack = dct would change"),
        ({"budget": "10x"}, "brings its own weights"),
        ({"weight_memory": "loaded"}, "needs packed weights"),
        ({"config": {"layers": {"own": {"weight": "fixed<8,3,RND,SAT>"}}}}, "'weight': the model brings"),
        ({"config": {"layers": {"own": {"accumulator": "fixed<8,3,RND,SAT>"}}}}, "'accumulator': the model brings"),
    ],
)
def test_options_that_would_change_the_model_s_integers_are_refused(options, complaint, tmp_path):
    x = np.random.default_rng(0).normal(0, 2, (64, 6)).astype(np.float32)
    with pytest.raises(ConfigurationError, match=complaint):
        compile_model(partly(tmp_path / "net.onnx"), tmp_path / "p", calibrate=x, **options)
    assert not (tmp_path / "p").exists()


def test_inspect_shows_what_a_model_says_about_its_integers(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run("inspect", partly(tmp_path / "net.onnx")) == 0
    printed = capsys.readouterr().out
    for said in ("int6 x 0.25 (powers of 2)", "weights int4 x 0.3", "own integers", "spatial, channels"):
        assert said in printed


def test_why_an_operator_is_missing_is_said(tmp_path, capsys):
    m = Model()
    m.input("x", "N", 6)
    m.output(m.add("LogSoftmax", "x", name="last"))
    assert run("inspect", m.save(tmp_path / "net.onnx")) == 2
    assert "LogSoftmax 'last': this operator is not supported (leave it out" in capsys.readouterr().err


def test_stored_weights_are_the_model_s(tmp_path):
    path = network(2, dyadic=False).save(tmp_path / "net.onnx")
    own = {n.layer: n.operator.weights.integers for n in real_graph(path).nodes if hasattr(n.operator, "weights")}
    compile_model(path, tmp_path / "p")
    stored = load(tmp_path / "p").graph
    for layer, integers in own.items():
        kept = [n.operator.weights.array for n in stored.nodes if n.layer == layer and hasattr(n.operator, "weights")]
        assert any(np.array_equal(integers, array) for array in kept), layer


# ------------------------------------------------------------------------------------------------ multipliers


@pytest.mark.parametrize("rounding", [Rounding.RND_CONV, Rounding.TRN, Rounding.RND, Rounding.TRN_ZERO])
def test_multipliers_round_every_integer_as_exact_arithmetic_does(rounding):
    """Exhaustively over the range, against rational arithmetic."""
    from fractions import Fraction

    rng = np.random.default_rng(11)
    for _ in range(20):
        ratios, offsets = rng.uniform(-0.02, 0.05, 4), rng.normal(0, 3, 4)
        found = find_multipliers(ratios, offsets, (-700, 700), (-8, 7), rounding)
        assert found.exact
        x = np.arange(-700, 701)
        for ratio, offset, factor, addend in zip(ratios, offsets, found.factors, found.offsets, strict=True):
            wanted = [rounded(Fraction(float(ratio)) * int(v) + Fraction(float(offset)), rounding) for v in x]
            exact = np.ldexp((x * int(factor) + int(addend)).astype(np.float64), -found.shift)
            got = round_real(exact, rounding)
            assert np.array_equal(np.clip(got, -8, 7), np.clip(wanted, -8, 7))


def rounded(value, rounding):
    from math import floor, trunc

    if rounding == Rounding.TRN:
        return floor(value)
    if rounding == Rounding.TRN_ZERO:
        return trunc(value)
    return round(value) if rounding == Rounding.RND_CONV else floor(value + type(value)(1, 2))


def test_multipliers_are_as_narrow_as_they_can_be():
    ratio, offset = np.array([np.pi / 1000]), np.array([np.e / 20])
    few = find_multipliers(ratio, offset, (-100, 100), (-1, 1), Rounding.RND_CONV)
    many = find_multipliers(ratio, offset, (-60000, 60000), (-128, 127), Rounding.RND_CONV)
    assert few.exact
    assert many.exact
    assert int(few.factors[0]).bit_length() < int(many.factors[0]).bit_length()
    powers = find_multipliers(np.array([0.25, 2.0]), np.array([0.5, 0.0]), (-9, 9), (-8, 7), Rounding.RND_CONV)
    assert (powers.shift, powers.factors.tolist(), powers.offsets.tolist()) == (2, [1, 8], [2, 0])


def test_products_of_scales_next_to_a_power_of_two_are_it():
    ratios = np.array([0.1 / 0.1 * (1 + 2.0**-50), -0.25, 0.0, 0.3])
    assert snapped(ratios).tolist() == [1.0, -0.25, 0.0, 0.3]


# ------------------------------------------------------------------------------------------------ real models

DATA = Path(__file__).parents[3] / "shared/data"


@pytest.mark.optional
@pytest.mark.parametrize("name", ["TFC_2W2A", "TFC_1W1A", "kwsmlp_w3a3"])
def test_a_real_model_gives_what_its_executor_gives(name, tmp_path):
    """Up to what the executor's float32 arithmetic leaves open, and the last step of outputs with an offset."""
    path = DATA / f"qonnx/{name}.onnx"
    if not path.is_file():
        pytest.skip("the shared models are not beside the repository")
    core = pytest.importorskip("qonnx.core.onnx_exec", reason="qonnx is not installed (make dev)")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model

    project = compile_model(path, tmp_path / "p")
    (given,) = project.graph.inputs
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (20, *given.model_shape)) if name.startswith("TFC") else rng.normal(0, 30, (20, 1, 10, 49))
    x = np.rint(x * 255).astype(np.float32) / np.float32(255)
    model = cleanup_model(ModelWrapper(str(path)))
    source, target = model.graph.input[0].name, model.graph.output[0].name
    wanted = np.concatenate([core.execute_onnx(model, {source: x[k : k + 1]})[target] for k in range(len(x))])
    type = project.graph.types[project.graph.outputs[0].value]
    open_ends = (0 if type.meaning else 2.0 ** -(type.fraction + 1)) + 1e-6 * np.abs(wanted).max()
    assert np.abs(project.simulator().predict(x) - wanted).max() <= open_ends
