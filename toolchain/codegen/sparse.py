"""The sparse matrix-vector unit: nonzeros of known weights in a static schedule. See `sparse_matrix_vector.h`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from toolchain.codegen.kernel import (
    Cost,
    Folding,
    Kernel,
    KernelArray,
    KernelMemory,
    Loops,
    Pattern,
    Port,
    Schedule,
    integer_array,
    integer_type,
    multiplier_kind,
    multipliers,
    nest,
    packed_chunks,
)
from toolchain.errors import PassError
from toolchain.ir import Array, Constant, TensorType
from toolchain.ir.types import needed_width
from toolchain.packing.packed import Coding

ENTRY_BITS = 64
"""The widest entry of a schedule."""
WEIGHT_BITS = 32
"""The widest weight in one."""
HEADROOM = 8
"""A schedule that is loaded has room for the nonzeros and one in so many more."""
LATER_ROUNDS = 3
"""Rounds from a group's fill to its words."""


@dataclass(frozen=True)
class Pieces:
    """The nonzeros cut for some number of lanes: `steps` entries each.

    An output that lies in several lanes gives a partial sum in each. `results` is the most that one lane has.
    """

    steps: int
    partials: int
    results: int


@dataclass(frozen=True)
class Nonzeros:
    """What the sparse unit multiplies: integers (taps, channels of a group, outputs), and how many each output has.

    An output without any has one entry, of weight zero, so that every output ends somewhere.
    """

    values: Array
    _pieces: dict[int, Pieces] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        weights: Constant,
        shape: tuple[int, int, int],
        coding: Coding | None = None,
        *,
        has_centres: bool = False,
    ) -> Nonzeros:
        """Those of the weights, or of the coefficients of their `coding`. Remembered with the weights.

        With centres: the private residuals, behind whose taps lie as many rows of zeros and ones as there are centres.
        """
        known: dict[tuple[bool, bool], Nonzeros] = weights.__dict__.setdefault("_nonzeros", {})
        key = (coding is not None, has_centres)
        if key not in known:
            if coding is None:
                values = weights.array.reshape(shape)
            elif has_centres:
                values = np.concatenate([coding.levels.array, coding.assignments])
            else:
                values = coding.coefficients
            known[key] = cls(values)
        return known[key]

    @cached_property
    def ends(self) -> Array:
        """Where each output ends in the row of all entries."""
        return np.cumsum(np.maximum(np.count_nonzero(self.values, axis=(0, 1)), 1))

    @property
    def count(self) -> int:
        return int(self.ends[-1])

    @cached_property
    def type(self) -> tuple[int, bool]:
        """Bits and signedness of the narrowest type."""
        return needed_width(int(self.values.min()), int(self.values.max()))

    def pieces(self, macs: int) -> Pieces:
        """The entries cut into `macs` equal pieces."""
        if macs not in self._pieces:
            cut = self._cut(macs)
            self._pieces[macs] = Pieces(-(-self.count // macs), len(cut), int(np.bincount(cut // 4).max()))
        return self._pieces[macs]

    def room(self, macs: int) -> Pieces:
        """What a schedule that is loaded has room for: some more nonzeros, cut in any way."""
        entries = min(self.count + -(-self.count // HEADROOM), self.values.size)
        steps, outputs = -(-entries // macs), self.values.shape[2]
        return Pieces(steps, outputs + macs - 1, min(steps, outputs))

    def _cut(self, macs: int) -> Array:
        """Every partial sum in order, as 4 * lane + 2 (ends its lane) + 1 (completes an output)."""
        steps = -(-self.count // macs)
        ends = np.union1d(self.ends, np.arange(steps, self.count, steps))
        lane = (ends - 1) // steps
        ends_lane = np.append(lane[1:] != lane[:-1], True)
        return np.asarray(lane * 4 + ends_lane * 2 + np.isin(ends, self.ends))

    def partials(self, macs: int) -> Array:
        """The drain table: bit 0 of a partial sum completes an output, bit 1 ends a lane."""
        return self._cut(macs) % 4

    def entries(self, groups: int, block: int) -> tuple[Array, Array, Array]:
        """(position in the vector of all groups, weight, output) of each entry, outputs in order.

        The vector has `block` channels of every tap before the next block, which lies within a group.
        """
        taps, channels, outputs = self.values.shape
        stream = self.values.reshape(taps, channels // block, block, outputs).transpose(3, 1, 0, 2)
        rows = stream.reshape(outputs, -1)
        mask = rows != 0
        mask[~mask.any(axis=1), 0] = True
        output, column = np.nonzero(mask)
        return output // (outputs // groups) * rows.shape[1] + column, rows[output, column], output


def sparse_matrix_vector(
    source: Port,
    output: TensorType,
    pixels: int,
    nonzeros: Nonzeros,
    groups: int,
    block: int,
    bias: Array,
    folding: Folding,
) -> Kernel:
    """The products of each pixel's vector with the nonzeros of every output.

    `source` brings the vectors of all groups, `block` channels of every tap before the next block. Where the folding
    says so the schedule and the bias are memories, with room for other weights of the same layer.
    """
    macs, group, pe, simd = folding.macs, folding.pixels, folding.pe, source.lanes
    taps, channels, outputs = nonzeros.values.shape
    inputs = taps * channels * groups
    words = inputs // simd
    loaded = folding.loaded > 0
    pieces = nonzeros.room(macs) if loaded else nonzeros.pieces(macs)
    fill, emit = group * words, group * (outputs // pe)
    select_bits, address_bits = (simd - 1).bit_length(), (words - 1).bit_length()
    width, signed = (folding.loaded, True) if loaded else nonzeros.type
    entry = select_bits + address_bits + width + 1
    value = (source.type.width, source.type.signed)
    if entry > ENTRY_BITS or width > WEIGHT_BITS:
        raise PassError(f"the sparse schedule's entries have {entry} bits, {ENTRY_BITS} are possible")

    def schedule() -> Array:
        position, weight, owner = nonzeros.entries(groups, block)
        ends = np.append(owner[1:] != owner[:-1], False)
        padded = np.zeros((macs * pieces.steps, 4), dtype=np.uint64)
        negative = (weight.astype(np.int64) & ((1 << width) - 1)).astype(np.uint64)
        padded[: len(position)] = np.stack([position % simd, position // simd, negative, ends], axis=1)
        lanes = padded.reshape(macs, pieces.steps, 4)
        used = -(-len(position) // pieces.steps)
        lanes[:used, -1, 3] = 1  # a lane's last partial sum, zeros behind the last weight included
        shifts = np.array([0, select_bits, select_bits + address_bits, entry - 1], dtype=np.uint64)
        return np.asarray((lanes << shifts).sum(axis=2, dtype=np.uint64).T)

    config: dict[str, int | str] = {
        "PIXELS": pixels,
        "INPUTS": inputs,
        "OUTPUTS": outputs,
        "SIMD": simd,
        "PE": pe,
        "MACS": macs,
        "GROUP_PIXELS": group,
        "NONZEROS": nonzeros.count,
        "FILL": fill,
        "STEPS": pieces.steps,
        "PARTIALS": pieces.partials,
        "EMIT": emit,
        "DRAIN": max(pieces.partials, emit),
        "RESULTS": pieces.results,
        "SELECT_BITS": select_bits,
        "ADDRESS_BITS": address_bits,
        "MULTIPLIER": multiplier_kind(folding.multiplier, value, (width, signed)),
        "FREQUENCY": int(folding.domain == "frequency"),
        "input_t": source.type.cpp,
        "weight_t": integer_type(width, signed),
        "output_t": output.cpp,
    }
    arrays: dict[str, KernelArray] = {}
    memories: dict[str, KernelMemory] = {}
    if loaded:
        config |= {"TAPS": taps, "CHANNELS": channels, "GROUPS": groups, "BLOCK": block, "WEIGHT_BITS": width}
        memories = {
            "schedule": KernelMemory(integer_type(entry, signed=False), (pieces.steps, macs)),
            "partials": KernelMemory("unsigned char", (pieces.partials,)),
            "bias": KernelMemory(output.cpp, (outputs,)),
        }
    else:
        arrays = {
            "schedule": packed_chunks(schedule, macs, entry),
            "partials": KernelArray("unsigned char", lambda: nonzeros.partials(macs)),
            "bias": integer_array(bias),
        }
    copies = macs * group
    return Kernel(
        "sparse_matrix_vector",
        "sparse_matrix_vector.h",
        config,
        (source,),
        Port(output, pe),
        _rounds(pixels // group, fill, pieces, emit),
        arrays,
        multipliers(folding.multiplier, group, macs, value, (width, signed))
        + Cost(
            memories=((pieces.partials, 3 if loaded else 2), *(() if loaded else ((pieces.steps, macs * entry),))),
            # Choosing an element of a word; a lane's partial sum, which is then added; a pixel's outputs.
            lut=copies * mux(simd, source.type.width)
            + group * (mux(macs, output.width) + output.width)
            + pe * mux(group, output.width)
            + 200,
            written=(
                *((("schedule", 1, pieces.steps, macs * entry),) if loaded else ()),
                ("vectors", copies, 2 * words, simd * source.type.width),
                ("results", copies, 2 * pieces.results, output.width),
                ("sums", group * pe, 2 * (outputs // pe), output.width),
            ),
        ),
        memories,
    )


def mux(ways: int, bits: int) -> int:
    """LUTs: a 6-input one chooses between four."""
    return -(-(ways - 1) // 3) * bits


def _rounds(groups: int, fill: int, pieces: Pieces, emit: int) -> Schedule:
    """In round r group r is filled, r - 1 multiplied, r - 2 combined, r - 3 emitted; the longest is waited for."""

    def length(r: int) -> int:
        active = (
            (r < groups, fill),
            (1 <= r <= groups, pieces.steps),
            (2 <= r <= groups + 1, pieces.partials),
            (r >= LATER_ROUNDS, emit),
        )
        return max(steps for is_active, steps in active if is_active)

    full = max(fill, pieces.steps, pieces.partials, emit)
    head = [length(r) for r in range(min(groups, LATER_ROUNDS))]
    middle = max(groups - LATER_ROUNDS, 0)
    tail = [length(r) for r in range(len(head) + middle, groups + LATER_ROUNDS)]
    first, last = sum(head), sum(head) + middle * full
    starts = np.cumsum([0, *head]).tolist()[: len(head)]
    after = (last + np.cumsum([0, *tail])).tolist()
    # With fewer groups than rounds to wait, the first words leave that much later.
    waiting = LATER_ROUNDS - len(head)
    reads = _events(starts, first, middle, full, (), fill)
    writes = _events((), first, middle, full, after[waiting : waiting + len(head)], emit)
    return Schedule(after[-1], (reads,), writes)


def _events(
    before: list[int] | tuple[()], first: int, middle: int, full: int, after: list[int] | tuple[()], count: int
) -> Pattern:
    """`count` events at the start of each of these rounds, of which `middle` begin at `first`, `full` steps apart."""
    found: list[Loops] = [Loops(start, ((count, 1),)) for start in before]
    if middle:
        found += nest((middle, full), (count, 1), start=first)
    return (*found, *(Loops(start, ((count, 1),)) for start in after))
