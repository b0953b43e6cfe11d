"""Entries of an axis as slices, joined again where they jump."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from toolchain.errors import UnsupportedOperator

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode

RUNS = 256
"""A Gather becomes so many slices at most."""


def cut(importing: Importer, node: OnnxNode, value: str, axis: int, start: int, size: int, part: str) -> str:
    """`size` entries of an axis from `start` on; other axes are merged, for a slice has three."""
    from toolchain.ops.reshape import Reshape  # the operators import this package
    from toolchain.ops.slice import Slice

    shape = importing.shape(value)
    if size == shape[axis]:
        return value
    starts, sizes = [0] * len(shape), list(shape)
    starts[axis], sizes[axis] = start, size
    if len(shape) <= 3:
        return importing.add(node, Slice(tuple(starts), (1,) * len(shape), tuple(sizes)), value, part=part)
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    value = importing.add(node, Reshape((before, shape[axis], after)), value, part=f"{part}_merged")
    value = importing.add(node, Slice((0, start, 0), (1, 1, 1), (before, size, after)), value, part=f"{part}_cut")
    return importing.add(node, Reshape(tuple(sizes)), value, part=part)


def gathered(importing: Importer, node: OnnxNode, value: str, axis: int, indices: list[int], part: str) -> str:
    """The listed entries of an axis: a slice for each run of neighbours."""
    from toolchain.ops.concat import Concat  # the operators import this package

    starts = [k for k, index in enumerate(indices) if k == 0 or index != indices[k - 1] + 1]
    runs = [(indices[a], b - a) for a, b in zip(starts, [*starts[1:], len(indices)], strict=True)]
    if len(runs) > RUNS:
        raise UnsupportedOperator(f"takes entries in {len(runs)} runs, {RUNS} are supported")
    pieces = [cut(importing, node, value, axis, start, size, f"{part}_run{k}") for k, (start, size) in enumerate(runs)]
    return importing.add(node, Concat(axis), *pieces, part=part) if len(pieces) > 1 else pieces[0]
