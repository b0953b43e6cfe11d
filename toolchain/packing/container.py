"""`weights.bin`, version 2: all constants of a program, packed kernels entropy-coded. Little-endian.

    header       "DCTW", version u16 = 2, dictionaries u16, tensors u32, bytes of the whole file u32
    dictionaries longest run R u8, magnitude of what runs consist of u8 (0 or 1), largest direct magnitude D u16,
                 classes Q u16, then the code lengths of the (R + 1) Q symbols as nibbles
                 (`toolchain.packing.huffman.pack_lengths`)
    descriptors  role u8, kind u8 (0 raw, 1 run, 2 csr), rank u8, sizes u32 each, then for raw tensors
                   bits an element u8, signed u8, shift u8
                 and for coded ones
                   taps u32, channels u32, outputs u32, transform u8 (0 none, 1 taps, 2 channels), rows u8, columns u8,
                   rounded u8, shifts u8 (rows * columns of them), centres K u16, bits of a centre's element u8,
                   byte of the file at which its dictionary begins u32, substreams S u8, then S times: bytes of
                   the code section u32, of the raw section u32
    payloads     in the same order; raw: the elements; coded: centres, indices, then for each substream code section and
                 raw section. Each of these begins on a byte
    checksum     u32, CRC-32 (zlib) of all bytes before

Code sections fill each byte from its highest bit; everything else does from its lowest. Unused bits are 0.

- Raw elements are row-major; an element is its stored bits times 2**shift.
- Centres (K, rows * columns) are signed, row-major; indices are ceil(log2 K) bits each, output by output, and within an
  output block by block.
- Substream s holds outputs s M // S to (s + 1) M // S - 1 of M, see `toolchain.packing.entropy`. Raw section of coder
  `run`: for each nonzero a sign bit (1 is negative), then its mantissa. Of `csr`: for each output the number of its
  nonzeros (as many bits as the number of columns has), and for each nonzero, ascending, its column (as many bits as the
  last column's number has), sign and mantissa; its code section holds their classes.

`docs/files.md` tells the same byte by byte.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from toolchain.errors import ModelError, PassError
from toolchain.ir.constant import Array, Constant
from toolchain.ir.types import needed_width
from toolchain.packing.bits import pack_elements, unpack_elements
from toolchain.packing.choice import Dictionary, Layer, dictionaries, split
from toolchain.packing.entropy import MAGNITUDE_BITS, Alphabet, Coder, decode_csr, decode_run, starts
from toolchain.packing.huffman import Code
from toolchain.packing.packed import Clusters, Coding, Packed
from toolchain.packing.records import (
    HEADER,
    MAX_RANK,
    MAX_SIZE,
    SECTION_BYTES,
    Coded,
    Cursor,
    Raw,
    damaged,
    pack_dictionary,
    take_dictionary,
    take_tensor,
)

MAGIC = b"DCTW"
VERSION = 2
MAX_CENTRES = (1 << 16) - 1


@dataclass(frozen=True)
class Tensor:
    """A constant and what it is for: `weights`, `biases`, `tables` or `parameters`."""

    role: str
    constant: Constant


@dataclass(frozen=True)
class Statistics:
    """How a coded tensor is stored. Sizes are bits."""

    number: int
    """Of the tensor in the container."""
    coder: Coder
    longest: int
    direct: int
    filler: int
    dictionary: int
    """Byte of the container at which it begins."""
    codes: int
    """Symbols of the dictionary that have one."""
    substreams: int
    levels: int
    nonzeros: int
    symbols: int
    code_bits: int
    raw_bits: int
    """Signs and mantissas; for `csr` also counts and columns. Like `code_bits` without the padding."""
    entropy: float
    """Of the symbols, each at -log2 of its own share in this tensor, and raw bits."""
    parts: dict[str, int]
    """The tensor's share of the breakdown that `pack` gives, dictionaries and descriptor left out."""

    @property
    def mean_code_length(self) -> float:
        """Bits a symbol, raw bits included."""
        return (self.code_bits + self.raw_bits) / self.symbols

    @property
    def redundancy(self) -> float:
        """What the codes take beyond the entropy, as a share of it."""
        return (self.code_bits + self.raw_bits) / self.entropy - 1 if self.entropy else 0.0


