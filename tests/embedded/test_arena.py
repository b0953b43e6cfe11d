"""Memory planning: buffers that are in use at the same time never share a byte, and memory is reused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.codegen.embedded.arena import ALIGNMENT, Buffer, check, place


@st.composite
def buffers(draw):
    count = draw(st.integers(0, 12))
    made = []
    for k in range(count):
        first = draw(st.integers(0, 8))
        made.append(Buffer(f"b{k}", draw(st.integers(1, 300)), first, first + draw(st.integers(0, 4))))
    return made


@given(buffers())
def test_what_is_in_use_at_the_same_time_does_not_overlap(found):
    arena = place(found)
    for k, one in enumerate(found):
        at = arena.offsets[one.name]
        assert at % ALIGNMENT == 0
        assert at + one.bytes <= arena.bytes
        for other in found[:k]:
            there = arena.offsets[other.name]
            apart = at + one.bytes <= there or there + other.bytes <= at
            assert apart or one.last < other.first or other.last < one.first
    together = [sum(one.bytes for one in found if one.first <= t <= one.last) for t in range(14)]
    assert arena.bytes >= max(together, default=0)


def test_memory_is_used_again():
    chain = [Buffer("a", 100, 0, 1), Buffer("b", 40, 1, 2), Buffer("c", 96, 2, 3), Buffer("d", 8, 3, 4)]
    assert place(chain).bytes == 144, "a and c, which are never there together, share a place"


def test_an_overlap_would_be_found():
    with pytest.raises(AssertionError, match="overlap in the arena"):
        check([(0, Buffer("b", 16, 0, 1)), (8, Buffer("a", 16, 1, 2))])
