"""Packed weights: the exact integer combination, its rounding, identity, text form, and refusal of nonsense."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.packing.codings import random_coding
from toolchain.errors import ModelError, PassError
from toolchain.ir import Constant, FixedType, Graph, Input, Node, Output, Overflow, RealType, Rounding
from toolchain.ir.text import from_text, to_text
from toolchain.ir.window import Window
from toolchain.ops.conv import Conv
from toolchain.ops.quantize import Quantize
from toolchain.packing.basis import Transform
from toolchain.packing.packed import Clusters, Coding, Packed

numbers = st.integers(0, 200)
LEVELS = Constant(np.arange(36).reshape(9, 2, 2) - 18)
TAPS = Transform("taps", 3, 3)


def combination(coding):
    """The weights before rounding, one at a time, in Python's integers."""
    taps, channels, outputs = coding.levels.shape
    levels, matrix = coding.levels.array.tolist(), coding.transform.matrix.tolist()
    size, kind = coding.transform.size, coding.transform.kind
    weights = np.zeros((taps, channels, outputs), dtype=object)
    for t in range(taps):
        for c in range(channels):
            block, inside = {
                "none": (t * channels + c, 0),
                "taps": (c, t),
                "channels": (t * (channels // size) + c // size, c % size),
            }[kind]
            for m in range(outputs):
                for f in range(size):
                    place = {"none": (t, c), "taps": (f, c), "channels": (t, c - inside + f)}[kind]
                    value = levels[place[0]][place[1]][m]
                    if coding.clusters:
                        centre = int(coding.clusters.indices.array[block, m])
                        value += int(coding.clusters.centres.array[centre, f])
                    weights[t, c, m] += value * 2 ** coding.shifts[f] * matrix[f][inside]
    return weights


def small_coding(number):
    """Of at most a few hundred weights: the combination above is slow."""
    transforms = [("none", 1, 1), ("taps", 3, 3), ("channels", 1, 4), ("taps", 1, 7), ("channels", 3, 2)]
    return random_coding(np.random.default_rng(number), number, transform=transforms[number % 5])


@pytest.mark.parametrize("number", range(15))
def test_weights_are_the_integer_combination(number):
    coding = small_coding(number)
    exact = combination(coding)
    assert np.array_equal(replace(coding, rounded=0).weights(), exact)
    halves = 1 << coding.rounded >> 1
    assert np.array_equal(coding.weights(), (exact + halves) >> coding.rounded)  # Python floors: half up
    assert np.array_equal(Packed(coding, (coding.levels.array.size,)).array, coding.weights().ravel())


def test_rounding_is_half_up():
    """Ties on both sides of 0, by 1 and 2 bits."""
    levels = Constant(np.array([-6, -3, -2, -1, 0, 1, 2, 3, 6]).reshape(1, 9, 1))
    assert Coding(levels, rounded=1).weights().ravel().tolist() == [-3, -1, -1, 0, 0, 1, 1, 2, 3]
    assert Coding(levels, rounded=2).weights().ravel().tolist() == [-1, -1, 0, 0, 0, 0, 1, 1, 2]


@given(numbers)
def test_scaled_coefficients_give_the_weights(number):
    """What the basis stage's results are multiplied by: x . w == Z . scaled."""
    coding = replace(random_coding(np.random.default_rng(number), number), rounded=0)
    taps, channels, outputs = coding.levels.shape
    x = np.random.default_rng(1).integers(-128, 128, (2, taps * channels))
    sums = coding.transform.along(x, taps) @ coding.scaled.reshape(-1, outputs)
    assert np.array_equal(x @ coding.weights().reshape(-1, outputs), sums)


def test_digests_tell_codings_apart():
    """Each part of a coding counts, even where the weights are the same."""
    coding = Coding(LEVELS, TAPS, (0,) * 9)
    clusters = Clusters(Constant(np.zeros((1, 9), int)), Constant(np.zeros((2, 2), int)))
    others = [
        replace(coding, levels=Constant(LEVELS.array + 1)),
        replace(coding, transform=Transform("taps", 9, 1)),
        replace(coding, shifts=(0,) * 8 + (1,)),
        replace(coding, clusters=clusters),
        replace(coding, rounded=1),
        Coding(LEVELS),
    ]
    packed = [Packed(one, (3, 3, 2, 2)) for one in (coding, *others)] + [Packed(coding, (9, 2, 2))]
    plain = Constant(packed[0].array)
    assert len({p.digest for p in (*packed, plain)}) == len(packed) + 1
    assert len({*packed, plain}) == len(packed) + 1
    assert packed[0] != plain
    assert packed[0] == Packed(Coding(Constant(LEVELS.array.copy()), TAPS, (0,) * 9), (3, 3, 2, 2))
    assert np.array_equal(packed[0].array, packed[4].array)  # the centre is 0


def graph_of(coding):
    """A convolution with these weights."""
    kernel = (coding.transform.rows, coding.transform.columns)
    kernel = kernel if coding.transform.kind == "taps" else (1, coding.levels.shape[0])
    channels, outputs = coding.levels.shape[1:]
    entry = Node("entry", Quantize(FixedType(8, 8, True, Rounding.RND, Overflow.SAT)), ("x",), "x")
    weights, fractions = Packed(coding, (*kernel, channels, outputs)), (4,) * outputs
    conv = Conv(weights, Constant(np.arange(outputs)), Window(kernel), 1, FixedType(24, 20), fractions)
    nodes = (entry, Node("conv", conv, ("entry",), "conv"))
    given = Input("x", RealType((12, 12, channels)), (0, 1, 2))
    return Graph("packed", (given,), nodes, (Output("y", "conv", (0, 1, 2)),))


def check_text(graph, constants):
    """What comes back is packed, equal, and prints the same."""
    text = to_text(graph, constants)
    back = from_text(text, constants or ())
    assert back == graph
    weights, wanted = back.nodes[-1].operator.weights, graph.nodes[-1].operator.weights
    assert isinstance(weights, Packed)
    assert weights.coding == wanted.coding
    assert to_text(back, None if constants is None else []) == text


@pytest.mark.parametrize("number", range(12))
def test_text_form_with_constants_beside_it(number):
    constants: list[Constant] = []
    check_text(graph_of(small_coding(number)), constants)
    assert any(isinstance(one, Packed) for one in constants)


@pytest.mark.parametrize("number", range(12))
def test_text_form_with_constants_in_it(number):
    check_text(graph_of(small_coding(number)), None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rounded": 0', '"rounded": 33'),
        ('"rounded": 0', '"rounded": 0.5'),
        ('"rounded": 0', '"rounded": 0, "more": 1'),
        ('"kind": "taps"', '"kind": "tap"'),
        ('"kind": "taps", "rows": 3', '"kind": "taps", "rows": 2'),
        ('"kind": "taps", "rows": 3', '"kind": "taps", "rows": -3'),
        ('"shifts": [0, ', '"shifts": [0.5, '),
        ('"shifts": [0, ', '"shifts": [-1, '),
        ('"shifts": [0, ', '"shifts": ['),
        ('"shape": [3, 3, 2, 2]', '"shape": [3, 3, 2, 3]'),
        ("[[[-18, ", "[[[0.5, "),
        ("[[[-18, ", "[[[1180591620717411303424, "),
        ("[[[-18, ", "[[[4611686018427387904, "),
    ],
)
def test_damaged_text(old, new):
    text = to_text(graph_of(Coding(LEVELS, TAPS, (0,) * 9)))
    assert old in text
    from_text(text)
    with pytest.raises(ModelError):
        from_text(text.replace(old, new))


def clusters(centres=2, size=9, indices=(2, 2), value=0):
    return Clusters(Constant(np.zeros((centres, size), int)), Constant(np.full(indices, value)))


@pytest.mark.parametrize(
    "changes",
    [
        {"transform": Transform("taps", 3, 2)},
        {"transform": Transform("channels", 1, 4)},
        {"shifts": (0,) * 8},
        {"shifts": (0,) * 8 + (33,)},
        {"shifts": (0,) * 8 + (-1,)},
        {"rounded": -1},
        {"rounded": 33},
        {"clusters": clusters(size=8)},
        {"clusters": clusters(centres=0)},
        {"clusters": clusters(indices=(2, 3))},
        {"clusters": clusters(indices=(9, 2, 2))},
        {"clusters": clusters(value=2)},
        {"clusters": clusters(value=-1)},
        {"clusters": Clusters(Constant(np.zeros((2, 9))), Constant(np.zeros((2, 2), int)))},
        {"clusters": Clusters(Constant(np.zeros((2, 9), int)), Constant(np.zeros((2, 2))))},
        {"clusters": Clusters(Constant(np.zeros(9, int)), Constant(np.zeros((2, 2), int)))},
        {"levels": Constant(LEVELS.array.reshape(9, 4))},
        {"levels": Constant(LEVELS.array.astype(float))},
        {"levels": Constant(np.full((9, 2, 2), 1 << 40))},
        {"levels": Constant(np.full((9, 2, 2), 1 << 70, dtype=object))},
    ],
)
def test_nonsense_is_refused(changes):
    coding = Coding(LEVELS, TAPS, (0,) * 9)
    with pytest.raises(PassError):
        replace(coding, **changes)


def test_the_largest_coding_does_not_wrap():
    """Levels, centres, shifts and basis at their limits: the sums stay below 2**63."""
    largest = (1 << 17) - 1
    transform = Transform("taps", 11, 11)
    signs = np.where(transform.matrix[:, 0] < 0, -1, 1)[:, None, None]  # all terms of one weight pull the same way
    common = Clusters(Constant(largest * signs.reshape(1, -1)), Constant(np.zeros((1, 1), int)))
    coding = Coding(Constant(largest * signs), transform, (32,) * 121, common)
    assert coding.weights()[0, 0, 0] == 2 * largest * 2**32 * int(np.abs(transform.matrix[:, 0]).sum())
    assert np.array_equal(coding.weights(), combination(coding))


def test_a_shape_of_another_size_is_refused():
    with pytest.raises((PassError, ValueError)):
        Packed(Coding(LEVELS, TAPS, (0,) * 9), (3, 3, 2, 3))
