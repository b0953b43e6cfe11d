"""What an operator tells about its hardware: the C++ kernel, its constants, and when it reads and writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from toolchain.errors import PassError
from toolchain.ir.integers import INT64_HIGH, INT64_LOW
from toolchain.ir.types import TensorType

Multiplier = Literal["dsp", "lut"]


@dataclass(frozen=True)
class Streams:
    """How the weights of a layer are coded: what a decoder that reads them has to do."""

    substreams: int
    coder: Literal["run", "csr"]
    longest: int
    filler: int
    codes: int
    """Of its dictionary."""


@dataclass(frozen=True)
class Folding:
    """How much of a layer is done at once, and by which unit.

    `lanes` elements a word in (for the basis stage over taps: channels), `pe` outputs a word out. The sparse unit
    multiplies `macs` nonzeros by the values of `pixels` pixels a step; `domain` tells which nonzeros, those of the
    weights or of their coefficients, and `copies` what each of its multipliers has a copy of: the vector of a pixel, or
    the rows under the kernel, where products are added in `units` trees. `simd` > 0 are the elements of a word at the
    unit that multiplies, where these are not those that the window or the basis stage gives. `centres` > 0 makes so
    many responses of common centres a step, and leaves private residuals to the sparse unit. A `multiplier` is made of
    DSP slices or of LUTs. `loaded` > 0 are the bits of a weight that comes at run time, into a memory, or, with
    `streamed`, out of DDR for every group of pixels; 0 makes the weights constants. `uram` names the memories that lie
    in UltraRAM.
    """

    lanes: int = 1
    pe: int = 1
    engine: Literal["dense", "sparse"] = "dense"
    domain: Literal["spatial", "frequency"] = "spatial"
    macs: int = 1
    pixels: int = 1
    simd: int = 0
    copies: Literal["vector", "rows"] = "vector"
    units: int = 1
    multiplier: Multiplier = "dsp"
    centres: int = 0
    loaded: int = 0
    streamed: Streams | None = None
    uram: tuple[str, ...] = ()


@dataclass(frozen=True)
class Port:
    """One end of a stream: a tensor sent row-major, `lanes` elements of `type` a word."""

    type: TensorType
    lanes: int

    @property
    def words(self) -> int:
        return self.type.size // self.lanes

    @property
    def bits(self) -> int:
        return self.lanes * self.type.width


@dataclass(frozen=True)
class Loops:
    """Step numbers of a loop nest: start + sum of index * stride over (count, stride), outermost first."""

    start: int
    dims: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        return math.prod(count for count, _ in self.dims)

    def steps(self) -> npt.NDArray[np.int64]:
        steps = np.full(1, self.start, dtype=np.int64)
        for count, stride in self.dims:
            steps = np.add.outer(steps, np.arange(count, dtype=np.int64) * stride).ravel()
        return steps


Pattern = tuple[Loops, ...]


def every(count: int, stride: int = 1, start: int = 0) -> Pattern:
    """`count` events, `stride` steps apart."""
    return (Loops(start, ((count, stride),)),)


def nest(*dims: tuple[int, int], start: int = 0) -> Pattern:
    """Events of a loop nest, (count, stride) from outermost to innermost."""
    return (Loops(start, dims),)


@dataclass(frozen=True)
class Schedule:
    """In which of its steps (iterations at one a cycle) a kernel reads each word of each input and writes each output.

    The numbers are those of the C++ loops; `tests/hardware` counts the loops and compares.
    """

    steps: int
    reads: tuple[Pattern, ...]
    writes: Pattern

    @classmethod
    def streaming(cls, words: int, inputs: int = 1) -> Schedule:
        """One word of every input and one of the output a step."""
        return cls(words, (every(words),) * inputs, every(words))


def sampled_steps(pattern: Pattern, every: int) -> npt.NDArray[np.int64]:
    """`pattern_steps(pattern)[::every]`, without making the others."""
    parts, skipped = [], 0
    for loops in pattern:
        index = np.arange(skipped, loops.count, every)
        skipped = max(skipped - loops.count, 0) if not len(index) else int(index[-1]) + every - loops.count
        steps = np.full(len(index), loops.start, dtype=np.int64)
        for count, stride in reversed(loops.dims):
            index, inner = np.divmod(index, count)
            steps += inner * stride
        parts.append(steps)
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def pattern_steps(pattern: Pattern) -> npt.NDArray[np.int64]:
    """All step numbers of a pattern."""
    parts = [loops.steps() for loops in pattern]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


@dataclass(frozen=True)
class Cost:
    """Modelled resources of a kernel: multipliers as (count, bits, bits), memories as (words, bits).

    `banks` are memories too, as (count, words, bits), and so are `written` ones, as (name, count, words, bits): nothing
    is in them before the kernel has written it, so that they may lie in UltraRAM.
    """

    multipliers: tuple[tuple[int, int, int], ...] = ()
    memories: tuple[tuple[int, int], ...] = ()
    banks: tuple[tuple[int, int, int], ...] = ()
    lut: int = 0
    written: tuple[tuple[str, int, int, int], ...] = ()

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.multipliers + other.multipliers,
            self.memories + other.memories,
            self.banks + other.banks,
            self.lut + other.lut,
            self.written + other.written,
        )


DSP_PORTS = (25, 18)
"""Bits of the two factors of a DSP48E1, two's complement. Later slices are wider, which is not used."""
NARROW = 3
"""A multiplier with an operand of so few bits goes into LUTs."""

