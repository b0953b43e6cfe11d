"""The adders of the basis stage: the same matrices as the packing's, and no more additions than the model counts."""

import numpy as np
import pytest

from tests.cpp import compile_and_run
from tests.hls_templates.harness import options
from toolchain.codegen.basis import additions, basis_additions
from toolchain.ir import Constant
from toolchain.packing.basis import LARGEST, Transform, basis
from toolchain.packing.packed import Coding

pytestmark = pytest.mark.csim

SIZES = range(1, LARGEST + 1)
# Counts its additions; adding to a constant zero is none.
SOURCE = """
#include <cstdio>
#include "basis.h"
static int additions = 0;
struct counted {
    long value;
    bool zero;
    counted() : value(0), zero(true) {}
    explicit counted(int v) : value(v), zero(v == 0) {}
    counted(long v, bool) : value(v), zero(false) {}
    counted operator+(counted b) const { additions += !zero && !b.zero; return counted(value + b.value, false); }
    counted operator-(counted b) const { additions += 1; return counted(value - b.value, false); }
    counted operator<<(int n) const { return counted(value << n, false); }
};
template <int SIZE>
void show() {
    counted x[SIZE], z[SIZE];
    for (int i = 0; i < SIZE; ++i) x[i] = counted((i * i * 37 + i * 11 + 5) % 101 - 50, false);
    additions = 0;
    dct::detail::transform<SIZE>(x, z);
    std::printf("%d", additions);
    for (int u = 0; u < SIZE; ++u)
        for (int i = 0; i < SIZE; ++i) std::printf(" %d", dct::basis<SIZE>::entry(u, i));
    for (int u = 0; u < SIZE; ++u) std::printf(" %ld", z[u].value);
    std::printf("\\n");
}
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    calls = "".join(f"show<{size}>();" for size in SIZES)
    source = f"{SOURCE}int main() {{ {calls} }}"
    lines = compile_and_run(source, tmp_path_factory.mktemp("basis"), flags=("-O0", *options())).decode().splitlines()
    return {size: [int(word) for word in line.split()] for size, line in zip(SIZES, lines, strict=True)}


@pytest.mark.parametrize("size", SIZES)
def test_tables_and_butterflies(shown, size):
    count, *numbers = shown[size]
    table, z = numbers[: size * size], numbers[size * size :]
    i = np.arange(size)
    x = (i * i * 37 + i * 11 + 5) % 101 - 50
    assert np.array_equal(np.reshape(table, (size, size)), basis(size))
    assert np.array_equal(z, basis(size) @ x)
    assert count == additions(size)


@pytest.mark.parametrize(
    ("transform", "stride", "each"),
    [
        (Transform("taps", 3, 3), 1, 16),
        (Transform("taps", 3, 3), 2, 20),
        (Transform("taps", 2, 2), 1, 6),
        (Transform("channels", 1, 4), 1, 2),
        (Transform("channels", 2, 2), 1, 2),
        (Transform(), 1, 0),
    ],
)
def test_additions_per_pixel_and_channel(transform, stride, each):
    taps = transform.size if transform.kind == "taps" else 1
    coding = Coding(Constant(np.zeros((taps, 12, 2), dtype=int)), transform, (0,) * transform.size)
    assert basis_additions(coding, (stride, stride), 10, 12) == 120 * each
