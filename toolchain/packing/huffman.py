"""Canonical Huffman codes of at most 12 bits.

A code is told by its lengths alone: codes are given out in the order of (length, symbol), each one more than the last,
extended by zeros where the length grows (RFC 1951, section 3.2.2). A length of 0 marks a symbol that does not occur.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from toolchain.errors import PassError
from toolchain.ir.constant import Array

LONGEST = 12
"""Bits of the longest code: what a window of the hardware's decoder shows."""
SYMBOLS = 1 << LONGEST
"""The most symbols of an alphabet."""
REPEAT, ZEROS, MANY_ZEROS = 13, 14, 15
"""Nibbles that are no length: 3 to 18 times the last length, 3 to 18 zeros, 19 to 274 zeros."""


def code_lengths(counts: Array, limit: int = LONGEST) -> Array:
    """The lengths of an optimal code: sum(counts * lengths) is the least that codes of at most `limit` bits reach.

    Package-merge (Larmore and Hirschberg, 1990). A symbol that is counted 0 times has the length 0, an only symbol 1.
    Raises PassError when no symbol occurs, or more than 2**limit.
    """
    lengths = np.zeros(len(counts), dtype=np.uint8)
    used = np.flatnonzero(counts)
    if not 1 <= len(used) <= 1 << limit:
        raise PassError(f"there is no code of {limit} bits for {len(used)} symbols")
    if len(used) == 1:
        lengths[used] = 1
        return lengths
    used = used[np.argsort(counts[used], kind="stable")]
    coins = counts[used].astype(np.int64)
    is_coin, packages = [], coins[:0]
    for _ in range(limit):
        offered = np.concatenate([coins, packages])
        order = np.argsort(offered, kind="stable")
        is_coin.append(order < len(coins))
        offered = offered[order]
        packages = offered[: len(offered) // 2 * 2].reshape(-1, 2).sum(1)
    # The cheapest 2n - 2 of the last list; a package among them is the cheapest two more of the list before. The coins
    # of a list come in the order of their counts, so that only their number matters.
    taken = 2 * len(coins) - 2
    for coin in reversed(is_coin):
        symbols = int(np.count_nonzero(coin[:taken]))
        lengths[used[:symbols]] += 1
        taken = 2 * (taken - symbols)
    return lengths


def unlimited_bits(counts: Array) -> int:
    """The least sum(counts * lengths) of codes of any length, of counts above 0: no code of `code_lengths` has less.

    Van Leeuwen's two queues (1976): what merges is never less than what has merged before.
    """
    waiting = np.sort(counts).tolist()
    if len(waiting) == 1:
        return int(waiting[0])
    endless = sum(waiting) + 1
    waiting += [endless, endless]
    merged: list[int] = []
    total = first = second = 0
    for _ in range(len(waiting) - 3):
        weight = 0
        for _ in range(2):
            if second < len(merged) and merged[second] < waiting[first]:
                weight += merged[second]
                second += 1
            else:
                weight += waiting[first]
                first += 1
        merged.append(weight)
        total += weight
    return total


@dataclass(frozen=True, eq=False)
class Code:
    """A canonical code. Raises PassError when the lengths leave codes unused or give one out twice."""

    lengths: Array
    """uint8, one a symbol."""

    def __post_init__(self) -> None:
        used = self.lengths[self.lengths > 0].astype(np.int64)
        if len(self.lengths) > SYMBOLS or used.max(initial=0) > LONGEST:
            raise PassError(f"codes have at most {LONGEST} bits, alphabets at most {SYMBOLS} symbols")
        only = len(used) == 1 and used[0] == 1
        if int((1 << (LONGEST - used)).sum()) != SYMBOLS and not only:
            raise PassError("the code is not complete")

    @cached_property
    def order(self) -> Array:
        """The symbols that occur, by (length, symbol)."""
        order = np.argsort(self.lengths, kind="stable")
        return order[self.lengths[order] > 0]

    @cached_property
    def codes(self) -> Array:
        """int64, the code of each symbol in its lowest `length` bits; 0 where a symbol does not occur."""
        lengths = self.lengths[self.order].astype(np.int64)
        aligned = np.cumsum(1 << (LONGEST - lengths)) - (1 << (LONGEST - lengths))
        codes = np.zeros(len(self.lengths), dtype=np.int64)
        codes[self.order] = aligned >> (LONGEST - lengths)
        return codes

    @cached_property
    def table(self) -> tuple[Array, Array]:
        """For every window of 12 bits the length (uint8) and the symbol (int16) of the code that it begins with.

        Where no code begins (the second half of an alphabet with an only symbol) they are 1 and -1.
        """
        lengths, symbols = np.ones(SYMBOLS, np.uint8), np.full(SYMBOLS, -1, np.int16)
        each = 1 << (LONGEST - self.lengths[self.order].astype(np.int64))
        whole = np.repeat(self.order, each)
        symbols[: len(whole)] = whole
        lengths[: len(whole)] = self.lengths[whole]
        return lengths, symbols


def lengths_size(lengths: Array) -> int:
    """Bytes of `pack_lengths`."""
    values, runs = _runs(lengths)
    zeros, others = runs[values == 0], runs[values != 0] - 1
    left = zeros % 274
    nibbles = zeros // 274 * 3 + np.where(left >= 19, 3, np.minimum(left, 2))
    repeats = others // 18 * 2 + np.where(others % 18 >= 3, 2, others % 18)
    return (int(nibbles.sum() + repeats.sum()) + len(others) + 1) // 2


def pack_lengths(lengths: Array) -> bytes:
    """Code lengths as nibbles, the low one of a byte first, the last byte padded with 0.

    0 to 12 are lengths; 13 n is the last length n + 3 times more; 14 n are n + 3 zeros, 15 n m are 19 + n + 16 m.
    """
    nibbles: list[int] = []
    for value, run in zip(*_runs(lengths), strict=True):
        left = int(run)
        if value:
            nibbles.append(int(value))
            left -= 1
            while left >= 3:
                nibbles += (REPEAT, min(left, 18) - 3)
                left -= min(left, 18)
        while left >= 19:
            nibbles += (MANY_ZEROS, (min(left, 274) - 19) % 16, (min(left, 274) - 19) // 16)
            left -= min(left, 274)
        if left >= 3:
            nibbles += (ZEROS, left - 3)
            left = 0
        nibbles += [int(value)] * left
    nibbles += [0] * (len(nibbles) % 2)
    return bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))


