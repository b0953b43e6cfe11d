"""Which alphabet codes a kernel in the fewest bits, and which kernels had better share one."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from toolchain.ir.constant import Array
from toolchain.packing.entropy import DENSEST, Alphabet, Coder, Scan
from toolchain.packing.huffman import LONGEST, Code, code_lengths, lengths_size, unlimited_bits

RUNS = (0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15, 19, 23, 27, 31, 39, 47, 63, 79, 95, 127, 191, 255)
DIRECT = (1, 2, 3, 4, 5, 6, 8, 11, 15, 23, 31, 47, 63, 95, 127)
TYPICAL_DIRECT, TYPICAL_RUNS = 6, 3
"""With this direct magnitude all runs are tried, and with this many of them all direct magnitudes."""
FILLER_SHARE = 0.5
"""Runs of ones are tried where there are this many of them for each zero."""
FINALISTS = 8
"""Alphabets whose estimates are replaced by real codes."""
REDUNDANCY, TOLERATED = 0.02, 0.005
"""Codes are to be within 2 % of the entropy of their symbols, where that costs no more than this share of the size."""
SUBSTREAM = 2048
"""Bytes of a substream: its lengths are 8 bytes in the descriptor, its two sections lose half a byte each."""
MOST_SUBSTREAMS = 64
DICTIONARY_BYTES = 6
"""Bytes of a dictionary before its code lengths."""


@dataclass(frozen=True, order=True)
class Method:
    """A coder and the limits of its alphabet."""

    coder: Coder
    longest: int
    direct: int
    filler: int = 0


class Layer:
    """A kernel's levels (taps, channels, outputs) and what it costs to code them."""

    def __init__(self, levels: Array, substreams: int = 1) -> None:
        self.scan = Scan(levels, substreams)
        ones = int(np.count_nonzero(self.scan.magnitudes == 1))
        self._scans = [self.scan]
        if ones >= FILLER_SHARE * (levels.size - self.scan.nonzeros):
            self._scans.append(Scan(levels, substreams, 1))
        self._counted: dict[Method, tuple[Alphabet, Array, int]] = {}

    def counted(self, method: Method) -> tuple[Alphabet, Array, int]:
        """Alphabet, counts of its symbols, raw bits."""
        if method not in self._counted:
            scan, alphabet = self._scans[method.filler], self.alphabet(method)
            counts, raw = scan.counts(method.coder, alphabet), scan.raw_bits(method.coder, alphabet)
            self._counted[method] = alphabet, counts, raw
        return self._counted[method]

    def fits(self, method: Method) -> bool:
        """Can the levels be coded so?"""
        if method.filler >= len(self._scans) or (method.coder == "csr" and not self._sparse_enough):
            return False
        return self.alphabet(method).is_valid

    def alphabet(self, method: Method) -> Alphabet:
        """The smallest alphabet of a method."""
        return self._scans[method.filler].alphabet(method.coder, method.longest, method.direct)

    def encode(self, method: Method, alphabet: Alphabet, code: Code) -> list[tuple[bytes, bytes]]:
        """Code section and raw section of each substream."""
        return self._scans[method.filler].encode(method.coder, alphabet, code)

    @cached_property
    def _sparse_enough(self) -> bool:
        """Are there few enough zeros for `csr`, which spends no bits on them?

        A decoder that bounds the weights by the bytes would object to more.
        """
        scan = self.scan
        bits = scan.outputs * scan.count_bits + scan.nonzeros * (scan.column_bits + 2)
        return scan.nonzeros > 0 and scan.outputs * scan.columns <= DENSEST * (bits // 8 // scan.substreams)

    @cached_property
    def ranked(self) -> list[tuple[float, Method]]:
        """Estimated bits of the methods, dictionary included, the smallest first."""
        largest = self.scan.largest
        direct = [d for d in DIRECT if d < largest] + [largest] * (largest <= DIRECT[-1])
        methods = [Method("run", 0, largest)] * (DIRECT[-1] < largest) + [Method("csr", 0, d) for d in direct]
        for filler in range(len(self._scans)):
            typical = [self._scored(Method("run", longest, min(TYPICAL_DIRECT, largest), filler)) for longest in RUNS]
            runs = [method.longest for _, method in sorted(typical, key=_bits)[:TYPICAL_RUNS]]
            methods += [Method("run", longest, d, filler) for longest in runs for d in direct]
        return sorted((self._scored(method) for method in methods if self.fits(method)), key=_bits)

    def _scored(self, method: Method) -> tuple[float, Method]:
        _, counts, raw = self.counted(method)
        return _estimate(counts) + raw, method

    @cached_property
    def best(self) -> tuple[int, Method]:
        """Bits of the cheapest method with a dictionary of its own, paddings left out.

        A code farther from the entropy than `REDUNDANCY` makes way for one that is not and costs hardly more.
        """
        finalists = [(self.bits(method), method) for _, method in self.ranked[:FINALISTS]]
        cheapest = min(finalists, key=_bits)
        near = [pair for pair in finalists if pair[0] <= cheapest[0] * (1 + TOLERATED)]
        return min(near, key=lambda pair: (self._redundancy(pair[1]) > REDUNDANCY, pair[0]))

    def _redundancy(self, method: Method) -> float:
        """What codes and raw bits take beyond the entropy of the symbols, as a share of it."""
        group = _joined([self], method)
        coded = int((code_lengths(group.counts) * group.counts).sum()) + group.raw
        return coded / max(group.least_bits, 1) - 1

    def bits(self, method: Method) -> int:
        """Codes, raw bits and dictionary of a method, paddings left out."""
        _, counts, raw = self.counted(method)
        lengths = code_lengths(counts)
        return int((lengths * counts).sum()) + raw + 8 * (DICTIONARY_BYTES + lengths_size(lengths))


def split(levels: Array, decoders: int = 1) -> Layer:
    """The layer with as many substreams as its size asks for; many are a multiple of the decoders that share them."""
    whole = Layer(levels)
    wanted = min(round(whole.best[0] / (8 * SUBSTREAM)), whole.scan.outputs, MOST_SUBSTREAMS)
    if wanted >= 2 * decoders:
        wanted -= wanted % decoders
    return whole if wanted <= 1 else Layer(levels, wanted)


def estimated_bits(levels: Array) -> float:
    """About what `coded_bits` says, paddings left out: within 1 % for kernels of 10,000 weights, and faster."""
    return Layer(levels).ranked[0][0]


def coded_bits(levels: Array) -> int:
    """Bits of the cheapest coding of levels (taps, channels, outputs) with a dictionary of its own.

    Sections and dictionary as they are stored, paddings included; the descriptor is not.
    """
    layer = split(levels)
    method = layer.best[1]
    alphabet, counts, _ = layer.counted(method)
    lengths = code_lengths(counts)
    sections = layer.encode(method, alphabet, Code(lengths))
    return 8 * (sum(len(a) + len(b) for a, b in sections) + DICTIONARY_BYTES + lengths_size(lengths))


def _estimate(counts: Array) -> float:
    """Bits of codes and dictionary, some parts in a thousand off.

    Codes of any length (Huffman, 1952), and what the longest length costs by the entropies with and without the share
    of the codes that rare symbols then take.
    """
    used = counts > 0
    many, total = counts[used], int(counts.sum())
    shares = many / total
    limited = np.maximum(shares, 0.5**LONGEST)
    ideal = np.log2(limited.sum()) - np.log2(limited)
    lengths = np.zeros(len(counts), np.uint8)
    lengths[used] = np.clip(np.rint(ideal), 1, LONGEST)
    longer = float(many @ (ideal + np.log2(shares)))
    return unlimited_bits(many) + max(longer, 0) + 8 * (DICTIONARY_BYTES + lengths_size(lengths))


def _bits(scored: tuple[float, Method]) -> float:
    return scored[0]


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A code and the layers that use it."""

    method: Method
    alphabet: Alphabet
    code: Code
    layers: tuple[int, ...]


def dictionaries(layers: Sequence[Layer]) -> list[Dictionary]:
    """Dictionaries for all layers: one each, or common ones where that makes the file smaller.

    Groups are merged greedily, the pair that saves most first; a group uses a method that is among the best of one of
    its members.
    """
    groups: dict[tuple[int, ...], _Group] = {(i,): _joined([layer], layer.best[1]) for i, layer in enumerate(layers)}
    queue: list[tuple[int, tuple[int, ...], tuple[int, ...], Method]] = []

    def offer(a: tuple[int, ...], b: tuple[int, ...]) -> None:
        members = [layers[i] for i in a + b]
        apart = groups[a].bits + groups[b].bits
        for method in dict.fromkeys((groups[a].method, groups[b].method)):
            if _fits(members, method):
                merged = _joined(members, method)
                if merged.least_bits < apart and merged.bits < apart:
                    heapq.heappush(queue, (merged.bits - apart, a, b, method))

    keys = list(groups)
    for i, a in enumerate(keys):
        for b in keys[i + 1 :]:
            offer(a, b)
    while queue:
        _, a, b, method = heapq.heappop(queue)
        if a not in groups or b not in groups:
            continue
        merged = tuple(sorted(a + b))
        group = _joined([layers[i] for i in merged], method)
        del groups[a], groups[b]
        others = list(groups)
        groups[merged] = group
        for other in others:
            offer(other, merged)
    result = [Dictionary(g.method, g.alphabet, Code(code_lengths(g.counts)), key) for key, g in groups.items()]
    return sorted(result, key=lambda dictionary: dictionary.layers)


@dataclass(frozen=True, eq=False)
class _Group:
    """Layers of one dictionary."""

    method: Method
    alphabet: Alphabet
    counts: Array
    raw: int

    @cached_property
    def least_bits(self) -> float:
        """Entropy and raw bits: what no code takes less than."""
        many = self.counts[self.counts > 0]
        return float(many @ -np.log2(many / many.sum())) + self.raw

    @cached_property
    def bits(self) -> int:
        lengths = code_lengths(self.counts)
        return int((lengths * self.counts).sum()) + self.raw + 8 * (DICTIONARY_BYTES + lengths_size(lengths))


def _fits(layers: Sequence[Layer], method: Method) -> bool:
    """Can the layers be coded with this method?"""
    if not all(layer.fits(method) for layer in layers):
        return False
    classes = max(layer.alphabet(method).classes for layer in layers)
    return Alphabet(method.longest, method.direct, classes, method.filler).is_valid


def _joined(layers: Sequence[Layer], method: Method) -> _Group:
    parts = [layer.counted(method) for layer in layers]
    classes = max(alphabet.classes for alphabet, _, _ in parts)
    counts = np.zeros((method.longest + 1, classes), np.int64)
    for alphabet, each, _ in parts:
        counts[:, : alphabet.classes] += each.reshape(-1, alphabet.classes)
    alphabet = Alphabet(method.longest, method.direct, classes, method.filler)
    return _Group(method, alphabet, counts.ravel(), sum(raw for _, _, raw in parts))
