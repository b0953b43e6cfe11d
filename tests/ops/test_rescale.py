"""Rescale, the softmax and the mean of quantized models against their definitions, written down once more."""

from fractions import Fraction

import numpy as np
import pytest

from toolchain.errors import PassError
from toolchain.frontends.tflite.multipliers import factors, multiplier
from toolchain.ir import Constant, FixedType, Meaning, TensorType
from toolchain.ir.window import Window
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.fixed_softmax import LARGEST, exponential, reciprocal
from toolchain.ops.rescale import Rescale, ScaleRounding

MULTIPLIERS = [1 << 30, (1 << 30) + 1, 3 << 29, 1431655765, (1 << 31) - 1, 0]


def truncated(numerator, denominator):
    """C's division."""
    size = abs(numerator) // denominator
    return size if numerator >= 0 else -size


def double(x, m, shift):
    """gemmlowp's SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT, in C's words."""
    product = (x << max(shift, 0)) * m
    high = truncated(product + ((1 << 30) if product >= 0 else 1 - (1 << 30)), 1 << 31)
    exponent = max(-shift, 0)
    mask = (1 << exponent) - 1
    return (high >> exponent) + ((high & mask) > (mask >> 1) + (high < 0))


def single(x, m, shift):
    total = 31 - shift
    return (x * m + (1 << (total - 1))) >> total


def half_even(x, m, shift):
    return round(Fraction(x * m) * Fraction(2) ** (shift - 31))


@pytest.mark.parametrize(("rounding", "definition"), [
    (ScaleRounding.DOUBLE, double), (ScaleRounding.SINGLE, single), (ScaleRounding.HALF_EVEN, half_even),
])  # fmt: skip
def test_roundings_on_every_integer_of_ten_bits(rounding, definition):
    x = np.arange(-512, 512)
    for m in MULTIPLIERS:
        for shift in range(-11, 4):
            operator = Rescale(Constant([m]), Constant([shift]), rounding=rounding)
            expected = [definition(int(value), m, shift) for value in x]
            assert operator.evaluate(x.reshape(-1, 1)).ravel().tolist() == expected, (m, shift)


def test_the_roundings_differ():
    x = np.arange(-512, 512).reshape(-1, 1)
    results = [Rescale(Constant([1431655765]), Constant([-3]), rounding=r).evaluate(x) for r in ScaleRounding]
    assert not np.array_equal(results[0], results[1])
    x = np.array([[6], [2]])
    halves = [
        Rescale(Constant([1 << 30]), Constant([-1]), rounding=r).evaluate(x).ravel().tolist() for r in ScaleRounding
    ]
    assert halves == [[2, 1], [2, 1], [2, 0]]


def test_multipliers():
    assert multiplier(1.0) == (1 << 30, 1)
    assert multiplier(0.75) == (3 << 29, 0)
    assert multiplier(1 - 2.0**-40) == (1 << 30, 1)  # the fraction rounds up to 1
    assert multiplier(2.0**-33) == (0, 0)
    assert multiplier(2.0**-32) == (1 << 30, -31)
    assert factors([0.5, 0.5]) == (Constant([1 << 30]), Constant([0]))


@pytest.mark.parametrize(("operator", "fractions", "text"), [
    (Rescale(Constant([1, 2]), Constant([0, 0])), (0,), "for 3 channels"),
    (Rescale(Constant([1]), Constant([0, 0])), (0,), "for 3 channels"),
    (Rescale(Constant([-1]), Constant([0])), (0,), "outside 0 to"),
    (Rescale(Constant([1]), Constant([0])), (2,), "binary point 0"),
], ids=["channels", "shifts", "negative", "point"])  # fmt: skip
def test_wrong_factors(operator, fractions, text):
    with pytest.raises(PassError, match=text):
        operator.ranges(TensorType((2, 3), 8, True, fractions, -128, 127))


def test_a_meaning_stands_beside_no_binary_point():
    with pytest.raises(PassError, match="beside a scale"):
        TensorType((2,), 8, True, (3,), -128, 127, Meaning(0.5, 0))


def test_exponentials_and_reciprocals_are_close_to_the_real_ones():
    """Where a constant were wrong, by far more than the last bits would be."""
    raw = -np.arange(0, 16 << 26, 999_983)
    got = np.array([exponential(int(r)) for r in raw]) / 2.0**31
    np.testing.assert_allclose(got, np.exp(raw / 2.0**26), atol=3e-7)
    assert exponential(0) == LARGEST
    a = np.arange(0, 1 << 31, 1_000_003)
    np.testing.assert_allclose(reciprocal(a) / 2.0**31, 1 / (1 + a / 2.0**31), atol=2e-8)


@pytest.mark.parametrize("taps", [4, 6, 9])
def test_means_are_rounded_half_away_from_the_zero_of_the_integers(taps):
    """Every sum of so many int8 numbers whose zero point is -128: x is held as x + 128."""
    window = Window((1, taps))
    operator = AveragePool(window, Constant([[taps]]), 0, -128)
    sums = np.arange(0, 255 * taps + 1)
    rows = np.minimum(np.maximum(sums[:, None] - 255 * np.arange(taps), 0), 255)
    got = operator.evaluate(rows.reshape(-1, 1, taps, 1)).ravel()
    halves = [(total, taps // 2 if total > 0 else -(taps // 2)) for total in (sums - 128 * taps).tolist()]
    assert got.tolist() == [truncated(total + half, taps) + 128 for total, half in halves]
    assert operator.ranges(TensorType.of((1, taps, 1), FixedType(8, 8, False))).high == 255
