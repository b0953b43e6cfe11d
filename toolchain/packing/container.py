"""`weights.bin`: all constants of a program, every element in as many bits as its tensor needs.

Layout, little-endian:

    offset  size  field
    0       4     magic "DCTW"
    4       2     version, 1
    6       2     zero
    8       4     number of tensors n
    12      ...   n descriptors: role (1 byte), bits an element 1..64 (1), signed 0 or 1 (1), rank (1), sizes (4 each)
    ...     ...   n payloads: the elements in row-major order, `bits` each, lowest bit first, padded to a whole byte
    end-4   4     CRC-32 of all bytes before

Real constants do not occur: a program holds integers only.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolchain.errors import ModelError, PassError
from toolchain.ir import Array, Constant
from toolchain.ir.types import needed_width

MAGIC = b"DCTW"
VERSION = 1
HEADER = struct.Struct("<4sHHI")
DESCRIPTOR = struct.Struct("<BBBB")
ROLES = ("weights", "biases", "tables", "parameters")
MAX_RANK = 16
CHUNK = 1 << 16


@dataclass(frozen=True)
class Tensor:
    """A constant and what it is for: `weights`, `biases`, `tables` or `parameters`."""

    role: str
    constant: Constant


def pack(tensors: Sequence[Tensor]) -> tuple[bytes, dict[str, int]]:
    """The container's bytes, and how many bits each part of it takes; the numbers add up to 8 times its length."""
    descriptors, payloads = [], []
    bits: Counter[str] = Counter()
    for tensor in tensors:
        array = tensor.constant.array
        if not tensor.constant.is_integer:
            raise PassError("real constants cannot be stored")
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        width, signed = needed_width(low, high)
        if width > 64 or array.ndim > MAX_RANK:
            raise PassError(f"a constant of {width} bits and {array.ndim} dimensions cannot be stored")
        descriptors.append(
            DESCRIPTOR.pack(ROLES.index(tensor.role), width, signed, array.ndim)
            + struct.pack(f"<{array.ndim}I", *array.shape)
        )
        payloads.append(_pack_bits(array, width))
        bits[tensor.role] += 8 * len(payloads[-1])
    head = HEADER.pack(MAGIC, VERSION, 0, len(tensors)) + b"".join(descriptors)
    body = head + b"".join(payloads)
    data = body + struct.pack("<I", zlib.crc32(body))
    bits["header"] = 8 * (len(head) + 4)
    return data, dict(bits)


def unpack(data: bytes) -> list[Tensor]:
    """The tensors of a container. Raises ModelError when a byte is wrong; nothing is allocated beyond its length."""
    if len(data) < HEADER.size + 4 or data[:4] != MAGIC:
        raise ModelError("is no weight container", where="weights.bin")
    _, version, zero, count = HEADER.unpack_from(data)
    if version != VERSION or zero:
        raise ModelError(f"has version {version}, this toolchain reads {VERSION}", where="weights.bin")
    (checksum,) = struct.unpack_from("<I", data, len(data) - 4)
    if zlib.crc32(data[:-4]) != checksum:
        raise ModelError("is damaged (checksum)", where="weights.bin", fix="Compile the model again.")
    end = len(data) - 4
    shapes, at = _descriptors(data, count, end)
    tensors = []
    for role_name, width, is_signed, shape in shapes:
        size = math.prod(shape)
        length = -(-size * width // 8)
        if at + length > end:
            raise ModelError("is damaged (payload)", where="weights.bin")
        used = size * width % 8
        if used and data[at + length - 1] >> used:
            raise ModelError("is damaged (padding)", where="weights.bin")
        elements = _unpack_bits(data[at : at + length], size, width, is_signed)
        try:
            tensors.append(Tensor(role_name, Constant(elements.reshape(shape))))
        except ValueError:  # no elements, and sizes that no array may have
            raise ModelError("is damaged (sizes)", where="weights.bin") from None
        at += length
    if at != end:
        raise ModelError("is damaged (length)", where="weights.bin")
    return tensors


def _descriptors(data: bytes, count: int, end: int) -> tuple[list[tuple[str, int, bool, tuple[int, ...]]], int]:
    """Role, width, signedness and shape of each tensor, and where the first payload begins."""
    at, shapes = HEADER.size, []
    for _ in range(count):
        if at + DESCRIPTOR.size > end:
            raise ModelError("is damaged (descriptors)", where="weights.bin")
        role, width, signed, rank = DESCRIPTOR.unpack_from(data, at)
        at += DESCRIPTOR.size
        if role >= len(ROLES) or not 1 <= width <= 64 or signed > 1 or rank > MAX_RANK or at + 4 * rank > end:
            raise ModelError("is damaged (descriptors)", where="weights.bin")
        shapes.append((ROLES[role], width, bool(signed), struct.unpack_from(f"<{rank}I", data, at)))
        at += 4 * rank
    return shapes, at


def _pack_bits(array: Array, width: int) -> bytes:
    flat = np.ascontiguousarray(array.ravel())
    patterns = (
        np.array([int(v) & ((1 << 64) - 1) for v in flat], np.uint64) if flat.dtype == object else flat.view(np.uint64)
    )
    if width in (8, 16, 32, 64):
        return patterns.astype(f"<u{width // 8}").tobytes()
    parts = []
    # Eight elements fill `width` whole bytes, so chunks of a multiple of eight join without a seam.
    for start in range(0, len(patterns), CHUNK):
        rows = patterns[start : start + CHUNK].astype("<u8").view(np.uint8).reshape(-1, 8)
        bits = np.unpackbits(rows, axis=1, bitorder="little")[:, :width]
        parts.append(np.packbits(bits.ravel(), bitorder="little").tobytes())
    return b"".join(parts)


def _unpack_bits(data: bytes, size: int, width: int, signed: bool) -> Array:
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
