"""Operators that move elements without computing any."""

from __future__ import annotations

import tflite

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.tflite.builder import Call, translates

MASKS = ("BeginMask", "EndMask", "ShrinkAxisMask")
LAST = (1 << 31) - 1


@translates("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def reshape(call: Call) -> None:
    """To the shape of the output tensor, which the file knows whatever computes it; the batch stays the batch."""
    call.ignore("NewShape", "SqueezeDims")
    given, wanted = call.tensor(0).shape, call.shape(call.output)
    if len(wanted) < 2:
        raise UnsupportedOperator(f"to {list(wanted)} leaves only the batch dimension")
    if given[0] != wanted[0] and -1 not in (given[0], wanted[0]):
        raise UnsupportedOperator(f"from {list(given)} to {list(wanted)} moves elements between the samples of a batch")
    call.give(call.node("Reshape", [call.value(0), call.list_of("shape", (0, *wanted[1:]))]))


@translates("TRANSPOSE")
def transpose(call: Call) -> None:
    order = call.integers(1)
    if sorted(order) != list(range(call.rank(0))):
        raise ModelError(f"has the order {order}")
    call.give(call.node("Transpose", [call.value(0)], perm=order))


@translates("PAD", "PADV2", "MIRROR_PAD")
def pad(call: Call) -> None:
    amounts = call.constant(1)
    if amounts.shape != (call.rank(0), 2) or amounts.min() < 0:
        raise ModelError(f"has paddings of shape {list(amounts.shape)}, or negative ones")
    inputs = [call.value(0), call.list_of("pads", [*amounts[:, 0], *amounts[:, 1]])]
    mode = "constant"
    if call.operation.kind == "MIRROR_PAD":
        mode = "symmetric" if call.option("Mode") == tflite.MirrorPadMode.SYMMETRIC else "reflect"
        if mode == "symmetric":
            raise UnsupportedOperator("mode SYMMETRIC is not supported")
    elif call.operation.kind == "PADV2":
        inputs.append(call.add_constant("value", call.constant(2).reshape(())))
    call.give(call.node("Pad", inputs, mode=mode))


@translates("CONCATENATION")
def concatenation(call: Call) -> None:
    axis = call.axis(int(call.option("Axis")), call.rank(0))
    values = [call.value(k) for k in range(len(call.operation.inputs))]
    call.give(call.activated(call.node("Concat", values, axis=axis)))


@translates("SLICE")
def slice_of(call: Call) -> None:
    begins, sizes = call.integers(1), call.integers(2)
    rank = call.rank(0)
    if len(begins) != rank or len(sizes) != rank:
        raise ModelError(f"has {len(begins)} begins and {len(sizes)} sizes for {rank} dimensions")
    ends = [begin + size if size >= 0 else LAST for begin, size in zip(begins, sizes, strict=True)]
    cut = [k for k in range(rank) if k or begins[k]]  # the batch is whole
    call.give(_slice(call, begins, ends, [1] * rank, cut))


@translates("STRIDED_SLICE")
def strided_slice(call: Call) -> None:
    begins, ends, strides = (call.integers(k) for k in (1, 2, 3))
    open_begin, open_end, shrunk = (int(call.option(name)) for name in MASKS)
    if not len(begins) == len(ends) == len(strides) <= call.rank(0):
        raise ModelError("has begins, ends and strides that do not fit its input")
    if 0 in strides:
        raise ModelError("has a stride of 0")
    cut = []
    for k, stride in enumerate(strides):
        if shrunk >> k & 1:
            ends[k], strides[k] = begins[k] + 1 if begins[k] != -1 else LAST, 1
        else:
            begins[k] = (0 if stride > 0 else LAST) if open_begin >> k & 1 else begins[k]
            ends[k] = (LAST if stride > 0 else -LAST) if open_end >> k & 1 else ends[k]
        if not k and (begins[k], stride) == (0, 1) and ends[k] in (LAST, *call.tensor(0).shape[:1]) and not shrunk & 1:
            continue  # the batch is whole
        cut.append(k)
    axes = [k for k in range(len(strides)) if shrunk >> k & 1]
    value = _slice(call, begins, ends, strides, cut)
    call.give(call.node("Squeeze", [value, call.list_of("dropped", axes)], "squeeze") if axes else value)


def _slice(call: Call, begins: list[int], ends: list[int], strides: list[int], cut: list[int]) -> str:
    lists = [call.list_of(suffix, [values[k] for k in cut]) for suffix, values in (("begins", begins), ("ends", ends))]
    axes, steps = call.list_of("axes", cut), call.list_of("strides", [strides[k] for k in cut])
    return call.node("Slice", [call.value(0), *lists, axes, steps]) if cut else call.value(0)


@translates("SPLIT")
def split(call: Call) -> None:
    rank = call.rank(1)
    axis, count = call.axis(_single(call, 0), rank), int(call.option("NumSplits"))
    size = call.shape(call.tensor(1))[axis]
    if count != len(call.operation.outputs) or count < 1 or size % count:
        raise ModelError(f"splits {size} into {count}")
    parts = call.list_of("sizes", [size // count] * count)
    call.give(*call.nodes("Split", [call.value(1), parts], count, axis=axis))


@translates("SPLIT_V")
def split_unequally(call: Call) -> None:
    axis, sizes = call.axis(_single(call, 2), call.rank(0)), call.integers(1)
    total = call.shape(call.tensor(0))[axis]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = total - sum(sizes) - 1
    call.ignore("NumSplits")
    if sum(sizes) != total or len(sizes) != len(call.operation.outputs) or min(sizes, default=0) < 1:
        raise ModelError(f"splits {total} into {sizes}")
    call.give(*call.nodes("Split", [call.value(0), call.list_of("sizes", sizes)], len(sizes), axis=axis))


@translates("PACK")
def pack(call: Call) -> None:
    call.ignore("ValuesCount")
    axis = call.axis(int(call.option("Axis")), call.rank(0) + 1)
    axes = call.list_of("axes", [axis])
    values = [call.node("Unsqueeze", [call.value(k), axes], f"part_{k}") for k in range(len(call.operation.inputs))]
    call.give(call.node("Concat", values, axis=axis))


@translates("UNPACK")
def unpack(call: Call) -> None:
    axis, count = call.axis(int(call.option("Axis")), call.rank(0)), int(call.option("Num"))
    if count != call.shape(call.tensor(0))[axis] or count != len(call.operation.outputs):
        raise ModelError(f"unpacks {count} parts")
    parts = call.nodes("Split", [call.value(0), call.list_of("sizes", [1] * count)], count, axis=axis)
    axes = call.list_of("axes", [axis])
    call.give(*(call.node("Squeeze", [part, axes], f"part_{k}") for k, part in enumerate(parts)))


@translates("GATHER")
def gather(call: Call) -> None:
    if call.option("BatchDims"):
        raise UnsupportedOperator("option BatchDims is not supported")
    axis = call.axis(int(call.option("Axis")), call.rank(0))
    call.give(call.node("Gather", [call.value(0), call.value(1)], axis=axis))


@translates("TILE")
def tile(call: Call) -> None:
    call.give(call.node("Tile", [call.value(0), call.list_of("repeats", call.integers(1))]))


@translates("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def depth_to_space(call: Call) -> None:
    call.rank(0, 4)
    kind = "DepthToSpace" if call.operation.kind == "DEPTH_TO_SPACE" else "SpaceToDepth"
    source = call.channels_first(call.value(0))
    call.give(call.channels_last(call.node(kind, [source], blocksize=int(call.option("BlockSize")))))


def _single(call: Call, index: int) -> int:
    values = call.integers(index)
    if len(values) != 1:
        raise ModelError(f"{call.tensor(index).where} is not one number")
    return values[0]
