"""Formats and integer weights: the least squared error by brute force, grids found, impossible data refused."""

import numpy as np
import pytest

from toolchain.errors import ModelError
from toolchain.ir import FixedType, Overflow, Rounding
from toolchain.ir import fixed as arithmetic
from toolchain.quantization.formats import CLIPPED_BITS, SAMPLE, choose_format, dyadic_grid, integer_bits, sample_of
from toolchain.quantization.weights import FINER_BITS, quantize_weights, weights_in_format

DATA = {
    "normal": lambda rng: rng.normal(size=500),
    "uniform": lambda rng: rng.uniform(-3, 5, 500),
    "positive": lambda rng: np.abs(rng.normal(size=500)) * 100,
    "heavy tails": lambda rng: rng.standard_t(2.5, 500),
    "one outlier": lambda rng: np.append(rng.normal(size=500), 40.0),
    "tiny": lambda rng: rng.normal(size=500) * 1e-9,
    "power of two": lambda rng: np.array([-4.0, 3.9, 4.0]),
    "lowest": lambda rng: np.array([-1.0, 0.5]),
    "zeros": lambda rng: np.zeros(7),
    "empty": lambda rng: np.zeros(0),
    "one": lambda rng: np.array([1.0]),
}


def error_of(values, type):
    """Through the reference arithmetic, independent of the chooser's own formula."""
    exact = arithmetic.dequantize(arithmetic.quantize(values, type), type.fraction)
    return float(np.square(exact - values).sum())


@pytest.mark.parametrize("width", [2, 3, 5, 8, 12, 15])
@pytest.mark.parametrize("name", DATA)
def test_least_squared_error_by_brute_force(name, width):
    values = DATA[name](np.random.default_rng(3))
    signed = bool(values.min(initial=0) < 0)
    chosen = choose_format(values, width, signed)
    assert (chosen.width, chosen.signed, chosen.rounding, chosen.overflow) == (
        width,
        signed,
        Rounding.RND,
        Overflow.SAT,
    )
    top = integer_bits(float(np.abs(values).max(initial=0)), signed)
    tried = [FixedType(width, k, signed, Rounding.RND, Overflow.SAT) for k in range(top - CLIPPED_BITS, top + 6)]
    best = min(error_of(values, type) for type in tried)
    assert error_of(values, chosen) <= best * (1 + 1e-9) + 1e-300


@pytest.mark.parametrize("width", [16, 20, 24])
def test_wide_formats_clip_nothing_and_keep_headroom(width):
    for name, make in DATA.items():
        values = make(np.random.default_rng(3))
        largest = np.abs(values).max(initial=0)
        type = choose_format(values, width, True)
        assert largest <= type.high * type.step, name
        if largest:
            assert type.high * type.step < 5 * largest


def test_a_sample_keeps_the_extremes():
    values = np.zeros(4 * SAMPLE + 3)
    values[12345], values[-7] = 100.0, -50.0
    sample = sample_of(values)
    assert (sample.max(), sample.min()) == (100.0, -50.0)
    assert len(sample) == SAMPLE + 2
    assert choose_format(values, 16, True).high >= 100


@pytest.mark.parametrize(
    ("values", "width", "fraction"),
    [
        (np.arange(256.0), 8, 0), (np.arange(256) / 256, 8, 8), (np.arange(256) / 255, 8, None), (np.arange(257.0), 8,
        None),
        (np.arange(-128, 128) / 128, 8, 7), (np.arange(-128, 129) / 128, 8, None), (np.arange(0.0, 256, 4), 8, -2),
        (np.arange(256) / 256, 10, 8), (np.array([0.0, 0.1]), 24, None), (np.array([0.5, 3.25]), 4, 2),
        (np.array([1e-9]), 8, None), (np.array([2.0**30]), 8, None), (np.array([1e300]), 8, None),
    ],
)  # fmt: skip
def test_dyadic_grids(values, width, fraction):
    """u8 and u8 / 256 are found; what does not lie on a grid of the width is not forced onto one."""
    type = dyadic_grid(values, width)
    if fraction is None:
        if type is not None:
            assert np.array_equal(arithmetic.dequantize(arithmetic.quantize(values, type), type.fraction), values)
        else:
            assert type is None
        return
    assert type is not None
    assert type.width == width
    assert np.array_equal(arithmetic.dequantize(arithmetic.quantize(values, type), type.fraction), values)
    assert type.signed == bool(values.min() < 0)


