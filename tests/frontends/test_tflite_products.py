"""Quantized products, extrema and enlargements against LiteRT's reference kernels: the same integers."""

import numpy as np
import pytest

from tests.frontends.test_tflite_integers import RANGES, check_case


def product(case):
    a, b, y = (case.activation(1, 3, 4, 5) for _ in range(3))
    case.network.operator("MUL", [a, b], [y], "Mul", 2, FusedActivationFunction=case.pick(0, 1, 3))
    return [a, b], [y]


def gate(case):
    a, b, y = case.activation(1, 3, 4, 5), case.activation(1, 1, 1, 5), case.activation(1, 3, 4, 5)
    case.network.operator("MUL", case.pick([a, b], [b, a]), [y], "Mul", 2)
    return [a, b], [y]


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


@pytest.mark.parametrize("element", RANGES)
@pytest.mark.parametrize("make", [product, gate, extremum, enlargement], ids=lambda make: make.__name__)
def test_integers_of_the_reference_kernels(make, element, tmp_path):
    check_case(make, element, tmp_path)
