"""Quantized products, extrema and enlargements against LiteRT's reference kernels: the same integers."""

import numpy as np
import pytest

from tests.frontends.tflite_cases import RANGES, Case, check_case
from toolchain.errors import ModelError
from toolchain.frontends import read_graph


def product(case):
    a, b, y = (case.activation(1, 3, 4, 5) for _ in range(3))
    case.network.operator("MUL", [a, b], [y], "Mul", 2, FusedActivationFunction=case.pick(0, 1, 3))
    return [a, b], [y]


def gate(case):
    a, b, y = case.activation(1, 3, 4, 5), case.activation(1, 1, 1, 5), case.activation(1, 3, 4, 5)
    case.network.operator("MUL", case.pick([a, b], [b, a]), [y], "Mul", 2)
    return [a, b], [y]


def binary(case, operands, shape):
    """A sum, difference or product, sometimes with its operands exchanged."""
    kind = case.pick("ADD", "SUB", "MUL")
    y = case.activation(*shape, scale=case.scale(0.05, 0.5))
    operands = case.pick(operands, operands[::-1])
    case.network.operator(kind, operands, [y], kind.capitalize(), 2, FusedActivationFunction=case.pick(0, 1, 3))
    return [k for k in operands if case.network.tensors[k][3] is None], [y]


def broadcast(case):
    shapes = case.pick(
        [(1, 1, 1, 5)], [(1, 1, 4, 1)], [(1, 3, 1, 5)], [(1, 1)], [(1, 4, 1)], [(1, 1, 4, 5), (1, 3, 1, 1)]
    )
    first = shapes[1] if len(shapes) == 2 else (1, 3, 4, 5)
    return binary(case, [case.activation(*first), case.activation(*shapes[0])], (1, 3, 4, 5))


def constant(case):
    """A constant operand, of fewer dimensions too, or larger than the computed one."""
    low, high = RANGES[case.element]
    shape = case.pick((1, 1, 1, 5), (5,), (), (4, 1), (3, 4, 5), (1, 3, 4, 5))
    array = case.rng.integers(low, high + 1, shape).astype(case.element)
    c = case.network.constant(array, scale=case.scale(), zero=case.zero())
    x = case.activation(*(case.pick((1, 3, 4, 5), (1, 1, 1, 5)) if len(shape) > 2 else (1, 3, 4, 5)))
    wanted = np.broadcast_shapes(case.network.tensors[x][1], shape)
    return binary(case, [x, c], wanted)


def prelu(case):
    low, high = RANGES[case.element]
    shape = case.pick((1, 1, 5), (5,), (1,), (3, 4, 5), (3, 1, 1))
    array = case.rng.integers(low, high + 1, shape).astype(case.element)
    slopes = case.network.constant(array, scale=case.scale(0.001, 0.02), zero=case.zero())
    x, y = case.activation(1, 3, 4, 5), case.activation(1, 3, 4, 5)
    case.network.operator("PRELU", [x, slopes], [y])
    return [x], [y]


def extremum(case):
    """Of computed values, one of them repeated or not, or of one and a constant."""
    scale, zero = case.scale(), case.zero()
    a, y = (case.activation(1, 3, 4, 5, scale=scale, zero=zero) for _ in range(2))
    b = case.activation(*case.pick((1, 3, 4, 5), (1, 1, 1, 5)), scale=scale, zero=zero)
    if case.pick(True, False):
        low, high = RANGES[case.element]
        array = case.rng.integers(low, high + 1, case.pick((), (5,), (4, 5))).astype(case.element)
        b = case.network.constant(array, scale=scale, zero=zero)
    operands = case.pick([a, b], [b, a])
    case.network.operator(case.pick("MAXIMUM", "MINIMUM"), operands, [y], "MaximumMinimum", 2)
    return [k for k in operands if case.network.tensors[k][3] is None], [y]