LEVELS = np.arange(17.0)


@pytest.mark.parametrize(
    ("values", "width", "type"),
    [
        (np.arange(256.0), 8, "ufixed<8,8>"), (np.arange(251.0), 8, "ufixed<8,8>"),
        (np.arange(61.0), 8, "ufixed<8,8>"), (np.arange(256) / 256, 8, "ufixed<8,0>"),
        (np.arange(251) / 256, 8, "ufixed<8,0>"), (np.arange(61) / 256, 8, "ufixed<8,0>"),
        (np.arange(0.0, 256, 4), 8, "ufixed<8,8>"), (np.arange(0, 256, 4) / 256, 8, "ufixed<8,0>"),
        (np.arange(-128.0, 128), 8, "fixed<8,8>"), (np.arange(-50, 50) / 128, 8, "fixed<8,1>"),
        (LEVELS / 16, 8, "ufixed<8,1>"), (LEVELS[:-1] / 16, 8, "ufixed<8,0>"), (LEVELS, 8, "ufixed<8,5>"),
        (np.array([0.0, 1.0]), 8, "ufixed<8,1>"), (np.array([-1.0, 1.0]), 8, "fixed<8,2>"),
        (np.array([0.0, 0.25]), 8, "ufixed<8,0>"), (np.array([0.0, 1024.0]), 8, "ufixed<8,11>"),
        (np.array([0.0, 1.0]), 2, "ufixed<2,1>"), (np.array([0.0, 1.0]), 16, "ufixed<16,2>"),
        (np.arange(256.0), 16, "ufixed<16,9>"), (np.arange(256.0), 10, "ufixed<10,10>"),
    ],
)  # fmt: skip
def test_spare_bits_go_to_resolution(values, width, type):
    """Inputs between the values that calibration saw survive, and pictures keep their grid."""
    assert dyadic_grid(values, width) == FixedType.parse(type.replace(">", ",RND,SAT>"))


def test_zeros_lie_on_no_grid():
    """Nothing is known, so the format covers 1."""
    assert dyadic_grid(np.zeros(9), 8) is None
    assert choose_format(np.zeros(9), 8, False) == FixedType(8, 1, False, Rounding.RND, Overflow.SAT)


def test_u8_over_256_is_u8_itself():
    type = dyadic_grid(np.arange(256) / 256, 8)
    assert type == FixedType(8, 0, False, Rounding.RND, Overflow.SAT)
    assert np.array_equal(arithmetic.quantize(np.arange(256) / 256, type), np.arange(256))


# Weights.


def column_error(column, fraction, width):
    scaled = np.ldexp(column, fraction)
    rounded = np.clip(np.floor(scaled + 0.5), -(1 << (width - 1)), (1 << (width - 1)) - 1)
    return float(np.square(np.ldexp(rounded, -fraction) - column).sum())


