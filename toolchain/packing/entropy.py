"""Quantized levels as symbols of an alphabet, and the symbols as bits.

Levels are read output by output, within an output taps first, channels last. A level v has a class: 0 for v = 0, |v|
up to a `direct` magnitude D, and D + 1 + j for |v| of D + 2**j to D + 2**(j + 1) - 1, told apart by j bits of mantissa.

- Coder `run`: a symbol is (r, q), r zeros and then a level of class q; class 0 is one zero more. It is the zero-run
  coding of JPEG (ISO/IEC 10918-1, F.1.2.2) with the magnitudes themselves in the symbol, which leaves Huffman codes no
  probability above one half to waste bits on. With r = 0 only, it is a code of every level. Where more levels are 1 or
  -1 than 0, runs are of these instead (`filler` 1), and class 1 is one more of them.
- Coder `csr`, the positions of CNNpack (section 3.4): a symbol is the class of a nonzero; its column is stored beside.

Signs, mantissas and columns are not coded: the raw bits of a substream lie in a section of their own, so that a decoder
finds the next code without having understood the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from toolchain.errors import ModelError, PassError
from toolchain.ir.constant import Array
from toolchain.packing.bits import field, fields, pack_fields, windows
from toolchain.packing.huffman import SYMBOLS, Code

MAGNITUDE_BITS = 17
"""Magnitudes of levels and centres are below 2**17."""
MOST_RUN = 255
DENSEST = 8 * (MOST_RUN + 1)
"""The most levels a byte can stand for: decoders refuse to make room for more."""
CHUNK = 1 << 15
"""Bytes of code that are decoded at once."""

Coder = Literal["run", "csr"]


@dataclass(frozen=True)
class Alphabet:
    """What symbols mean: (r, q) is the number r * classes + q, for r up to `longest` and q below `classes`."""

    longest: int
    direct: int
    classes: int
    filler: int = 0
    """Magnitude of what a run consists of, 0 or 1. It is its own class."""

    @property
    def size(self) -> int:
        """Number of symbols."""
        return (self.longest + 1) * self.classes

    @property
    def is_valid(self) -> bool:
        """Do decoders take it?"""
        extended = self.classes - self.direct - 1
        fits = self.longest <= MOST_RUN and 0 <= extended <= MAGNITUDE_BITS and self.size <= SYMBOLS
        return fits and self.filler <= 1 and self.filler < self.classes

    @cached_property
    def extra(self) -> Array:
        """Mantissa bits of each class."""
        return np.maximum(np.arange(self.classes) - self.direct - 1, 0)

    @cached_property
    def base(self) -> Array:
        """Smallest magnitude of each class."""
        classes = np.arange(self.classes)
        return np.where(classes <= self.direct, classes, self.direct + (1 << self.extra))

    @cached_property
    def raw(self) -> Array:
        """Raw bits of each class: sign and mantissa."""
        return np.where(self.base > 0, self.extra + 1, 0)


def classes_of(magnitudes: Array, direct: int) -> Array:
    """The class of each magnitude."""
    exponents = np.frexp(np.maximum(magnitudes - direct, 1).astype(np.float64))[1] - 1
    return np.where(magnitudes > direct, direct + 1 + exponents, magnitudes)


class Scan:
    """Levels (taps, channels, outputs) in the order of coding, cut into substreams of whole outputs.

    Events are the levels that runs do not consist of, and the last level of each substream, so that what its end
    consists of is a run like any other. Raises PassError for levels of 2**17 and above.
    """

    def __init__(self, levels: Array, substreams: int = 1, filler: int = 0) -> None:
        self.columns, self.outputs = levels.shape[0] * levels.shape[1], levels.shape[2]
        if max(-int(levels.min(initial=0)), int(levels.max(initial=0))) >> MAGNITUDE_BITS:
            raise PassError(f"levels must be below 2**{MAGNITUDE_BITS}")
        # Half the memory: kernels of a hundred million weights exist.
        flat = np.ascontiguousarray(levels.transpose(2, 0, 1), dtype=np.int32).reshape(-1)
        self.bounds = starts(self.outputs, substreams) * self.columns
        """Position at which each substream begins, and the end of the last."""
        self.filler = filler
        self.nonzeros = int(np.count_nonzero(flat))
        wanted = np.abs(flat) != filler
        wanted[self.bounds[1:] - 1] = True
        self.positions = np.flatnonzero(wanted)
        self.magnitudes = np.abs(flat[self.positions]).astype(np.int64)
        self.gaps = np.diff(self.positions, prepend=-1) - 1
        """Levels of a run before each event."""
        self.raw_positions = np.flatnonzero(flat) if filler else self.positions
        self.raw_values = flat[self.raw_positions].astype(np.int64)
        """What has raw bits, where it is not 0."""

    @property
    def substreams(self) -> int:
        return len(self.bounds) - 1

    @property
    def count_bits(self) -> int:
        """Coder `csr`: bits of the number of nonzeros of an output."""
        return int(self.columns).bit_length()

    @property
    def column_bits(self) -> int:
        """Coder `csr`: bits of a column's number."""
        return int(self.columns - 1).bit_length()

    @cached_property
    def largest(self) -> int:
        """The largest magnitude."""
        return max(int(self.magnitudes.max()), self.filler)

    @cached_property
    def pairs(self) -> tuple[Array, Array, Array]:
        """Gaps and magnitudes that occur together, and how often."""
        stride = self.largest + 1
        keys = self.gaps * stride + self.magnitudes
        end = int(keys.max()) + 1
        if end <= 1 << 20:
            counted = np.bincount(keys)
            keys = np.flatnonzero(counted)
            counts = counted[keys]
        else:
            keys, counts = np.unique(keys, return_counts=True)
        return keys // stride, keys % stride, counts

    def alphabet(self, coder: Coder, longest: int, direct: int) -> Alphabet:
        """The smallest alphabet with these limits that can code the levels."""
        largest = int(classes_of(np.array([self.largest]), direct)[0])
        return Alphabet(longest if coder == "run" else 0, direct, max(largest, direct) + 1, self.filler)

    def counts(self, coder: Coder, alphabet: Alphabet) -> Array:
        """How often each symbol occurs."""
        gaps, magnitudes, counts = self.pairs
        if coder == "csr":
            gaps, counts = np.zeros_like(gaps), counts * (magnitudes > 0)
        full, rest = np.divmod(gaps, alphabet.longest + 1)
        symbols = rest * alphabet.classes + classes_of(magnitudes, alphabet.direct)
        result = np.bincount(symbols, counts, alphabet.size).astype(np.int64)
        result[alphabet.longest * alphabet.classes + self.filler] += int((full * counts).sum())
        return result

    def raw_bits(self, coder: Coder, alphabet: Alphabet) -> int:
        """Bits of the raw sections, without the padding."""
        gaps, magnitudes, counts = self.pairs
        bits = int((gaps * counts).sum()) * self.filler
        bits += int((alphabet.raw[classes_of(magnitudes, alphabet.direct)] * counts).sum())
        return bits + (self.outputs * self.count_bits + self.nonzeros * self.column_bits if coder == "csr" else 0)

    def encode(self, coder: Coder, alphabet: Alphabet, code: Code) -> list[tuple[bytes, bytes]]:
        """Code section and raw section of each substream."""
        make = self._run_symbols if coder == "run" else self._csr_symbols
        raw_edges = np.searchsorted(self.raw_positions, self.bounds)
        edges = np.searchsorted(self.positions, self.bounds)
        sections = []
        for i in range(self.substreams):
            events = slice(int(edges[i]), int(edges[i + 1]))
            symbols, raw = make(events, slice(int(raw_edges[i]), int(raw_edges[i + 1])), alphabet, i)
            codes = pack_fields(code.codes[symbols], code.lengths[symbols], highest_first=True)
            sections.append((codes, raw))
        return sections

    def _run_symbols(self, events: slice, raw: slice, alphabet: Alphabet, _substream: int) -> tuple[Array, bytes]:
        classes = classes_of(self.magnitudes[events], alphabet.direct)
        full, rest = np.divmod(self.gaps[events], alphabet.longest + 1)
        ends = np.cumsum(full + 1)
        symbols = np.full(int(ends[-1]), alphabet.longest * alphabet.classes + self.filler)
        symbols[ends - 1] = rest * alphabet.classes + classes
        classes, values = self._raw(raw, alphabet)
        return symbols, pack_fields(values, alphabet.raw[classes], highest_first=False)

    def _csr_symbols(self, events: slice, raw_slice: slice, alphabet: Alphabet, substream: int) -> tuple[Array, bytes]:
        classes, raw = self._raw(raw_slice, alphabet)
        nonzero = classes > 0
        raw = raw[nonzero]
        classes = classes[nonzero]
        outputs, columns = np.divmod(self.positions[events][nonzero], self.columns)
        first, last = (int(bound) // self.columns for bound in self.bounds[substream : substream + 2])
        counts = np.bincount(outputs - first, minlength=last - first)
        at = np.cumsum(counts + 1) - counts - 1
        values, widths = np.empty(len(classes) + len(counts), np.int64), np.empty(len(classes) + len(counts), np.int64)
        is_count = np.zeros(len(values), dtype=bool)
        is_count[at] = True
        values[is_count], widths[is_count] = counts, self.count_bits
        values[~is_count] = columns | raw << self.column_bits
        widths[~is_count] = self.column_bits + alphabet.raw[classes]
        return classes, pack_fields(values, widths, highest_first=False)

    def _raw(self, part: slice, alphabet: Alphabet) -> tuple[Array, Array]:
        """Class of each level that has raw bits; its sign and, above that, its mantissa."""
        values = self.raw_values[part]
        magnitudes = np.abs(values)
        classes = classes_of(magnitudes, alphabet.direct)
        return classes, np.asarray((values < 0) | (magnitudes - alphabet.base[classes]) << 1)


def starts(outputs: int, substreams: int) -> Array:
    """The first output of each substream, and the end of the last."""
    return np.arange(substreams + 1) * outputs // substreams


def read_symbols(data: bytes, code: Code) -> Array:
    """int16: all codes of a section, the zeros behind its end and its padding read as codes too; -1 is no code."""
    lengths, symbols = code.table
    parts, at = [np.zeros(0, np.int16)], 0
    for start in range(0, len(data), CHUNK):
        count = min(CHUNK, len(data) - start)
        shown = windows(data, start, count).ravel()
        steps, marks, end = lengths[shown].tobytes(), bytearray(8 * count), 8 * count
        while at < end:
            marks[at] = 1
            at += steps[at]
        at -= end
        parts.append(symbols[shown[np.frombuffer(marks, dtype=bool)]])
    return np.concatenate(parts)


def decode_run(codes: bytes, raw: bytes, alphabet: Alphabet, code: Code, levels: Array) -> Array:
    """Fills `levels`, one substream in the order of coding, zero before; returns the symbols.

    Raises ModelError unless the sections hold just these levels.
    """
    symbols = read_symbols(codes, code)
    runs, classes = np.divmod(symbols.astype(np.int64), alphabet.classes)
    ends = np.cumsum(runs + 1)
    count = int(np.searchsorted(ends, len(levels))) + 1  # ends are in order as long as symbols are valid
    if count > len(ends) or symbols[:count].min() < 0 or ends[count - 1] != len(levels):
        raise _damaged("codes")
    symbols, classes, ends = symbols[:count], classes[:count], ends[:count]
    _check_end(codes, int(code.lengths[symbols].sum(dtype=np.int64)), highest_first=True)
    positions = ends - 1
    if alphabet.filler:
        filled = np.full(len(levels), alphabet.filler)
        filled[positions] = classes
        positions, classes = np.arange(len(levels)), filled
    nonzero = classes > 0
    classes = classes[nonzero]
    widths = alphabet.raw[classes]
    stops = np.cumsum(widths)
    _check_end(raw, int(stops[-1]) if len(stops) else 0, highest_first=False)
    levels[positions[nonzero]] = _values(fields(raw, stops - widths, widths), classes, alphabet)
    return symbols


def decode_csr(codes: bytes, raw: bytes, alphabet: Alphabet, code: Code, levels: Array) -> Array:
    """As `decode_run`, for `levels` (outputs, columns) of one substream."""
    outputs, columns = levels.shape
    count_bits, column_bits = columns.bit_length(), (columns - 1).bit_length()
    symbols = read_symbols(codes, code)
    classes = np.maximum(symbols, 0).astype(np.int64)  # what is no code must not count before it is refused
    ends = np.concatenate([[0], np.cumsum(column_bits + alphabet.raw[classes])])
    counts, at, done = np.empty(outputs, np.int64), 0, 0
    for output in range(outputs):
        count = field(raw, at, count_bits)
        if at + count_bits > 8 * len(raw) or count > min(columns, len(symbols) - done):
            raise _damaged("counts")
        counts[output] = count
        at += count_bits + int(ends[done + count] - ends[done])
        done += count
    symbols, classes = symbols[:done], classes[:done]
    if symbols.min(initial=1) < 1:
        raise _damaged("codes")
    _check_end(codes, int(code.lengths[symbols].sum(dtype=np.int64)), highest_first=True)
    _check_end(raw, at, highest_first=False)
    owner = np.repeat(np.arange(outputs), counts)
    widths = alphabet.raw[classes]
    begin = ends[:done] + (owner + 1) * count_bits
    column = fields(raw, begin, column_bits)
    together = owner * columns + column
    if (column >= columns).any() or (np.diff(together) <= 0).any():
        raise _damaged("columns")
    levels[owner, column] = _values(fields(raw, begin + column_bits, widths), classes, alphabet)
    return symbols


def _values(raw: Array, classes: Array, alphabet: Alphabet) -> Array:
    magnitudes = alphabet.base[classes] + (raw >> 1)
    if (magnitudes >> MAGNITUDE_BITS).any():
        raise _damaged("magnitude")
    return np.asarray(np.where(raw & 1, -magnitudes, magnitudes))


def _check_end(data: bytes, bits: int, highest_first: bool) -> None:
    padding = 8 * len(data) - bits
    if not 0 <= padding < 8:
        raise _damaged("section")
    if padding and (data[-1] & ((1 << padding) - 1) if highest_first else data[-1] >> (8 - padding)):
        raise _damaged("padding")


def _damaged(what: str) -> ModelError:
    return ModelError(f"is damaged ({what})", where="weights.bin")
