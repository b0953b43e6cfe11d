"""Fixed-point types and arithmetic: against exact fractions, and against the real ap_fixed."""

import math
import pickle
import random
from dataclasses import FrozenInstanceError, dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.cpp import compile_and_run
from toolchain.errors import ConfigurationError, InputError
from toolchain.ir.fixed import (
    FixedType,
    Overflow,
    Rounding,
    apply_overflow,
    dequantize,
    quantize,
    requantize,
    round_shift,
)

ROUNDINGS, OVERFLOWS = list(Rounding), list(Overflow)
INT64 = range(-(2**63), 2**63)

# --- the meaning, in fractions and words, written without looking at the implementation ---------------------------


def nearest_integer(value: Fraction, mode: Rounding) -> int:
    down, up = math.floor(value), math.ceil(value)
    if mode is Rounding.TRN:
        return down
    if mode is Rounding.TRN_ZERO:
        return down if value >= 0 else up
    if value - down != Fraction(1, 2):
        return down if value - down < Fraction(1, 2) else up
    towards_zero, away = (down, up) if value >= 0 else (up, down)
    return {
        Rounding.RND: up,
        Rounding.RND_MIN_INF: down,
        Rounding.RND_ZERO: towards_zero,
        Rounding.RND_INF: away,
        Rounding.RND_CONV: down if down % 2 == 0 else up,
    }[mode]


def fold(value: int, width: int) -> int:
    """WRAP_SM: past a limit the numbers run backwards, a triangle wave of period 2 ** (width + 1)."""
    phase = (value + 2 ** (width - 1)) % 2 ** (width + 1)
    return (phase if phase < 2**width else 2 ** (width + 1) - 1 - phase) - 2 ** (width - 1)


def into_range(value: int, width: int, signed: bool, mode: Overflow) -> int:
    low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if signed else (0, 2**width - 1)
    if mode is Overflow.SAT_SYM and signed and width > 1:  # ap_fixed lets a single bit reach -1
        low = -high
    if low <= value <= high:
        return value
    if mode is Overflow.WRAP:
        return (value - low) % 2**width + low
    if mode is Overflow.WRAP_SM:
        return fold(value, width)
    if mode is Overflow.SAT_ZERO:
        return 0
    return low if value < low else high


def narrowed(value: Fraction, target: FixedType) -> int:
    rounded = nearest_integer(value, target.rounding)
    result = into_range(rounded, target.width, target.signed, target.overflow)
    carried_out = rounded > value and rounded % 2**target.width == 0 and not target.low <= rounded <= target.high
    if target.overflow is Overflow.WRAP_SM and carried_out:
        return -1 - result  # ap_fixed looks at the deleted bit before rounding, which the carry then flips
    return result


def check(got: np.ndarray, expected: list[int]) -> None:
    assert got.ravel().tolist() == expected
    assert got.dtype == (np.int64 if all(value in INT64 for value in expected) else np.object_)


# --- strategies ---------------------------------------------------------------------------------------------------


UP_TO_80_BITS = st.integers(1, 80)


@st.composite
def types(draw, widths=UP_TO_80_BITS):
    signed = draw(st.booleans())
    overflows = OVERFLOWS if signed else [mode for mode in OVERFLOWS if mode is not Overflow.WRAP_SM]
    width = draw(widths)
    return FixedType(
        width,
        width - draw(st.integers(-40, 60)),
        signed,
        draw(st.sampled_from(ROUNDINGS)),
        draw(st.sampled_from(overflows)),
    )


@st.composite
def integers(draw):
    """Any size, often beside a power of two or half of one."""
    scale = 2 ** draw(st.integers(0, 130))
    return draw(st.integers(-6, 6)) * scale // 2 + draw(st.integers(-2, 2) | st.integers(-scale, scale))


arrays = st.lists(integers(), min_size=1, max_size=8)
int64_arrays = st.lists(integers().filter(lambda value: value in INT64), min_size=1, max_size=8)


