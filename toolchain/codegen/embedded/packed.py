"""Packed weights as constants of C: the coded bytes, their dictionaries, and what turns levels into weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from toolchain.codegen.embedded.writer import Tables
from toolchain.errors import PassError
from toolchain.ir import Array, Graph
from toolchain.packing.basis import basis
from toolchain.packing.bits import pack_elements
from toolchain.packing.choice import Dictionary, Layer, dictionaries, split
from toolchain.packing.huffman import LONGEST
from toolchain.packing.packed import Coding, Packed

LARGEST_CLASS = 255
"""Symbols in C have 8 bits for the run and 8 for the class."""


@dataclass(frozen=True)
class Unpackable:
    """A layer's weights in flash: `name` is that of its `dct_packed`, `columns` what an output has."""

    name: str
    definition: str
    columns: int


class Weights:
    """All packed weights of a program. Layers may share a dictionary, as they do in `weights.bin`."""

    def __init__(self, graph: Graph, tables: Tables) -> None:
        self._tables = tables
        found = (getattr(node.operator, "weights", None) for node in graph.nodes)
        self.packed = list(dict.fromkeys(one for one in found if isinstance(one, Packed)))
        self._layers: list[Layer] = [split(one.coding.levels.array) for one in self.packed]
        self._books = dictionaries(self._layers)
        self.dictionaries: list[str] = []
        self.layers: dict[Packed, Unpackable] = {}
        for number, book in enumerate(self._books):
            self.dictionaries.append(self._dictionary(number, book))
            for k in book.layers:
                self.layers[self.packed[k]] = self._layer(k, number, book)

    @property
    def definitions(self) -> list[str]:
        return [self.layers[one].definition for one in self.packed]

    @property
    def largest_block(self) -> int:
        """Coefficients of the largest block."""
        return max(one.coding.transform.size for one in self.packed)

    @property
    def dictionary_bytes(self) -> int:
        """Of the limits and first symbols, which lie beside the tables."""
        return len(self._books) * (4 * (LONGEST + 1) + 12)

    def _dictionary(self, number: int, book: Dictionary) -> str:
        lengths = book.code.lengths.astype(np.int64)
        counts = np.bincount(lengths, minlength=LONGEST + 1)
        counts[0] = 0
        limits = np.cumsum(counts << (LONGEST - np.arange(LONGEST + 1)))
        firsts = np.cumsum(counts) - counts
        alphabet = book.alphabet
        runs, classes = np.divmod(
            book.code.order, alphabet.classes if book.method.coder == "run" else LARGEST_CLASS + 1
        )
        if classes.max(initial=0) > LARGEST_CLASS:
            raise PassError(f"has levels of {classes.max()} classes, C takes {LARGEST_CLASS + 1}")
        symbols = self._add(f"symbols_{number}", runs << 8 | classes, "dictionaries", np.dtype(np.uint16))
        return (
            f"static const dct_dictionary dictionary_{number} MODEL_SECTION = {{\n"
            f"    {{{_joined(limits)}}},\n    {{{_joined(firsts)}}},\n"
            f"    {symbols}, {alphabet.direct}, {alphabet.filler},\n}};"
        )

    def _add(self, name: str, values: Array, kind: str, dtype: np.dtype[np.integer]) -> str:
        return self._tables.add(f"packed_{name}", values, kind, dtype).name

    def _layer(self, k: int, number: int, book: Dictionary) -> Unpackable:
        coding = self.packed[k].coding
        sections = self._layers[k].encode(book.method, book.alphabet, book.code)
        data = np.frombuffer(b"".join(part for section in sections for part in section), np.uint8)
        lengths = np.array([len(part) for section in sections for part in section])
        transform = coding.transform
        byte, wide = np.dtype(np.uint8), np.dtype(np.int32)
        taps, channels, outputs = coding.levels.shape
        bases = [
            self._add(f"basis_{n}", basis(n), "tables", np.dtype(np.int8)) for n in (transform.rows, transform.columns)
        ]
        parts = [
            f"&dictionary_{number}",
            self._add(f"data_{k}", data, "payload", byte),
            self._add(f"sections_{k}", lengths, "payload", np.dtype(np.uint32)),
            *(str(n) for n in (len(sections), outputs, taps, channels)),
            str(int(book.method.coder == "csr")),
            str(int(transform.kind == "taps")),
            *(str(n) for n in (transform.rows, transform.columns, coding.rounded)),
            str(int(_largest_sum(coding) < 1 << 31)),
            *bases,
            self._add(f"shifts_{k}", np.array(coding.shifts), "tables", byte),
            *self._clusters(k, coding, byte, wide),
        ]
        definition = f"static const dct_packed packed_{k} MODEL_SECTION = {{\n    {', '.join(parts)},\n}};"
        return Unpackable(f"&packed_{k}", definition, taps * channels)

    def _clusters(self, k: int, coding: Coding, byte: np.dtype[np.integer], wide: np.dtype[np.integer]) -> list[str]:
        if coding.clusters is None:
            return ["NULL", "NULL", "0"]
        centres, indices = coding.clusters.centres.array, coding.clusters.indices.array
        bits = (len(centres) - 1).bit_length()
        packed = np.frombuffer(pack_elements(indices.T, bits) or b"\0", np.uint8)
        return [
            self._add(f"centres_{k}", centres, "centres", wide),
            self._add(f"indices_{k}", packed, "cluster_indices", byte),
            str(bits),
        ]


def level_bound(coding: Coding, magnitude: int) -> int | None:
    """A bound of all sums where levels meet inputs of so large a magnitude behind the basis stage: `dct_unpack_dot`.

    None where they may not: weights with clusters or rounding are no combination of the levels alone.
    """
    if coding.clusters or coding.rounded:
        return None
    taps, channels, outputs = coding.levels.shape
    reach = np.abs(coding.transform.matrix).sum(1) << np.array(coding.shifts)
    each = reach[coding.transform.frequency(taps, channels)]
    sums = (np.abs(coding.levels.array).astype(object) * each[:, :, None]).reshape(-1, outputs).sum(0)
    return int(magnitude * max(each.max(), *sums))


def _largest_sum(coding: Coding) -> int:
    """A bound of every sum on the way from levels to weights, the half that rounding adds included."""
    gain = int(np.abs(basis(coding.transform.rows)).sum(0).max() * np.abs(basis(coding.transform.columns)).sum(0).max())
    return int(np.abs(coding.scaled).max(initial=0)) * gain + (1 << coding.rounded)


def _joined(values: Iterable[int]) -> str:
    return ", ".join(str(int(value)) for value in values)
