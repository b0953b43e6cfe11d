"""Quantized transposed convolutions against LiteRT's reference kernels: the same integers."""

import numpy as np
import pytest

from tests.frontends.tflite_cases import RANGES, Case, check_case, litert, other
from toolchain.compiler import compile_model
from toolchain.errors import ModelError
from toolchain.frontends import read_graph
from toolchain.project import load
from toolchain.simulation.simulator import Simulator
from toolchain.verification.csim import verify_hls


def transposed(case):
    """Outputs of all sizes that a convolution of this stride and padding brings to the input's."""
    rows, columns, channels, outputs = (int(n) for n in case.rng.integers(1, 5, 4))
    kernel, strides = ([int(k) for k in case.rng.integers(1, top, 2)] for top in (6, 4))
    same = case.pick(True, False)
    wanted = []
    for size, taps, stride in zip((rows, columns), kernel, strides, strict=True):
        less = int(case.rng.integers(0, stride))
        wanted.append(max(size * stride - less, 1) if same else (size - 1) * stride + taps + less)
    x = case.activation(1, rows, columns, channels)
    w = case.weights((outputs, *kernel, channels), 0, case.element == "int8" and case.pick(True, False))
    y = case.activation(1, *wanted, outputs, scale=case.scale(0.2, 3))
    sizes = case.network.constant(np.int32([1, *wanted, outputs]))
    inputs = [sizes, w, x, *([case.bias(outputs, x, w)] if case.pick(True, False) else [])]
    fields = {"StrideH": strides[0], "StrideW": strides[1], "Padding": 0 if same else 1}
    if case.pick(True, False):
        fields["FusedActivationFunction"] = 1
    case.network.operator("TRANSPOSE_CONV", inputs, [y], "TransposeConv", 4, **fields)
    return [x], [y]


@pytest.mark.parametrize("element", RANGES)
def test_integers_of_the_reference_kernels(element, tmp_path):
    check_case(transposed, element, tmp_path)


@pytest.mark.parametrize(("index", "fields", "text"), [
    (1, {"quantization": ([0.5], [3], 0)}, "int8 weights with a zero point"),
    (0, {"shape": (1, 3, 3, 99)}, "has weights of shape"),
], ids=["zero", "shape"])  # fmt: skip
def test_refused(index, fields, text, tmp_path):
    case = Case(5, "int8")
    given, results = transposed(case)
    inputs = case.network.operators[0][1]
    other(case.network, inputs[1] if index else given[0], **fields)
    with pytest.raises(ModelError, match=text):
        read_graph(case.files(tmp_path / "m.tflite", given, results))


def test_strides_that_need_too_much_memory_are_refused(tmp_path):
    case = Case(5, "int8")
    ends = transposed(case)
    case.network.operators[0][4]["StrideH"] = 1 << 20
    with pytest.raises(ModelError, match=r"has strides \[1048576, \d\], with a product of up to 4096 supported"):
        read_graph(case.files(tmp_path / "m.tflite", *ends))


def decoder(case):
    """Two halves of the channels: enlarged by a transposed convolution and by interpolation, joined and reduced."""
    net, element = case.network, {"scale": 0.05, "zero": 3}
    x, a, b, p, d, e = (case.activation(1, 4, 5, n, **element) for n in (6, 2, 4, 4, 4, 4))
    c, f = (case.activation(1, 8, 10, n, **element) for n in (2, 4))
    g, y = case.activation(1, 8, 10, 6, **element), case.activation(1, 8, 6, **element)
    lists = [net.constant(np.int32(values)) for values in ([2, 4], 3, [1, 8, 10, 2], [8, 10], [2])]
    net.operator("SPLIT_V", [x, *lists[:2]], [a, b], "SplitV", 2, NumSplits=2)
    slopes = net.constant(case.rng.integers(-128, 128, (1, 1, 4)).astype(np.int8), scale=0.01, zero=0)
    net.operator("PRELU", [b, slopes], [p])
    gate = net.constant(case.rng.integers(-128, 128, (4,)).astype(np.int8), scale=0.01, zero=-5)
    net.operator("MUL", [p, gate], [d], "Mul", 2)
    net.operator("SUB", [d, p], [e], "Sub", 2)
    weights = case.weights((2, 3, 3, 2), 0, True)
    inputs = [lists[2], weights, a, case.bias(2, a, weights)]
    net.operator("TRANSPOSE_CONV", inputs, [c], "TransposeConv", 4, StrideH=2, StrideW=2, Padding=0)
    net.operator("RESIZE_BILINEAR", [e, lists[3]], [f], "ResizeBilinear", 3, HalfPixelCenters=True)
    net.operator("CONCATENATION", [c, f], [g], "Concatenation", 2, Axis=3)
    net.operator("REDUCE_MIN", [g, lists[4]], [y], "Reducer", 2)
    return [x], [y]


@pytest.mark.csim
@pytest.mark.slow
def test_a_project_gives_the_integers_of_the_model(tmp_path):
    case = Case(1, "int8")
    path = case.files(tmp_path / "m.tflite", *decoder(case))
    rows = case.rng.integers(-128, 128, (20, 4, 5, 6)).astype(np.int8)
    wanted, _ = litert(path, [rows])
    compile_model(path, tmp_path / "project", board="pynq-z2")
    loaded = load(tmp_path / "project")
    assert np.array_equal(Simulator(loaded.graph).predict_raw(rows), wanted)
    assert verify_hls(loaded, {loaded.graph.inputs[0].name: rows}).values > 0
