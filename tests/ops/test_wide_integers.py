"""Integers of more than 63 bits: operators on Python integers never wrap and never meet a NumPy integer."""

import numpy as np
import pytest

from tests.small import Model
from toolchain.compiler import compile_model
from toolchain.errors import PassError
from toolchain.ir import Constant, FixedType, TensorType
from toolchain.ir.window import Window
from toolchain.ops.affine import Affine
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.conv import Conv
from toolchain.ops.pad import Pad
from toolchain.simulation import reference

PADDED = Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
WIDE = FixedType(33, 1)


def kinds(array):
    return {type(value) for value in array.ravel()}


def all_largest(shape, value=2**32 - 1):
    return np.full((1, *shape), value, dtype=np.int64).astype(object)


def test_a_border_around_python_integers_is_one_of_python_integers():
    values = all_largest((2, 2, 3))
    assert kinds(PADDED.patches(values, 0.0)) == {int}
    assert kinds(PADDED.patches(values, np.int64(-5))) == {int}
    padded = Pad((1, 0, 2), (0, 1, 0), 7).evaluate(values)
    assert padded.shape == (1, 3, 3, 5)
    assert kinds(padded) == {int}
    assert padded[0, 0, 0, 0] == 7
    assert Pad((1,), (1,), 2**80).evaluate(np.array([[5]], dtype=object)).tolist() == [[2**80, 5, 2**80]]


def test_a_padded_convolution_of_65_bits():
    weights = Constant(np.full((3, 3, 1, 1), 2**31 - 1))
    conv = Conv(weights, Constant([5]), PADDED, 1, FixedType(32, 1), (0,))
    given = TensorType.of((4, 4, 1), WIDE)
    assert conv.bound(given) >= 2**64
    result = conv.evaluate(all_largest((4, 4, 1)))
    assert kinds(result) == {int}
    assert result.min() == 4 * (2**31 - 1) * (2**32 - 1) + 5  # a corner
    assert result.max() == 9 * (2**31 - 1) * (2**32 - 1) + 5


def test_a_padded_average_of_wide_sums():
    pool = AveragePool(PADDED, Constant([[9]]), 12)
    largest = 2**52 - 1
    assert pool.bound(TensorType.of((3, 3, 1), FixedType(53, 1))) >= 2**63
    result = pool.evaluate(all_largest((3, 3, 1), largest))
    assert kinds(result) == {int}
    assert result[0, 1, 1, 0] == largest << 12
    assert result[0, 0, 0, 0] == (4 * (largest << 13) + 9) // 18


def test_an_average_whose_reciprocal_is_too_wide_for_hardware_is_refused(tmp_path):
    m = Model()
    m.input("x", "N", 2, 4, 4)
    m.output(m.add("AveragePool", "x", name="pool", kernel_shape=[3, 3]))
    path, config = m.save(tmp_path / "m.onnx"), {"layers": {"pool": {"input": "fixed<60,4,RND,SAT>"}}}
    with pytest.raises(PassError, match="reciprocal"):
        compile_model(path, tmp_path / "p", calibrate=np.ones((2, 2, 4, 4)), config=config)


def test_the_range_of_a_wide_scale_does_not_wrap():
    affine = Affine(Constant([2**31 - 1]), Constant([2**40]), FixedType(32, 1), (0,))
    given = TensorType.of((4,), FixedType(50, 1))
    assert affine.ranges(given).high == (2**31 - 1) * (2**49 - 1) + 2**40
    assert affine.bound(given) == (2**31 - 1) * 2**49 + 2**40


def test_a_forced_format_of_32_bits_compiles_and_agrees_with_python(tmp_path):
    m = Model()
    m.input("x", "N", 3, 4, 4)
    weights = m.rng.uniform(-1.9, 1.9, (2, 3, 3, 3))
    m.output(m.add("Conv", "x", m.constant(weights), name="conv", pads=[1] * 4))
    wide = "fixed<32,2,RND,SAT>"
    x = np.random.default_rng(2).uniform(-1.9, 1.9, (4, 3, 4, 4))
    project = compile_model(
        m.save(tmp_path / "m.onnx"),
        tmp_path / "p",
        calibrate=x,
        config={"layers": {"conv": {"input": wide, "weight": wide}}},
    )
    seen = {}
    reference.evaluate(project.graph, {"x": x.transpose(0, 2, 3, 1)}, lambda name, v: seen.update({name: v}))
    conv = project.graph.by_name["conv"].operator
    given = next(v for name, v in seen.items() if name.endswith("quantize") and v.shape[-1] == 3)
    padded = np.zeros((4, 6, 6, 3), dtype=np.int64)
    padded[:, 1:-1, 1:-1] = given
    for n, y, c, k in np.ndindex(4, 4, 4, 2):
        window, kernel = padded[n, y : y + 3, c : c + 3].ravel().tolist(), conv.weights.array[..., k].ravel().tolist()
        exact = sum(a * b for a, b in zip(window, kernel, strict=True)) + int(conv.bias.array[k])
        assert seen["conv"][n, y, c, k] == exact
    fast, slow = (project.simulator(engine).predict_raw(x) for engine in ("fast", "reference"))
    assert np.array_equal(fast, slow)


def test_a_limit_that_no_64_bits_hold(tmp_path):
    m = Model()
    m.input("x", "N", 5)
    m.output(m.add("Clip", "x", m.constant(-0.25), m.constant(1e30), name="clip"))
    x = np.random.default_rng(2).uniform(-1.9, 1.9, (4, 5))
    project = compile_model(m.save(tmp_path / "m.onnx"), tmp_path / "p", calibrate=x)
    fast, slow = (project.simulator(engine).predict(x) for engine in ("fast", "reference"))
    assert np.array_equal(fast, slow)
    assert np.abs(slow - np.maximum(x, -0.25)).max() < 0.02
