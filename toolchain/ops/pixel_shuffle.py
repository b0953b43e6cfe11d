"""DepthToSpace and SpaceToDepth: transpositions of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.ops.base import importer
from toolchain.ops.reshape import Reshape
from toolchain.ops.transpose import Transpose

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.ir import Shape
    from toolchain.ops.base import Operator


def interleaving(shape: Shape, blocks: tuple[int, int], part: str) -> list[tuple[str, Operator]]:
    """(rows, columns, block row * block column * channel) to (row * block row, column * block column, channel)."""
    (rows, columns, depth), (high, wide) = shape, blocks
    channels = depth // (high * wide)
    return [
        (f"{part}_blocks", Reshape((rows, columns, high, wide, channels))),
        (f"{part}_interleaved", Transpose((0, 2, 1, 3, 4))),
        (part, Reshape((rows * high, columns * wide, channels))),
    ]


def gathering(shape: Shape, block: int, order: tuple[int, ...] = (0, 2, 1, 3, 4)) -> list[tuple[str, Operator]]:
    """(row * block, column * block, channel) to (rows, columns, the blocks of all channels in the given order)."""
    rows, columns, channels = shape
    return [
        ("blocks", Reshape((rows // block, block, columns // block, block, channels))),
        ("gathered", Transpose(order)),
        ("depth", Reshape((rows // block, columns // block, block**2 * channels))),
    ]


def interleaved(importing: Importer, node: OnnxNode, value: str, blocks: tuple[int, int], part: str) -> str:
    """The value behind `interleaving`."""
    for name, operator in interleaving(importing.shape(value), blocks, part):
        value = importing.add(node, operator, value, part=name)
    return value


def _sizes(importing: Importer, node: OnnxNode) -> tuple[int, int, int, int]:
    shape, block = importing.shape(importing.value(node, 0)), int(node.attribute("blocksize", 0))
    if len(shape) != 3 or block < 1:
        raise ModelError(f"has the blocksize {block} for a tensor of shape {list(shape)}")
    return shape[0], shape[1], shape[2], block


@importer("DepthToSpace")
def import_depth_to_space(importing: Importer, node: OnnxNode) -> None:
    """Channels are blocks of (row, column, channel), or in mode CRD of (channel, row, column)."""
    channels, rows, columns, block = _sizes(importing, node)
    mode, each = node.attribute("mode", "DCR"), channels // block**2
    if channels % block**2:
        raise ModelError(f"cannot part {channels} channels into {block} x {block}")
    if mode not in ("DCR", "CRD"):
        raise UnsupportedOperator(f"has the mode {mode!r}")
    value = importing.add(node, Transpose((1, 2, 0)), importing.value(node, 0), part="channels_last")
    if mode == "CRD":
        value = importing.add(node, Reshape((rows, columns, each, block**2)), value, part="channel_blocks")
        value = importing.add(node, Transpose((0, 1, 3, 2)), value, part="block_channels")
        value = importing.add(node, Reshape((rows, columns, channels)), value, part="blocks_first")
    value = interleaved(importing, node, value, (block, block), "picture")
    importing.bind(node, importing.add(node, Transpose((2, 0, 1)), value))


@importer("SpaceToDepth")
def import_space_to_depth(importing: Importer, node: OnnxNode) -> None:
    channels, rows, columns, block = _sizes(importing, node)
    mode = node.attribute("mode", "DCR")
    if rows % block or columns % block:
        raise ModelError(f"cannot cut {rows} x {columns} into blocks of {block}")
    if mode not in ("DCR", "CRD"):
        raise UnsupportedOperator(f"has the mode {mode!r}")
    value = importing.add(node, Transpose((1, 2, 0)), importing.value(node, 0), part="channels_last")
    order = (0, 2, 1, 3, 4) if mode == "DCR" else (0, 2, 4, 1, 3)
    for part, operator in gathering((rows, columns, channels), block, order):
        value = importing.add(node, operator, value, part=part)
    importing.bind(node, importing.add(node, Transpose((2, 0, 1)), value))