def pack(tensors: Sequence[Tensor], decoders: int = 1) -> tuple[bytes, dict[str, int]]:
    """The container's bytes, and how many bits each part of it takes; the numbers add up to 8 times its length.

    With `decoders` layers of many substreams have a multiple of so many.

    Parts: `payload` (sections of coded tensors), `indices` and `pointers` (columns and counts of `csr`; the latter
    with the lengths of the sections), `centres`, `cluster_indices`, `dictionaries`, of raw tensors their roles, and
    `header` (with descriptors and checksum). Raises PassError for what the format has no room for.
    """
    codings = [t.constant.coding for t in tensors if isinstance(t.constant, Packed)]
    for coding in codings:
        _check(coding)
    layers = [split(coding.levels.array, decoders) for coding in codings]
    books = dictionaries(layers)
    words = [pack_dictionary(book.alphabet, book.code) for book in books]
    places = list(accumulate(map(len, words), initial=HEADER.size))
    found = {layer: pair for pair in zip(books, places, strict=False) for layer in pair[0].layers}
    bits: Counter[str] = Counter()
    parts, payloads, coded = [], [], 0
    record: Raw | Coded
    for tensor in tensors:
        if isinstance(tensor.constant, Packed):
            record, payload = _code(tensor.role, tensor.constant, layers[coded], *found[coded])
            bits.update(_parts(record, layers[coded].scan.nonzeros))
            coded += 1
        else:
            record, payload = _store(tensor)
            bits[tensor.role] += 8 * len(payload)
        parts.append(record.pack())
        payloads.append(payload)
    bits["dictionaries"] = 8 * (places[-1] - HEADER.size)
    length = places[-1] + sum(map(len, parts)) + sum(map(len, payloads)) + 4
    if length >= 1 << 32 or len(books) >= 1 << 16:
        raise PassError("the weights do not fit into one container of 4 GiB")
    head = HEADER.pack(MAGIC, VERSION, len(books), len(tensors), length)
    body = b"".join([head, *words, *parts, *payloads])
    bits["header"] = 8 * length - sum(bits.values())
    return body + struct.pack("<I", zlib.crc32(body)), {part: size for part, size in bits.items() if size}


def unpack(data: bytes) -> list[Tensor]:
    """The tensors of a container, coded ones as `Packed`.

    Raises ModelError when a byte is wrong. What is allocated is bounded by the bytes that stand for it.
    """
    tensors = []
    for record, payload, book in _records(data):
        if isinstance(record, Raw):
            tensors.append(Tensor(record.role, _restore(record, payload)))
        else:
            alphabet, code = book
            coding, _ = _decode(record, payload, alphabet, code)
            tensors.append(Tensor(record.role, Packed(coding, record.shape)))
    return tensors


def describe(data: bytes) -> list[Statistics]:
    """How each coded tensor of a container is stored. Raises ModelError as `unpack` does."""
    found = []
    for number, (record, payload, book) in enumerate(_records(data)):
        if isinstance(record, Raw):
            continue
        alphabet, code = book
        coding, counts = _decode(record, payload, alphabet, code)
        nonzeros = int(np.count_nonzero(coding.levels.array))
        runs = counts.reshape(-1, alphabet.classes)
        raw = int((runs.sum(0) * alphabet.raw).sum()) + alphabet.filler * int(runs.sum(1) @ np.arange(len(runs)))
        if record.coder == "csr":
            raw += record.levels[2] * record.columns.bit_length() + nonzeros * (record.columns - 1).bit_length()
        many = counts[counts > 0]
        found.append(
            Statistics(
                number,
                record.coder,
                alphabet.longest,
                alphabet.direct,
                alphabet.filler,
                record.dictionary,
                int(np.count_nonzero(code.lengths)),
                len(record.sections),
                record.size,
                nonzeros,
                int(many.sum()),
                int((counts * code.lengths).sum()),
                raw,
                float(many @ -np.log2(many / many.sum())) + raw,
                _parts(record, nonzeros),
            )
        )
    return found


