"""Quantized pictures of another size: by repetition, or interpolated in the arithmetic of the reference kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.tflite.arrangement import integers
from toolchain.frontends.tflite.integers import TYPES, Step, meaning_of, translates
from toolchain.ir import Constant, Overflow, Rounding
from toolchain.ops.requantize import Requantize
from toolchain.ops.resample import Resample
from toolchain.ops.rescale import Rescale

Integers = NDArray[np.int64]
PLACE_BITS = 10
"""Fraction bits of the places between int8 pixels."""
FLOAT_BITS = 24
"""Integers of so many bits are float32 numbers."""
EDGE_BITS = 2
"""In front of the first pixel weights reach 3/2, in both directions together 9/4."""
MAX_SIZE = 1 << 16
"""Rows or columns; a damaged file may ask for any number."""


def _sizes(step: Step) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns, given and wanted."""
    step.same_meaning(0)
    given, sizes = step.type(step.value(0)).shape, integers(step, 1)
    if len(given) != 3 or len(sizes) != 2 or min(sizes) < 1:
        raise ModelError(f"resizes {list(given)} to {sizes}")
    if max(sizes) > MAX_SIZE:
        raise UnsupportedOperator(f"resizes to {sizes}, up to {MAX_SIZE} rows and columns are supported")
    return (given[0], given[1]), (sizes[0], sizes[1])


@translates("RESIZE_NEAREST_NEIGHBOR")
def resize_nearest(step: Step) -> None:
    """Places are computed in float32, as the kernel does."""
    given, wanted = _sizes(step)
    corners, centers = bool(step.option("AlignCorners")), bool(step.option("HalfPixelCenters"))
    rows, columns = (_nearest(given[k], wanted[k], corners=corners, centers=centers) for k in range(2))
    once = (Constant(np.ones((len(places), 1), dtype=np.int64)) for places in (rows, columns))
    step.give(step.add(Resample(rows, columns, next(once), next(once)), step.value(0)))


def _nearest(given: int, wanted: int, *, corners: bool, centers: bool) -> tuple[int, ...]:
    at = (np.arange(wanted, dtype=np.float32) + np.float32(0.5 if centers else 0)) * _step(given, wanted, corners)
    whole = np.floor(at + np.float32(0.5)) if corners else np.floor(at)
    return tuple(int(place) for place in whole.clip(0, given - 1))


def _step(given: int, wanted: int, corners: bool) -> np.float32:
    """From one place to the next."""
    spread = int(corners and wanted > 1)
    return np.float32(given - spread) / np.float32(wanted - spread)


@translates("RESIZE_BILINEAR")
def resize_bilinear(step: Step) -> None:
    """Four of the file's integers by their weights: of int8 ones rounded half away from 0, of uint8 ones half up.

    Places between int8 pixels have 10 fraction bits. Those between uint8 pixels are float32 numbers, of which the
    program has what needs no rounding.
    """
    given, wanted = _sizes(step)
    corners, centers = bool(step.option("AlignCorners")), bool(step.option("HalfPixelCenters"))
    type, zero = TYPES[step.output.element], meaning_of(step.output).zero_point
    places = _fixed_places if type.signed else _real_places
    pairs = [places(given[k], wanted[k], corners=corners, centers=centers) for k in range(2)]
    bits = sum(bits for _, bits in pairs)
    if not type.signed and bits + type.width + EDGE_BITS > FLOAT_BITS:
        raise UnsupportedOperator(f"interpolates in float32 at places of {bits} fraction bits, which is not exact")
    (rows, row_weights), (columns, column_weights) = (
        _weights(at, bits, given[k]) for k, (at, bits) in enumerate(pairs)
    )
    value = step.add(Rescale.identity(zero, type.low, type.high), step.value(0), part="stored")
    sums = step.add(Resample(rows, columns, row_weights, column_weights, bits), value, part="sums")
    narrow = replace(type, rounding=Rounding.RND_INF if type.signed else Rounding.RND, overflow=Overflow.SAT)
    value = step.add(Requantize.between(step.type(sums), narrow), sums, part="rounded")
    step.give(step.add(Rescale.identity(-zero, type.low - zero, type.high - zero), value))


def _fixed_places(given: int, wanted: int, *, corners: bool, centers: bool) -> tuple[Integers, int]:
    """Places with 10 fraction bits, computed in integers."""
    spread = int(corners and wanted > 1)
    scale = (((given - spread) << PLACE_BITS) + (wanted - spread) // 2) // (wanted - spread)
    at = np.arange(wanted) * scale
    if centers:
        at += scale // 2 - (1 << PLACE_BITS - 1)
    return at, PLACE_BITS


def _real_places(given: int, wanted: int, *, corners: bool, centers: bool) -> tuple[Integers, int]:
    """Float32 numbers, and the fraction bits that hold them."""
    half, scale = np.float32(0.5 if centers else 0), _step(given, wanted, corners)
    at = ((np.arange(wanted, dtype=np.float32) + half) * scale - half).astype(np.float64)
    bits = next((n for n in range(FLOAT_BITS) if (at * 2.0**n == np.floor(at * 2.0**n)).all()), FLOAT_BITS)
    return (at * 2.0**bits).astype(np.int64), bits


def _weights(at: Integers, bits: int, given: int) -> tuple[tuple[int, ...], Constant]:
    """First pixels and their weights: those of the pixel below each place, and of the one above."""
    below, above = (at >> bits).clip(0), (-(-at >> bits)).clip(None, given - 1)
    if below.max() >= given:
        raise UnsupportedOperator("interpolates beyond the last pixel")
    taps = 2 if (above > below).any() else 1
    first, part = np.minimum(below, given - taps), at - (below << bits)
    weights = np.zeros((len(at), taps), dtype=np.int64)
    for pixel, weight in ((below, (1 << bits) - part), (above, part)):
        np.add.at(weights, (np.arange(len(at)), pixel - first), weight)
    return tuple(first.tolist()), Constant(weights)
