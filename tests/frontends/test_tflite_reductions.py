"""Quantized reductions against LiteRT's reference kernels: the same integers."""

import numpy as np
import pytest

from tests.frontends.tflite_cases import Case, check_case, other
from toolchain.errors import ModelError
from toolchain.frontends import read_graph


def reduction(case, kind, same=None):
    rank = case.pick(3, 4)
    shape = [1, *(int(n) for n in case.rng.integers(1, 7, rank - 1))]
    count = int(case.rng.integers(1, rank - 1))
    axes = [int(k) for k in case.rng.permutation(np.arange(1, rank))[:count]]
    keep = bool(case.pick(True, False))
    result = [1 if k in axes else n for k, n in enumerate(shape) if keep or k not in axes]
    scale, zero = case.scale(), case.zero()
    end = (scale, zero) if same or (same is None and case.pick(True, False)) else (case.scale(0.05, 1), case.zero())
    x = case.activation(*shape, scale=scale, zero=zero)
    y = case.activation(*result, scale=end[0], zero=end[1])
    places = case.network.constant(np.int32([case.pick(k, k - rank) for k in axes]))
    case.network.operator(kind, [x, places], [y], "Reducer", 2, KeepDims=keep)
    return [x], [y]


def mean(case):
    return reduction(case, "MEAN")


def total(case):
    return reduction(case, "SUM")


def extremum(case):
    return reduction(case, case.pick("REDUCE_MAX", "REDUCE_MIN"), same=True)


CASES = [(mean, "int8"), (mean, "uint8"), (total, "uint8"), (extremum, "int8"), (extremum, "uint8")]


@pytest.mark.parametrize(("make", "element"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_integers_of_the_reference_kernels(make, element, tmp_path):
    check_case(make, element, tmp_path)


@pytest.mark.parametrize(("make", "index", "fields", "text"), [
    (extremum, 1, {"quantization": ([0.5], [0], 0)}, "equal ones are supported"),
    (mean, 2, {"data": np.int32([0])}, "reduces no axis, or the batch"),
    (total, 2, {}, "SUM 0 't1': of int8: LiteRT's reference kernel reads its bytes as uint8"),
], ids=["scales", "batch", "int8"])  # fmt: skip
def test_refused(make, index, fields, text, tmp_path):
    case = Case(5, "int8")
    ends = make(case)
    other(case.network, index, **fields)
    with pytest.raises(ModelError, match=text):
        read_graph(case.files(tmp_path / "m.tflite", *ends))
