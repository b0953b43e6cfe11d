"""The foldings that a node may have: lanes, SIMD, PE, and the engines of layers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from toolchain.codegen.kernel import Folding, Streams
from toolchain.codegen.sparse import Nonzeros
from toolchain.codegen.sparse_rows import Pieces, trees
from toolchain.codegen.streamed import lane_steps
from toolchain.hardware.resources import LUTRAM_WORDS
from toolchain.ir import Node, TensorType
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.packing.packed import Coding, Packed
from toolchain.quantization.configuration import Execute

MACS = (1, 2, 4, 8, 16, 32, 64)
"""Multipliers a pixel of the sparse engine."""
ROW_MACS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 40, 48, 64)
"""Multipliers a pixel where each has a copy of the rows."""
FULL = 0.96
"""From this density on the zeros are too few to make up for multipliers that idle where an output ends."""
ROW_UNITS = (1, 2, 4)
"""Adder trees of them."""
GROUP_PIXELS = (1, 2, 4, 8)
FEW_ROUNDS = 32
DECODERS = (4, 2, 1)
"""Of a unit whose weights are streamed."""
FILL_SHARE = 8
"""Filling and emitting may each take one in so many of such a unit's cycles."""
UNROLL = 4096
"""HLS refuses to unroll or partition further."""