# --- types and their text -----------------------------------------------------------------------------------------


@given(types(st.integers(1, 1024)).filter(lambda t: abs(t.fraction) <= 1022))
def test_text_round_trips(t):
    assert FixedType.parse(str(t)) == t
    assert FixedType.parse(t.cpp) == t
    assert pickle.loads(pickle.dumps(t)) == t  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("text", "full", "cpp"),
    [
        ("fixed<8,3,RND,SAT>", "fixed<8,3,RND,SAT>", "ap_fixed<8, 3, AP_RND, AP_SAT>"),
        ("ufixed<8,3>", "ufixed<8,3,TRN,WRAP>", "ap_ufixed<8, 3, AP_TRN, AP_WRAP>"),
        (" fixed < 16 , -6 , RND_CONV > ", "fixed<16,-6,RND_CONV,WRAP>", "ap_fixed<16, -6, AP_RND_CONV, AP_WRAP>"),
        ("ap_ufixed<4,+9,AP_TRN_ZERO,AP_SAT_SYM,0>", "ufixed<4,9,TRN_ZERO,SAT_SYM>", None),
    ],
)
def test_parse(text, full, cpp):
    t = FixedType.parse(text)
    assert str(t) == full
    assert cpp in (None, t.cpp)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not of the form"),
        ("float", "not of the form"),
        ("fixed<8,3", "not of the form"),
        ("Fixed<8,3>", "not of the form"),
        ("fixed<8,3>;", "not of the form"),
        ("sfixed<8,3>", "not of the form"),
        ("fixed<<8,3>>", "not of the form"),
        ("fixed<>", "1 of the 2 to 4 parts"),
        ("fixed<8>", "1 of the 2 to 4 parts"),
        ("fixed<8,3,RND,SAT,0,0>", "6 of the 2 to 4 parts"),
        ("fixed<8.0,3>", "'8.0' is no width"),
        ("fixed<8,>", "'' is no number of integer bits"),
        ("fixed<٨,3>", "no width"),
        ("fixed<9999999,3>", "no width"),
        ("fixed<8,3,ROUND>", "'ROUND' is no rounding mode; there are TRN, TRN_ZERO,"),
        ("fixed<8,3,SAT,RND>", "'SAT' is no rounding mode"),
        ("fixed<8,3,RND,rnd>", "'rnd' is no overflow mode; there are WRAP, SAT,"),
        ("fixed<8,3,RND,SAT,1>", "fifth part"),
        ("fixed<0,0>", "width 0"),
        ("fixed<-8,3>", "width -8"),
        ("fixed<1025,3>", "outside 1 to 1024"),
        ("fixed<8,99999>", "float64 cannot hold"),
        ("ufixed<8,3,RND,WRAP_SM>", "WRAP_SM needs a signed type"),
        (8, "not 8"),
        (None, "not None"),
    ],
)
def test_parse_refuses(text, complaint):
    with pytest.raises(ConfigurationError) as caught:
        FixedType.parse(text)
    assert complaint in str(caught.value)
    assert "fixed<8,3" in str(caught.value) or "Choose" in str(caught.value), "no way out is shown"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [(8.0, 3), ("8", 3), (True, 1), (8, None), (8, 3, True, "ROUND")])
def test_fields_are_checked(arguments):
    with pytest.raises(ConfigurationError):
        FixedType(*arguments)


def test_properties():
    t = FixedType(8, 3)
    assert (t.fraction, t.low, t.high, t.step) == (5, -128, 127, 2.0**-5)
    u = FixedType(np.int64(4), 6, signed=False)
    assert (u.fraction, u.low, u.high, u.step) == (-2, 0, 15, 4.0)
    assert type(u.width) is int
    assert (FixedType(1, 1).low, FixedType(1, 1).high) == (-1, 0)
    with pytest.raises(FrozenInstanceError):
        t.width = 9


# --- arithmetic against exact fractions ---------------------------------------------------------------------------