def unpack_lengths(data: bytes, at: int, symbols: int) -> tuple[Array, int]:
    """The `symbols` code lengths that begin at byte `at`, and the byte behind them.

    Raises PassError when the data ends, a run is too long, or the padding is not 0. Allocates `symbols` bytes.
    """
    lengths = bytearray()
    nibble = 2 * at
    try:
        while len(lengths) < symbols:
            value = _nibble(data, nibble)
            nibble += 1
            if value < REPEAT:
                lengths.append(value)
                continue
            run = _nibble(data, nibble)
            nibble += 1
            if value == MANY_ZEROS:
                run += 16 * _nibble(data, nibble) + 16
                nibble += 1
            lengths += bytes([lengths[-1] if value == REPEAT else 0]) * (run + 3)
        if nibble % 2:
            nibble += 1
            if _nibble(data, nibble - 1):
                raise PassError("padding of code lengths is not 0")
    except IndexError:
        raise PassError("code lengths end too soon") from None
    if len(lengths) > symbols:
        raise PassError("too many code lengths")
    return np.frombuffer(bytes(lengths), np.uint8), nibble // 2


def _nibble(data: bytes, at: int) -> int:
    return data[at // 2] >> at % 2 * 4 & 15


def _runs(lengths: Array) -> tuple[Array, Array]:
    """Values and sizes of the runs of equal lengths."""
    starts = np.flatnonzero(np.concatenate([[True], lengths[1:] != lengths[:-1]]))
    return lengths[starts], np.diff(starts, append=len(lengths))
