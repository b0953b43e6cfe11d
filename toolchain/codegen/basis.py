"""The basis stage: adders that turn windows into basis responses, and the centre stage of the clustered unit behind it.

See `basis_window.h`, `basis_channels.h` and `centre_responses.h`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from toolchain.codegen.kernel import Cost, Kernel, Port, Schedule, every, integer_type, packed_chunks
from toolchain.codegen.sparse import mux
from toolchain.codegen.windows import line_buffer, window_config
from toolchain.ir import Array, Constant, TensorType
from toolchain.ir.types import needed_width
from toolchain.ir.window import Window
from toolchain.packing.basis import basis
from toolchain.packing.packed import Coding, Packed


def additions(size: int) -> int:
    """Additions of a one-dimensional transform: the halves that rows share once, then one less than signed digits."""
    half = (size + 1) // 2
    rows = [sum(_signed_digits(int(entry)) for entry in row[:half]) - 1 for row in basis(size)]
    return size // 2 * 2 + sum(rows)


def _signed_digits(value: int) -> int:
    """Nonzero digits of a number written with -1, 0 and 1, as few as possible."""
    value, digits = abs(value), 0
    while value:
        if value % 2:
            digits += 1
            value -= 1 if value % 4 == 1 else -1
        value //= 2
    return digits


def basis_additions(coding: Coding, strides: tuple[int, int], pixels: int, channels: int) -> int:
    """Additions of the basis stage for one input.

    Over taps each of the `pixels` output pixels transforms as many columns as the window moves on by, `strides[1]`
    (where it covers the picture, all of the kernel's). `channels` counts all input channels, of all taps where the
    transform goes over channels.
    """
    rows, columns = coding.transform.rows, coding.transform.columns
    if coding.transform.kind == "taps":
        return pixels * channels * (strides[1] * additions(rows) + rows * additions(columns))
    if coding.transform.kind == "channels":
        blocks = pixels * channels // coding.transform.size
        return blocks * (columns * additions(rows) + rows * additions(columns))
    return 0


def frequency_coding(weights: Constant, kernel: tuple[int, ...]) -> Coding | None:
    """The coding of weights that can be executed in frequency, else None.

    They have to be the exact combination of coefficients, over channels or over a kernel of just these taps.
    """
    if not isinstance(weights, Packed) or not weights.coding.is_frequency or weights.coding.rounded:
        return None
    transform = weights.coding.transform
    fits = transform.kind == "channels" or (transform.rows, transform.columns) == kernel
    return weights.coding if fits else None


def basis_window(given: TensorType, window: Window, lanes: int, coding: Coding) -> Kernel:
    """Pixels in, basis responses of every window out: all taps of `lanes` channels in a word."""
    _, width, channels = given.shape
    out_height, out_width = window.output(given.shape)
    words, (rows, columns) = channels // lanes, window.kernel
    low, high = (min(given.low, 0), max(given.high, 0)) if window.is_padded else (given.low, given.high)
    column, total, response = _ranges(coding, low, high)
    extent, stride = window.extent, window.strides
    edge = extent[1] - 1 - window.pads[1]
    first = min(edge, 0)
    emitting = (edge + (out_width - 1) * stride[1] - first + 1) * words
    shape = (out_height * out_width, words, window.taps, lanes)
    output = TensorType.holding(shape, *response, given.fractions[:1])
    slots, kept = extent[0] + stride[0], extent[1] - 1
    return Kernel(
        "basis_window",
        "basis_window.h",
        {**window_config(given, window, lanes), **_types(given, column, total, output, coding)},
        (Port(given, lanes),),
        Port(output, window.taps * lanes),
        line_buffer(
            given, window, lanes, emitting, ((out_width, stride[1] * words), (words, 1)), first=(edge - first) * words
        ),
        {},
        Cost(
            banks=((kept, words, rows * lanes * _bits(column)),),
            written=(("rows", slots, width * words, lanes * given.width),),
            lut=300 + rows * mux(slots, lanes * given.width) + lanes * _adders(rows, columns, 1, column, total),
        ),
    )


def basis_channels(source: Port, reach: tuple[int, int], coding: Coding) -> Kernel:
    """Transforms blocks of neighbouring channels within the words of `source`, whose values lie in `reach`."""
    rows, columns = coding.transform.rows, coding.transform.columns
    column, total, response = _ranges(coding, *reach)
    output = TensorType.holding(source.type.shape, *response, source.type.fractions[:1])
    return Kernel(
        "basis_channels",
        "basis_channels.h",
        {
            "COUNT": source.words,
            "LANES": source.lanes,
            "ROWS": rows,
            "COLUMNS": columns,
            **_types(source.type, column, total, output, coding),
        },
        (source,),
        Port(output, source.lanes),
        Schedule(source.words, (every(source.words),), every(source.words)),
        {},
        Cost(lut=source.lanes // (rows * columns) * _adders(rows, columns, columns, column, total)),
    )


def centre_responses(given: Port, reach: tuple[int, int], coding: Coding, per_step: int) -> Kernel:
    """Appends the responses of the common centres to the words of `basis_window`, whose pictures lie in `reach`."""
    assert coding.clusters is not None
    taps = coding.transform.size
    lanes = given.lanes // taps
    centres = coding.clusters.centres.array
    centres = centres[centres.any(1)]
    folds, words = len(centres) // per_step, given.words
    width, signed = needed_width(int(centres.min()), int(centres.max()))
    kernels = (centres << np.array(coding.shifts)) @ coding.transform.matrix
    bounds = _hull([(given.type.low, given.type.high), *(_range(kernel, *reach) for kernel in kernels)])
    *leading, _, _ = given.type.shape
    output = TensorType.holding((*leading, taps + len(centres), lanes), *bounds, given.type.fractions[:1])
    return Kernel(
        "centre_responses",
        "centre_responses.h",
        {
            "COUNT": words,
            "LANES": lanes,
            "TAPS": taps,
            "CENTRES": len(centres),
            "PER_STEP": per_step,
            "input_t": given.type.cpp,
            "centre_t": integer_type(width, signed),
            "output_t": output.cpp,
        },
        (given,),
        Port(output, (taps + len(centres)) * lanes),
        Schedule(words * folds, (every(words, folds),), every(words, folds, start=folds - 1)),
        {"centres": packed_chunks(lambda: centres.reshape(folds, -1), per_step * taps, width)},
        Cost(
            ((per_step * lanes * taps, given.type.width, width),),
            ((folds, per_step * taps * width),),
            lut=per_step * lanes * output.width,
        ),
    )


Range = tuple[int, int]


def _ranges(coding: Coding, low: int, high: int) -> tuple[Range, Range, Range]:
    """Exact ranges of the responses along columns, along both axes, and of these after the shifts."""
    transform = coding.transform
    both = [_range(row, low, high) for row in transform.matrix]
    shifted = [(a << s, b << s) for (a, b), s in zip(both, coding.shifts, strict=True)]
    return _hull(_range(row, low, high) for row in basis(transform.rows)), _hull(both), _hull(shifted)


def _range(row: Array, low: int, high: int) -> Range:
    positive, negative = int(np.maximum(row, 0).sum()), int(np.minimum(row, 0).sum())
    return positive * low + negative * high, positive * high + negative * low


def _hull(ranges: Iterable[Range]) -> Range:
    lows, highs = zip(*ranges, strict=True)
    return min(lows), max(highs)


def _types(given: TensorType, column: Range, total: Range, output: TensorType, coding: Coding) -> dict[str, int | str]:
    return {
        "input_t": given.cpp,
        "column_t": integer_type(*needed_width(*column)),
        "sum_t": integer_type(*needed_width(*total)),
        "output_t": output.cpp,
        "shifts_t": f"dct::shift_list<{', '.join(map(str, coding.shifts))}>",
    }


def _bits(values: Range) -> int:
    return needed_width(*values)[0]


def _adders(rows: int, columns: int, transformed: int, column: Range, total: Range) -> int:
    """LUTs of one block's adders, of whose columns `transformed` are made a step."""
    return transformed * additions(rows) * _bits(column) + rows * additions(columns) * _bits(total)
