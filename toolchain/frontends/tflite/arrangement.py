"""Operators of quantized models that move integers without computing any."""

from __future__ import annotations

import math

import numpy as np

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.tflite.curves import tabulated
from toolchain.frontends.tflite.integers import TYPES, Step, meaning_of, translates
from toolchain.frontends.tflite.kernels import limits
from toolchain.ops.concat import Concat
from toolchain.ops.pad import Pad
from toolchain.ops.pixel_shuffle import gathering, interleaving
from toolchain.ops.rescale import Rescale
from toolchain.ops.reshape import Reshape
from toolchain.ops.slice import Slice
from toolchain.ops.transpose import Transpose


@translates("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def reshape(step: Step) -> None:
    step.ignore("NewShape", "SqueezeDims")
    step.same_meaning(0)
    value, sizes = step.value(0), step.output.shape[1:]
    if not sizes or min(sizes) < 1 or math.prod(sizes) != step.type(value).size:
        raise UnsupportedOperator(f"to {list(step.output.shape)} moves elements between the samples of a batch")
    step.give(step.add(Reshape(sizes), value))


@translates("CONCATENATION")
def concatenation(step: Step) -> None:
    """uint8 operands of other scales are brought to the output's in float32; int8 ones have it."""
    count = len(step.operation.inputs)
    rank = len(step.output.shape)
    axis = int(step.option("Axis"))
    if not -rank <= axis < rank or axis % rank == 0:
        raise UnsupportedOperator(f"joins along axis {axis}")
    low, high = limits(step, step.option("FusedActivationFunction"))
    values = []
    for k in range(count):
        value = _in_output_scale(step, k)
        if (step.type(value).low, step.type(value).high) != (low, high):  # operands need one type
            value = step.add(Rescale.identity(0, low, high), value, part=f"operand_{k}")
        values.append(value)
    step.give(step.add(Concat(axis % rank - 1), *values))


@translates("PAD", "PADV2")
def pad(step: Step) -> None:
    """With real zero, or PADV2's value, an integer of the output's scale."""
    step.same_meaning(0)
    amounts, fill = step.tensor(1).data, 0
    if step.operation.kind == "PADV2":
        step.same_meaning(2)
        data = step.tensor(2).data
        if data is None or data.size != 1:
            raise UnsupportedOperator("pads with a computed value")
        fill = int(data.ravel()[0]) - meaning_of(step.output).zero_point
    value = step.value(0)
    rank = len(step.type(value).shape)
    if amounts is None or amounts.shape != (rank + 1, 2) or amounts.min() < 0 or amounts[0].any() or rank > 3:
        raise UnsupportedOperator("has paddings that are computed, negative, or reach into the batch")
    before, after = (tuple(int(n) for n in amounts[1:, k]) for k in range(2))
    step.give(step.add(Pad(before, after, fill), value))


def _in_output_scale(step: Step, index: int) -> str:
    """An operand of a concatenation, through a table of round(r * scale + bias) where its meaning is another one."""
    given, result = meaning_of(step.tensor(index)), meaning_of(step.output)
    if given == result or step.output.element != "UINT8":
        step.same_meaning(index)
        return step.value(index)
    type = TYPES["UINT8"]
    scale = np.float32(given.scale) * (np.float32(1) / np.float32(result.scale))
    bias = np.float32(-given.zero_point) * scale
    scaled = np.arange(type.low, type.high + 1).astype(np.float32) * scale + bias
    nearest = np.copysign(np.floor(np.abs(scaled.astype(np.float64)) + 0.5), scaled).astype(np.int64)
    entries = (nearest + result.zero_point).clip(type.low, type.high) - result.zero_point
    return tabulated(step, entries, index)


@translates("TRANSPOSE")
def transpose(step: Step) -> None:
    step.same_meaning(0)
    value = step.value(0)
    order = integers(step, 1)
    if sorted(order) != list(range(len(step.type(value).shape) + 1)):
        raise ModelError(f"has the order {order}")
    if order[0]:
        raise UnsupportedOperator("moves the batch dimension")
    step.give(step.add(Transpose(tuple(axis - 1 for axis in order[1:])), value))


@translates("SLICE")
def slice_of(step: Step) -> None:
    begins, sizes = integers(step, 1), integers(step, 2)
    ends = [begin + size if size >= 0 else None for begin, size in zip(begins, sizes, strict=True)]
    step.give(_cut(step, [slice(begin, end) for begin, end in zip(begins, ends, strict=True)], ()))


@translates("STRIDED_SLICE")
def strided_slice(step: Step) -> None:
    lists = [integers(step, k) for k in (1, 2, 3)]
    open_begin, open_end, shrunk = (int(step.option(name)) for name in ("BeginMask", "EndMask", "ShrinkAxisMask"))
    cuts, dropped = [], []
    for k, (begin, end, stride) in enumerate(zip(*lists, strict=True)):
        if shrunk >> k & 1:
            cuts.append(slice(begin, begin + 1 if begin != -1 else None))
            dropped.append(k)
        elif stride < 1:
            raise UnsupportedOperator(f"has the stride {stride}, only positive ones are supported")
        else:
            cuts.append(slice(None if open_begin >> k & 1 else begin, None if open_end >> k & 1 else end, stride))
    step.give(_cut(step, cuts, tuple(dropped)))


def _cut(step: Step, cuts: list[slice], dropped: tuple[int, ...]) -> str:
    """The box that slices with the batch in front cut out, without the axes of size 1 that are dropped."""
    step.same_meaning(0)
    value = step.value(0)
    shape = step.type(value).shape
    batch = step.tensor(0).shape[0]
    if len(cuts) > len(shape) + 1 or len(shape) > 3:
        raise UnsupportedOperator(f"cuts {len(shape)} dimensions beside the batch, 3 are supported")
    if 0 in dropped or (cuts and cuts[0].indices(max(batch, 1)) != (0, max(batch, 1), 1)):
        raise UnsupportedOperator("cuts the batch dimension")
    whole = [*cuts[1:], *[slice(None)] * (len(shape) + 1 - max(len(cuts), 1))]
    ranges = [range(*cut.indices(size)) for cut, size in zip(whole, shape, strict=True)]
    if not all(len(one) for one in ranges):
        raise ModelError("cuts nothing out")
    starts, steps = tuple(one.start for one in ranges), tuple(one.step for one in ranges)
    sizes = tuple(len(one) for one in ranges)
    value = step.add(Slice(starts, steps, sizes), value)
    kept = tuple(size for k, size in enumerate(sizes, 1) if k not in dropped)
    return step.add(Reshape(kept), value, part="squeeze") if dropped else value


@translates("SPLIT")
def split(step: Step) -> None:
    axis, count = integers(step, 0), int(step.option("NumSplits"))
    size = step.tensor(1).shape[axis[0]]
    if len(axis) != 1 or count != len(step.operation.outputs) or count < 1 or size % count:
        raise ModelError(f"splits {size} into {count} along {axis}")
    _part(step, 1, axis[0], [size // count] * count)


@translates("SPLIT_V")
def split_unequally(step: Step) -> None:
    """One of the sizes may be -1, for what is left."""
    step.ignore("NumSplits")
    sizes, axis = integers(step, 1), integers(step, 2)
    total = step.tensor(0).shape[axis[0]]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = total - sum(sizes) - 1
    if len(axis) != 1 or sum(sizes) != total or len(sizes) != len(step.operation.outputs) or min(sizes) < 1:
        raise ModelError(f"splits {total} into {sizes} along {axis}")
    _part(step, 0, axis[0], sizes)


def _part(step: Step, index: int, axis: int, sizes: list[int]) -> None:
    """Gives an input, cut along an axis, as the operator's outputs."""
    step.same_meaning(index)
    value = step.value(index)
    shape, k = step.type(value).shape, axis % len(step.tensor(index).shape) - 1
    if k < 0 or len(shape) > 3:
        raise UnsupportedOperator(f"cuts the batch, or one of {len(shape)} dimensions beside it, 3 are supported")
    parts = []
    for number, size in enumerate(sizes):
        starts = (*(0,) * k, sum(sizes[:number]), *(0,) * (len(shape) - k - 1))
        cut = Slice(starts, (1,) * len(shape), (*shape[:k], size, *shape[k + 1 :]))
        parts.append(step.add(cut, value, part=f"part_{number}"))
    step.give(*parts)


@translates("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def depth_to_space(step: Step) -> None:
    step.same_meaning(0)
    value, block = step.value(0), int(step.option("BlockSize"))
    shape = step.type(value).shape
    to_space = step.operation.kind == "DEPTH_TO_SPACE"
    parted = shape[2:] if to_space else shape[:2]
    if len(shape) != 3 or block < 1 or any(size % (block**2 if to_space else block) for size in parted):
        raise ModelError(f"cannot part {list(shape)} into blocks of {block}")
    operators = interleaving(shape, (block, block), "picture") if to_space else gathering(shape, block)
    step.give(step.chain(operators, value))


def integers(step: Step, index: int) -> list[int]:
    """A short constant list, as axes and sizes are."""
    tensor = step.tensor(index)
    if tensor.data is None or tensor.element not in ("INT32", "INT64") or tensor.data.size > 64:
        raise UnsupportedOperator(f"{tensor.where} is no short constant list of integers")
    return [int(v) for v in tensor.data.ravel()]
