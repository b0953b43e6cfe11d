"""Packed weights decoded by the C: every transform, coder, cluster and number of substreams gives the same weights."""

from dataclasses import replace

import numpy as np
import pytest

from tests.embedded.checked import STRICTEST, verify
from tests.ops.designs import program, program_inputs
from tests.packing.codings import force, random_coding
from toolchain.codegen.embedded.render import render_embedded
from toolchain.errors import ConfigurationError
from toolchain.ir import Constant, FixedType, TensorType
from toolchain.ir.window import Window
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.packing import choice
from toolchain.packing.basis import Transform
from toolchain.packing.packed import Coding, Packed

NARROW = FixedType(4, 4)


def gemm(coding, pixels=(3,)):
    """A matrix whose input has `pixels` vectors."""
    taps, channels, outputs = coding.levels.shape
    weights = Packed(coding, (taps * channels, outputs))
    operator = Gemm(weights, Constant(np.arange(outputs)), FixedType(40, 40), (0,) * outputs)
    return program("layer", operator, (TensorType.of((*pixels, taps * channels), NARROW),))


def conv(coding, window, groups=1):
    _, channels, outputs = coding.levels.shape
    weights = Packed(coding, (*window.kernel, channels, outputs))
    operator = Conv(weights, Constant(np.zeros(outputs, int)), window, groups, FixedType(40, 40), (0,) * outputs)
    return program("layer", operator, (TensorType.of((7, 6, channels * groups), NARROW),))


def check(graph, folder, ram=None):
    verify(graph, program_inputs(graph, 3, 5), folder, ram, STRICTEST)


@pytest.mark.parametrize("number", range(12))
def test_random_codings(number, tmp_path):
    rng = np.random.default_rng(number)
    coding = random_coding(rng, number)
    check(gemm(coding, pixels=(1,) if number % 2 else (3,)), tmp_path / "gemm")


@pytest.mark.parametrize(
    "method",
    [choice.Method("csr", 0, 3), choice.Method("run", 0, 0), choice.Method("run", 9, 2, filler=1)],
    ids=["csr", "no_runs", "runs_of_ones"],
)
def test_coders(method, tmp_path, monkeypatch):
    force(monkeypatch, method)
    coding = random_coding(np.random.default_rng(8), 1, clustered=False, transform=("none", 1, 1))
    levels = Constant(np.clip(coding.levels.array, -20, 20))
    check(gemm(replace(coding, levels=levels)), tmp_path / "gemm")


def test_several_substreams(tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "split", lambda levels, decoders=1: choice.Layer(levels, 5))
    monkeypatch.setattr("toolchain.codegen.embedded.packed.split", lambda levels: choice.Layer(levels, 5))
    levels = np.random.default_rng(1).integers(-3, 4, (9, 4, 13))
    coding = Coding(Constant(levels), Transform("taps", 3, 3), (0,) * 9)
    check(conv(coding, Window((3, 3), pads=(1, 1, 1, 1))), tmp_path / "conv")


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(groups, tmp_path):
    """In frequency with strides and padding; in groups; and one channel deep."""
    rng = np.random.default_rng(groups)
    coding = Coding(Constant(rng.integers(-4, 5, (9, 3, 8))), Transform("taps", 3, 3), (0, 1, 2, 1, 0, 1, 2, 1, 0))
    check(conv(coding, Window((3, 3), (2, 1), (1, 2), (1, 0, 2, 1)), groups), tmp_path / "conv")
    deep = Coding(Constant(rng.integers(-4, 5, (6, 1, 8))), Transform("taps", 2, 3), (0,) * 6)
    check(conv(deep, Window((2, 3), pads=(1, 1, 0, 0)), 4), tmp_path / "depthwise")
    flat = Coding(Constant(rng.integers(-2, 3, (1, 6, 9))))
    check(conv(flat, Window((1, 1))), tmp_path / "pointwise")


def test_ram_decides_how_many_outputs_are_decoded_at_once(tmp_path):
    levels = np.random.default_rng(1).integers(-3, 4, (9, 4, 12))
    graph = conv(Coding(Constant(levels), Transform("taps", 3, 3), (0,) * 9), Window((3, 3)))
    with pytest.raises(ConfigurationError, match="the arena needs") as raised:
        render_embedded(graph, 1)
    least = int(str(raised.value).split("needs ")[1].split()[0])
    poor, usual, rich = (render_embedded(graph, ram) for ram in (least, None, 1 << 16))
    sizes = [one.footprint["arena_bytes"] for one in (poor, usual, rich)]
    assert sizes[0] == least <= sizes[1] <= least * 1.125
    assert sizes[1] < sizes[2] <= 1 << 16
    parts = [str(one.files["layer.c"]).count("part += ") for one in (poor, rich)]
    assert parts == [1, 0]
    with pytest.raises(ConfigurationError, match=f"needs {least} bytes"):
        render_embedded(graph, least - 1)


def sparse(rng, shape, share):
    return Constant(rng.integers(-9, 10, shape) * (rng.random(shape) < share))


@pytest.mark.parametrize("ram", [None, 1 << 16])
def test_few_weights_are_lists_of_what_is_not_zero(ram, tmp_path):
    """Part by part with little memory; one output has no weights, one all of them."""
    rng = np.random.default_rng(5)
    levels = sparse(rng, (9, 8, 12), 0.1).array.copy()
    levels[:, :, 3], levels[:, :, 4] = 0, 1
    for name, graph in {
        "conv": conv(Coding(Constant(levels)), Window((3, 3), pads=(1, 1, 1, 1))),
        "groups": conv(Coding(Constant(levels)), Window((3, 3), pads=(1, 1, 1, 1)), groups=2),
        "matrix": gemm(Coding(sparse(rng, (1, 40, 7), 0.1))),
        "wide": gemm(Coding(Constant(sparse(rng, (1, 40, 7), 0.1).array * 1000))),
    }.items():
        assert "dct_sparse_" in str(render_embedded(graph, ram).files["layer.c"])
        check(graph, tmp_path / name, ram)


def test_what_is_used_once_is_multiplied_as_it_is_decoded(tmp_path):
    """In frequency too; with clusters, rounding or sums beyond 32 bits the weights are made first."""
    rng = np.random.default_rng(6)
    shifts = (0, 1, 2, 1, 0, 1, 2, 1, 3)
    frequency = Coding(sparse(rng, (9, 4, 11), 0.3), Transform("taps", 3, 3), shifts)
    channels = Coding(sparse(rng, (1, 24, 11), 0.3), Transform("channels", 2, 4), (0, 1, 2, 1, 0, 1, 2, 1))
    found = {}
    for name, coding in {
        "frequency": frequency,
        "channels": channels,
        "rounded": replace(channels, rounded=2),
        "wide": replace(channels, shifts=(20,) * 8),
    }.items():
        graph = gemm(coding, pixels=(1,))
        found[name] = "dct_unpack_dot(" in str(render_embedded(graph).files["layer.c"])
        check(graph, tmp_path / name)
    assert found == {"frequency": True, "channels": True, "rounded": False, "wide": False}
