"""Quantized transposed convolutions against LiteRT's reference kernels: the same integers."""

import numpy as np
import pytest

from tests.frontends.tflite_cases import RANGES, Case, check_case, other
from toolchain.errors import ModelError
from toolchain.frontends import read_graph


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
