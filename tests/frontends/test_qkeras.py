"""QKeras's files as data: every quantizer against a plain restatement of its source, layers against numpy."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.frontends.keras_files import layer, sequential, write_json, write_keras
from toolchain.compiler import compile_model
from toolchain.errors import UnsupportedOperator
from toolchain.frontends import read_graph
from toolchain.frontends.keras import load
from toolchain.ir import Levels
from toolchain.passes import pipeline
from toolchain.simulation import reference

DATA = Path(__file__).parents[3] / "shared/data"
RNG = np.random.default_rng(17)
X = np.concatenate([np.arange(-80, 80) / 32, np.arange(-80, 80) / 32 + 1 / 1024]).astype(np.float32).reshape(-1, 8)


def bits(width, integer, symmetric=0, keep_negative=True, alpha=1.0):
    """`quantized_bits.__call__`, word by word."""

    def quantize(x):
        unsigned = width - keep_negative
        m, m_i = 2.0**unsigned, 2.0**integer
        if unsigned == 0:
            sign = np.sign(x)
            return alpha * (sign + (1 - np.abs(sign)))
        return alpha * (m_i * np.clip(np.round(x * m / m_i), keep_negative * (-m + symmetric), m - 1) / m)

    return quantize


def relu(width, integer, slope=0.0):
    """`quantized_relu.__call__`."""

    def quantize(x):
        m, m_i = 2.0 ** (width - (slope != 0)), 2.0**integer
        p = x * m / m_i
        result = m_i * np.clip(np.round(p) / m, 0, 1 - 1 / m)
        if slope:
            result = result + m_i * slope * np.clip(np.round(p * slope) / (slope * m), -1, 0)
        return result

    return quantize


def binary(alpha=1.0, use_01=False):
    def quantize(x):
        sign = np.where(x >= 0, 1.0, -1.0)
        return alpha * ((sign + 1) / 2 if use_01 else sign)

    return quantize


def ternary(alpha, threshold):
    return lambda x: alpha * (np.abs(x) >= np.float32(threshold)) * np.sign(x)


def tanh(width):
    m = 2.0 ** (width - 1)
    return lambda x: np.clip(np.round(np.clip(x, -1, 1) * m) / m, -1 + 1 / m, 1 - 1 / m)


def sigmoid(width):
    m = 2.0**width
    return lambda x: np.clip(np.round(np.clip(0.5 * x + 0.5, 0, 1) * m) / m, 1 / m, 1 - 1 / m)


QUANTIZERS = [
    ("quantized_bits(6, 0, alpha=1)", bits(6, 0)),
    ("quantized_bits(4,1,1)", bits(4, 1, symmetric=1)),
    ("quantized_bits(3,0,keep_negative=False)", bits(3, 0, keep_negative=False)),
    ("quantized_bits(4,0,alpha=0.25)", bits(4, 0, alpha=0.25)),
    ("quantized_bits(1,0,alpha=2.0)", bits(1, 0, alpha=2.0)),
    ({"class_name": "quantized_bits", "config": {"bits": 5, "integer": 2, "alpha": None}}, bits(5, 2)),
    ("quantized_relu(4)", relu(4, 0)),
    ("quantized_relu(6,1)", relu(6, 1)),
    ("quantized_relu(6,1,negative_slope=0.25)", relu(6, 1, 0.25)),
    ("binary()", binary()),
    ("binary(alpha=0.5)", binary(0.5)),
    ("binary(use_01=True, alpha=2.0)", binary(2.0, use_01=True)),
    ("stochastic_binary(alpha=0.5)", binary(0.5)),
    ("ternary(alpha=0.5, threshold=0.25)", ternary(0.5, 0.25)),
    ("ternary()", ternary(1.0, 0.33)),
    ("stochastic_ternary(alpha=2, threshold=1.0)", ternary(2.0, 1.0)),
    ("quantized_tanh(5)", tanh(5)),
    ("quantized_sigmoid(5)", sigmoid(5)),
]


def activation(folder, quantizer, kind="QActivation"):
    net = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, 8]), layer(kind, "q", activation=quantizer), name="net"
    )
    return write_json(folder / "m.json", net, {"x": [], "q": []})


def evaluated(path, x):
    graph = pipeline.run(read_graph(path), pipeline.REAL_PASSES)
    given = {i.name: i.from_model(x).astype(np.float64) for i in graph.inputs}
    (output,) = graph.outputs
    return output.to_model(reference.evaluate(graph, given)[output.name])


@pytest.mark.parametrize(("quantizer", "source"), QUANTIZERS, ids=lambda value: str(value)[:40])
def test_an_activation_is_what_its_source_says(quantizer, source, tmp_path):
    wanted = source(X.astype(np.float64))
    assert np.array_equal(evaluated(activation(tmp_path, quantizer), X), wanted)
    assert len(np.unique(wanted)) > 1


@pytest.mark.parametrize("kind", ["QActivation", "Activation"])
def test_quantizers_stand_in_both_layers(kind, tmp_path):
    assert np.array_equal(evaluated(activation(tmp_path, "quantized_relu(3,1)", kind), X), relu(3, 1)(X))


@pytest.mark.parametrize(
    ("quantizer", "source"),
    [pair for pair in QUANTIZERS if "alpha" in str(pair[0]) and "None" not in str(pair[0])],
    ids=lambda value: str(value)[:40],
)
def test_weights_keep_their_integers(quantizer, source, tmp_path):
    kernel, bias = RNG.normal(size=(8, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
    settings = {"kernel_quantizer": quantizer, "bias_quantizer": "quantized_bits(6,1)", "kernel_range": None}
    net = sequential(layer("InputLayer", "x", batch_input_shape=[None, 8]), layer("QDense", "d", units=3, **settings))
    path = write_keras(tmp_path / "m.keras", net, {"q_dense": [kernel, bias]})
    graph = pipeline.run(read_graph(path), pipeline.REAL_PASSES)
    (gemm,) = [node.operator for node in graph.nodes]
    assert np.array_equal(gemm.weights.array, source(kernel.astype(np.float64)))
    assert np.array_equal(gemm.bias.array, bits(6, 1)(bias.astype(np.float64)))
    if "use_01" not in str(quantizer):
        assert isinstance(gemm.weights, Levels)


def test_a_network_is_exact_and_needs_no_data_but_at_its_input(tmp_path):
    """Convolutions, depthwise ones, a fused quantized activation, pooling; the input is quantized too."""
    q, conv = (
        "quantized_bits(4,0,alpha=1)",
        {"kernel_size": [3, 3], "padding": "same", "bias_quantizer": "quantized_bits(8,2)"},
    )
    net = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, 8, 8, 2]),
        layer("QActivation", "a", activation="quantized_bits(6,1)"),
        layer("QConv2D", "c", filters=4, kernel_quantizer=q, activation="quantized_relu(5,1)", **conv),
        layer("QDepthwiseConv2D", "w", depthwise_quantizer=q, activation=None, **conv),
        layer("QActivation", "b", activation="quantized_relu(4,1)"),
        layer("MaxPooling2D", "p", pool_size=[2, 2]),
        layer("Flatten", "f"),
        layer("QDense", "d", units=5, kernel_quantizer="ternary(alpha=1, threshold=0.3)", use_bias=False),
        layer("QActivation", "e", activation="quantized_bits(8,3)"),
    )
    arrays = {
        "q_conv2d": [RNG.normal(0, 0.3, (3, 3, 2, 4)), RNG.normal(size=4)],
        "q_depthwise_conv2d": [RNG.normal(0, 0.3, (3, 3, 4, 1)), RNG.normal(size=4)],
        "q_dense": [RNG.normal(0, 0.5, (64, 5))],
    }
    named = {name: [array.astype(np.float32) for array in group] for name, group in arrays.items()}
    path = write_keras(tmp_path / "m.keras", net, named)
    project = compile_model(path, tmp_path / "p")
    x = np.random.default_rng(2).normal(0, 1, (16, 8, 8, 2)).astype(np.float32)
    wanted = evaluated(path, x)
    assert np.array_equal(project.simulator().predict(x), wanted)
    assert len(np.unique(wanted)) > 20


REFUSED = [
    ("quantized_bits(4,0,alpha='auto')", "alpha = 'auto' is computed from the weights"),
    ("quantized_bits(4,0,qnoise_factor=0.5)", "qnoise_factor"),
    ("quantized_bits(40)", "bits = 40"),
    ("quantized_bits(4,0,colour=1)", "colour"),
    ("quantized_relu(4,0,1)", "use_sigmoid = 1"),
    ("quantized_relu(4,0,0,0.3)", "no power of two"),
    ("quantized_relu(4, relu_upper_bound=6)", "relu_upper_bound"),
    ("quantized_relu(4,0,negative_slope=2.0)", "negative_slope"),
    ("quantized_relu(4,0,negative_slope=0.015625)", "negative_slope"),
    ("quantized_po2(4)", "no quantizer that is supported"),
    ("bernoulli()", "no quantizer that is supported"),
    ("quantized_bits(__import__('os').getpid())", "no quantizer that is supported"),
    ("quantized_bits(", "no quantizer that is supported"),
    ({"class_name": "quantized_bits", "config": {"twist": 1}}, "twist"),
]


@pytest.mark.parametrize(("quantizer", "complaint"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_not_supported_is_refused_by_layer_and_setting(quantizer, complaint, tmp_path):
    with pytest.raises(UnsupportedOperator) as caught:
        load(activation(tmp_path, quantizer))
    (problem,) = caught.value.problems
    assert problem.startswith("q (QActivation): activation")
    assert complaint in problem


@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        (layer("QBatchNormalization", "q", gamma_quantizer="quantized_bits(8)"), "gamma_quantizer"),
        (layer("QConv2DBatchnorm", "q"), "class: is a layer of QKeras that is not supported"),
        (layer("QDense", "q", units=2, kernel_quantizer="quantized_po2(4)"), "kernel_quantizer"),
        (layer("QDense", "q", units=2, twist=1), "twist"),
        (layer("QDense", "q", units=2, kernel_quantizer="quantized_bits(4,0)"), "auto_po2"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_layers_are_refused_by_name(member, complaint, tmp_path):
    net = sequential(layer("InputLayer", "x", batch_input_shape=[None, 8]), member)
    (tmp_path / "m.json").write_text(json.dumps(net))
    with pytest.raises(UnsupportedOperator, match=complaint):
        load(tmp_path / "m.json")


@pytest.mark.optional
def test_the_model_of_digits_keeps_its_accuracy(tmp_path):
    path = DATA / "hls4ml/qkeras_mnist_cnn.json"
    if not path.is_file():
        pytest.skip("the shared models are not beside the repository")
    with np.load(DATA / "mnist/test.npz") as file:
        x, y = (file["x"].reshape(-1, 28, 28, 1) / 255).astype(np.float32), file["y"]
    project = compile_model(path, tmp_path / "p", calibrate=x[:64])
    got = project.simulator().predict(x[:1000])
    assert (got.argmax(axis=1) == y[:1000]).mean() >= 0.985
