"""Split and Gather with constant indices: slices, joined again where the indices jump."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.gathering import cut, gathered
from toolchain.ops.base import importer
from toolchain.ops.reshape import Reshape

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode


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
    value = gathered(importing, node, value, axis, flat, "joined")
    wanted = (*shape[:axis], *indices.shape, *shape[axis + 1 :])
    if not wanted:
        raise UnsupportedOperator("leaves only the batch dimension")
    importing.bind(node, importing.add(node, Reshape(wanted), value))
