"""Quantized TFLite operators against LiteRT's reference kernels: the same integers, on random files of one operator."""

from pathlib import Path

import numpy as np
import pytest

from tests.frontends.tflite_cases import RANGES, Case, check_case, litert, other
from toolchain.compiler import compile_model
from toolchain.errors import ConfigurationError, ModelError, UnsupportedOperator
from toolchain.frontends import read_graph, read_model
from toolchain.ir.text import to_text
from toolchain.project import load
from toolchain.simulation.simulator import Simulator
from toolchain.verification.csim import verify_hls

CONVOLUTION = {"DilationWFactor": 1, "DilationHFactor": 1}


def convolution(case):
    rows, columns, channels, outputs = (int(n) for n in case.rng.integers(3, 7, 4))
    groups = case.pick(1, 1, 2) if case.element == "int8" else 1
    channels, outputs = channels * groups, outputs * groups
    x = case.activation(1, rows, columns, channels)
    kernel = [int(k) for k in case.rng.integers(1, 4, 2)]
    w = case.weights((outputs, *kernel, channels // groups), 0, case.element == "int8" and case.pick(True, False))
    stride = [int(s) for s in case.rng.integers(1, 3, 2)]
    y = case.activation(1, -(-rows // stride[0]), -(-columns // stride[1]), outputs, scale=case.scale(0.2, 3))
    fields = {"StrideH": stride[0], "StrideW": stride[1], "FusedActivationFunction": case.pick(0, 1, 2, 3)}
    case.network.operator("CONV_2D", [x, w, case.bias(outputs, x, w)], [y], "Conv2D", 3, **CONVOLUTION, **fields)
    return [x], [y]


def depthwise(case):
    rows, columns, channels = (int(n) for n in case.rng.integers(3, 7, 3))
    multiplier = case.pick(1, 1, 3)
    x = case.activation(1, rows, columns, channels)
    w = case.weights((1, 3, 2, channels * multiplier), 3, case.element == "int8")
    y = case.activation(1, rows, columns, channels * multiplier, scale=case.scale(0.2, 3))
    fields = {"StrideH": 1, "StrideW": 1, "DepthMultiplier": multiplier, "FusedActivationFunction": case.pick(0, 1, 3)}
    inputs = [x, w, case.bias(channels * multiplier, x, w)]
    case.network.operator("DEPTHWISE_CONV_2D", inputs, [y], "DepthwiseConv2D", 3, **CONVOLUTION, **fields)
    return [x], [y]


def matrix(case):
    length, outputs = (int(n) for n in case.rng.integers(1, 40, 2))
    x, y = case.activation(1, length), case.activation(1, outputs, scale=case.scale(0.02, 1))
    per_channel = case.element == "int8" and case.pick(True, False)
    w = case.weights((outputs, length), 0, per_channel)
    bias = case.bias(outputs, x, w) if case.pick(True, False) else -1
    fields = {"FusedActivationFunction": case.pick(0, 1, 3)}
    case.network.operator("FULLY_CONNECTED", [x, w, bias], [y], "FullyConnected", 4, **fields)
    return [x], [y]


def addition(case):
    shape = (1, 3, 4, 5)
    a, b, y = case.activation(*shape), case.activation(*shape), case.activation(*shape, scale=case.scale(0.01, 0.5))
    case.network.operator("ADD", [a, b], [y], "Add", 2, FusedActivationFunction=case.pick(0, 1, 3))
    return [a, b], [y]


def addition_to_itself(case):
    x, y = case.activation(1, 7), case.activation(1, 7)
    case.network.operator("ADD", [x, x], [y], "Add", 2)
    return [x], [y]


def average(case):
    rows, columns = (int(n) for n in case.rng.integers(3, 8, 2))
    scale, zero = case.scale(), case.zero()
    x = case.activation(1, rows, columns, 3, scale=scale, zero=zero)
    if case.pick(True, False):
        kernel, padding, shape = (rows, columns), 1, (1, 1, 1, 3)
    else:
        kernel, padding, shape = (case.pick(2, 3), 2), 0, (1, rows, columns, 3)
    y = case.activation(*shape, scale=scale, zero=zero)
    fields = {"FilterHeight": kernel[0], "FilterWidth": kernel[1], "StrideH": 1, "StrideW": 1, "Padding": padding}
    fields["FusedActivationFunction"] = case.pick(0, 1, 3)
    case.network.operator("AVERAGE_POOL_2D", [x], [y], "Pool2D", 2, **fields)
    return [x], [y]


def maximum(case):
    scale, zero = case.scale(), case.zero()
    x, y = (case.activation(1, n, 5, 3, scale=scale, zero=zero) for n in (6, 3))
    fields = {
        "FilterHeight": 3,
        "FilterWidth": 2,
        "StrideH": 2,
        "StrideW": 1,
        "FusedActivationFunction": case.pick(0, 3),
    }
    case.network.operator("MAX_POOL_2D", [x], [y], "Pool2D", 2, **fields)
    return [x], [y]


def softmax(case):
    channels = case.pick(1, 2, 10, 300)
    x = case.activation(1, channels, scale=case.scale(0.0005, 0.4))
    y = case.activation(1, channels, scale=1 / 256, zero=RANGES[case.element][0])
    case.network.operator("SOFTMAX", [x], [y], "Softmax", 2, Beta=case.pick(1.0, 0.7))
    return [x], [y]


def relu(case):
    kind = case.pick("RELU", "RELU6")
    x, y = case.activation(1, 40), case.activation(1, 40)
    case.network.operator(kind, [x], [y], version=2)
    return [x], [y]


def concatenation(case):
    scale, zero = case.scale(), case.zero()
    a, b = (case.activation(1, 3, 4, n, scale=scale, zero=zero) for n in (2, 3))
    y = case.activation(1, 3, 4, 5, scale=scale, zero=zero)
    case.network.operator("CONCATENATION", [a, b], [y], "Concatenation", 2, Axis=3)
    return [a, b], [y]


def padding(case):
    scale, zero = case.scale(), case.zero()
    x, y = (case.activation(*shape, scale=scale, zero=zero) for shape in ((1, 3, 4, 2), (1, 6, 5, 2)))
    amounts = case.network.constant(np.int32([[0, 0], [1, 2], [0, 1], [0, 0]]))
    case.network.operator("PAD", [x, amounts], [y], "Pad", 2)
    return [x], [y]


def other_scale(case):
    x, y = case.activation(1, 40), case.activation(1, 40)
    case.network.operator("QUANTIZE", [x], [y], "Quantize", 2)
    return [x], [y]


def subtraction(case):
    a, b, y = (case.activation(1, 3, 4, 5) for _ in range(3))
    case.network.operator("SUB", [a, b], [y], "Sub", 2, FusedActivationFunction=case.pick(0, 1))
    return [a, b], [y]


def mean(case):
    rows, columns = (int(n) for n in case.rng.integers(1, 9, 2))
    keep = case.pick(True, False)
    scale, zero = case.scale(), case.zero()
    other = (scale, zero) if case.pick(True, False) else (case.scale(), case.zero())
    x = case.activation(1, rows, columns, 5, scale=scale, zero=zero)
    y = case.activation(*((1, 1, 1, 5) if keep else (1, 5)), scale=other[0], zero=other[1])
    axes = case.network.constant(np.int32(case.pick([1, 2], [2, 1])))
    case.network.operator("MEAN", [x, axes], [y], "Reducer", 2, KeepDims=keep)
    return [x], [y]


def sigmoid(case):
    x, y = case.activation(1, 40), case.activation(1, 40, scale=1 / 256, zero=RANGES[case.element][0])
    case.network.operator("LOGISTIC", [x], [y], version=2)
    return [x], [y]


def tanh(case):
    x, y = case.activation(1, 40), case.activation(1, 40, scale=1 / 128, zero=0 if case.element == "int8" else 128)
    case.network.operator("TANH", [x], [y], version=2)
    return [x], [y]


def leaky_relu(case):
    x, y = case.activation(1, 40), case.activation(1, 40)
    case.network.operator("LEAKY_RELU", [x], [y], "LeakyRelu", 2, Alpha=case.pick(0.1, 0.3, 1.0))
    return [x], [y]


def hard_swish(case):
    x, y = case.activation(1, 40), case.activation(1, 40)
    case.network.operator("HARD_SWISH", [x], [y], "HardSwish")
    return [x], [y]


def concatenation_of_scales(case):
    shapes = (2, 3, 1)
    if case.element == "uint8":
        parts = [case.activation(1, 3, n) for n in shapes]
    else:
        scale, zero = case.scale(), case.zero()
        parts = [case.activation(1, 3, n, scale=scale, zero=zero) for n in shapes]
    ends = {} if case.element == "uint8" else {"scale": scale, "zero": zero}
    y = case.activation(1, 3, 6, **ends)
    case.network.operator("CONCATENATION", parts, [y], "Concatenation", 2, Axis=-1)
    return parts, [y]


def transposition(case):
    scale, zero = case.scale(), case.zero()
    x, y = (case.activation(*shape, scale=scale, zero=zero) for shape in ((1, 3, 4, 5), (1, 5, 3, 4)))
    case.network.operator("TRANSPOSE", [x, case.network.constant(np.int32([0, 3, 1, 2]))], [y], "Transpose", 2)
    return [x], [y]


def strided_slice(case):
    scale, zero = case.scale(), case.zero()
    x, y = (case.activation(*shape, scale=scale, zero=zero) for shape in ((1, 6, 4, 5), (1, 3, 5)))
    lists = [case.network.constant(np.int32(values)) for values in ([0, 1, 2, 0], [1, 6, 3, 5], [1, 2, 1, 1])]
    case.network.operator("STRIDED_SLICE", [x, *lists], [y], "StridedSlice", 2, ShrinkAxisMask=4, BeginMask=1)
    return [x], [y]


def cut(case):
    scale, zero = case.scale(), case.zero()
    x, y = (case.activation(*shape, scale=scale, zero=zero) for shape in ((1, 6, 4, 5), (1, 3, 4, 2)))
    lists = [case.network.constant(np.int32(values)) for values in ([0, 2, 0, 3], [1, 3, 4, -1])]
    case.network.operator("SLICE", [x, *lists], [y], "Slice", 2)
    return [x], [y]


OPERATORS = [
    convolution, depthwise, matrix, addition, addition_to_itself, average, maximum, softmax, relu, concatenation,
    padding, other_scale, subtraction, mean, sigmoid, tanh, leaky_relu, hard_swish, concatenation_of_scales,
    transposition, strided_slice, cut,
]  # fmt: skip


@pytest.mark.parametrize("element", RANGES)
@pytest.mark.parametrize("make", OPERATORS, ids=lambda make: make.__name__)
def test_integers_of_the_reference_kernels(make, element, tmp_path):
    check_case(make, element, tmp_path)


def picture_network(case, real=False):
    """Convolutions, a residual addition, a pooling, a matrix, a softmax; with `real` ends it takes and gives floats."""
    net = case.network
    x, a, b = (case.activation(1, 6, 6, n, scale=s, zero=z) for n, s, z in ((3, 0.02, 5), (4, 0.5, -100), (4, 0.7, 3)))
    total = case.activation(1, 6, 6, 4, scale=0.9, zero=-128)
    mean, flat = (case.activation(*shape, scale=0.9, zero=-128) for shape in ((1, 1, 1, 4), (1, 4)))
    scores, y = case.activation(1, 5, scale=0.3, zero=9), case.activation(1, 5, scale=1 / 256, zero=-128)
    strides = {**CONVOLUTION, "StrideH": 1, "StrideW": 1}
    first, second = case.weights((4, 3, 3, 3), 0, True), case.weights((1, 3, 3, 4), 3, True)
    last = case.weights((5, 4), 0, False)
    net.operator("CONV_2D", [x, first, case.bias(4, x, first)], [a], "Conv2D", 3, FusedActivationFunction=1, **strides)
    fields = {**strides, "DepthMultiplier": 1}
    net.operator("DEPTHWISE_CONV_2D", [a, second, case.bias(4, a, second)], [b], "DepthwiseConv2D", 3, **fields)
    net.operator("ADD", [a, b], [total], "Add", 2, FusedActivationFunction=1)
    fields = {"FilterHeight": 6, "FilterWidth": 6, "StrideH": 6, "StrideW": 6, "Padding": 1}
    net.operator("AVERAGE_POOL_2D", [total], [mean], "Pool2D", 2, **fields)
    net.operator("RESHAPE", [mean, net.constant(np.int32([1, 4]))], [flat], "Reshape")
    net.operator("FULLY_CONNECTED", [flat, last, case.bias(5, flat, last)], [scores], "FullyConnected", 4)
    net.operator("SOFTMAX", [scores], [y], "Softmax", 2, Beta=1.0)
    if not real:
        return [x], [y]
    given, result = net.tensor((1, 6, 6, 3), name="picture"), net.tensor((1, 5), name="probabilities")
    net.operator("QUANTIZE", [given], [x], "Quantize")
    net.operator("DEQUANTIZE", [y], [result], "Dequantize", 2)
    net.operators.insert(0, net.operators.pop(-2))
    return [given], [result]


def test_real_ends(tmp_path):
    """QUANTIZE at the input and DEQUANTIZE at the output are where numbers enter and leave."""
    case = Case(3, "int8")
    path = case.files(tmp_path / "m.tflite", *picture_network(case, real=True))
    rows = case.rng.normal(0, 2, (40, 6, 6, 3)).astype(np.float32)
    rows.ravel()[:512] = (np.arange(512) - 256 + 0.5) * np.float32(0.02)  # ties
    wanted, _ = litert(path, [rows])
    graph = read_graph(path)
    assert ([i.name for i in graph.inputs], [o.name for o in graph.outputs]) == (["picture"], ["probabilities"])
    assert np.array_equal(Simulator(graph).predict(rows), wanted.astype(np.float64))


@pytest.mark.csim
@pytest.mark.slow
def test_a_project_gives_the_integers_of_the_model(tmp_path):
    """From the file to C++: no calibration, every engine, real numbers in and out."""
    case = Case(1, "int8")
    path = case.files(tmp_path / "m.tflite", *picture_network(case))
    rows = case.rng.integers(-128, 128, (20, 6, 6, 3)).astype(np.int8)
    wanted, _ = litert(path, [rows])
    project = compile_model(path, tmp_path / "project", board="pynq-z2")
    loaded = load(tmp_path / "project")
    for engine in ("fast", "reference"):
        simulator = Simulator(loaded.graph, engine)
        assert np.array_equal(simulator.predict_raw(rows), wanted)
        assert np.array_equal(simulator.predict((rows - 5.0) * np.float32(0.02)), (wanted + 128.0) / 256)
    assert to_text(loaded.graph) == to_text(project.graph)
    assert verify_hls(loaded, {loaded.graph.inputs[0].name: rows}).values > 0


@pytest.mark.parametrize(("options", "text"), [
    ({"weight_bits": 6}, "weight_bits: the model brings its own quantization"),
    ({"activation_bits": 8}, "activation_bits"),
    ({"pack": "dct"}, "pack = dct would change the model's own integers"),
    ({"budget": "8x"}, "--budget"),
    ({"weight_memory": "loaded"}, "--weight-memory loaded"),
    ({"config": {"layers": {"t9": {"weight": "fixed<8,2>"}}}}, "'weight'"),
], ids=str)  # fmt: skip
def test_options_that_would_change_integers_are_refused(options, text, tmp_path):
    case = Case(1, "int8")
    path = case.files(tmp_path / "m.tflite", *convolution(case))
    if "config" in options:
        layer = next(node.layer for node in read_graph(path).nodes if "/" not in node.name)
        options = {"config": {"layers": {layer: {"weight": "fixed<8,2>"}}}}
    with pytest.raises(ConfigurationError, match=text):
        compile_model(path, tmp_path / "project", **options)
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(("make", "index", "fields", "text"), [
    (maximum, 1, {"quantization": ([0.5], [0], 0)}, "equal ones are supported"),
    (softmax, 1, {"quantization": ([0.5], [-128], 0)}, "a softmax has scale 1/256"),
    (addition, 0, {"quantization": ([0.5], [300], 0)}, "zero point 300"),
    (addition, 0, {"element": "int16"}, "int8 and uint8 are supported"),
    (addition, 0, {"quantization": None}, "int8 and uint8 are supported"),
    (matrix, 2, {"data": None}, "constant int8 or uint8 weights"),
    (padding, 2, {"data": np.int32([[1, 0], [1, 2], [0, 1], [0, 0]])}, "reach into the batch"),
], ids=["scales", "softmax", "zero", "int16", "bare", "weights", "batch"])  # fmt: skip
def test_refused(make, index, fields, text, tmp_path):
    case = Case(2, "int8")
    ends = make(case)
    other(case.network, index, **fields)
    with pytest.raises(ModelError, match=text):
        read_graph(case.files(tmp_path / "m.tflite", *ends))


def test_there_is_no_real_model_in_it(tmp_path):
    case = Case(2, "int8")
    with pytest.raises(UnsupportedOperator, match="is quantized: there is no model of real numbers in it"):
        read_model(case.files(tmp_path / "m.tflite", *relu(case)))


def test_unsupported_operators_are_listed(tmp_path):
    case = Case(2, "int8")
    x, a, y = (case.activation(1, 4) for _ in range(3))
    case.network.operator("CUMSUM", [x, case.network.constant(np.int32(1))], [a], "Cumsum")
    case.network.operator("CUMSUM", [x, case.network.constant(np.int32(1))], [y], "Cumsum")
    with pytest.raises(UnsupportedOperator, match=r"CUMSUM 0 't1'.*CUMSUM 1 't2'"):
        read_graph(case.files(tmp_path / "m.tflite", [x], [a, y]))


DATA = Path(__file__).parents[3] / "shared/data"


@pytest.mark.optional
@pytest.mark.parametrize("name", [
    "mlperf_tiny/kws_dscnn_int8", "mlperf_tiny/ic_resnet8_int8", "mlperf_tiny/vww_mobilenetv1_025_int8",
    "mlperf_tiny/ad01_autoencoder_int8", "imagenet/mobilenet_v1_0.5_160_quant",
    "imagenet/mobilenet_v2_1.0_224_quant",
])  # fmt: skip
def test_real_networks(name):
    """On random pictures: what is exact on these is exact on all."""
    path = DATA / f"{name}.tflite"
    if not path.is_file():
        pytest.skip("the shared models are not here")
    graph = read_graph(path)
    low, high = RANGES["uint8" if "quant" in name else "int8"]
    rng = np.random.default_rng(5)
    rows = rng.integers(low, high + 1, (4, *graph.inputs[0].model_shape)).astype(np.uint8 if low == 0 else np.int8)
    wanted, _ = litert(path, [rows])
    assert np.array_equal(Simulator(graph).predict_raw(rows), wanted)
