"""Places the values of a program in one block of memory: those that are needed at the same time do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 8


@dataclass(frozen=True)
class Buffer:
    """Bytes that are in use from the stage `first` to the stage `last`."""

    name: str
    bytes: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Are both in use at some time?"""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Arena:
    """Offsets of buffers, and the bytes that they take together."""

    offsets: dict[str, int]
    bytes: int


def place(buffers: Sequence[Buffer]) -> Arena:
    """Largest first, each at the lowest offset that is free while it is in use (Pisarchyk and Lee, greedy by size).

    Raises AssertionError if two buffers overlap in place and time, which the search excludes.
    """
    placed: list[tuple[int, Buffer]] = []
    for buffer in sorted(buffers, key=lambda one: (-one.bytes, one.first, one.name)):
        offset = 0
        for at, other in sorted((pair for pair in placed if pair[1].meets(buffer)), key=lambda pair: pair[0]):
            if offset + buffer.bytes <= at:
                break
            offset = max(offset, _aligned(at + other.bytes))
        placed.append((offset, buffer))
    check(placed)
    return Arena(
        {buffer.name: at for at, buffer in placed}, max((at + buffer.bytes for at, buffer in placed), default=0)
    )


def check(placed: Sequence[tuple[int, Buffer]]) -> None:
    """Raises AssertionError when two buffers share a byte while both are in use."""
    for k, (at, buffer) in enumerate(placed):
        for other_at, other in placed[:k]:
            apart = at + buffer.bytes <= other_at or other_at + other.bytes <= at
            if buffer.meets(other) and not apart:
                raise AssertionError(f"{buffer.name} and {other.name} overlap in the arena")


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