@pytest.mark.parametrize("width", [2, 4, 8, 16])
def test_weights_by_brute_force(width):
    """Of all binary points that the cap allows, each channel has the one with the least squared error."""
    rng = np.random.default_rng(width)
    weights = rng.normal(size=(3, 3, 5, 12)) * 2.0 ** rng.integers(-4, 4, 12)
    weights[..., 0] = rng.standard_t(2, weights.shape[:-1])
    weights[..., 1] = rng.choice([-1.0, 1.0], weights.shape[:-1])  # exactly representable
    weights[..., 2] = np.linspace(-1, 1, 45).reshape(3, 3, 5)
    integers, fractions = quantize_weights(weights, width)
    assert integers.dtype == np.int64
    assert integers.min() >= -(1 << (width - 1))
    assert integers.max() <= (1 << (width - 1)) - 1
    for channel in range(12):
        column = weights[..., channel].ravel()
        base = int(np.floor(width - 1 - np.ceil(np.log2(np.abs(column).max()))))
        found = float(
            np.square(np.ldexp(integers[..., channel].ravel().astype(float), -fractions[channel]) - column).sum()
        )
        best = min(column_error(column, base + finer, width) for finer in (-1, 0, 1, 2))
        assert found <= best * (1 + 1e-12)
        assert np.array_equal(
            integers[..., channel].ravel(),
            np.clip(np.floor(np.ldexp(column, fractions[channel]) + 0.5), -(1 << (width - 1)), (1 << (width - 1)) - 1),
        )


def test_small_channels_are_capped():
    """A channel a million times smaller than the others does not cost twenty bits of shifter."""
    weights = np.random.default_rng(1).normal(size=(20, 4)) * [1.0, 1e-6, 1e-30, 100.0]
    _, fractions = quantize_weights(weights, 8)
    assert max(fractions) - min(fractions) <= FINER_BITS + 3
    assert fractions[1] == fractions[2]
    assert fractions[0] > fractions[3]


def test_no_fraction_beyond_what_is_seen():
    weights = np.random.default_rng(1).normal(size=(20, 4)) * [1.0, 1e-3, 1e-9, 1e-30]
    for scale in (1.0, 1e-9, 1e-20):
        integers, fractions = quantize_weights(weights * scale, 8, most=20)
        assert max(fractions) <= 20
        error = np.ldexp(integers.astype(float), -np.array(fractions)) - weights * scale
        assert np.abs(error).max() <= max(2.0**-5 * scale, 2.0**-21)
    assert not integers.any()
    for capped, free in zip(quantize_weights(weights, 8, most=60), quantize_weights(weights, 8), strict=True):
        assert np.array_equal(capped, free)


def test_zero_channels():
    weights = np.random.default_rng(1).normal(size=(20, 4))
    weights[:, 2] = 0
    integers, fractions = quantize_weights(weights, 8)
    assert (integers[:, 2] == 0).all()
    assert min(fractions) <= fractions[2] <= max(fractions)
    integers, fractions = quantize_weights(np.zeros((20, 4)), 8)
    assert (integers == 0).all()
    assert len(set(fractions)) == 1
    assert abs(fractions[0]) < 64


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(value):
    weights = np.ones((3, 3))
    weights[1, 1] = value
    with pytest.raises(ModelError, match="NaN"):
        quantize_weights(weights, 8)


def test_a_weight_of_100_saturates_and_never_wraps():
    """hls4ml wraps a weight of 100 in fixed<16,6> to -28."""
    assert weights_in_format(np.array([100.0, -100.0]), FixedType(16, 6)).tolist() == [32767, -32768]
    assert weights_in_format(np.array([0.5, -0.5, 1.49]), FixedType(8, 8)).tolist() == [1, 0, 1]
    assert weights_in_format(np.array([-1.0]), FixedType(8, 8, False)).tolist() == [0]


def test_weights_in_blocks_get_what_they_get_together(monkeypatch):
    from toolchain.quantization import weights as module

    given = np.random.default_rng(3).normal(0, 1, (40, 70)) * np.exp(np.random.default_rng(4).normal(0, 2, 70))
    whole, fractions = module.quantize_weights(given, 8)
    monkeypatch.setattr(module, "BLOCK", 100)
    parts, same = module.quantize_weights(given, 8)
    np.testing.assert_array_equal(whole, parts)
    assert fractions == same
