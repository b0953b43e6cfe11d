"""The sparse convolution that reads its operands from copies of the line buffer. See `sparse_rows.h`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from toolchain.codegen.kernel import (
    Cost,
    Folding,
    Kernel,
    KernelArray,
    Port,
    Schedule,
    every,
    integer_array,
    integer_type,
    multiplier_kind,
    multipliers,
    nest,
    packed_chunks,
)
from toolchain.codegen.sparse import ENTRY_BITS, WEIGHT_BITS, Nonzeros, mux
from toolchain.codegen.windows import line_buffer, window_config
from toolchain.errors import PassError
from toolchain.ir import Array, Shape, TensorType
from toolchain.ir.window import Window

UNUSED = ("KERNEL_WIDTH", "DILATION_WIDTH", "PAD_LEFT")
"""Of a line buffer's geometry: the schedule holds the columns of taps."""


@dataclass(frozen=True)
class Pieces:
    """The rows of a picture cut into `count` pieces, `distance` columns apart, with what the kernel needs around them.

    `shape` is that of a piece: rows, columns and channels, padding included.
    """

    count: int
    distance: int
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, window: Window, shape: Shape, count: int) -> Pieces | None:
        """None where pixels do not share out evenly, or where a piece would reach beyond those beside it."""
        rows, columns = window.output(shape)
        if columns % count:
            return None
        distance = columns // count * window.strides[1]
        height = (rows - 1) * window.strides[0] + window.extent[0]
        width = (columns // count - 1) * window.strides[1] + window.extent[1]
        if window.pads[1] > distance or width - window.pads[1] > 2 * distance:
            return None
        return cls(count, distance, (height, width, shape[2]))

    @property
    def row_words(self) -> int:
        return self.shape[1] * self.shape[2]


def segment_rows(given: TensorType, window: Window, pieces: Pieces, lanes: int) -> Kernel:
    """`lanes` channels of a pixel a word in, one channel of a pixel of each piece a word out. See `segment_rows.h`."""
    height, width, channels = given.shape
    top, count, rows = window.pads[0], pieces.count, pieces.shape[0]
    fill, emit = width * channels // lanes, pieces.row_words
    row = max(fill, emit)
    first = fill if top == 0 else 0
    needed = max(min(height, rows - top), 0)
    # Row r comes in while the padded row before it leaves; without padding the first one comes before all others.
    reads = [*every(first)] if first else []
    arriving = needed - (top == 0)
    if arriving > 0:
        reads += nest((arriving, row), (fill, 1), start=first + max(top - 1, 0) * row)
    dropped = (height - needed) * fill
    if dropped:
        reads += every(dropped, start=first + rows * row)
    words = TensorType((*pieces.shape, count), given.width, given.signed, (0,), given.low, given.high)
    banks = -(-width // pieces.distance)
    return Kernel(
        "segment_rows",
        "segment_rows.h",
        {
            "HEIGHT": height,
            "WIDTH": width,
            "CHANNELS": channels,
            "LANES": lanes,
            "SEGMENTS": count,
            "DISTANCE": pieces.distance,
            "PIECE_WIDTH": pieces.shape[1],
            "PADDED_HEIGHT": rows,
            "PAD_TOP": top,
            "PAD_LEFT": window.pads[1],
            "PADDING": 0,
            "input_t": given.cpp,
        },
        (Port(given, lanes),),
        Port(words, count),
        Schedule(first + rows * row + dropped, (tuple(reads),), nest((rows, row), (emit, 1), start=first)),
        {},
        Cost(
            # Its channel, and the piece beside it or padding.
            lut=banks * mux(lanes, given.width) + count * given.width,
            written=(("pieces", banks, 2 * pieces.distance * channels // lanes, lanes * given.width),),
        ),
    )


@dataclass(frozen=True)
class Trees:
    """Which adder trees the nonzeros of each output fill: `units` trees a step, of `macs` / `units` products each.

    `starts` is the first tree of each output, counted through all steps. `boundaries` is, for each of the `steps`, how
    many trees belong to the output that is being summed, plus COMPLETE when that is then done.
    """

    starts: Array
    boundaries: Array

    COMPLETE: ClassVar[int] = 128

    @property
    def steps(self) -> int:
        return len(self.boundaries)

    @classmethod
    def of(cls, counts: Array, macs: int, units: int) -> Trees:
        """For outputs with so many nonzeros each. At most one output is completed in a step."""
        size, at, free = macs // units, 0, 0  # the next tree; the first step that completes no output yet
        starts, completed = [], {}
        for needed in (-(-max(count, 1) // size) for count in counts.tolist()):
            starts.append(at)
            at += needed
            step = -(-at // units) - 1
            if step < free:  # another output ends in this step: this one is completed at the start of the next
                at, step = free * units, free
            completed[step] = at - step * units
            free = step + 1
        boundaries = np.full(free, units)
        for step, boundary in completed.items():
            boundaries[step] = boundary + cls.COMPLETE
        return cls(np.array(starts), boundaries)


def trees(nonzeros: Nonzeros, macs: int, units: int) -> Trees:
    """Remembered with the nonzeros."""
    known: dict[tuple[int, int], Trees] = nonzeros.__dict__.setdefault("_trees", {})
    if (macs, units) not in known:
        known[macs, units] = Trees.of(np.diff(nonzeros.ends, prepend=0), macs, units)
    return known[macs, units]


def sparse_rows(
    given: TensorType,
    output: TensorType,
    window: Window,
    nonzeros: Nonzeros,
    groups: int,
    bias: Array,
    folding: Folding,
) -> list[Kernel]:
    """The convolution of a picture with the nonzeros of its kernel, `folding.pixels` pixels of a row at once."""
    pixels, macs, pe, channels = folding.pixels, folding.macs, folding.pe, given.shape[2]
    pieces = Pieces.of(window, given.shape, pixels)
    assert pieces is not None
    source = segment_rows(given, window, pieces, folding.lanes)
    plan = trees(nonzeros, macs, folding.units)
    padded = TensorType(pieces.shape, given.width, given.signed, (0,), given.low, given.high)
    inside = replace(window, pads=(0, 0, 0, 0))
    rows, columns, outputs = output.shape[0], output.shape[1] // pixels, output.shape[2]
    fill, emit = -(-window.strides[0] * pieces.row_words // columns), pixels * (outputs // pe)
    full, tail = max(fill, plan.steps, emit), columns * emit
    lines = line_buffer(padded, inside, 1, columns * full, (), tail=tail)
    start = lines.steps - tail  # of the last row of outputs, which leaves alone
    others = nest((rows - 1, columns * full), (columns, full), (emit, 1), start=start - (rows - 1) * columns * full)
    writes = (*(others if rows > 1 else ()), *every(tail, start=start))
    width, signed = nonzeros.type
    value = (given.width, given.signed)
    row_bits = (window.kernel[0] - 1).bit_length()
    word_bits = (((window.kernel[1] - 1) * window.dilations[1] + 1) * channels - 1).bit_length()
    entry = row_bits + word_bits + width
    if entry > ENTRY_BITS or width > WEIGHT_BITS:
        raise PassError(f"the sparse schedule's entries have {entry} bits, {ENTRY_BITS} are possible")

    def schedule() -> Array:
        return _schedule(nonzeros, plan, window, groups, folding, (row_bits, word_bits, width))

    held = (window.extent[0] + window.strides[0]) * pieces.row_words
    address = (held - 1).bit_length()
    kernel = Kernel(
        "sparse_rows",
        "sparse_rows.h",
        {name: value for name, value in window_config(padded, inside, 1).items() if name not in UNUSED}
        | {
            "OUT_WIDTH": columns,
            "OUTPUTS": outputs,
            "PE": pe,
            "MACS": macs,
            "UNITS": folding.units,
            "GROUP_PIXELS": pixels,
            "NONZEROS": nonzeros.count,
            "FILL": fill,
            "STEPS": plan.steps,
            "EMIT": emit,
            "SELECT_BITS": row_bits,
            "ADDRESS_BITS": word_bits,
            "MULTIPLIER": multiplier_kind(folding.multiplier, value, (width, signed)),
            "input_t": given.cpp,
            "weight_t": integer_type(width, signed),
            "output_t": output.cpp,
        },
        (source.output,),
        Port(output, pe),
        Schedule(lines.steps, lines.reads, writes),
        {
            "schedule": packed_chunks(schedule, macs, entry),
            "boundaries": KernelArray("unsigned char", lambda: plan.boundaries),
            "bias": integer_array(bias),
        },
        multipliers(folding.multiplier, pixels, macs, value, (width, signed))
        + Cost(
            memories=((plan.steps, macs * entry + folding.units.bit_length() + 1),),
            # The start of a tap's row and its address; which trees an output has, and its bias; a pixel's outputs.
            lut=macs * (mux(window.kernel[0], address) + address)
            + window.kernel[0] * 2 * address
            + pixels * (2 * folding.units + 1) * output.width
            + pe * mux(pixels, output.width)
            + 200,
            written=(
                ("rows", macs, held, pixels * given.width),
                ("sums", pixels * pe, 2 * columns * (outputs // pe), output.width),
            ),
        ),
    )
    return [source, kernel]


def _schedule(
    nonzeros: Nonzeros, plan: Trees, window: Window, groups: int, folding: Folding, bits: tuple[int, int, int]
) -> Array:
    """Entries (steps, lanes): row of the kernel, word of the row, and weight from the lowest bits, `bits` each."""
    taps, per_group, _ = nonzeros.values.shape
    size = folding.macs // folding.units
    position, weight, owner = nonzeros.entries(groups, per_group)
    group, within = np.divmod(position, taps * per_group)
    tap, channel = np.divmod(within, per_group)
    row, column = np.divmod(tap, window.kernel[1])
    word = column * window.dilations[1] * per_group * groups + group * per_group + channel
    first = np.searchsorted(owner, np.arange(len(plan.starts)))
    place = plan.starts[owner] * size + np.arange(len(owner)) - first[owner]
    lanes = np.zeros((plan.steps * folding.macs, 3), dtype=np.uint64)
    negative = (weight.astype(np.int64) & ((1 << bits[2]) - 1)).astype(np.uint64)
    lanes[place] = np.stack([row, word, negative], axis=1)
    shifts = np.cumsum([0, *bits[:2]]).astype(np.uint64)
    return np.asarray((lanes << shifts).sum(axis=1, dtype=np.uint64).reshape(plan.steps, folding.macs))
