"""Modelled resources of a design. Every figure is an estimate before synthesis; `docs/hardware.md` says from what."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from toolchain.codegen.kernel import DSP_PORTS, NARROW, Cost, Kernel, lut_multiplier
from toolchain.hardware.board import Resources
from toolchain.hardware.network import Network

DSP_SHARE, BRAM_SHARE, LUT_SHARE = 0.9, 0.9, 0.8
"""How much of the part a design may take; the rest is routing and the processing system's interconnect."""
MASTERS = 32
"""Of an accelerator: a SmartConnect joins 16 to a port of the memory (AMD PG247), and there are four ports or banks."""
URAM_WORDS, URAM_BITS = 4096, 72
"""Of an UltraRAM block, 288 Kib with two ports (AMD UG573)."""
LUTRAM_WORDS = 64
"""Memories up to this depth are built from LUTs."""
PROCESS_LUT = 120
"""Control logic of one pipelined loop with its stream handshakes."""
SYMBOLS, SYMBOL_BITS = 4096, 20
"""The largest dictionary of a container."""
LOADER_LUT = 8000
"""Two AXI masters, the walk over the container, and the decoder."""
LOADER_UNIT_LUT = 300
"""What writes the schedule of a layer."""


@dataclass(frozen=True)
class Estimate:
    """DSP slices, BRAM36 blocks (halves are BRAM18), LUTs, flip-flops, AXI masters, and UltraRAM blocks."""

    dsp: int = 0
    bram36: float = 0
    lut: int = 0
    ff: int = 0
    masters: int = 0
    uram: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.dsp + other.dsp,
            self.bram36 + other.bram36,
            self.lut + other.lut,
            self.ff + other.ff,
            self.masters + other.masters,
            self.uram + other.uram,
        )

    def __sub__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.dsp - other.dsp,
            self.bram36 - other.bram36,
            self.lut - other.lut,
            self.ff - other.ff,
            self.masters - other.masters,
            self.uram - other.uram,
        )


def limits(resources: Resources) -> dict[str, float]:
    """How much of each resource of a part a design may take."""
    return {
        "dsp": DSP_SHARE * resources.dsp,
        "bram36": BRAM_SHARE * resources.bram36,
        "lut": LUT_SHARE * resources.lut,
        "masters": MASTERS,
        "uram": BRAM_SHARE * resources.uram,
    }


def amounts(cost: Estimate) -> dict[str, float]:
    """What a design takes of each resource that `limits` names."""
    return {
        "dsp": cost.dsp,
        "bram36": cost.bram36,
        "lut": cost.lut,
        "masters": cost.masters,
        "uram": cost.uram,
    }


def exceeded(total: Estimate, resources: Resources) -> dict[str, tuple[float, float]]:
    """The resources of which a design takes more than it may, as (used, limit); empty when it fits."""
    used = amounts(total)
    return {name: (used[name], limit) for name, limit in limits(resources).items() if used[name] > limit}


def rank(cost: Estimate) -> float:
    """One number for unlike resources: a DSP slice of current parts comes with about 130 LUTs, a BRAM36 with 300.

    An UltraRAM has the bits of eight BRAM36.
    """
    return cost.dsp * 130 + cost.bram36 * 300 + cost.lut + cost.uram * 2400


def excess(total: Estimate, resources: Resources) -> Estimate:
    """How much more of each resource a design takes than it may."""
    over = {name: math.ceil(used - limit) for name, (used, limit) in exceeded(total, resources).items()}
    return Estimate(**over)


def multiplier(a: int, b: int) -> Estimate:
    """One product of `a` and `b` bits: DSP48E1 slices, or LUTs where a factor is very narrow."""
    wide, narrow = max(a, b), min(a, b)
    if narrow <= NARROW:
        return Estimate(lut=lut_multiplier(wide, narrow))
    return Estimate(dsp=-(-wide // DSP_PORTS[0]) * -(-narrow // DSP_PORTS[1]))


def memory(words: int, bits: int) -> Estimate:
    """One memory with a read and a write port.

    Four LUTs are 32 x 6 or 64 x 3 bits of it (AMD UG474, RAM32M and RAM64M).
    """
    if words <= LUTRAM_WORDS or words * bits <= 1024:
        wide = 6 if words <= LUTRAM_WORDS // 2 else 3
        return Estimate(lut=4 * -(-bits // wide) * -(-words // LUTRAM_WORDS))
    halves = min(
        -(-words // depth) * -(-bits // width)
        for depth, width in ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
    )
    return Estimate(bram36=halves / 2)


def ultra_memory(words: int, bits: int) -> Estimate:
    """The same in UltraRAM. Versal's blocks can also be narrower and deeper, which is not used."""
    return Estimate(uram=-(-words // URAM_WORDS) * -(-bits // URAM_BITS))


def cost_of(cost: Cost, uram: Collection[str] = ()) -> Estimate:
    """What a kernel's multipliers and memories take, with the written ones that are named in UltraRAM."""
    total = Estimate(lut=cost.lut)
    for count, a, b in cost.multipliers:
        one = multiplier(a, b)
        total += Estimate(one.dsp * count, one.bram36 * count, one.lut * count + (a + b) * count, one.ff * count)
    for count, words, bits in (*((1, *one) for one in cost.memories), *cost.banks):
        one = memory(words, bits)
        total += Estimate(0, one.bram36 * count, one.lut * count)
    for name, count, words, bits in cost.written:
        one = ultra_memory(words, bits) if name in uram else memory(words, bits)
        total += Estimate(0, one.bram36 * count, one.lut * count, uram=one.uram * count)
    return total


def kernel_estimate(kernel: Kernel) -> Estimate:
    """A kernel with its control logic."""
    total = cost_of(kernel.cost, kernel.uram) + Estimate(lut=PROCESS_LUT)
    registers = kernel.output.bits + sum(port.bits for port in kernel.inputs)
    return total + Estimate(ff=total.lut + 2 * registers, masters=2 * kernel.decoders)


def fifo_estimate(depth: int, bits: int, in_uram: bool = False) -> Estimate:
    """A FIFO; depth 2 is two registers."""
    if depth <= 2:
        return Estimate(lut=20, ff=2 * bits)
    return (ultra_memory(depth, bits) if in_uram else memory(depth, bits)) + Estimate(lut=40, ff=40)


def connections_estimate(network: Network) -> Estimate:
    """What joins the operators' kernels: FIFOs, forks, changes of lanes between them, and the bus."""
    total = Estimate()
    for process in network.processes:
        if process.is_connection:
            total += kernel_estimate(process.kernel)
    for stream in network.streams.values():
        total += fifo_estimate(stream.depth, stream.port.bits, stream.in_uram)
    return total + loader_estimate(network)


def loader_estimate(network: Network) -> Estimate:
    """The decoder that fills the memories of the layers, where weights are loaded; it serves them all."""
    units = sum(bool(process.kernel.memories) for process in network.processes)
    if not units:
        return Estimate()
    lut = LOADER_LUT + units * LOADER_UNIT_LUT
    return Estimate(lut=lut, ff=lut) + memory(SYMBOLS, SYMBOL_BITS)


def network_estimate(network: Network) -> Estimate:
    """The whole design."""
    kernels = (kernel_estimate(one.kernel) for one in network.processes if not one.is_connection)
    return sum(kernels, connections_estimate(network))
