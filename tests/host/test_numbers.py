"""Quantization and scaling of every host against the toolchain's own, where they could differ."""

import importlib.util
import itertools
import struct
import subprocess
import sys

import numpy as np
import pytest

from tests.host.hardware import COMPILERS, HERE
from toolchain.errors import InputError
from toolchain.ir import FixedType, Meaning, Rounding, TensorType
from toolchain.ir import fixed as arithmetic
from toolchain.ops.quantize import Quantize
from toolchain.resources import folder

HOST = folder("hls_templates") / "host"
TYPES = [
    (8, False, 3),
    (8, True, 7),
    (1, False, 0),
    (1, True, 0),
    (16, True, -3),
    (16, False, 40),
    (24, True, 24),
    (32, True, 0),
    (33, False, 12),
    (53, True, 20),
    (54, True, 54),
    (63, False, 3),
    (64, True, 10),
    (64, False, 10),
    (12, True, 300),
    (12, True, -300),
]
"""width, signed, fraction"""
ROUNDINGS = {False: Rounding.TRN, True: Rounding.RND_CONV}
"""Of an entry: only half to even makes a difference."""


@pytest.fixture(scope="module")
def driver():
    spec = importlib.util.spec_from_file_location("dct_accelerator_under_test", HOST / "dct_accelerator.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def cases(width: int, signed: bool, fraction: int) -> np.ndarray:
    """Ties, their neighbours, both limits, signed zeros, the largest and smallest numbers, and random ones."""
    rng = np.random.default_rng(width * 1000 + fraction)
    low, high = FixedType(width, width - fraction, signed).low, FixedType(width, width - fraction, signed).high
    middle = [
        0,
        1,
        2,
        3,
        -1,
        -2,
        low,
        low + 1,
        high,
        high - 1,
        high + 1,
        low - 1,
        *rng.integers(-300, 300, 40).tolist(),
    ]
    points = np.array([float(n) for n in middle])
    with np.errstate(over="ignore", under="ignore"):
        ties = np.ldexp(np.concatenate([points, points + 0.5, points - 0.5, points + 0.25]), -fraction)
    near = np.concatenate([ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)])
    ends = [0.0, -0.0, 5e-324, -5e-324, 1.7e308, -1.7e308, 2.0**52 + 0.5, 0.5 - 2**-54, -0.5 - 2**-53]
    drawn = np.ldexp(rng.normal(size=200), rng.integers(-60, 60, 200) - fraction)
    with np.errstate(over="ignore"):
        everything = np.concatenate([near, ends, np.ldexp(ends, -fraction), drawn])
    return everything[np.isfinite(everything)]


def terminal_of(driver, width, signed, fraction, shape=(1,), order=None, scale=None, zero_point=0, even=False):
    lane_bits = next(bits for bits in (8, 16, 32, 64) if width <= bits)
    sizes, strides = order or ((1,) * (5 - len(shape)) + shape, None)
    if strides is None:
        strides = [int(np.prod(shape[k + 1 :])) for k in range(len(shape))]
        strides = [0] * (5 - len(shape)) + strides
    return driver.Terminal(
        {
            "name": "x",
            "identifier": "x_axis",
            "dma": "dma_x_axis",
            "lanes": 1,
            "lane_bits": lane_bits,
            "width": width,
            "signed": signed,
            "fraction": fraction,
            "scale": scale,
            "zero_point": zero_point,
            "ties_to_even": even,
            "shape": list(shape),
            "stream_shape": list(sizes),
            "strides": list(strides),
        }
    )


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize(("width", "signed", "fraction"), TYPES)
def test_python_quantizes_as_the_toolchain(driver, width, signed, fraction, even):
    quantize = Quantize(FixedType(width, width - fraction, signed, ROUNDINGS[even]))
    terminal = terminal_of(driver, width, signed, fraction, even=even)
    values = cases(width, signed, fraction).reshape(-1, 1)
    for dtype in (np.float64, np.float32, np.float16):
        with np.errstate(over="ignore"):
            given = values.astype(dtype)
        given = given[np.isfinite(given)].reshape(-1, 1)
        expected = quantize.evaluate(given)
        got = terminal.raw(given)
        assert got.dtype == (np.uint64 if width == 64 and not signed else np.int64)
        assert [int(n) for n in got.ravel()] == [int(n) for n in expected.ravel()]
        assert np.array_equal(terminal.unpack(terminal.pack(got)), got)


