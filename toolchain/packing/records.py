"""The descriptors of a weight container: what `toolchain.packing.container` says about each tensor, checked."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from toolchain.errors import ModelError, PassError
from toolchain.packing.basis import LARGEST, Kind, Transform
from toolchain.packing.choice import MOST_SUBSTREAMS
from toolchain.packing.entropy import DENSEST, MAGNITUDE_BITS, Alphabet, Coder, starts
from toolchain.packing.huffman import Code, pack_lengths, unpack_lengths

ROLES = ("weights", "biases", "tables", "parameters")
RAW = 0
CODERS: tuple[Coder, ...] = (*get_args(Coder),)
KINDS: tuple[Kind, ...] = (*get_args(Kind),)
MAX_RANK = 16
MAX_SHIFT = 32
MAX_SIZE = 1 << 28
"""The most weights of a coded tensor."""

HEADER = struct.Struct("<4sHHII")
DICTIONARY = struct.Struct("<BBHH")
TENSOR = struct.Struct("<BBB")
RAW_FORM = struct.Struct("<BBB")
CODED_FORM = struct.Struct("<IIIBBBB")
CODED_TAIL = struct.Struct("<HBIB")
SECTION_BYTES = 8
"""Of a descriptor, for each substream."""


def damaged(what: str) -> ModelError:
    """The error for a container with something wrong."""
    return ModelError(f"is damaged ({what})", where="weights.bin", fix="Compile the model again.")


class Cursor:
    """Reads `data` up to `end`; raises ModelError there."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def take(self, form: struct.Struct) -> tuple[int, ...]:
        """The next integers."""
        self.skip(form.size)
        return form.unpack_from(self.data, self.at - form.size)

    def take_list(self, count: int, kind: str) -> tuple[int, ...]:
        """The next `count` integers of a `struct` format character."""
        return self.take(struct.Struct(f"<{count}{kind}"))

    def skip(self, size: int) -> None:
        """Goes on by `size` bytes."""
        if size > self.end - self.at:
            raise damaged("length")
        self.at += size


