"""Codes come close to the entropy of what they code, and the chosen alphabets to that of the levels themselves."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.packing.codings import random_levels
from toolchain.errors import ModelError, PassError
from toolchain.ir import Constant
from toolchain.packing.bits import fields, pack_fields, windows
from toolchain.packing.choice import Layer, Method, coded_bits, dictionaries, estimated_bits
from toolchain.packing.container import Tensor, describe, pack, unpack
from toolchain.packing.entropy import Alphabet, Scan, classes_of, decode_csr, decode_run, starts
from toolchain.packing.huffman import Code, code_lengths
from toolchain.packing.packed import Coding, Packed

SHAPES = {12_000: (1, 300, 40), 50_000: (5, 100, 100), 400_000: (4, 400, 250)}


def entropy(values) -> float:
    """Bits of independent values of this distribution."""
    counts = np.unique(values, return_counts=True)[1]
    return float(counts @ -np.log2(counts / counts.sum()))


def source(kind, density, shape, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "laplacian":
        scale = 20 if density == 1 else 0.5 / -np.log(density)  # of rounded values, about this share is not 0
        return np.rint(rng.laplace(0, scale, shape)).astype(np.int64)
    sizes = rng.geometric(0.4, shape) if kind == "geometric" else 1
    return sizes * rng.choice([-1, 1], shape) * (rng.random(shape) < density)


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("kind", ["laplacian", "geometric", "ternary"])
def test_codes_are_within_2_percent_of_what_they_code(kind, size):
    for density in (0.03, 0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1):
        levels = source(kind, density, SHAPES[size])
        constant = Packed(Coding(Constant(levels)), levels.shape)
        data, _ = pack([Tensor("weights", constant)])
        (found,) = describe(data)
        ratio = (found.code_bits + found.raw_bits) / entropy(levels)
        print(
            f"{kind} {size} {density}: {found.coder} R={found.longest} D={found.direct} S={found.substreams}"
            f" redundancy {found.redundancy:.4f}, of the levels' entropy {ratio:.4f}"
        )
        assert found.redundancy < 0.02
        assert ratio < 1.03
        assert abs(estimated_bits(levels) / coded_bits(levels) - 1) < 0.015
        assert unpack(data)[0].constant == constant


def test_value_classes_alone_would_lose():
    """A code of every level is far from the entropy where most are 0; joint symbols are not."""
    levels = source("geometric", 0.1, SHAPES[50_000])
    layer = Layer(levels)
    bits = {longest: layer.bits(Method("run", longest, 5)) for longest in (0, 5)}
    assert bits[0] > 1.2 * entropy(levels)
    assert bits[5] < 1.03 * entropy(levels)


def test_coded_bits_are_the_bits_of_the_file():
    for number, shape in enumerate([(9, 40, 30), (1, 7, 3), (1, 3000, 20)]):
        levels = random_levels(np.random.default_rng(number), shape, 0.3, 3)
        data, breakdown = pack([Tensor("weights", Packed(Coding(Constant(levels)), shape))])
        (found,) = describe(data)
        sizes = breakdown["header"] + 64 * found.substreams
        assert coded_bits(levels) == sum(breakdown.values()) - sizes


def test_no_other_method_is_much_better():
    """The search looks at few alphabets; the others would save less than 1 %."""
    for density, scale in ((0.05, 1), (0.2, 4), (0.5, 2), (1, 12)):
        levels = random_levels(np.random.default_rng(1), (9, 20, 60), density, scale)
        layer = Layer(levels)
        least = min(
            layer.bits(Method("run", longest, direct))
            for longest in (0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 20, 25, 31, 40, 50, 63)
            for direct in (1, 2, 3, 4, 6, 8, 10, 14, 20, 30)
            if layer.scan.alphabet("run", longest, direct).is_valid
        )
        assert layer.best[0] < 1.01 * least


def test_levels_too_large_to_code():
    for level in (1 << 17, -(1 << 17), 1 << 32, 1 << 40):
        with pytest.raises(PassError):
            coded_bits(np.full((1, 1, 1), level))


def test_estimates_are_fast():
    levels = random_levels(np.random.default_rng(1), (9, 256, 174), 0.3, 3)
    fastest = []
    for _ in range(5):
        start = time.process_time()
        estimated_bits(levels)
        fastest.append(time.process_time() - start)
    print(f"400,000 levels: {1e3 * min(fastest):.1f} ms")
    assert min(fastest) < 0.1


def test_decoding_is_fast():
    levels = random_levels(np.random.default_rng(1), (9, 256, 512), 0.3, 2)
    data, _ = pack([Tensor("weights", Packed(Coding(Constant(levels)), levels.shape))])
    start = time.process_time()
    unpack(data)
    speed = levels.size / (time.process_time() - start)
    print(f"{speed / 1e6:.1f} million weights a second")
    assert speed > 1e6


# The pieces.


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2**40)), max_size=60))
def test_fields_come_back(pairs):
    widths = np.array([width for width, _ in pairs], np.int64)
    values = np.array([value % (1 << width) for width, value in pairs], np.int64)
    starts_at = np.cumsum(widths) - widths
    data = pack_fields(values, widths, highest_first=False)
    assert fields(data, starts_at, widths).tolist() == values.tolist()
    assert len(data) == -(-int(widths.sum()) // 8)
    high = pack_fields(values, widths, highest_first=True)
    text = "".join(f"{byte:08b}" for byte in high)
    assert [int(text[a : a + w] or "0", 2) for a, w in zip(starts_at, widths, strict=True)] == values.tolist()


@given(st.binary(max_size=20))
def test_windows_show_12_bits(data):
    text = "".join(f"{byte:08b}" for byte in data) + "0" * 12
    shown = windows(data, 0, len(data)).ravel()
    assert shown.tolist() == [int(text[i : i + 12], 2) for i in range(8 * len(data))]


@given(st.integers(1, (1 << 17) - 1), st.integers(0, 130))
def test_classes_tile_the_magnitudes(magnitude, direct):
    level = int(classes_of(np.array([magnitude]), direct)[0])
    alphabet = Alphabet(0, direct, max(level, direct) + 1)
    extra, base = int(alphabet.extra[level]), int(alphabet.base[level])
    assert base <= magnitude < base + (1 << extra)
    assert alphabet.raw[level] == extra + 1
    assert (extra == 0) == (magnitude <= direct + 1)
    assert alphabet.is_valid


def test_zeros_have_class_0():
    assert classes_of(np.array([0, 1, 2, 3, 4, 5, 6]), 1).tolist() == [0, 1, 2, 3, 3, 4, 4]
    assert Alphabet(3, 1, 5).raw.tolist() == [0, 1, 1, 2, 3]


@given(st.integers(1, 200), st.integers(1, 64))
def test_substreams_hold_all_outputs(outputs, substreams):
    bounds = starts(outputs, min(substreams, outputs))
    assert bounds[0] == 0
    assert bounds[-1] == outputs
    assert (np.diff(bounds) >= 1).all()


def sections(levels, method):
    """The one substream of (1, columns, outputs) levels."""
    layer = Layer(levels)
    (book,) = dictionaries([layer]) if method is None else [None]
    scan, coder = layer.scan, method.coder if method else book.method.coder
    alphabet = scan.alphabet(coder, method.longest, method.direct) if method else book.alphabet
    code = Code(code_lengths(scan.counts(coder, alphabet)))
    ((codes, raw),) = scan.encode(coder, alphabet, code)
    return codes, raw, alphabet, code


@pytest.mark.parametrize("method", [Method("run", 3, 2), Method("csr", 0, 2)], ids=["run", "csr"])
def test_a_section_is_used_up_exactly(method):
    levels = random_levels(np.random.default_rng(3), (1, 13, 9), 0.4, 3)
    codes, raw, alphabet, code = sections(levels, method)
    scanned = levels.transpose(2, 0, 1).reshape(9, 13)

    def decode(codes, raw, shape=(9, 13)):
        found = np.zeros(shape, np.int32)
        if method.coder == "run":
            decode_run(codes, raw, alphabet, code, found.reshape(-1))
        else:
            decode_csr(codes, raw, alphabet, code, found)
        return found

    assert decode(codes, raw).tolist() == scanned.tolist()
    for damage in (
        (codes[:-1], raw), (codes, raw[:-1]), (codes + b"\0", raw), (codes, raw + b"\0"), (b"", raw), (codes, b""),
    ):  # fmt: skip
        with pytest.raises(ModelError):
            decode(*damage)
    for shape in ((8, 13), (11, 13), (9, 17)):
        with pytest.raises(ModelError):
            decode(codes, raw, shape)


def test_events_are_nonzeros_and_ends():
    scan = Scan(np.array([0, 3, 0, 0, 0, 0, -1, 0]).reshape(1, 2, 4), 2)
    flat = np.array([0, 3, 0, 0, 0, 0, -1, 0]).reshape(2, 4).T.ravel()
    assert scan.bounds.tolist() == [0, 4, 8]
    assert scan.positions.tolist() == sorted({*np.flatnonzero(flat).tolist(), 3, 7})
    assert (scan.gaps.sum() + len(scan.gaps)) == 8