@pytest.mark.parametrize(("width", "signed", "fraction"), TYPES)
def test_python_scales_as_the_toolchain(driver, width, signed, fraction):
    terminal = terminal_of(driver, width, signed, fraction)
    low, high = terminal.low, terminal.high
    rng = np.random.default_rng(3)
    numbers = {low, high, 0, min(high, 1), high // 2, high - 1, low + 1} | {
        min(high, (1 << 53) + k) for k in (-1, 0, 1)
    }
    numbers |= {int(n) >> (64 - width) for n in rng.integers(-(1 << 63), (1 << 63) - 1, 50) if signed or n >= 0}
    for number in sorted(numbers):
        raw = np.array([[number]], dtype=terminal.raw_type)
        try:
            expected = arithmetic.dequantize(np.array([[number]], dtype=object), fraction)
        except InputError:
            with pytest.raises(driver.AcceleratorError, match="float64 cannot hold"):
                terminal.dequantize(raw)
            continue
        assert np.array_equal(terminal.dequantize(raw), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_python_refuses_what_is_no_number(driver, value):
    terminal = terminal_of(driver, 8, True, 4, (3,))
    with pytest.raises(driver.AcceleratorError, match=r"NaN or infinity at \[1, 2\]"):
        terminal.raw(np.array([[1, 2, 3], [4, 5, value]]))


def test_a_binary_point_of_each_channel(driver):
    """The stream is channels-last, (4, 3); the model has (3, 4)."""
    order = ((1, 1, 1, 4, 3), (0, 0, 0, 1, 4))
    terminal = terminal_of(driver, 8, True, [2, 0, -3], (3, 4), order)
    raw = np.random.default_rng(1).integers(-128, 128, (5, 3, 4))
    expected = arithmetic.dequantize(raw, np.array([2, 0, -3]).reshape(3, 1))
    assert np.array_equal(terminal.dequantize(raw), expected)
    stream = terminal.pack(raw).view(np.int8).reshape(5, 4, 3)
    assert np.array_equal(stream, np.moveaxis(raw, 1, 2))
    assert np.array_equal(terminal.raw(expected), raw)
    assert np.array_equal(terminal.unpack(terminal.pack(raw)), raw)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.bool_])
def test_integers_are_taken_raw(driver, dtype):
    terminal = terminal_of(driver, 7, False, 4, (2,))
    given = np.array([[1, 0], [1, 1]], dtype=dtype)
    assert np.array_equal(terminal.raw(given), given.astype(np.int64))
    if dtype != np.bool_:
        with pytest.raises(driver.AcceleratorError, match=r"the integer (127|-1|128) does not fit 7 unsigned bits"):
            terminal.raw(np.array([[1, 0], [1, -1 if dtype == np.int8 else 128]], dtype=dtype))