def enlargement(case):
    scale, zero = case.scale(), case.zero()
    rows, columns = (int(n) for n in case.rng.integers(1, 12, 2))
    x, y = (case.activation(*shape, scale=scale, zero=zero) for shape in ((1, 5, 4, 3), (1, rows, columns, 3)))
    sizes = case.network.constant(np.int32([rows, columns]))
    corners, centers = case.pick((False, False), (True, False), (False, True))
    fields = {"AlignCorners": corners, "HalfPixelCenters": centers}
    case.network.operator("RESIZE_NEAREST_NEIGHBOR", [x, sizes], [y], "ResizeNearestNeighbor", 3, **fields)
    return [x], [y]


def interpolation(case):
    """uint8 pictures only where float32 is exact."""
    scale, zero = case.scale(), case.zero()
    corners, centers = case.pick((False, False), (True, False), (False, True))
    given = [int(n) for n in case.rng.integers(1, 9, 2)]
    wanted = [int(n) for n in case.rng.integers(1, 20, 2)]
    if case.element == "uint8":
        wanted = (
            [n * case.pick(1, 2, 4) for n in given]
            if not corners
            else [(n - 1) * case.pick(1, 2, 4) + 1 for n in given]
        )
    x, y = (case.activation(1, *sizes, 3, scale=scale, zero=zero) for sizes in (given, wanted))
    fields = {"AlignCorners": corners, "HalfPixelCenters": centers}
    sizes = case.network.constant(np.int32(wanted))
    case.network.operator("RESIZE_BILINEAR", [x, sizes], [y], "ResizeBilinear", 3, **fields)
    return [x], [y]


OPERATORS = [product, gate, broadcast, constant, prelu, extremum, enlargement, interpolation]


@pytest.mark.parametrize("element", RANGES)
@pytest.mark.parametrize("make", OPERATORS, ids=lambda make: make.__name__)
def test_integers_of_the_reference_kernels(make, element, tmp_path):
    check_case(make, element, tmp_path)


def two_constants(case):
    c, y = case.network.constant(np.int8([[3, 4]]), scale=0.1, zero=0), case.activation(1, 2, scale=0.1, zero=0)
    case.network.operator("MAXIMUM", [c, c], [y], "MaximumMinimum", 2)
    return [case.activation(1, 2)], [y]


def third(case):
    """Places between uint8 pixels that float32 rounds."""
    scale, zero = case.scale(), case.zero()
    x, y = (case.activation(1, size, 4, 3, scale=scale, zero=zero) for size in (3, 9))
    sizes = case.network.constant(np.int32([9, 4]))
    case.network.operator("RESIZE_BILINEAR", [x, sizes], [y], "ResizeBilinear", 3)
    return [x], [y]


def many(case):
    x, y = case.activation(1, 3, 4, 3, scale=0.1, zero=0), case.activation(1, 3, 4, 3, scale=0.1, zero=0)
    sizes = case.network.constant(np.int32([1 << 30, 4]))
    case.network.operator("RESIZE_BILINEAR", [x, sizes], [y], "ResizeBilinear", 3)
    return [x], [y]


def computed_slopes(case):
    x, s, y = (case.activation(1, 4) for _ in range(3))
    case.network.operator("PRELU", [x, s], [y])
    return [x, s], [y]


def batched(case):
    c = case.network.constant(np.zeros((2, 4), case.element), scale=0.1, zero=0)
    x, y = case.activation(1, 4), case.activation(2, 4)
    case.network.operator("ADD", [x, c], [y], "Add", 2)
    return [x], [y]


@pytest.mark.parametrize(("make", "text"), [
    (two_constants, "has two constants"),
    (third, r"RESIZE_BILINEAR 0 't1': interpolates in float32 at places of \d+ fraction bits"),
    (many, "up to 65536 rows and columns"),
    (computed_slopes, "has slopes that are computed"),
    (batched, "has a constant for each sample of a batch"),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_refused(make, text, tmp_path):
    case = Case(5, "uint8" if make is third else "int8")
    with pytest.raises(ModelError, match=text):
        read_graph(case.files(tmp_path / "m.tflite", *make(case)))
