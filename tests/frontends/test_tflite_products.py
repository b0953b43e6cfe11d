"""Quantized products, extrema and enlargements against LiteRT's reference kernels: the same integers."""

import numpy as np
import pytest

from tests.frontends.tflite_cases import RANGES, check_case


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
    scale, zero = case.scale(), case.zero()
    a, b, y = (case.activation(1, 3, 4, 5, scale=scale, zero=zero) for _ in range(3))
    case.network.operator(case.pick("MAXIMUM", "MINIMUM"), [a, b], [y], "MaximumMinimum", 2)
    return [a, b], [y]


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