@pytest.mark.csim
@pytest.mark.parametrize(("compiler", "runner"), COMPILERS)
def test_c_quantizes_as_the_toolchain(compiler, runner, tmp_path):
    program = tmp_path / "vectors"
    sources = (HERE / "vectors.c", HOST / "c/numbers.c")
    subprocess.run([compiler, "-std=c99", "-O2", f"-I{HOST / 'c'}", *sources, "-lm", "-o", program], check=True)
    for even, (width, signed, fraction) in itertools.product((False, True), TYPES):
        values = np.concatenate([cases(width, signed, fraction), [np.nan, np.inf, -np.inf]])
        data = struct.pack("<qqqqqd", width, signed, fraction, 0, even, 0.0) + values.astype("<f8").tobytes()
        answer = subprocess.run([*runner, program], input=data, capture_output=True, check=True).stdout
        status, raw, back_status, _ = np.frombuffer(answer, "<i8").reshape(-1, 4).T
        scaled = np.frombuffer(answer, "<f8").reshape(-1, 4)[:, 3]
        assert (status[-3:] == 10).all(), status[-3:]  # ACCELERATOR_NOT_FINITE
        assert not status[:-3].any()
        expected = arithmetic.quantize(values[:-3], FixedType(width, width - fraction, signed, ROUNDINGS[even]))
        got = raw[:-3] if signed else raw[:-3].view(np.uint64)
        assert [int(n) for n in got] == [int(n) for n in expected], (width, signed, fraction)
        for number, code, real in zip(expected.tolist(), back_status.tolist(), scaled.tolist(), strict=False):
            try:
                exact = float(arithmetic.dequantize(np.array([number], dtype=object), fraction)[0])
            except InputError:
                assert code == 11  # ACCELERATOR_INEXACT
            else:
                assert (code, real) == (0, exact)


SCALES = [(np.float32(0.5847029), 83, True), (np.float32(1 / 255), -128, True), (np.float32(0.0078125), 128, False)]
"""Scale, zero point and sign of inputs of quantized models, 8 bits."""


def scaled_cases(scale: np.float32) -> np.ndarray:
    """Quotients at ties, one ulp beside them, far outside, and anything."""
    ties = np.float32(np.arange(-300, 300) + 0.5) * scale
    near = np.concatenate([np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)])
    drawn = np.random.default_rng(9).normal(0, 100, 500) * float(scale)
    return np.concatenate([ties, near, [0.0, -0.0, 1e-45, 3e38, -3e38, 1e300], drawn]).astype(np.float64)


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize(("scale", "zero_point", "signed"), SCALES)
def test_python_enters_and_leaves_by_a_scale_as_the_toolchain(driver, scale, zero_point, signed, even):
    type, meaning = FixedType(8, 8, signed, ROUNDINGS[even]), Meaning(float(scale), zero_point)
    terminal = terminal_of(driver, 8, signed, 0, scale=meaning.scale, zero_point=zero_point, even=even)
    values = scaled_cases(scale).reshape(-1, 1)
    assert np.array_equal(terminal.raw(values), Quantize(type, meaning).evaluate(values))
    raw = np.arange(type.low, type.high + 1).reshape(-1, 1)
    expected = TensorType((1,), 8, signed, (0,), type.low, type.high, meaning).real(raw)
    assert np.array_equal(terminal.dequantize(raw), expected)


@pytest.mark.csim
@pytest.mark.parametrize(("compiler", "runner"), COMPILERS)
def test_c_enters_and_leaves_by_a_scale_as_the_toolchain(compiler, runner, tmp_path):
    program = tmp_path / "vectors"
    sources = (HERE / "vectors.c", HOST / "c/numbers.c")
    subprocess.run([compiler, "-std=c99", "-O2", f"-I{HOST / 'c'}", *sources, "-lm", "-o", program], check=True)
    for even, (scale, zero_point, signed) in itertools.product((False, True), SCALES):
        type, meaning = FixedType(8, 8, signed, ROUNDINGS[even]), Meaning(float(scale), zero_point)
        values = scaled_cases(scale)
        data = struct.pack("<qqqqqd", 8, signed, 0, zero_point, even, meaning.scale) + values.astype("<f8").tobytes()
        answer = subprocess.run([*runner, program], input=data, capture_output=True, check=True).stdout
        status, raw, back_status, _ = np.frombuffer(answer, "<i8").reshape(-1, 4).T
        assert not status.any()
        assert not back_status.any()
        assert np.array_equal(raw, Quantize(type, meaning).evaluate(values))
        expected = TensorType((1,), 8, signed, (0,), type.low, type.high, meaning).real(raw)
        assert np.array_equal(np.frombuffer(answer, "<f8").reshape(-1, 4)[:, 3], expected)