@given(arrays, st.integers(-70, 140), st.sampled_from(ROUNDINGS))
def test_round_shift(raws, shift, mode):
    check(
        round_shift(np.array(raws, object), shift, mode),
        [nearest_integer(Fraction(r) / Fraction(2) ** shift, mode) for r in raws],
    )


@given(int64_arrays, st.integers(-70, 70), st.sampled_from(ROUNDINGS))
@example([-(2**63)], 64, Rounding.RND_INF)
@example([-(2**63), 2**63 - 1], 63, Rounding.RND_CONV)
@example([1], -63, Rounding.TRN)
@example([-1], -63, Rounding.TRN)
def test_round_shift_of_int64(raws, shift, mode):
    check(
        round_shift(np.array(raws, np.int64), shift, mode),
        [nearest_integer(Fraction(r) / Fraction(2) ** shift, mode) for r in raws],
    )


@given(st.data(), st.sampled_from(ROUNDINGS), st.booleans())
def test_round_shift_per_channel(data, mode, wide):
    channels = data.draw(st.integers(1, 4))
    element = integers() if wide else integers().filter(lambda value: value in INT64)
    raws = data.draw(st.lists(st.lists(element, min_size=channels, max_size=channels), min_size=1, max_size=3))
    shifts = data.draw(st.lists(st.integers(-70, 70) | st.integers(0, 9), min_size=channels, max_size=channels))
    got = round_shift(np.array(raws, object if wide else np.int64), np.array(shifts), mode)
    assert got.shape == (len(raws), channels)
    check(
        got,
        [
            nearest_integer(Fraction(r) / Fraction(2) ** s, mode)
            for row in raws
            for r, s in zip(row, shifts, strict=True)
        ],
    )


@given(arrays, types())
def test_apply_overflow(raws, t):
    got = apply_overflow(np.array(raws, object), t.width, t.signed, t.overflow)
    check(got, [into_range(r, t.width, t.signed, t.overflow) for r in raws])


@given(arrays, st.integers(-70, 140), types())
def test_requantize(raws, shift, t):
    got = requantize(np.array(raws, object), shift, t)
    check(got, [narrowed(Fraction(r) / Fraction(2) ** shift, t) for r in raws])
    assert all(t.low <= r <= t.high for r in got.tolist())


@given(int64_arrays, st.integers(-3, 12), types(st.integers(1, 9)))
def test_requantize_of_int64_to_narrow_types(raws, shift, t):
    got = requantize(np.array(raws, np.int64), shift, t)
    check(got, [narrowed(Fraction(r) / Fraction(2) ** shift, t) for r in raws])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.uint64, ">i4", bool, object])
