"""Which memories lie in UltraRAM: none on a part without, and elsewhere as few as let the design fit or be faster.

Only memories that are written before they are read: UltraRAM of UltraScale+ has no initial contents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from toolchain.codegen.kernel import Kernel
from toolchain.hardware.board import Resources
from toolchain.hardware.network import Network, Stream
from toolchain.hardware.resources import fifo_estimate, limits, memory, network_estimate, ultra_memory

WORTH = 1.0
"""Block RAMs of 36 Kib that a memory has to save for each block of UltraRAM that it takes."""


def placements(kernels: Sequence[Kernel]) -> Iterator[tuple[str, ...]]:
    """Memories of a chain of kernels that may lie in UltraRAM: none, the one that saves most, that and the next, ..."""
    saved: dict[str, float] = {}
    taken: dict[str, int] = {}
    for kernel in kernels:
        for name, count, words, bits in kernel.cost.written:
            saved[name] = saved.get(name, 0) + count * memory(words, bits).bram36
            taken[name] = taken.get(name, 0) + count * ultra_memory(words, bits).uram
    names = sorted((name for name in saved if saved[name] >= WORTH * taken[name]), key=lambda n: -saved[n] / taken[n])
    for count in range(len(names) + 1):
        yield tuple(names[:count])


def place_fifos(network: Network, resources: Resources) -> Network:
    """Puts FIFOs into UltraRAM, those first that save most, until the block RAM is enough or UltraRAM is used up."""
    room, total = limits(resources), network_estimate(network)
    needed, left = total.bram36 - room["bram36"], room["uram"] - total.uram
    moved: dict[str, Stream] = {}
    for name in sorted(network.streams, key=lambda name: -_saving(network.streams[name])):
        stream = network.streams[name]
        if needed <= 0 or _saving(stream) < WORTH:
            break
        block, ultra = (fifo_estimate(stream.depth, stream.port.bits, is_ultra) for is_ultra in (False, True))
        if ultra.uram <= left:
            moved[name] = replace(stream, in_uram=True)
            needed, left = needed - block.bram36, left - ultra.uram
    return replace(network, streams={**network.streams, **moved})


def _saving(stream: Stream) -> float:
    """BRAM36 for each block of UltraRAM."""
    block, ultra = (fifo_estimate(stream.depth, stream.port.bits, is_ultra) for is_ultra in (False, True))
    return block.bram36 / ultra.uram if ultra.uram else 0.0