@dataclass(frozen=True)
class Raw:
    """A tensor whose elements are stored as they are, without `shift` low bits that are 0 in all of them."""

    role: str
    shape: tuple[int, ...]
    width: int
    signed: bool
    shift: int

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def payload(self) -> int:
        """Bytes."""
        return -(-self.size * self.width // 8)

    def pack(self) -> bytes:
        return _head(self.role, RAW, self.shape) + RAW_FORM.pack(self.width, self.signed, self.shift)


@dataclass(frozen=True)
class Coded:
    """A packed kernel: the parts of its `Coding` that are no arrays, and the bytes of its sections."""

    role: str
    shape: tuple[int, ...]
    coder: Coder
    levels: tuple[int, int, int]
    transform: Transform
    rounded: int
    shifts: tuple[int, ...]
    centres: int
    centre_width: int
    dictionary: int
    """Byte of the container at which it begins."""
    sections: tuple[tuple[int, int], ...]
    """Bytes of code section and raw section, for each substream."""

    @property
    def columns(self) -> int:
        """Levels of an output."""
        return self.levels[0] * self.levels[1]

    @property
    def size(self) -> int:
        """Levels."""
        return self.columns * self.levels[2]

    @property
    def centre_bytes(self) -> int:
        return -(-self.centres * self.transform.size * self.centre_width // 8)

    @property
    def index_width(self) -> int:
        """Bits of a centre's number."""
        return max(self.centres - 1, 0).bit_length()

    @property
    def index_bytes(self) -> int:
        return -(-self.size // self.transform.size * self.index_width // 8)

    @property
    def payload(self) -> int:
        """Bytes."""
        return self.centre_bytes + self.index_bytes + sum(map(sum, self.sections))

    def pack(self) -> bytes:
        transform = KINDS.index(self.transform.kind), self.transform.rows, self.transform.columns
        return b"".join(
            [
                _head(self.role, 1 + CODERS.index(self.coder), self.shape),
                CODED_FORM.pack(*self.levels, *transform, self.rounded),
                bytes(self.shifts),
                CODED_TAIL.pack(self.centres, self.centre_width, self.dictionary, len(self.sections)),
                *(struct.pack("<II", *section) for section in self.sections),
            ]
        )


def _head(role: str, kind: int, shape: tuple[int, ...]) -> bytes:
    return TENSOR.pack(ROLES.index(role), kind, len(shape)) + struct.pack(f"<{len(shape)}I", *shape)


def pack_dictionary(alphabet: Alphabet, code: Code) -> bytes:
    """The bytes of a dictionary."""
    return DICTIONARY.pack(alphabet.longest, alphabet.filler, alphabet.direct, alphabet.classes) + pack_lengths(
        code.lengths
    )


def take_dictionary(cursor: Cursor) -> tuple[Alphabet, Code]:
    """The next dictionary."""
    longest, filler, direct, classes = cursor.take(DICTIONARY)
    alphabet = Alphabet(longest, direct, classes, filler)
    if not alphabet.is_valid:
        raise damaged("alphabet")
    try:
        lengths, at = unpack_lengths(cursor.data, cursor.at, alphabet.size)
        cursor.skip(at - cursor.at)
        return alphabet, Code(lengths)
    except PassError:
        raise damaged("code") from None


def take_tensor(cursor: Cursor, alphabets: Mapping[int, Alphabet]) -> Raw | Coded:
    """The next descriptor; `alphabets` are those of the dictionaries by the bytes at which they begin.

    What it says is possible; that the payload is there is for the caller to see.
    """
    role, kind, rank = cursor.take(TENSOR)
    if role >= len(ROLES) or kind > len(CODERS) or rank > MAX_RANK:
        raise damaged("tensor")
    shape = cursor.take_list(rank, "I")
    if kind != RAW:
        return _take_coded(cursor, ROLES[role], CODERS[kind - 1], shape, alphabets)
    width, signed, shift = cursor.take(RAW_FORM)
    if not 1 <= width <= 64 - shift or signed > 1:
        raise damaged("elements")
    return Raw(ROLES[role], shape, width, bool(signed), shift)


def _take_coded(
    cursor: Cursor, role: str, coder: Coder, shape: tuple[int, ...], alphabets: Mapping[int, Alphabet]
) -> Coded:
    taps, channels, outputs, kind, rows, columns, rounded = cursor.take(CODED_FORM)
    if not 1 <= taps * channels * outputs <= MAX_SIZE or math.prod(shape) != taps * channels * outputs:
        raise damaged("sizes")
    if kind >= len(KINDS) or not (1 <= rows <= LARGEST and 1 <= columns <= LARGEST):
        raise damaged("transform")
    transform = Transform(KINDS[kind], rows, columns)
    if not transform.fits(taps, channels) or rounded > MAX_SHIFT:
        raise damaged("transform")
    shifts = cursor.take_list(transform.size, "B")
    centres, centre_width, dictionary, substreams = cursor.take(CODED_TAIL)
    if max(shifts) > MAX_SHIFT or (centre_width > MAGNITUDE_BITS + 1 if centres else centre_width):
        raise damaged("shifts")
    if (centres and not centre_width) or dictionary not in alphabets:
        raise damaged("centres")
    alphabet = alphabets[dictionary]
    if not 1 <= substreams <= min(MOST_SUBSTREAMS, outputs) or (coder == "csr" and alphabet.longest + alphabet.filler):
        raise damaged("substreams")
    lengths = cursor.take_list(2 * substreams, "I")
    sections = tuple(zip(lengths[::2], lengths[1::2], strict=True))
    bounds = starts(outputs, substreams).tolist()
    for (codes, raw), first, last in zip(sections, bounds, bounds[1:], strict=False):
        if (last - first) * taps * channels > DENSEST * (codes + raw):
            raise damaged("sections")
    levels = taps, channels, outputs
    return Coded(role, shape, coder, levels, transform, rounded, shifts, centres, centre_width, dictionary, sections)
