"""Quantized operators that move integers, several outputs included, against LiteRT's reference kernels."""

import numpy as np
import pytest

from tests.frontends.tflite_cases import RANGES, Case, check_case, other
from toolchain.errors import ModelError
from toolchain.frontends import read_graph


def split(case):
    scale, zero = case.scale(), case.zero()
    rank, count = case.pick(2, 3, 4), case.pick(1, 2, 3)
    axis = int(case.rng.integers(1, rank))
    shape = [1, *(int(n) for n in case.rng.integers(1, 5, rank - 1))]
    parts = [case.activation(*shape, scale=scale, zero=zero) for _ in range(count)]
    shape[axis] *= count
    x = case.activation(*shape, scale=scale, zero=zero)
    place = case.network.constant(np.int32(case.pick(axis, axis - rank)))
    case.network.operator("SPLIT", [place, x], parts, "Split", 2, NumSplits=count)
    return [x], parts


def split_unequally(case):
    scale, zero = case.scale(), case.zero()
    axis, sizes = case.pick(1, 2, 3), [2, 1, 3]
    shapes = [[1, 3, 4, 5] for _ in sizes]
    for shape, size in zip(shapes, sizes, strict=True):
        shape[axis] = size
    parts = [case.activation(*shape, scale=scale, zero=zero) for shape in shapes]
    shape = [1, 3, 4, 5]
    shape[axis] = 6
    x = case.activation(*shape, scale=scale, zero=zero)
    lists = [case.network.constant(np.int32(values)) for values in (case.pick(sizes, [2, -1, 3]), axis)]
    case.network.operator("SPLIT_V", [x, *lists], parts, "SplitV", 2, NumSplits=3)
    return [x], parts


def depth_to_space(case):
    scale, zero = case.scale(), case.zero()
    block, (rows, columns, channels) = case.pick(1, 2, 3), (int(n) for n in case.rng.integers(1, 4, 3))
    space, depth = (1, rows * block, columns * block, channels), (1, rows, columns, channels * block**2)
    kind = case.pick("SPACE_TO_DEPTH", "DEPTH_TO_SPACE")
    shapes = (space, depth) if kind == "SPACE_TO_DEPTH" else (depth, space)
    x, y = (case.activation(*shape, scale=scale, zero=zero) for shape in shapes)
    options = "SpaceToDepth" if kind == "SPACE_TO_DEPTH" else "DepthToSpace"
    case.network.operator(kind, [x], [y], options, 2 if kind == "SPACE_TO_DEPTH" else 1, BlockSize=block)
    return [x], [y]


@pytest.mark.parametrize("element", RANGES)
@pytest.mark.parametrize("make", [split, split_unequally, depth_to_space], ids=lambda make: make.__name__)
def test_integers_of_the_reference_kernels(make, element, tmp_path):
    check_case(make, element, tmp_path)


@pytest.mark.parametrize(("make", "index", "fields", "text"), [
    (split, 0, {"quantization": ([0.5], [0], 0)}, "equal ones are supported"),
    (split_unequally, 5, {"data": np.int32(0)}, r"SPLIT_V 0 't0': splits 1 into"),
    (split_unequally, 4, {"data": np.int32([2, 2, 3])}, r"splits 6 into \[2, 2, 3\]"),
    (depth_to_space, 0, {"shape": (1, 5, 5, 7)}, "cannot part"),
], ids=["scales", "batch", "sizes", "blocks"])  # fmt: skip
def test_refused(make, index, fields, text, tmp_path):
    case = Case(5, "int8")
    ends = make(case)
    other(case.network, index, **fields)
    with pytest.raises(ModelError, match=text):
        read_graph(case.files(tmp_path / "m.tflite", *ends))
