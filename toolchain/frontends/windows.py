"""ONNX's geometry attributes, shared by convolution and pooling, brought to channels-last windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.ir.window import Window

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.ops.base import Operator


def import_window(importing: Importer, node: OnnxNode, kernel: Sequence[int]) -> Window:
    """The window of a node whose first input is (C, columns) or (C, rows, columns); one row is added to the former.

    `auto_pad` and `ceil_mode` become explicit padding, at the end where it is uneven.
    """
    spatial = importing.shape(importing.value(node, 0))[1:]
    rank = len(kernel)
    if rank not in (1, 2) or len(spatial) != rank:
        raise UnsupportedOperator(
            f"works on {len(spatial)} spatial dimensions with a {rank}-dimensional kernel, 1 and 2 are supported"
        )
    strides, dilations, pads = _geometry(node, spatial, kernel)
    if rank == 1:
        return Window((1, int(kernel[0])), (1, strides[0]), (1, dilations[0]), (0, pads[0], 0, pads[1]))
    return Window(
        (int(kernel[0]), int(kernel[1])),
        (strides[0], strides[1]),
        (dilations[0], dilations[1]),
        (pads[0], pads[1], pads[2], pads[3]),
    )


def import_windows(node: OnnxNode, spatial: Sequence[int], kernel: Sequence[int]) -> tuple[Window, Window]:
    """The window of three dimensions as one over the first, in rows, and one over the other two."""
    strides, dilations, pads = _geometry(node, spatial, kernel)
    deep = Window((int(kernel[0]), 1), (strides[0], 1), (dilations[0], 1), (pads[0], 0, pads[3], 0))
    size, step, apart = (int(kernel[1]), int(kernel[2])), (strides[1], strides[2]), (dilations[1], dilations[2])
    return deep, Window(size, step, apart, (pads[1], pads[2], pads[4], pads[5]))


def _geometry(node: OnnxNode, spatial: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and explicit pads."""
    rank = len(kernel)
    strides = [int(v) for v in node.attribute("strides", [1] * rank)]
    dilations = [int(v) for v in node.attribute("dilations", [1] * rank)]
    pads = [int(v) for v in node.attribute("pads", [0] * 2 * rank)]
    auto_pad = node.attribute("auto_pad", "NOTSET")
    ceil_mode = bool(node.attribute("ceil_mode", 0))
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise ModelError("has strides, dilations or pads of another rank than its kernel")
    if min(strides) < 1 or min(dilations) < 1 or min(kernel) < 1:
        raise ModelError("has a stride, dilation or kernel size below 1")
    if min(pads) < 0:
        raise UnsupportedOperator("has negative padding")
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""):
        raise UnsupportedOperator(f"auto_pad {auto_pad!r} is not supported")
    for k in range(rank):
        extent = (kernel[k] - 1) * dilations[k] + 1
        if auto_pad == "VALID":
            pads[k] = pads[k + rank] = 0
        elif auto_pad.startswith("SAME"):
            total = max(0, (-(-spatial[k] // strides[k]) - 1) * strides[k] + extent - spatial[k])
            small = total // 2
            pads[k], pads[k + rank] = (small, total - small) if auto_pad == "SAME_UPPER" else (total - small, small)
        elif ceil_mode:
            padded = spatial[k] + pads[k] + pads[k + rank]
            steps = -(-(padded - extent) // strides[k])
            if steps * strides[k] >= spatial[k] + pads[k]:  # a window that would start past the picture is dropped
                steps -= 1
            pads[k + rank] += max(0, steps * strides[k] + extent - padded)
    return strides, dilations, pads


def windowed(importing: Importer, node: OnnxNode, make: Callable[[Window], Operator], window: Window) -> None:
    """Adds a channels-last operator between the transpositions that ONNX's channels-first layout needs."""
    from toolchain.ops.reshape import Reshape
    from toolchain.ops.transpose import Transpose

    value = importing.value(node, 0)
    rank = len(importing.shape(value))
    if rank == 2:
        value = importing.add(node, Transpose((1, 0)), value, part="columns")
        value = importing.add(node, Reshape((1, *importing.shape(value))), value, part="row")
    else:
        value = importing.add(node, Transpose((1, 2, 0)), value, part="channels_last")
    value = importing.add(node, make(window), value)
    if rank == 2:
        value = importing.add(node, Reshape(importing.shape(value)[1:]), value, part="no_row")
        value = importing.add(node, Transpose((1, 0)), value, part="channels_first")
    else:
        value = importing.add(node, Transpose((2, 0, 1)), value, part="channels_first")
    importing.bind(node, value)


def windowed_twice(importing: Importer, node: OnnxNode, flat: Operator, deep: Operator) -> None:
    """(C, D, H, W): one operator over the rows and columns of each plane, then one over the planes of each pixel."""
    from toolchain.ops.reshape import Reshape
    from toolchain.ops.transpose import Transpose

    channels, depth, rows, columns = importing.shape(importing.value(node, 0))
    value = importing.add(node, Transpose((2, 3, 1, 0)), importing.value(node, 0), part="planes_last")
    value = importing.add(node, Reshape((rows, columns, depth * channels)), value, part="planes")
    value = importing.add(node, flat, value, part="flat")
    rows, columns, _ = importing.shape(value)
    value = importing.add(node, Reshape((rows * columns, depth, channels)), value, part="pixels")
    value = importing.add(node, Transpose((1, 0, 2)), value, part="planes_first")
    value = importing.add(node, deep, value)
    value = importing.add(node, Reshape((importing.shape(value)[0], rows, columns, channels)), value, part="deep")
    importing.bind(node, importing.add(node, Transpose((3, 0, 1, 2)), value, part="channels_first"))
