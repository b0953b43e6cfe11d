"""Constant tables as C++ text: every value comes back, also where a table is put together in several blocks."""

import re

import numpy as np
import pytest

from toolchain.codegen import hls
from toolchain.codegen.kernel import KernelArray, packed_chunks

SEED = 8
CTYPES = {"unsigned char": np.uint8, "unsigned short": np.uint16, "unsigned int": np.uint32}
CTYPES["unsigned long long"] = np.uint64


@pytest.mark.parametrize("characters", [1, 200, 1 << 24])
@pytest.mark.parametrize("ctype", CTYPES)
def test_rows_of_hexadecimal_numbers_come_back(ctype, characters, monkeypatch):
    monkeypatch.setattr(hls, "CHARACTERS", characters)
    dtype = CTYPES[ctype]
    values = np.random.default_rng(SEED).integers(0, np.iinfo(dtype).max, (7, 5), dtype, endpoint=True)
    values[0, 0], values[-1, -1] = 0, np.iinfo(dtype).max
    text = hls.constant("table", KernelArray(ctype, lambda: values.astype(np.uint64)))
    assert text.startswith(f"static const {ctype} table[7][5] = {{\n    {{0x")
    rows = re.findall(r"\{(0x[^{}]*)\}", text)
    got = [[int(re.sub("[UL]", "", number), 16) for number in row.split(", ")] for row in rows]
    np.testing.assert_array_equal(np.array(got, dtype=object), values.astype(object))
    assert text.endswith("}\n};")


@pytest.mark.parametrize(("count", "width"), [(5, 8), (9, 16), (3, 7), (1, 33), (64, 1), (10, 13)])
def test_packed_chunks_hold_the_elements_from_the_lowest_bits(count, width):
    elements = np.random.default_rng(SEED).integers(-(1 << width - 1), 1 << width - 1, (4, count))
    packed = packed_chunks(lambda: elements, count, width).values
    per = 64 // width
    for row, chunks in zip(elements, packed, strict=True):
        assert len(chunks) == -(-count // per)
        for k, element in enumerate(row):
            pattern = int(chunks[k // per]) >> k % per * width & (1 << width) - 1
            assert pattern == int(element) & (1 << width) - 1