def test_integer_types(dtype):
    raws = np.array([0, 1, 1, 0], dtype) if dtype is bool else np.array([0, 1, 127, 64], dtype)
    check(round_shift(raws, 1, Rounding.RND), [(int(r) + 1) // 2 for r in raws])


def test_integers_of_64_bits_never_wrap():
    top = np.array([2**64 - 1], np.uint64)
    check(round_shift(top, 0, Rounding.TRN), [2**64 - 1])
    check(round_shift(top, 1, Rounding.RND), [2**63])
    check(round_shift(np.array([np.int64(2**62)], object), -5, Rounding.TRN), [2**67])
    check(apply_overflow(np.array([-1]), 64, False, Overflow.WRAP), [2**64 - 1])
    check(apply_overflow(np.array([-1]), 100, False, Overflow.SAT), [0])
    check(apply_overflow(np.array([-(2**63)]), 64, True, Overflow.SAT_SYM), [-(2**63) + 1])


def test_shapes():
    t = FixedType(8, 3, True, Rounding.RND, Overflow.SAT)
    assert requantize(5, 1, t).shape == ()
    assert requantize(np.zeros((0, 3), np.int64), np.zeros(3, np.int64), t).shape == (0, 3)
    assert requantize(np.zeros((0,)), 1, t).dtype == np.int64
    assert requantize(np.ones((2, 1, 3), np.int64), np.array([0, 1, 70]), t).tolist() == [[[1, 1, 0]], [[1, 1, 0]]]
    assert requantize(np.int64(3), np.array([0, 1, -1]), t).tolist() == [3, 2, 6]
    assert quantize(1.5, t).shape == ()
    assert quantize(np.zeros((2, 0)), t).shape == (2, 0)
    assert dequantize(3, 1).shape == ()


def test_results_share_no_memory_with_the_arguments():
    raws, t = np.array([1, 2]), FixedType(8, 8)
    for got in (
        round_shift(raws, 0, Rounding.TRN),
        apply_overflow(raws, 8, True, Overflow.SAT),
        requantize(raws, 0, t),
    ):
        assert not np.shares_memory(got, raws)


def test_arguments_are_not_changed():
    raws, shifts = np.array([-200, 3, 900]), np.array([1, 0, 2])
    for overflow in OVERFLOWS:
        requantize(raws, shifts, FixedType(4, 4, True, Rounding.RND_CONV, overflow))
    assert raws.tolist() == [-200, 3, 900]
    assert shifts.tolist() == [1, 0, 2]
    values = np.array([1e9, -0.0, 0.3])
    quantize(values, FixedType(4, 2))
    assert values.tolist() == [1e9, 0.0, 0.3]


def test_what_holds_no_integers_is_refused():
    for raw in (1.0, np.array([1.0]), np.array([1.0], object), "1"):
        with pytest.raises(TypeError):
            round_shift(raw, 1, Rounding.TRN)
    with pytest.raises(TypeError):
        round_shift(1, 0.5, Rounding.TRN)
    with pytest.raises(ConfigurationError):
        round_shift(1, -(2**40), Rounding.TRN)
    with pytest.raises(ConfigurationError):
        apply_overflow(1, 8, False, Overflow.WRAP_SM)
    with pytest.raises(ConfigurationError):
        apply_overflow(1, 0, True, Overflow.SAT)


# --- entry and exit -----------------------------------------------------------------------------------------------


def entered(x: float, t: FixedType) -> int:
    scaled = Fraction(x) * Fraction(2) ** t.fraction
    raw = round(scaled) if t.rounding is Rounding.RND_CONV else math.floor(scaled + Fraction(1, 2))
    return min(max(raw, t.low), t.high)


@st.composite
def reals(draw, t):
    """Anything finite; ties and their neighbours; limits and their neighbours."""
    kind = draw(st.sampled_from(["any", "tie", "limit"]))
    if kind == "any":
        return draw(st.floats(allow_nan=False, allow_infinity=False))
    raw = draw(st.integers(-300, 300) if kind == "tie" else st.sampled_from([t.low, t.high, t.high + 1]))
    x = math.ldexp(raw + draw(st.sampled_from([-0.5, 0.0, 0.5])), -t.fraction)
    return float(np.nextafter(x, draw(st.sampled_from([-np.inf, x, np.inf]))))


@given(st.data(), types(st.integers(1, 12) | st.integers(1, 100)))
def test_quantize(data, t):
    values = data.draw(st.lists(reals(t), min_size=1, max_size=8))
    check(quantize(np.array(values), t), [entered(x, t) for x in values])


@given(st.data(), types(st.integers(1, 12) | st.integers(1, 100)), st.sampled_from([np.float16, np.float32, ">f4"]))
def test_quantize_narrow_floats(data, t, dtype):
    with np.errstate(over="ignore"):
        values = np.array(data.draw(st.lists(reals(t), min_size=1, max_size=8))).astype(dtype)
    values = np.where(np.isfinite(values), values, 0).astype(dtype)
    check(quantize(values, t), [entered(float(x), t) for x in values])


def test_quantize_on_ties_and_beside_them():
    t = FixedType(8, 8)
    just_below = np.nextafter(0.5, 0)
    values = [0.5, just_below, -0.5, np.nextafter(-0.5, -1), -just_below, 1.5, 2.5, -1.5, -0.0, 5e-324, -5e-324]
    assert quantize(np.array(values), t).tolist() == [1, 0, 0, -1, 0, 2, 3, -1, 0, 0, 0]
    # x * 2**f + 0.5 in float64 gives 2**52 + 2 here, and 1 for the number just below one half.
    assert quantize(np.array([2.0**52 + 1]), FixedType(60, 60)).tolist() == [2**52 + 1]
    assert quantize(np.array([127.4, 127.5, 1e308, -128.5, -128.6, -1e308]), t).tolist() == [127, 127, 127] + [-128] * 3
    assert quantize(np.array([-3.0, -0.0, 255.5, 300]), FixedType(8, 8, False)).tolist() == [0, 0, 255, 255]


def test_only_half_to_even_of_the_modes_plays_a_part_at_the_entry():
    values = np.arange(-160, 161) / 8  # every second one a tie
    up, even = quantize(values, FixedType(6, 4)), quantize(values, FixedType(6, 4, True, Rounding.RND_CONV))
    assert not np.array_equal(up, even)
    for rounding in ROUNDINGS:
        for overflow in OVERFLOWS:
            expected = even if rounding == Rounding.RND_CONV else up
            assert np.array_equal(quantize(values, FixedType(6, 4, True, rounding, overflow)), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_quantize_refuses_nan_and_infinity(bad):
    values = np.zeros((2, 3), np.float32)
    values[1, 2] = bad
    with pytest.raises(InputError, match=r"NaN or infinity in the inputs.*\[1, 2\]"):
        quantize(values, FixedType(8, 3))
    with pytest.raises(InputError, match=r"\[\]"):
        quantize(bad, FixedType(8, 3))


@pytest.mark.parametrize("values", [np.array([1]), np.array([1j]), np.array([True]), np.array(["1"]), np.array([None])])
def test_quantize_refuses_what_is_not_real(values):
    with pytest.raises(InputError, match="elements of type"):
        quantize(values, FixedType(8, 3))


@given(arrays, st.integers(-1100, 1200) | st.integers(-20, 20))
def test_dequantize_is_exact_or_refuses(raws, fraction):
    values = [Fraction(r) / Fraction(2) ** fraction for r in raws]
    try:
        representable = all(Fraction(float(v)) == v for v in values)
    except OverflowError:
        representable = False
    if representable:
        got = dequantize(np.array(raws, object), fraction)
        assert got.dtype == np.float64
        assert [Fraction(x) for x in got.tolist()] == values
    else:
        with pytest.raises(InputError, match="float64 cannot hold"):
            dequantize(np.array(raws, object), fraction)


def test_dequantize_per_channel():
    assert dequantize(np.array([[1, -3], [5, 7]]), np.array([1, -2])).tolist() == [[0.5, -12.0], [2.5, 28.0]]
    assert dequantize(np.array([2**63 - 1024]), 0).tolist() == [2.0**63 - 1024]
    with pytest.raises(InputError):
        dequantize(np.array([2**63 - 1]), 0)
    with pytest.raises(InputError):
        dequantize(np.array([10**400], object), 0)


@given(st.data(), types(st.integers(1, 53)))
def test_quantize_undoes_dequantize(data, t):
    raws = np.array(data.draw(st.lists(st.integers(t.low, t.high), min_size=1)), np.int64)
    assert np.array_equal(quantize(dequantize(raws, t.fraction), t), raws)


# --- against the real ap_fixed ------------------------------------------------------------------------------------

PROGRAM = """
#include <cstdint>
#include <cstdio>
#include <ap_fixed.h>

template <int W, bool S> void load(ap_private<W, S>& value, const uint64_t* words) {
  if (W > 64) {
    value = words[1];
    value <<= 64;
    value |= ap_private<W, S>(words[0]);
  } else {
    value = words[0];
  }
}
template <int W, bool S> void store(ap_private<W, S> value, uint64_t* words) {
  words[0] = value.to_uint64();
  if (W > 64) value >>= 64;
  words[1] = value.to_uint64();
}
template <class Target, class Source> void assign(uint64_t* words) {
  Source source;
  load(source.V, words);
  Target target;
  target = source;
  store(target.V, words);
}
using Function = void (*)(uint64_t*);
static const Function functions[] = {@FUNCTIONS@};

int main() {
  uint64_t words[2];
  for (Function function : functions)
    for (int i = 0; i < @COUNT@; i++) {
      if (fread(words, sizeof words, 1, stdin) != 1) return 1;
      function(words);
      fwrite(words, sizeof words, 1, stdout);
    }
}
"""
# NDEBUG: for a shift beyond the source's width the headers read a bit that is not there and then do not use it; in
# a debug build an assertion stops at that. C++14 compiles them in half the time that C++20 needs, whose rewritten
# comparison operators double the candidates of every ==.
FLAGS = {"flags": ("-O0", "-DNDEBUG", "-fno-exceptions"), "standard": "c++14"}


@dataclass(frozen=True)
class Case:
    target: FixedType
    source: FixedType

    @property
    def shift(self) -> int:
        return self.source.fraction - self.target.fraction


def base(t: FixedType) -> str:
    """The class under ap_[u]fixed, which costs the compiler less."""
    return f"ap_fixed_base<{t.width},{t.integer},{str(t.signed).lower()},AP_{t.rounding},AP_{t.overflow},0>"


def compare(cases: list[Case], raws: list[list[int]], spell, folder) -> None:
    """Assigns each case's raw integers in C++ and in Python; all must agree."""
    functions = ",\n".join(f"assign<{spell(c.target)}, {spell(c.source)}>" for c in cases)
    program = PROGRAM.replace("@FUNCTIONS@", functions).replace("@COUNT@", str(len(raws[0])))
    words = np.array([[r % 2**64, (r >> 64) % 2**64] for row in raws for r in row], np.uint64)
    output = compile_and_run(program, folder, stdin=words.tobytes(), **FLAGS)
    words = np.frombuffer(output, np.uint64).reshape(len(cases), len(raws[0]), 2)
    wrong = []
    for case, row, got in zip(cases, raws, words, strict=True):
        t = case.target
        bits = got[:, 0].astype(object) | (got[:, 1].astype(object) << 64)
        expected = (bits & (2**t.width - 1)) - ((bits >> (t.width - 1) & 1) << t.width if t.signed else 0)
        ours = requantize(np.array(row, object), case.shift, t)
        if not np.array_equal(ours, expected):
            i = int(np.argmax(ours != expected))
            wrong.append(f"{case.target} = {case.source}: raw {row[i]} expected {expected[i]}, got {ours[i]}")
    assert not wrong, f"{len(wrong)} of {len(cases)} assignments differ from ap_fixed:\n" + "\n".join(wrong[:20])


def modes(signed: bool) -> list[Overflow]:
    return [mode for mode in OVERFLOWS if signed or mode is not Overflow.WRAP_SM]


@pytest.mark.csim
@pytest.mark.parametrize(
    "width",
    [width if width in (1, 5, 8) else pytest.param(width, marks=pytest.mark.exhaustive) for width in range(1, 9)],
)
def test_every_assignment_of_8_bits(width, tmp_path):
    """All roundings x overflows x signs x shifts, and all 256 source values."""
    cases = []
    for signed in (True, False):
        for number, overflow in enumerate(modes(signed)):
            for source_signed in (True, False):
                for shift in range(-2, 11):
                    # Where no bit is removed, the rounding has nothing to do: there one takes its turn.
                    chosen = ROUNDINGS if shift > 0 else [ROUNDINGS[(number + shift + width) % 7]]
                    source = FixedType(8, 8 - shift, source_signed)
                    cases += [Case(FixedType(width, width, signed, q, overflow), source) for q in chosen]
    values = {True: list(range(-128, 128)), False: list(range(256))}
    compare(cases, [values[c.source.signed] for c in cases], base, tmp_path)


def sample(generator: random.Random, count: int, widths: list[int], furthest: int) -> list[Case]:
    cases = []
    while len(cases) < count:
        signed, width = generator.random() < 0.7, generator.choice(widths)
        rounding, overflow = generator.choice(ROUNDINGS), generator.choice(modes(signed))
        target = FixedType(width, width - generator.randint(-8, 40), signed, rounding, overflow)
        width = generator.choice(widths)
        shift = generator.randint(-12, width + furthest) if generator.random() < 0.7 else generator.randint(-70, 70)
        shift = min(shift, width + furthest)
        source = FixedType(width, width - target.fraction - shift, generator.random() < 0.7)
        cases.append(Case(target, source))
    return cases


def interesting(generator: random.Random, case: Case, count: int) -> list[int]:
    """Source values at the source's limits, around the target's limits, on ties and beside them, and random ones."""
    low, high, shift = case.source.low, case.source.high, case.shift
    values = {low, low + 1, high, high - 1, 0, 1, -1}
    half = 2 ** max(shift - 1, 0)
    for limit in (case.target.low, case.target.high, case.target.high + 1, 2 * case.target.low, 3 * case.target.low):
        centre = limit * 2 * half if shift > 0 else limit >> -shift
        values |= {centre + k * half + d for k in (-2, -1, 0, 1, 2) for d in (-1, 0, 1)}
    values = {value for value in values if low <= value <= high}
    for _ in range(count):
        some = generator.randint(low, high) >> generator.randint(0, case.source.width)
        values.add(min(max(some // half * half + generator.randint(-1, 1), low), high))
    return (generator.sample(sorted(values), len(values)) * count)[:count]


@pytest.mark.csim
@pytest.mark.parametrize(
    ("seed", "count", "widths", "furthest"),
    [
        pytest.param(1, 150, [1, 2, 3, 4, 5, 6, 7, 9, 12, 16], 6, id="up to 16 bits"),
        pytest.param(2, 200, [8, 13, 24, 31, 32, 33, 40, 48, 57, 62, 63, 64], 8, id="up to 64 bits"),
        pytest.param(3, 50, [8, 32, 63, 64, 65, 66, 90, 100], 0, id="up to 100 bits"),
    ],
)
def test_sampled_assignments(seed, count, widths, furthest, tmp_path):
    """Types spelt as `FixedType.cpp` does, so that the spelling and the binary points are tested too."""
    print(f"seed {seed}")
    generator = random.Random(seed)
    cases = sample(generator, count, widths, furthest)
    compare(cases, [interesting(generator, case, 200) for case in cases], lambda t: t.cpp, tmp_path)


def test_the_comparison_sees_a_difference(tmp_path, monkeypatch):
    """A mistake planted in Python must be caught."""
    monkeypatch.setattr("toolchain.ir.rounding._incremented", lambda floor, half, *_: floor + half)
    cases = [Case(FixedType(4, 4, True, Rounding.RND_CONV, Overflow.SAT), FixedType(8, 6))]
    with pytest.raises(AssertionError, match=r"1 of 1 assignments differ(.|\n)*expected .*, got"):
        compare(cases, [list(range(-128, 128))], base, tmp_path)


@pytest.mark.csim
def test_unsigned_sign_magnitude_wrap_is_refused_by_the_headers_too(tmp_path):
    source = "#include <ap_fixed.h>\nint main() { ap_fixed<8, 8> s = 3; ap_ufixed<4, 4, AP_TRN, AP_WRAP_SM> t; t = s; }"
    with pytest.raises(AssertionError, match=r"exit 1.*\n.*cannot support AP_WRAP_SM"):
        compile_and_run(source, tmp_path)
