"""The kernels that several operators share: line buffer, matrix-vector unit, and change of lanes."""

from __future__ import annotations

import math

import numpy as np

from toolchain.codegen.kernel import (
    Cost,
    Folding,
    Kernel,
    Loops,
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
from toolchain.ir import Array, FixedType, TensorType
from toolchain.ir.window import Window


def window_config(given: TensorType, window: Window, lanes: int) -> dict[str, int | str]:
    """The geometry that the C++ line buffers know."""
    height, width, channels = given.shape
    out_height, out_width = window.output(given.shape)
    return {
        "HEIGHT": height,
        "WIDTH": width,
        "CHANNELS": channels,
        "LANES": lanes,
        "KERNEL_HEIGHT": window.kernel[0],
        "KERNEL_WIDTH": window.kernel[1],
        "STRIDE_HEIGHT": window.strides[0],
        "STRIDE_WIDTH": window.strides[1],
        "DILATION_HEIGHT": window.dilations[0],
        "DILATION_WIDTH": window.dilations[1],
        "PAD_TOP": window.pads[0],
        "PAD_LEFT": window.pads[1],
        "OUT_HEIGHT": out_height,
        "OUT_WIDTH": out_width,
    }


def line_buffer(
    given: TensorType,
    window: Window,
    lanes: int,
    emitting: int,
    writes: tuple[tuple[int, int], ...],
    first: int = 0,
    tail: int = 0,
) -> Schedule:
    """A line buffer whose rows of outputs take `emitting` steps, with `writes` (count, stride) from step `first` on.

    Before the first row of outputs it reads what that one needs, then during each row what the next one needs. The last
    row is followed by `tail` steps without reads.
    """
    height, width, channels = given.shape
    out_height, _ = window.output(given.shape)
    extent, stride, top = window.extent[0], window.strides[0], window.pads[0]
    loaded = [min(max(oy * stride - top + extent, 0), height) for oy in range(out_height)]
    row_words = width * channels // lanes
    row_steps = max(emitting, stride * row_words)
    prologue, epilogue = loaded[0] * row_words, (height - loaded[-1]) * row_words
    reads: list[Loops] = list(every(prologue)) if prologue else []
    for oy in range(out_height - 1):
        count = (loaded[oy + 1] - loaded[oy]) * row_words
        if count:
            reads += every(count, start=prologue + oy * row_steps)
    if epilogue:
        reads += every(epilogue, start=prologue + out_height * row_steps + tail)
    return Schedule(
        prologue + out_height * row_steps + tail + epilogue,
        (tuple(reads),),
        nest((out_height, row_steps), *writes, start=prologue + first),
    )


def sliding_window(given: TensorType, window: Window, lanes: int, block: int, padding: int) -> Kernel:
    """Pixels in, windows out, `block` channels of every tap before the next block. See `sliding_window.h`."""
    _, width, channels = given.shape
    out_height, out_width = window.output(given.shape)
    taps, words = window.taps, channels // lanes
    emitted = out_width * words * taps
    slots = window.extent[0] + window.strides[0]
    windows = TensorType(
        (out_height * out_width, channels // block, taps, block),
        given.width,
        given.signed,
        (given.fractions[0],),
        given.low,
        given.high,
    )
    return Kernel(
        "sliding_window",
        "sliding_window.h",
        {**window_config(given, window, lanes), "CHANNEL_BLOCK": block, "PADDING": padding, "input_t": given.cpp},
        (Port(given, lanes),),
        Port(windows, lanes),
        line_buffer(given, window, lanes, emitted, ((emitted, 1),)),
        {},
        Cost(written=(("rows", 1, slots * width * words, lanes * given.width),), lut=300),
    )


def matrix_vector(
    given: TensorType,
    source: Port,
    output: TensorType,
    pixels: int,
    matrix: Array,
    bias: Array,
    weight_type: FixedType,
    folding: Folding,
) -> Kernel:
    """`matrix` (groups, rows, columns) times a window of each group, for every pixel. See `matrix_vector.h`."""
    groups, rows, columns = matrix.shape
    pe, simd, width = folding.pe, source.lanes, weight_type.width
    row_folds, column_folds = rows // pe, columns // simd
    folds = groups * row_folds * column_folds
    steps = pixels * folds
    weight, factor = (width, weight_type.signed), (given.width, given.signed)

    def elements() -> Array:
        folded = matrix.reshape(groups, row_folds, pe, column_folds, simd).transpose(0, 1, 3, 2, 4)
        return np.ascontiguousarray(folded).reshape(folds, pe * simd)

    return Kernel(
        "matrix_vector",
        "matrix_vector.h",
        {
            "PIXELS": pixels,
            "GROUPS": groups,
            "ROWS": rows,
            "COLUMNS": columns,
            "PE": pe,
            "SIMD": simd,
            "MULTIPLIER": multiplier_kind(folding.multiplier, weight, factor),
            "input_t": given.cpp,
            "weight_t": integer_type(*weight),
            "output_t": output.cpp,
        },
        (source,),
        Port(output, pe),
        Schedule(
            steps,
            (nest((pixels * groups, row_folds * column_folds), (column_folds, 1)),),
            nest((pixels * groups * row_folds, column_folds), start=column_folds - 1),
        ),
        {"weights": packed_chunks(elements, pe * simd, width), "bias": integer_array(bias)},
        multipliers(folding.multiplier, pe, simd, weight, factor)
        + Cost(
            memories=((folds, pe * simd * width), (column_folds, simd * given.width)),
            lut=pe * output.width * 2,
        ),
    )


def repacked(chain: list[Kernel], given: Port, lanes: int) -> Port:
    """The stream behind a chain of kernels, or `given`, with so many lanes; adds to the chain what that needs."""
    source = chain[-1].output if chain else given
    while source.lanes != lanes:
        # Wide words first: narrow ones would take more steps than either end.
        step = lanes if source.lanes % lanes == 0 or lanes % source.lanes == 0 else math.lcm(source.lanes, lanes)
        chain.append(repack(source, step))
        source = chain[-1].output
    return source


def repack(given: Port, lanes: int) -> Kernel:
    """The kernel that changes the lanes of a stream; one number divides the other."""
    size, narrow = given.type.size, min(given.lanes, lanes)
    steps = size // narrow
    if given.lanes > lanes:
        parts = given.lanes // lanes
        schedule = Schedule(steps, (nest((size // given.lanes, parts)),), every(steps))
    else:
        parts = lanes // given.lanes
        schedule = Schedule(steps, (every(steps),), nest((size // lanes, parts), start=parts - 1))
    config: dict[str, int | str] = {
        "COUNT": size,
        "IN_LANES": given.lanes,
        "OUT_LANES": lanes,
        "BITS": given.type.width,
    }
    return Kernel("repack", "repack.h", config, (given,), Port(given.type, lanes), schedule)
