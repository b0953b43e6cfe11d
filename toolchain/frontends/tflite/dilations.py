"""SPACE_TO_BATCH_ND, a convolution, BATCH_TO_SPACE_ND: how TensorFlow writes a dilated convolution, made one again.

Space to batch gives every block-th pixel as a picture of its own, so that neighbours there are `block` pixels apart.
Beside such convolutions neither operator is supported: samples of a batch do not meet in a program.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import tflite
from numpy.typing import NDArray

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.tflite import builder, integers
from toolchain.frontends.tflite.files import Operation, Tensor

TO_BATCH, TO_SPACE = "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
DILATIONS = ("DilationHFactor", "DilationWFactor")
RESHAPES = ("EXPAND_DIMS", "RESHAPE", "SQUEEZE")
Amounts = NDArray[np.int64]


def refuse(_: builder.Call | integers.Step) -> NoReturn:
    raise UnsupportedOperator(
        f"is supported as {TO_BATCH}, one convolution of stride 1, {TO_SPACE}, with constant blocks and paddings and "
        "nothing cropped that was not padded"
    )


builder.translates(TO_BATCH, TO_SPACE)(refuse)
integers.translates(TO_BATCH, TO_SPACE)(refuse)


def with_dilations(operations: list[Operation], outputs: Sequence[Tensor]) -> list[Operation]:
    """The operators with those three replaced by a dilated convolution, and a padding where it has one of its own."""
    tensors = [t for operation in operations for t in (*operation.inputs, *operation.outputs) if t is not None]
    fresh = itertools.count(max((tensor.index for tensor in tensors), default=0) + 1)
    uses = Counter(t.index for operation in operations for t in operation.inputs if t is not None)
    uses.update(tensor.index for tensor in outputs)
    makers = {tensor.index: operation for operation in operations for tensor in operation.outputs}
    found: dict[int, list[Operation]] = {}
    for last in (operation for operation in operations if operation.kind == TO_SPACE):
        narrowing = _maker(last, RESHAPES, makers, uses)
        convolution = _maker(narrowing or last, CONVOLUTIONS, makers, uses)
        widening = _maker(convolution, RESHAPES, makers, uses) if convolution and narrowing else None
        first = _maker(widening or convolution, (TO_BATCH,), makers, uses) if convolution else None
        if not convolution or not first:
            continue
        if widening and narrowing:
            fused = _fused_row(first, widening, convolution, narrowing, last, fresh)
        else:
            fused = None if narrowing else _fused(first, convolution, last, fresh)
        if fused:
            between = (widening, convolution, narrowing)
            found |= {first.index: []} | {one.index: [] for one in between if one} | {last.index: fused}
    return [one for operation in operations for one in found.get(operation.index, [operation])]


def _maker(
    operation: Operation, kinds: tuple[str, ...], makers: dict[int, Operation], uses: Counter[int]
) -> Operation | None:
    """The operator of one of these kinds that makes the first input, for this reader only."""
    tensor = operation.inputs[0] if operation.inputs else None
    found = makers.get(tensor.index) if tensor is not None and uses[tensor.index] == 1 else None
    return found if found is not None and found.kind in kinds else None


def _fused_row(
    first: Operation,
    widening: Operation,
    convolution: Operation,
    narrowing: Operation,
    last: Operation,
    fresh: Iterator[int],
) -> list[Operation] | None:
    """Of rows without columns, which are reshaped to pictures around the convolution."""
    source, wide = first.inputs[0], widening.outputs[0]
    axis = next((k for k in (1, 2) if _opened(first.outputs[0].shape, k) == wide.shape), None)
    if axis is None or source is None or narrowing.inputs[0] is None or not _one_meaning(widening):
        return None
    if len(source.shape) != 3 or not _one_meaning(narrowing):
        return None
    given = replace(wide, index=next(fresh), shape=_opened(source.shape, axis))
    result = replace(narrowing.inputs[0], index=next(fresh), shape=_opened(last.outputs[0].shape, axis))
    lists = [[_opened_amounts(end, k, axis, fresh) for k in (1, 2)] for end in (first, last)]
    fused = _fused(
        replace(first, inputs=(given, *lists[0])),
        convolution,
        replace(last, inputs=(last.inputs[0], *lists[1]), outputs=(result,)),
        fresh,
    )
    if fused is None:
        return None
    opening = replace(widening, inputs=(source, *widening.inputs[1:]), outputs=(given,))
    return [opening, *fused, replace(narrowing, inputs=(result, *narrowing.inputs[1:]), outputs=last.outputs)]


def _opened(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis:])


def _opened_amounts(operation: Operation, index: int, axis: int, fresh: Iterator[int]) -> Tensor | None:
    """Blocks, paddings or crops with those of an axis of size 1."""
    values = _numbers(operation, index)
    if values is None or len(values) != 1:
        return None
    other = np.full_like(values, 1 if values.ndim == 1 else 0)
    data = np.concatenate([other, values] if axis == 1 else [values, other]).astype(np.int32)
    return Tensor(next(fresh), f"{operation.where} {index}", "INT32", data.shape, data, None)


def _fused(first: Operation, convolution: Operation, last: Operation, fresh: Iterator[int]) -> list[Operation] | None:
    blocks, pads = _numbers(first, 1), _numbers(first, 2)
    again, crops = _numbers(last, 1), _numbers(last, 2)
    source, weights, options = first.inputs[0], convolution.inputs[1], convolution.options
    if blocks is None or pads is None or again is None or crops is None or not np.array_equal(blocks, again):
        return None
    if source is None or weights is None or len(source.shape) != 4 or len(weights.shape) != 4:
        return None
    if not (_one_meaning(first) and _one_meaning(last)) or not _is_plain(options):
        return None
    _check(first, source, blocks, pads)
    _check(last, None, blocks, crops)
    dilations = [int(options[name] * block) for name, block in zip(DILATIONS, _both(blocks, 1), strict=True)]
    totals = [(size - 1) * dilation for size, dilation in zip(weights.shape[1:3], dilations, strict=True)]
    same = np.array([(total // 2, total - total // 2) for total in totals])
    amounts = _both(pads, 0) - _both(crops, 0) + _own_pads(options, weights, _both(blocks, 1))
    if amounts.min() < 0:
        return None
    is_same = np.array_equal(amounts, same)
    options = options | dict(zip(DILATIONS, dilations, strict=True))
    options["Padding"] = tflite.Padding.SAME if is_same else tflite.Padding.VALID
    padding = [_padding(first, source, amounts, fresh)] if amounts.any() and not is_same else []
    given = padding[0].outputs[0] if padding else source
    inputs = (given, *convolution.inputs[1:])
    return [*padding, replace(convolution, inputs=inputs, outputs=last.outputs, options=options)]


def _own_pads(options: dict[str, Any], weights: Tensor, blocks: Amounts) -> Amounts:
    """(rows, columns) of (before, after) that the convolution pads itself, in pixels of the whole picture."""
    if options["Padding"] != tflite.Padding.SAME:
        return np.zeros((2, 2), dtype=np.int64)
    totals = [(size - 1) * int(options[name]) for size, name in zip(weights.shape[1:3], DILATIONS, strict=True)]
    return np.array([(total // 2, total - total // 2) for total in totals]) * blocks[:, None]


def _padding(first: Operation, source: Tensor, amounts: Amounts, fresh: Iterator[int]) -> Operation:
    data = np.pad(amounts, ((1, 1), (0, 0))).astype(np.int32)
    name = f"{first.outputs[0].name}/padded"
    shape = tuple(size + int(more) if size >= 0 else size for size, more in zip(source.shape, data.sum(1), strict=True))
    padded = replace(first.outputs[0], index=next(fresh), name=name, shape=shape)
    widths = Tensor(next(fresh), f"{name}/amounts", "INT32", data.shape, data, None)
    return Operation(first.index, "PAD", (source, widths), (padded,))


def _numbers(operation: Operation, index: int) -> Amounts | None:
    """Constant integers, of one or two spatial dimensions."""
    tensor = operation.inputs[index] if index < len(operation.inputs) else None
    if tensor is None or tensor.data is None or tensor.element not in ("INT32", "INT64"):
        return None
    return tensor.data.astype(np.int64) if tensor.shape in ((1,), (2,), (1, 2), (2, 2)) else None


def _both(values: Amounts, other: int) -> Amounts:
    """Rows and columns; an operator of one spatial dimension leaves the columns alone."""
    return values if len(values) == 2 else np.concatenate([values, np.full_like(values, other)])


def _one_meaning(operation: Operation) -> bool:
    given, result = operation.inputs[0], operation.outputs[0]
    ends = [tensor.quantization if tensor is not None else None for tensor in (given, result)]
    if ends[0] is None or ends[1] is None:
        return ends[0] is ends[1]
    return np.array_equal(ends[0].scales, ends[1].scales) and np.array_equal(ends[0].zero_points, ends[1].zero_points)


def _is_plain(options: dict[str, Any]) -> bool:
    """Of stride 1, with a padding and dilations that exist."""
    given = [options.get(name, 0) for name in DILATIONS]
    return (
        (options.get("StrideH"), options.get("StrideW")) == (1, 1)
        and options.get("Padding") in (tflite.Padding.SAME, tflite.Padding.VALID)
        and min(given) > 0
    )


def _check(operation: Operation, source: Tensor | None, blocks: Amounts, amounts: Amounts) -> None:
    """One pair of amounts for each block; with a source, whole blocks of it."""
    if blocks.ndim != 1 or amounts.shape != (len(blocks), 2) or amounts.min() < 0 or blocks.min() < 1:
        raise ModelError(f"has blocks {blocks.tolist()} and amounts {amounts.tolist()}", where=operation.where)
    for size, block, total in zip(source.shape[1:] if source else (), blocks, amounts.sum(1), strict=False):
        if size >= 0 and (size + total) % block:
            raise ModelError(f"cannot part {size} + {total} pixels into blocks of {block}", where=operation.where)