def _check(coding: Coding) -> None:
    """Raises PassError unless the format has room for a coding."""
    levels = coding.levels.array
    if not 1 <= levels.size <= MAX_SIZE:
        raise PassError(f"a kernel of {levels.size} weights cannot be packed")
    arrays = [levels]
    if coding.clusters:
        arrays.append(coding.clusters.centres.array)
        if len(arrays[-1]) > MAX_CENTRES:
            raise PassError(f"{len(arrays[-1])} centres cannot be stored, {MAX_CENTRES} are the most")
    for array in arrays:
        if array.dtype != np.int64 or max(-int(array.min()), int(array.max())) >> MAGNITUDE_BITS:
            raise PassError(f"levels and centres must be integers below 2**{MAGNITUDE_BITS}")


def _store(tensor: Tensor) -> tuple[Raw, bytes]:
    array = tensor.constant.array
    if not tensor.constant.is_integer:
        raise PassError("real constants cannot be stored")
    shift = _common_zeros(array)
    array = array >> shift
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    width, signed = needed_width(low, high)
    if width + shift > 64 or array.ndim > MAX_RANK:
        raise PassError(f"a constant of {width + shift} bits and {array.ndim} dimensions cannot be stored")
    return Raw(tensor.role, array.shape, width, signed, shift), pack_elements(array, width)


def _common_zeros(array: Array) -> int:
    """Low bits that are 0 in all elements."""
    together = 0
    if array.dtype == object:
        for value in array.ravel():
            together |= int(value)
    else:
        together = int(np.bitwise_or.reduce(array, axis=None))
    return (together & -together).bit_length() - 1 if together else 0


def _restore(record: Raw, payload: bytes) -> Constant:
    used = record.size * record.width % 8
    if used and payload[-1] >> used:
        raise damaged("padding")
    elements = unpack_elements(payload, record.size, record.width, record.signed)
    if not record.signed and record.width + record.shift == 64:
        elements = elements.astype(object)
    try:
        return Constant((elements << record.shift).reshape(record.shape))
    except ValueError:  # no elements, and sizes that no array may have
        raise damaged("sizes") from None


def _code(role: str, constant: Packed, layer: Layer, book: Dictionary, place: int) -> tuple[Coded, bytes]:
    coding = constant.coding
    if constant.array.ndim > MAX_RANK:
        raise PassError(f"a kernel of {constant.array.ndim} dimensions cannot be stored")
    sections = layer.encode(book.method, book.alphabet, book.code)
    payload = [part for section in sections for part in section]
    centres = width = 0
    if coding.clusters:
        array = coding.clusters.centres.array
        centres = len(array)
        bits, signed = needed_width(int(array.min()), int(array.max()))
        width = bits + (not signed)
        indices = coding.clusters.indices.array.T
        payload[:0] = [pack_elements(array, width), pack_elements(indices, (centres - 1).bit_length())]
    record = Coded(
        role,
        constant.shape,
        book.method.coder,
        coding.levels.shape,  # type: ignore[arg-type]
        coding.transform,
        coding.rounded,
        coding.shifts,
        centres,
        width,
        place,
        tuple((len(a), len(b)) for a, b in sections),
    )
    return record, b"".join(payload)


def _parts(record: Coded, nonzeros: int) -> dict[str, int]:
    """Bits of a coded tensor, by what they are for."""
    is_csr = record.coder == "csr"
    indices = nonzeros * (record.columns - 1).bit_length() * is_csr
    counts = record.levels[2] * record.columns.bit_length() * is_csr
    return {
        "payload": 8 * sum(map(sum, record.sections)) - indices - counts,
        "indices": indices,
        "pointers": counts + 8 * SECTION_BYTES * len(record.sections),
        "centres": 8 * record.centre_bytes,
        "cluster_indices": 8 * record.index_bytes,
    }


