"""Codes are the best there are, complete and not longer than allowed; their lengths take few bytes."""

import itertools
from collections import Counter
from heapq import heapify, heappop, heappush

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.errors import PassError
from toolchain.packing.huffman import (
    LONGEST,
    SYMBOLS,
    Code,
    code_lengths,
    lengths_size,
    pack_lengths,
    unpack_lengths,
)


def cost(counts, lengths):
    return int((np.asarray(counts) * np.asarray(lengths, dtype=np.int64)).sum())


def huffman_cost(counts):
    """Huffman's own algorithm (1952), without a limit: the sum of all merged weights."""
    heap = [c for c in counts if c]
    heapify(heap)
    total = 0
    while len(heap) > 1:
        merged = heappop(heap) + heappop(heap)
        total += merged
        heappush(heap, merged)
    return total


@given(
    st.lists(st.integers(0, 40), min_size=2, max_size=7).filter(lambda c: np.count_nonzero(c) > 1), st.integers(2, 4)
)
def test_best_of_all_codes_of_few_bits(counts, limit):
    used = [c for c in counts if c]
    if len(used) > 1 << limit:
        return
    possible = (
        lengths
        for lengths in itertools.combinations_with_replacement(range(1, limit + 1), len(used))
        if sum(2**-length for length in lengths) <= 1
    )
    best = min(cost(sorted(used, reverse=True), lengths) for lengths in possible)
    found = code_lengths(np.array(counts), limit)
    assert cost(counts, found) == best
    assert found.max() <= limit
    assert all((length == 0) == (count == 0) for length, count in zip(found, counts, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_as_good_as_huffman_where_the_limit_does_not_bind(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(50, 100, rng.integers(2, 300))
    assert cost(counts, code_lengths(counts)) == huffman_cost(counts.tolist())


def test_known_codes():
    # Fibonacci counts want the longest codes; RFC 1951 has the example of the canonical order.
    assert code_lengths(np.array([1, 1, 2, 3, 5, 8, 13])).tolist() == [6, 6, 5, 4, 3, 2, 1]
    fibonacci = [1, 1]
    while len(fibonacci) < 30:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    assert code_lengths(np.array(fibonacci)).max() == LONGEST
    code = Code(np.array([3, 3, 3, 3, 3, 2, 4, 4], np.uint8))
    assert [f"{c:0{n}b}" for c, n in zip(code.codes, code.lengths, strict=True)] == [
        "010", "011", "100", "101", "110", "00", "1110", "1111",
    ]  # fmt: skip


def test_smallest_and_largest_alphabet():
    assert code_lengths(np.array([0, 7, 0])).tolist() == [0, 1, 0]
    assert set(code_lengths(np.arange(1, SYMBOLS + 1)).tolist()) == {LONGEST}
    for counts in ([0, 0], [], [1] * (SYMBOLS + 1)):
        with pytest.raises(PassError):
            code_lengths(np.array(counts))


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200).filter(any))
def test_windows_find_the_code_they_begin_with(counts):
    code = Code(code_lengths(np.array(counts)))
    lengths, symbols = code.table
    used = np.flatnonzero(code.lengths)
    assert len({(code.codes[s], code.lengths[s]) for s in used}) == len(used)
    for symbol in used:
        length = int(code.lengths[symbol])
        first = int(code.codes[symbol]) << (LONGEST - length)
        covered = slice(first, first + (1 << (LONGEST - length)))
        assert (symbols[covered] == symbol).all()
        assert (lengths[covered] == length).all()
    assert (symbols == -1).sum() == (SYMBOLS // 2 if len(used) == 1 else 0)


@pytest.mark.parametrize(
    "lengths", [[1, 2], [1, 1, 1], [2], [0, 0], [], [2, 2, 2], [12] * 4095, [13, 1], [1] + [12] * 2047]
)
def test_incomplete_and_oversubscribed_codes_are_refused(lengths):
    with pytest.raises(PassError):
        Code(np.array(lengths, np.uint8))


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 600)), min_size=1, max_size=12))
def test_lengths_come_back(runs):
    lengths = np.repeat(np.array([v for v, _ in runs], np.uint8), [n for _, n in runs])
    data = pack_lengths(lengths)
    assert lengths_size(lengths) == len(data)
    found, at = unpack_lengths(b"??" + data + b"!", 2, len(lengths))
    assert at == 2 + len(data)
    assert found.tolist() == lengths.tolist()
    for end in range(len(data)):
        with pytest.raises(PassError):
            unpack_lengths(data[:end], 0, len(lengths))


def test_damaged_lengths():
    for nibbles, symbols in (([13, 0], 3), ([14, 15], 5), ([1, 13, 0], 3), ([15, 0, 15], 20), ([1, 7], 1)):
        padded = nibbles + [0] * (len(nibbles) % 2)
        data = bytes(a | b << 4 for a, b in zip(padded[::2], padded[1::2], strict=True))
        with pytest.raises(PassError):
            unpack_lengths(data, 0, symbols)


def test_lengths_of_a_real_alphabet_take_less_than_a_nibble_each():
    runs, classes = np.meshgrid(np.arange(32), np.arange(8), indexing="ij")
    counts = (10**6 * 0.9**runs * 0.4**classes).astype(np.int64).ravel()
    assert Counter(code_lengths(counts).tolist())[0] == 0
    assert lengths_size(code_lengths(counts)) <= len(counts) // 2