Factor = tuple[int, bool]
"""Width and signedness of an integer."""


def can_pair(factor: Factor, common: Factor) -> bool:
    """Do two products of a `factor` and the same `common` one go into one DSP slice? See `multiply.h`."""
    (width, signed), (common_width, common_signed) = factor, common
    packed = 2 * width + common_width + 1
    fits = packed <= DSP_PORTS[0] and common_width + (not common_signed) <= DSP_PORTS[1]
    return fits and (signed or common_signed) and min(width, common_width) > NARROW


def multiplier_kind(wanted: Multiplier, factor: Factor, common: Factor) -> int:
    """`multiplier_kind` of `multiply.h`: as the tool likes, in pairs, or in LUTs."""
    if wanted == "lut":
        return 2
    return int(can_pair(factor, common))


def multipliers(wanted: Multiplier, products: int, groups: int, factor: Factor, common: Factor) -> Cost:
    """The cost of `groups` times so many `products` with a common factor."""
    width, common_width = factor[0], common[0]
    count = products * groups
    if wanted == "lut":
        return Cost(lut=count * (lut_multiplier(width, common_width) + width + common_width))
    if not can_pair(factor, common):
        return Cost(((count, width, common_width),))
    pairs = (products // 2 * groups, 2 * width + common_width + 1, common_width)
    return Cost((pairs, (products % 2 * groups, width, common_width)))


def lut_multiplier(a: int, b: int) -> int:
    """LUTs of a product: rows of partial products are added two by two in carry chains, each LUT forming its bits."""
    wide, rows, total = max(a, b), min(a, b), 0
    bits = wide
    while rows > 1:
        bits += 2
        total += rows // 2 * bits
        rows = -(-rows // 2)
    return max(total, wide)


@dataclass(frozen=True)
class KernelArray:
    """A constant table of the generated C++: `ctype name[shape] = {...}`. Its values are made when they are written."""

    ctype: str
    build: Callable[[], npt.NDArray[Any]]

    @cached_property
    def values(self) -> npt.NDArray[Any]:
        return self.build()


@dataclass(frozen=True)
class KernelMemory:
    """A memory that a kernel reads and that is filled at run time: `ctype name[shape]`.

    Where the kernel writes it too, it is not constant for it.
    """

    ctype: str
    shape: tuple[int, ...]
    is_written: bool = False


@dataclass(frozen=True)
class Kernel:
    """One call of a C++ kernel template. `config` becomes its config struct: integers, and types as text.

    `scalars` are variables of the design's loop over frames that the kernel wants to know. `decoders` read the weight
    container, each through a pair of AXI masters. `uram` names the written memories of `cost` that lie in UltraRAM.
    """

    function: str
    header: str
    config: Mapping[str, int | str]
    inputs: tuple[Port, ...]
    output: Port
    schedule: Schedule
    arrays: Mapping[str, KernelArray] = field(default_factory=dict)
    cost: Cost = Cost()
    memories: Mapping[str, KernelMemory] = field(default_factory=dict)
    scalars: tuple[str, ...] = ()
    decoders: int = 0
    uram: tuple[str, ...] = ()

    def placed(self, uram: Collection[str]) -> Kernel:
        """With those of its written memories in UltraRAM that are named."""
        return replace(self, uram=tuple(name for name, *_ in self.cost.written if name in uram))


def integer_array(values: npt.ArrayLike) -> KernelArray:
    """Integers in the smallest C type of 8, 16, 32 or 64 bits that holds them."""
    array = np.asarray(values)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < INT64_LOW or high > INT64_HIGH:
        raise PassError(f"has a constant of {max(-low, high).bit_length() + 1} bits, 64 are possible")
    array = array.astype(np.int64)
    for ctype, bits in (("signed char", 8), ("short", 16), ("int", 32), ("long long", 64)):
        if -(1 << (bits - 1)) <= low and high < 1 << (bits - 1):
            return KernelArray(ctype, lambda: array)
    raise AssertionError("unreachable: int64 always fits long long")


def packed_chunks(elements: Callable[[], npt.NDArray[np.int64]], count: int, width: int) -> KernelArray:
    """Rows of `count` elements as rows of 64-bit chunks, 64 // width elements each, the first in the lowest bits.

    A row that needs fewer bits is one chunk of 8, 16 or 32.
    """

    def build() -> npt.NDArray[np.uint64]:
        unpacked = elements()
        per = 64 // width
        chunks = -(-count // per)
        result = np.zeros((len(unpacked), chunks), dtype=np.uint64)
        for place in range(min(per, count)):  # one element of all chunks at a time: weights may be 10^8
            part = unpacked[:, place::per].astype(np.uint64)
            part &= np.uint64((1 << width) - 1)
            part <<= np.uint64(place * width)
            result[:, : part.shape[1]] |= part
        return result

    for ctype, bits in (("unsigned char", 8), ("unsigned short", 16), ("unsigned int", 32)):
        if count * width <= bits:
            return KernelArray(ctype, build)
    return KernelArray("unsigned long long", build)


def integer_type(width: int, signed: bool = True) -> str:
    """The vendor's integer type."""
    return f"ap_{'' if signed else 'u'}int<{width}>"