def divisors(number: int) -> list[int]:
    """All divisors, in order."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def all_foldings(
    node: Node,
    types: tuple[TensorType, ...],
    output: TensorType,
    execute: Execute,
    loaded: int = 0,
    streams: Streams | None = None,
) -> Iterable[Folding]:
    """All that may make sense, those of layers with their multipliers in DSP slices and in LUTs.

    With `loaded` > 0, bits of a weight, layers have the sparse engine in the domain that their weights are coded in.
    With `streams` too, those are additional ones, whose weights are streamed.
    """
    is_matrix = isinstance(node.operator, Conv | Gemm)
    found: Iterable[Folding] = _foldings(node, types, output, execute, 0 if streams else loaded)
    if streams and isinstance(node.operator, Conv | Gemm):
        found = (*found, *(replace(one, loaded=loaded) for one in _streamed(node.operator, types[0], output, streams)))
    for folding in found:
        yield folding
        if is_matrix and not (isinstance(node.operator, Conv) and node.operator.is_depthwise):
            yield replace(folding, multiplier="lut")


def _foldings(
    node: Node, types: tuple[TensorType, ...], output: TensorType, execute: Execute, loaded: int
) -> Iterable[Folding]:
    operator = node.operator
    if loaded and isinstance(operator, Conv | Gemm):
        groups = operator.groups if isinstance(operator, Conv) else 1
        lanes = groups if isinstance(operator, Conv) and operator.is_depthwise else types[0].shape[-1] // groups
        domain: Execute = "frequency" if operator.frequency_coding else "spatial"
        for folding in _sparse(operator, lanes, groups, output, domain, clusters=False):
            yield replace(folding, loaded=loaded)
    elif isinstance(operator, Conv):
        yield from _convolution(operator, types[0], output, execute)
    elif isinstance(operator, Gemm):
        if execute != "frequency" or operator.frequency_coding is None:
            yield from _matrix(*operator.weights.shape)
        yield from _sparse(operator, operator.weights.shape[0], 1, output, execute)
    else:
        limit = operator.lanes_divide(*(t.shape for t in types))
        for lanes in divisors(math.gcd(limit, output.shape[-1] if output.shape else 1)):
            if lanes <= UNROLL:
                yield Folding(lanes, lanes)


def _convolution(operator: Conv, given: TensorType, output: TensorType, execute: Execute) -> Iterable[Folding]:
    if operator.is_depthwise:
        multiplier = operator.outputs // operator.groups
        for lanes in divisors(operator.groups):
            if lanes * multiplier <= UNROLL:
                yield Folding(lanes, lanes * multiplier)
        return
    channels = given.shape[2] // operator.groups
    is_spatial = execute != "frequency" or operator.frequency_coding is None
    if is_spatial:
        yield from _matrix(channels, operator.outputs // operator.groups, operator.window.taps)
    yield from _sparse(operator, channels, operator.groups, output, execute)
    if is_spatial:
        yield from _on_rows(operator, given)


def _matrix(channels: int, rows: int, taps: int = 1) -> Iterable[Folding]:
    """Dense units. SIMD may go over taps; windows are then as narrow as they can be without being waited for."""
    for simd in divisors(channels * taps):
        for pe in divisors(rows):
            if simd * pe > UNROLL:
                continue
            if channels % simd == 0:
                yield Folding(simd, pe)
            else:
                enough = (lanes for lanes in divisors(channels) if lanes * rows >= simd * pe)
                yield Folding(next(enough, channels), pe, simd=simd)


def _sparse(
    operator: Conv | Gemm, channels: int, groups: int, output: TensorType, execute: Execute, clusters: bool = True
) -> Iterable[Folding]:
    """Sparse engines over the weights, their coefficients, or centres and residuals, as far as that is possible.

    Without `clusters` the residuals are to be decoded into coefficients.
    """
    coding = None if execute == "spatial" else operator.frequency_coding
    pixels = output.size // operator.outputs
    if coding is None or execute == "auto":
        nonzeros = Nonzeros.of(operator.weights, operator.nonzeros_shape)
        words = [(lanes, 0, lanes) for lanes in divisors(channels)]
        yield from _sparse_foldings("spatial", nonzeros, words, groups, pixels)
    if coding:
        nonzeros = Nonzeros.of(operator.weights, operator.nonzeros_shape, coding)
        size = coding.transform.size
        if coding.transform.kind == "taps":
            words = [(lanes, 0, lanes * size) for lanes in divisors(nonzeros.values.shape[1])]
        else:
            words = [(lanes, 0, lanes) for lanes in divisors(channels) if lanes % size == 0]
        words = [*((words[0][0], simd, simd) for simd in divisors(size)[:-1]), *words]
        yield from _sparse_foldings("frequency", nonzeros, words, groups, pixels)
        if clusters:
            yield from _clustered(operator, coding, groups, pixels)


def _on_rows(operator: Conv, given: TensorType) -> Iterable[Folding]:
    """Sparse units whose lanes have copies of the rows: nothing is filled for each pixel, so that steps bind."""
    nonzeros = Nonzeros.of(operator.weights, operator.nonzeros_shape)
    outputs, channels, width = operator.outputs, given.shape[2], given.shape[1]
    if operator.window.taps == 1 or nonzeros.count > FULL * nonzeros.values.size:
        return
    plans = list(_tree_plans(nonzeros))
    for group in (n for n in GROUP_PIXELS if n > 1 and Pieces.of(operator.window, given.shape, n)):
        # Lanes in: words of a row and its pieces that fit small memories, where that is possible.
        wide = (lanes for lanes in divisors(channels) if 2 * width // group * channels // lanes <= LUTRAM_WORDS)
        lanes = next(wide, channels)
        for macs, units, steps in plans:
            pe = next((d for d in divisors(outputs) if group * outputs <= steps * d), outputs)
            for more in sorted({pe, next((d for d in divisors(outputs) if d >= 4 * pe), outputs)}):
                if macs * group <= UNROLL and more * group <= UNROLL:
                    yield Folding(lanes, more, "sparse", "spatial", macs, group, copies="rows", units=units)


def _tree_plans(nonzeros: Nonzeros) -> Iterable[tuple[int, int, int]]:
    """Multipliers a pixel, their trees, and the steps of a group; more trees only where they save steps."""
    for macs in ROW_MACS:
        least = math.inf
        for units in ROW_UNITS:
            if macs % units == 0 and (steps := trees(nonzeros, macs, units).steps) < least:
                least = steps
                yield macs, units, steps


def can_stream(operator: Conv | Gemm) -> bool:
    """Can the weights be decoded for every group of pixels? What is decoded has to be what is executed."""
    if not isinstance(operator.weights, Packed) or (isinstance(operator, Conv) and operator.is_depthwise):
        return False
    coding = operator.weights.coding
    is_executed = not coding.is_frequency or operator.frequency_coding is not None
    return is_executed and coding.clusters is None and not coding.rounded


def _streamed(operator: Conv | Gemm, given: TensorType, output: TensorType, streams: Streams) -> Iterable[Folding]:
    """Units of each number of decoders and of pixels that are multiplied at once.

    Words are as narrow as they can be without filling or emitting taking more than a small share. Their elements are a
    power of two, or all taps of that, so that finding an element divides by nothing else.
    """
    coding = operator.frequency_coding
    nonzeros = Nonzeros.of(operator.weights, operator.nonzeros_shape, coding)
    taps, channels, outputs = nonzeros.values.shape
    groups = operator.groups if isinstance(operator, Conv) else 1
    pixels, inputs = output.size // operator.outputs, taps * channels * groups
    given_channels = given.shape[-1] // groups if isinstance(operator, Conv) else given.shape[-1]
    legal = [lanes for lanes in divisors(math.gcd(channels, given_channels)) if lanes & (lanes - 1) == 0]
    elements = [lanes * taps if coding and coding.transform.kind == "taps" else lanes for lanes in legal]
    if coding and coding.transform.kind == "channels":
        size = coding.transform.size
        legal = elements = [lanes for lanes in divisors(given_channels) if lanes % size == 0]
    for decoders in DECODERS:
        if outputs % decoders or streams.substreams % decoders:
            continue
        steps = lane_steps(nonzeros, streams, decoders)
        for group in (n for n in divisors(pixels) if n * decoders <= UNROLL):
            wide = (k for k, one in enumerate(elements) if FILL_SHARE * group * inputs <= steps * one)
            lanes = legal[next(wide, len(legal) - 1)]
            rows = [d for d in divisors(outputs // decoders) if decoders * group * d <= UNROLL]
            pe = next((d for d in rows if FILL_SHARE * group * outputs <= steps * d), rows[-1])
            domain: Literal["spatial", "frequency"] = "frequency" if coding else "spatial"
            yield Folding(lanes, pe, "sparse", domain, decoders, group, streamed=streams)


def _clustered(operator: Conv | Gemm, coding: Coding, groups: int, pixels: int) -> Iterable[Folding]:
    """Clustered units, whose centre stage makes just so many responses a step that no round waits for it."""
    if coding.transform.kind != "taps" or coding.clusters is None:
        return
    count = int(coding.clusters.centres.array.any(1).sum())
    if not count:
        return
    nonzeros = Nonzeros.of(operator.weights, operator.nonzeros_shape, coding, has_centres=True)
    taps, channels, _ = nonzeros.values.shape
    words = [(lanes, 0, lanes * taps) for lanes in divisors(channels)]
    for folding in _sparse_foldings("frequency", nonzeros, words, groups, pixels):
        pieces = nonzeros.pieces(folding.macs)
        arriving = folding.pixels * channels * groups // folding.lanes
        free = max(pieces.steps, pieces.partials) // arriving
        per_step = next(n for n in divisors(count) if count <= n * free or n == count)
        yield replace(folding, centres=per_step)


def _sparse_foldings(
    domain: Literal["spatial", "frequency"],
    nonzeros: Nonzeros,
    words: list[tuple[int, int, int]],
    groups: int,
    pixels: int,
) -> Iterable[Folding]:
    """For each number of multipliers the narrowest words that do not bind, and their neighbours.

    `words` are the possible (lanes, SIMD, elements) of a word in, by width. PE is the least with which no round waits
    for the words out, or four times that with few rounds, whose last one counts. Multipliers that would wait for the
    partial sums are left out.
    """
    taps, channels, outputs = nonzeros.values.shape
    inputs = taps * channels * groups
    for macs in MACS:
        pieces = nonzeros.pieces(macs)
        bound = max(pieces.steps, pieces.partials)
        for group in (n for n in GROUP_PIXELS if pixels % n == 0):
            emitting = bound if pixels >= FEW_ROUNDS * group else max(bound // 4, 1)
            pe = next((d for d in divisors(outputs) if group * outputs <= emitting * d), outputs)
            wide = (k for k, (_, _, elements) in enumerate(words) if group * inputs <= bound * elements)
            enough = next(wide, len(words) - 1)
            for lanes, simd, elements in words[max(enough - 1, 0) : enough + 2]:
                if macs * group * elements <= UNROLL:
                    yield Folding(lanes, pe, "sparse", domain, macs, group, simd)
        if pieces.steps <= pieces.partials:
            break
