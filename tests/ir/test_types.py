"""Tensor types: the narrowest one for a range, ranges that fit, binary points per channel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.errors import PassError, ToolchainError
from toolchain.ir import FixedType, RealType, TensorType
from toolchain.ir.types import needed_width


@given(st.integers(-(2**80), 2**80), st.integers(0, 2**80))
def test_needed_width_is_the_fewest_bits(low, span):
    high = low + span
    width, signed = needed_width(low, high)
    type = FixedType(width, width, signed)
    assert type.low <= low
    assert high <= type.high
    assert signed == (low < 0)
    if width > 1:
        narrower = FixedType(width - 1, width - 1, signed)
        assert low < narrower.low or high > narrower.high


def test_exhaustively_for_small_ranges():
    for low in range(-9, 10):
        for high in range(low, 10):
            width, signed = needed_width(low, high)
            fits = [
                w for w in range(1, 6) if FixedType(w, w, signed).low <= low and high <= FixedType(w, w, signed).high
            ]
            assert width == fits[0]


@pytest.mark.parametrize(("low", "high"), [(-129, 0), (0, 128), (5, 4), (-200, 200)])
def test_ranges_that_do_not_fit(low, high):
    with pytest.raises(PassError, match="does not fit"):
        TensorType((3,), 8, True, (0,), low, high)


def test_binary_points():
    assert TensorType((2, 3), 8, True, (4, 4, 4), 0, 1).fractions == (4,)
    mixed = TensorType((2, 3), 8, True, (4, 2, 4), 0, 1)
    assert not mixed.is_scalar
    assert mixed.fixed == FixedType(8, 6)
    with pytest.raises(PassError, match="single binary point"):
        mixed.fraction  # noqa: B018 - raises
    for count in (2, 4, 0):
        with pytest.raises(PassError):
            TensorType((2, 3), 8, True, tuple(range(count)), 0, 1)
    with pytest.raises(PassError):
        TensorType((), 8, True, (1, 2), 0, 1)
    with pytest.raises(ToolchainError):
        TensorType((3,), 0, True, (0,), 0, 0)


def test_sizes_and_texts():
    assert RealType(()).size == 1
    assert RealType((2, 0, 3)).size == 0
    assert str(RealType((1, 28))) == "real[1, 28]"
    assert str(TensorType.of((2,), FixedType(8, 3))) == "fixed<8,3>[2] in [-128, 127]"
    assert str(TensorType((2,), 8, False, (1, 9), 0, 3)) == "ufixed<8,7>[2] in [0, 3] points [1, 9]"
    assert TensorType.holding((1,), -3, 900, (2,)).magnitude == 900
    assert TensorType.of((1,), FixedType(5, 5)).cpp == "ap_int<5>"
    assert TensorType.of((1,), FixedType(5, 5, False)).cpp == "ap_uint<5>"
