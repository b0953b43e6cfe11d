"""How a layer of the C comes by its weights: they lie in flash, or are decoded while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from toolchain.codegen.embedded.function import Function
from toolchain.codegen.embedded.packed import level_bound
from toolchain.codegen.embedded.storage import Storage, constant_storage, working_bits
from toolchain.ir import Array
from toolchain.packing.packed import Packed

ROW = Storage(32, True)
"""What weights are decoded to."""


@dataclass(frozen=True)
class Rows:
    """Weights of some outputs: `pointer` is the first of them, `count` how many, `first` the number of the first.

    Sparse ones are `entries`, place << 16 | weight, those of output k from `starts[k]` to `starts[k + 1]`.
    """

    pointer: str
    storage: Storage
    first: str
    count: int | str
    is_sparse: bool = False


def is_unpacked(function: Function) -> bool:
    """Are the weights decoded while the layer runs?"""
    return isinstance(function.operator.weights, Packed)


@contextmanager
def weight_rows(
    function: Function, matrix: Array, begin: str, outputs: int, once: bool = False, by_terms: bool = False
) -> Iterator[Rows]:
    """The weights (outputs, terms) from the output `begin` on, in a loop over parts of them where they are decoded.

    Weights that are used `once` are not made narrow first. `by_terms` gives them as (terms, outputs), all at once.
    """
    terms = matrix.shape[1]
    if not is_unpacked(function):
        name = function.table("weights", matrix.T if by_terms else matrix, "weights")
        yield Rows(
            f"{name} + {_times(begin, terms)}" if begin != "0" else name, constant_storage(matrix), begin, outputs
        )
        return
    if not once and not by_terms and is_sparse(matrix):
        with _sparse_rows(function, matrix, begin, outputs) as rows:
            yield rows
        return
    held = ROW if once else constant_storage(matrix)
    each = 1 if once else outputs if by_terms else min(outputs, 1 + function.room // (terms * held.bytes))
    function.reserve(terms, ROW, "row")
    if held != ROW or by_terms:
        function.reserve(each * terms, held, "rows")
    with _parts(function, begin, outputs, each) as (first, count):
        with function.writer.loop("k", count):
            function.line("dct_unpack_row(&unpacker, row);")
            if held != ROW or by_terms:
                place = f"j * {outputs} + k" if by_terms else f"k * {terms} + j"
                function.line(f"for (int32_t j = 0; j < {terms}; ++j) rows[{place}] = ({held.ctype})row[j];")
        yield Rows("rows" if held != ROW or by_terms else "row", held, first, count)


@contextmanager
def _parts(function: Function, begin: str, outputs: int, each: int) -> Iterator[tuple[str, int | str]]:
    """A loop over so many outputs at once: the number of the first one, and how many they are."""
    if each == outputs:
        with function.writer.block(""):
            yield begin, outputs
        return
    with function.writer.step("part", outputs, each):
        if outputs % each:
            function.line(f"const int32_t count = dct_min_32({each}, {outputs} - part);")
        yield "part" if begin == "0" else f"{begin} + part", "count" if outputs % each else each


def is_sparse(matrix: Array) -> bool:
    """Are lists of the nonzero weights shorter than the rows, and faster?"""
    small = matrix.shape[1] <= 1 << 15 and constant_storage(matrix) in (Storage(8, True), Storage(16, True))
    return small and int(np.count_nonzero(matrix)) * ROW.bytes < matrix.size * constant_storage(matrix).bytes


@contextmanager
def _sparse_rows(function: Function, matrix: Array, begin: str, outputs: int) -> Iterator[Rows]:
    """As many outputs' lists of nonzero weights as there is room for."""
    terms = matrix.shape[1]
    counts = np.count_nonzero(matrix, axis=1).reshape(-1, outputs)  # of each group

    def entries(each: int) -> int:
        return int(np.add.reduceat(counts, np.arange(0, outputs, each), axis=1).max())

    room = function.room + terms * constant_storage(matrix).bytes
    each = next((n for n in range(outputs, 1, -1) if (entries(n) + n + 1) * ROW.bytes <= room), 1)
    function.reserve(terms, ROW, "row")
    function.reserve(entries(each), ROW, "entries")
    function.reserve(each + 1, ROW, "starts")
    with _parts(function, begin, outputs, each) as (first, count):
        function.line("starts[0] = 0;")
        with function.writer.loop("k", count):
            function.line("dct_unpack_row(&unpacker, row);")
            function.line(f"starts[k + 1] = starts[k] + dct_nonzeros(row, {terms}, entries + starts[k]);")
        yield Rows("entries", ROW, first, count, is_sparse=True)


def begin_unpacking(function: Function) -> None:
    """Before the first output."""
    if is_unpacked(function):
        function.line("dct_unpacker unpacker;")
        function.line(f"dct_unpack_begin(&unpacker, {function.packed.layers[function.operator.weights].name});")


def _times(factor: str, number: int) -> str:
    return f"({factor}) * {number}" if " " in factor else f"{factor} * {number}"


def bias(function: Function, output: str) -> str:
    """What is added to a sum, with the sign before it."""
    values = function.operator.bias.array
    if not values.any():
        return ""
    return f" + (int{function.bits}_t){function.table('bias', values, 'biases')}[{output}]"


def meets_levels(function: Function) -> bool:
    """May the levels be multiplied as they come out of the decoder, in 32 bits?"""
    weights = function.operator.weights
    if not isinstance(weights, Packed) or function.bits != 32:
        return False
    bound = level_bound(weights.coding, function.types[0].magnitude)
    return bound is not None and working_bits(bound + int(np.abs(function.operator.bias.array).max(initial=0))) == 32


def levels(function: Function, outputs: int, terms: int) -> None:
    """One vector times weights that are used once, straight from flash: nonzero levels times the basis stage's."""
    packed = function.packed.layers[function.operator.weights].name
    function.reserve(terms, ROW, "z")
    with function.loops(k=terms):
        function.line(f"z[k] = {function.input()}[k];")
    function.line(f"dct_to_frequency({packed}, z);")
    begin_unpacking(function)
    with function.loops(i=outputs):
        function.finish("dct_unpack_dot(&unpacker, z)" + bias(function, "i"), "i", "i")
