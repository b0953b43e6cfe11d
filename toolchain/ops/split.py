"""Split and Gather with constant indices: slices, joined again where the indices jump."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.ops.base import importer
from toolchain.ops.concat import Concat
from toolchain.ops.reshape import Reshape
from toolchain.ops.slice import Slice

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode

RUNS = 256
"""A Gather becomes so many slices at most."""


def cut(importing: Importer, node: OnnxNode, value: str, axis: int, start: int, size: int, part: str) -> str:
    """`size` entries of an axis from `start` on; other axes are merged, for a slice has three."""
    shape = importing.shape(value)
    if size == shape[axis]:
        return value
    starts, sizes = [0] * len(shape), list(shape)
    starts[axis], sizes[axis] = start, size
    if len(shape) <= 3:
        return importing.add(node, Slice(tuple(starts), (1,) * len(shape), tuple(sizes)), value, part=part)
    before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
    value = importing.add(node, Reshape((before, shape[axis], after)), value, part=f"{part}_merged")
    value = importing.add(node, Slice((0, start, 0), (1, 1, 1), (before, size, after)), value, part=f"{part}_cut")
    return importing.add(node, Reshape(tuple(sizes)), value, part=part)


@importer("Split")
def import_split(importing: Importer, node: OnnxNode) -> None:
    value = importing.value(node, 0)
    shape = importing.shape(value)
    axis = importing.axis(node.attribute("axis", 0), len(shape))
    count = int(node.attribute("num_outputs", 0)) or len(node.outputs)
    sizes = importing.integers(node, 1, "split", None)
    if sizes is None:
        each = -(-shape[axis] // count)
        sizes = [min(each, shape[axis] - k * each) for k in range(count)]
    if len(sizes) != len(node.outputs) or sum(sizes) != shape[axis] or min(sizes) < 1:
        raise ModelError(f"splits {shape[axis]} entries into {sizes} for {len(node.outputs)} outputs")
    for index, size in enumerate(sizes):
        if node.outputs[index]:
            piece = cut(importing, node, value, axis, sum(sizes[:index]), size, f"piece{index}")
            importing.bind(node, piece, index)


@importer("Gather")
def import_gather(importing: Importer, node: OnnxNode) -> None:
    value = importing.value(node, 0)
    shape = importing.shape(value)
    axis = importing.axis(node.attribute("axis", 0), len(shape))
    indices = importing.constant(node, 1, "the list of indices").astype(np.int64)
    if indices.size and not -shape[axis] <= indices.min() <= indices.max() < shape[axis]:
        raise ModelError(f"takes entries {indices.min()} to {indices.max()} of {shape[axis]}")
    flat = [int(k) % shape[axis] for k in indices.ravel()]
    starts = [k for k, index in enumerate(flat) if k == 0 or index != flat[k - 1] + 1]
    runs = [(flat[a], b - a) for a, b in zip(starts, [*starts[1:], len(flat)], strict=True)]
    if len(runs) > RUNS:
        raise UnsupportedOperator(f"takes entries in {len(runs)} runs, {RUNS} are supported")
    pieces = [cut(importing, node, value, axis, start, size, f"run{k}") for k, (start, size) in enumerate(runs)]
    value = importing.add(node, Concat(axis), *pieces, part="joined") if len(pieces) > 1 else pieces[0]
    wanted = (*shape[:axis], *indices.shape, *shape[axis + 1 :])
    if not wanted:
        raise UnsupportedOperator("leaves only the batch dimension")
    importing.bind(node, importing.add(node, Reshape(wanted), value))
