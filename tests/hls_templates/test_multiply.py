"""Two products in one DSP slice are the two products: all values of 8-bit factors, the ends of other widths."""

import subprocess

import pytest

from tests.hls_templates.harness import TEMPLATES
from toolchain.codegen.kernel import Cost, can_pair, lut_multiplier, multiplier_kind, multipliers
from toolchain.verification.csim import ap_types

PROGRAM = """
#include <cstdio>
#include "multiply.h"
using namespace dct;

template <class A, class C>
long different(long long a, long long b, long long c) {
    ap_int<bits<A>::value + bits<C>::value + 1> first, second;
    multiplier<MULTIPLIER_PAIR>::pair(A(a), A(b), C(c), first, second);
    return first.to_int64() != a * c || second.to_int64() != b * c;
}

template <class A, class C>
long all(long long low_a, long long high_a, long long low_c, long long high_c) {
    long found = 0;
    for (long long a = low_a; a <= high_a; ++a)
        for (long long b = low_a; b <= high_a; ++b)
            for (long long c = low_c; c <= high_c; ++c) found += different<A, C>(a, b, c);
    return found;
}

template <class A, class C>
long ends(long long low_a, long long high_a, long long low_c, long long high_c) {
    const long long as[] = {low_a, low_a + 1, low_a / 2, 0, 1, high_a / 2, high_a - 1, high_a};
    const long long cs[] = {low_c, low_c + 1, low_c / 2, 0, 1, high_c / 2, high_c - 1, high_c};
    long found = 0;
    for (long long a : as)
        for (long long b : as)
            for (long long c : cs) found += different<A, C>(a, b, c);
    return found;
}

int main() {
    long found = 0;
CALLS
    return 0;
}
"""
ALL = [
    ((width, signed), (common, common_signed))
    for width in range(2, 13)
    for common in range(2, 19)
    for signed in (True, False)
    for common_signed in (True, False)
    if (signed or common_signed) and 2 * width + common < 25 and common + (not common_signed) <= 18
]
FULL = [pair for pair in ALL if pair[0][0] == pair[1][0] == 8]


def call(factor, common):
    values = []
    for width, signed in (factor, common):
        values += [-(2 ** (width - 1)), 2 ** (width - 1) - 1] if signed else [0, 2**width - 1]
    types = ", ".join(f"ap_{'' if signed else 'u'}int<{width}>" for width, signed in (factor, common))
    small = 2 * factor[0] + common[0] <= 17 or (factor, common) in FULL
    name = "all" if small else "ends"
    label = f"{factor} {common}"
    return f'    found = {name}<{types}>({", ".join(map(str, values))}); std::printf("%ld {label}\\n", found);'


@pytest.mark.csim
def test_two_products_in_one_slice_are_exact(tmp_path):
    assert len(FULL) == 3
    program = PROGRAM.replace("CALLS", "\n".join(call(*pair) for pair in ALL))
    (tmp_path / "main.cpp").write_text(program)
    flags = ["-std=c++20", "-O2", f"-I{TEMPLATES}", "-isystem", str(ap_types())]
    subprocess.run(["g++", *flags, "main.cpp", "-o", "main"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == len(ALL)
    assert [line for line in said if not line.startswith("0 ")] == []


def test_pairs_are_those_that_fit_the_ports():
    assert {pair for pair in ALL if can_pair(*pair)} == {pair for pair in ALL if min(pair[0][0], pair[1][0]) > 3}
    assert can_pair((8, True), (8, False))
    assert not can_pair((8, False), (8, False)), "an unsigned product needs another bit"
    assert not can_pair((9, True), (8, True))
    assert not can_pair((4, False), (18, False)), "the common factor has 19 bits"


def test_half_as_many_multipliers():
    assert multipliers("dsp", 5, 3, (8, True), (8, True)) == Cost(((6, 25, 8), (3, 8, 8)))
    assert multipliers("dsp", 5, 3, (9, True), (8, True)) == Cost(((15, 9, 8),))
    assert multipliers("lut", 5, 3, (8, True), (8, True)) == Cost(lut=15 * (lut_multiplier(8, 8) + 16))
    assert [multiplier_kind(*one) for one in (("dsp", (8, True), (8, True)), ("dsp", (9, True), (8, True)))] == [1, 0]
    assert multiplier_kind("lut", (8, True), (8, True)) == 2


def test_multipliers_in_luts():
    """Rows of partial products, two by two."""
    assert lut_multiplier(8, 8) == 4 * 10 + 2 * 12 + 14
    assert lut_multiplier(8, 5) == lut_multiplier(5, 8) == 2 * 10 + 12 + 14
    assert lut_multiplier(8, 1) == 8