def _records(data: bytes) -> Iterator[tuple[Raw | Coded, bytes, tuple[Alphabet, Code]]]:
    """Descriptor, payload and dictionary of each tensor, all of them checked before the first is given out."""
    if len(data) < HEADER.size + 4 or data[:4] != MAGIC:
        raise ModelError("is no weight container", where="weights.bin")
    _, version, book_count, count, length = HEADER.unpack_from(data)
    if version != VERSION:
        raise ModelError(f"has version {version}, this toolchain reads {VERSION}", where="weights.bin")
    (checksum,) = struct.unpack_from("<I", data, len(data) - 4)
    if length != len(data) or zlib.crc32(memoryview(data)[:-4]) != checksum:
        raise damaged("checksum")
    cursor = Cursor(data, HEADER.size, len(data) - 4)
    books = {}
    for _ in range(book_count):
        place = cursor.at
        books[place] = take_dictionary(cursor)
    alphabets = {at: alphabet for at, (alphabet, _) in books.items()}
    records = [take_tensor(cursor, alphabets) for _ in range(count)]
    if sum(math.prod(record.levels) for record in records if isinstance(record, Coded)) > MAX_SIZE:
        raise damaged("sizes")  # a few bytes can stand for many zeros
    starts_at = [cursor.at]
    for record in records:
        cursor.skip(record.payload)
        starts_at.append(cursor.at)
    if cursor.at != cursor.end:
        raise damaged("length")
    nothing = Alphabet(0, 0, 1), Code(np.ones(1, np.uint8))
    for record, first, last in zip(records, starts_at, starts_at[1:], strict=False):
        yield record, data[first:last], books[record.dictionary] if isinstance(record, Coded) else nothing


def _decode(record: Coded, payload: bytes, alphabet: Alphabet, code: Code) -> tuple[Coding, Array]:
    """The coding, and how often each symbol occurs in it."""
    taps, channels, outputs = record.levels
    at = record.centre_bytes + record.index_bytes
    clusters = _clusters(record, payload[:at]) if record.centres else None
    levels = np.zeros((outputs, record.columns), np.int32)
    counts = np.zeros(alphabet.size, np.int64)
    bounds = starts(outputs, len(record.sections)).tolist()
    for (codes, raw), first, last in zip(record.sections, bounds, bounds[1:], strict=False):
        sections = payload[at : at + codes], payload[at + codes : at + codes + raw]
        part = levels[first:last]
        if record.coder == "run":
            symbols = decode_run(*sections, alphabet, code, part.reshape(-1))
        else:
            symbols = decode_csr(*sections, alphabet, code, part)
        counts += np.bincount(symbols, minlength=alphabet.size)
        at += codes + raw
    ordered = np.moveaxis(levels.reshape(outputs, taps, channels), 0, -1)
    return Coding(Constant(ordered), record.transform, record.shifts, clusters, record.rounded), counts


def _clusters(record: Coded, data: bytes) -> Clusters:
    centres, indices = data[: record.centre_bytes], data[record.centre_bytes :]
    size, width = record.centres * record.transform.size, record.centre_width
    blocks = record.size // record.transform.size
    for part, bits in ((centres, size * width), (indices, blocks * record.index_width)):
        if bits % 8 and part[-1] >> bits % 8:
            raise damaged("padding")
    table = unpack_elements(centres, size, width, signed=True).reshape(record.centres, -1)
    outputs = record.levels[2]
    numbers = (
        unpack_elements(indices, blocks, record.index_width, signed=False)
        if record.index_width
        else np.zeros(blocks, np.int64)
    )
    if numbers.max() >= record.centres:
        raise damaged("indices")
    if int(np.abs(table).max()) >> MAGNITUDE_BITS:
        raise damaged("centres")
    return Clusters(Constant(table), Constant(numbers.reshape(outputs, -1).T))
