"""Tables of functions: every entry is the nearest to what floats say, and ties and ends are what they should be."""

import numpy as np
import pytest
from scipy import special

from toolchain.errors import PassError
from toolchain.ir import FixedType
from toolchain.ir.tabulated import FUNCTIONS, Tabulated

REAL = {
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "exp(-x)": lambda x: np.exp(-x),
    "exp(x)": np.exp,
    "exp(-x)-1": lambda x: np.expm1(-x),
    "log(1+exp(-x))": lambda x: np.log1p(np.exp(-x)),
    "tanh(softplus(x))": lambda x: np.tanh(np.log1p(np.exp(x))),
    "x/(1+|x|)": lambda x: x / (1 + np.abs(x)),
    "erf": special.erf,
    "normal": special.ndtr,
    "normal by tanh": lambda x: 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}
ENTRY = FixedType(24, 8, True)


def test_every_function_is_tested():
    assert set(REAL) == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("index", [FixedType(9, 3, True), FixedType(8, 2, False), FixedType(10, 5, True)], ids=str)
def test_entries_are_the_nearest(name, index):
    patterns = np.arange(1 << index.width)
    raw = np.where(index.signed & (patterns > index.high), patterns - (1 << index.width), patterns)
    exact = REAL[name](np.ldexp(raw.astype(float), -index.fraction)) * 2.0**ENTRY.fraction
    wanted = np.clip(exact, ENTRY.low, ENTRY.high)
    # Half an entry, and what floats themselves are off.
    assert np.abs(Tabulated(name, index, ENTRY).array - wanted).max() <= 0.5 + 1e-6


def test_erf_is_odd_and_flat_far_out():
    table = Tabulated("erf", FixedType(12, 6, True), FixedType(30, 2, True)).array
    assert table[0] == 0
    np.testing.assert_array_equal(table[1 : 1 << 11], -table[: 1 << 11 : -1])
    assert table[(1 << 11) - 1] == 1 << 28


def test_an_unknown_function_is_refused():
    with pytest.raises(PassError, match="there is no table of 'cosine'"):
        Tabulated("cosine", FixedType(8, 2), ENTRY)
