"""Integers of any width as bytes, and back."""

from __future__ import annotations

import numpy as np

from toolchain.ir.constant import Array

CHUNK = 1 << 16
"""Elements that are taken apart into bits at once; a multiple of eight, so that chunks join without a seam."""
WIDEST = 56
"""Bits of the widest field that `fields` reads: they lie in eight bytes wherever they begin."""


def pack_elements(array: Array, width: int) -> bytes:
    """Integers in row-major order, `width` (1 to 64) bits each, lowest bit first, padded to a whole byte."""
    flat = np.ascontiguousarray(array.ravel())
    patterns = (
        np.array([int(v) & ((1 << 64) - 1) for v in flat], np.uint64) if flat.dtype == object else flat.view(np.uint64)
    )
    if width in (8, 16, 32, 64):
        return patterns.astype(f"<u{width // 8}").tobytes()
    parts = []
    for start in range(0, len(patterns), CHUNK):
        rows = patterns[start : start + CHUNK].astype("<u8").view(np.uint8).reshape(-1, 8)
        bits = np.unpackbits(rows, axis=1, bitorder="little")[:, :width]
        parts.append(np.packbits(bits.ravel(), bitorder="little").tobytes())
    return b"".join(parts)


def unpack_elements(data: bytes, size: int, width: int, signed: bool) -> Array:
    """The inverse of `pack_elements`: int64, Python integers where they are unsigned and of 64 bits."""
    if width in (8, 16, 32, 64):
        kind = "i" if signed else "u"
        elements = np.frombuffer(data, dtype=f"<{kind}{width // 8}")
        return elements.astype(np.int64) if signed or width < 64 else elements.astype(object)
    result = np.empty(size, dtype=np.int64)
    for start in range(0, size, CHUNK):
        count = min(CHUNK, size - start)
        piece = np.frombuffer(data, np.uint8, -(-count * width // 8), start * width // 8)
        bits = np.unpackbits(piece, bitorder="little")[: count * width].reshape(count, width)
        padded = np.zeros((count, 64), np.uint8)
        padded[:, :width] = bits
        if signed:
            padded[:, width:] = bits[:, -1:]
        result[start : start + count] = np.packbits(padded, axis=1, bitorder="little").view("<i8").ravel()
    return result


def pack_fields(values: Array, widths: Array, highest_first: bool) -> bytes:
    """Fields of `widths` bits one after the other, padded with zeros to a whole byte.

    `highest_first`: a field's bits from the highest to the lowest, each byte filled from its highest bit; otherwise
    both from the lowest.
    """
    ends = np.cumsum(widths, dtype=np.int64)
    bits = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    for start in range(0, len(ends), CHUNK):
        value, width = values[start : start + CHUNK], widths[start : start + CHUNK].astype(np.int64)
        end = ends[start : start + CHUNK]
        first = int(end[0] - width[0])
        position = np.arange(first, int(end[-1]))
        shift = np.repeat(end, width) - 1 - position if highest_first else position - np.repeat(end - width, width)
        bits[first : int(end[-1])] = np.repeat(value, width) >> shift & 1
    return np.packbits(bits, bitorder="big" if highest_first else "little").tobytes()


def windows(data: bytes, start: int, count: int) -> Array:
    """(count, 8) uint16: the 12 bits, highest first, that begin at each bit of the bytes `start`, `start` + 1, ...

    Zeros follow the last byte.
    """
    piece = data[start : start + count + 3]
    piece += bytes(count + 3 - len(piece))
    words = np.ndarray((count,), ">u4", piece, strides=(1,)).astype(np.uint32)
    shown = words[:, None] >> np.arange(20, 12, -1, dtype=np.uint32)
    return np.asarray(shown & 0xFFF, np.uint16)


def fields(data: bytes, positions: Array, widths: Array | int) -> Array:
    """int64: the `widths` (0 to 56) bits, lowest first, at the bit `positions`. Zeros follow the last byte."""
    padded = data + bytes(8)
    words = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))
    shifted = words[positions >> 3] >> (positions & 7).astype(np.uint64)
    masks = (np.uint64(1) << np.asarray(widths).astype(np.uint64)) - np.uint64(1)
    return np.asarray(shifted & masks, np.int64)


def field(data: bytes, position: int, width: int) -> int:
    """One field of `fields`, of any width."""
    first, last = position >> 3, (position + width + 7) >> 3
    return int.from_bytes(data[first:last], "little") >> (position & 7) & ((1 << width) - 1)
