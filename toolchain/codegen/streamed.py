"""The matrix-vector unit whose weights are decoded out of DDR. See `streamed_matrix_vector.h`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from toolchain.codegen.kernel import (
    Cost,
    Folding,
    Kernel,
    KernelMemory,
    Port,
    Schedule,
    Streams,
    integer_type,
    multiplier_kind,
    multipliers,
    nest,
)
from toolchain.codegen.sparse import Nonzeros, mux
from toolchain.ir import Array, TensorType
from toolchain.packing.entropy import starts

LATENCY = 200
"""Cycles from one substream to the next: the memory's first answer, and five loops that fill."""
SYMBOL_BITS = 20
LEAST_SYMBOLS, MOST_SYMBOLS = 256, 4096
"""Room for the symbols of a dictionary: twice those that there are, for other weights may come."""
DECODER_LUT = 5000
"""A lane: two AXI masters of 32 bits, `decode_substream`, and what finds the element of a column."""
SECTION_WORDS = 512
"""Words of 36 bits that an AXI master and the FIFO behind it hold."""


def streamed_matrix_vector(
    source: Port, output: TensorType, pixels: int, nonzeros: Nonzeros, groups: int, block: int, folding: Folding
) -> Kernel:
    """The products of each pixel's vector with the nonzeros of every output, read anew for each group of pixels.

    `source` is that of `sparse_matrix_vector`. Bias and the place of the weights are memories.
    """
    assert folding.streamed is not None
    streams, lanes, group, pe, simd = folding.streamed, folding.macs, folding.pixels, folding.pe, source.lanes
    taps, channels, outputs = nonzeros.values.shape
    inputs, width = taps * channels * groups, folding.loaded
    words, lane_words = inputs // simd, outputs // lanes // pe
    fill, steps, emit = group * words, lane_steps(nonzeros, streams, lanes), group * (outputs // pe)
    symbols = LEAST_SYMBOLS
    while symbols < min(2 * streams.codes, MOST_SYMBOLS):
        symbols *= 2
    value, weight = (source.type.width, source.type.signed), (width, True)
    config: dict[str, int | str] = {
        "PIXELS": pixels,
        "INPUTS": inputs,
        "OUTPUTS": outputs,
        "SIMD": simd,
        "PE": pe,
        "LANES": lanes,
        "GROUP_PIXELS": group,
        "TAPS": taps,
        "CHANNELS": channels,
        "GROUPS": groups,
        "BLOCK": block,
        "SYMBOLS": symbols,
        "NONZEROS": nonzeros.count,
        "FREQUENCY": int(folding.domain == "frequency"),
        "WEIGHT_BITS": width,
        "MULTIPLIER": multiplier_kind(folding.multiplier, value, weight),
        "input_t": source.type.cpp,
        "weight_t": integer_type(width, signed=True),
        "output_t": output.cpp,
    }
    turn, rounds = fill + steps + emit, pixels // group
    return Kernel(
        "streamed_matrix_vector",
        "streamed_matrix_vector.h",
        config,
        (source,),
        Port(output, pe),
        Schedule(
            rounds * turn,
            (nest((rounds, turn), (fill, 1)),),
            nest((rounds, turn), (emit, 1), start=fill + steps),
        ),
        cost=multipliers(folding.multiplier, group, lanes, value, weight)
        + Cost(
            memories=((outputs, output.width),),
            banks=((lanes, symbols, SYMBOL_BITS), (2 * lanes, SECTION_WORDS, 36)),
            lut=lanes * DECODER_LUT
            + lanes * group * (mux(simd, source.type.width) + output.width)
            + pe * mux(lanes * group, output.width),
            written=(
                ("vectors", lanes * group, words, simd * source.type.width),
                ("results", lanes * group * pe, lane_words, output.width),
            ),
        ),
        memories={
            "place": KernelMemory(f"dct::packed::streamed<{symbols}>", (lanes,), is_written=True),
            "bias": KernelMemory(output.cpp, (outputs,)),
        },
        decoders=lanes,
    )


def lane_steps(nonzeros: Nonzeros, streams: Streams, lanes: int) -> int:
    """Cycles of the slowest lane for one group of pixels: its substreams, one after the other."""
    known: dict[Streams, Array] = nonzeros.__dict__.setdefault("_substreams", {})
    if streams not in known:
        known[streams] = _substream_steps(nonzeros.values, streams)
    return int(known[streams].reshape(lanes, -1).sum(1).max())


def _substream_steps(values: Array, streams: Streams) -> Array:
    """A substream takes the longer of two: its multiplying, a step for each nonzero and each output, and decoding."""
    columns, outputs = values.shape[0] * values.shape[1], values.shape[2]
    found = []
    for first, end in pairwise(starts(outputs, streams.substreams).tolist()):
        levels = values[:, :, first:end].transpose(2, 0, 1).ravel()
        nonzeros, count = np.flatnonzero(levels), end - first
        multiplying = len(nonzeros) + count + 1
        if streams.coder == "csr":
            decoding = len(nonzeros) + count
        elif streams.filler:  # a level a step
            decoding = count * columns + 1
        else:
            ends = np.union1d(nonzeros, [count * columns - 1])
            zeros = np.diff(ends, prepend=-1) - 1
            decoding = int((zeros // (streams.longest + 1) + 1).sum()) + 1
        found.append(max(multiplying, decoding) + LATENCY)
    return np.array(found, np.int64)
