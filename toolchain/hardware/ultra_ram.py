"""Which memories lie in UltraRAM: none on a part without, and elsewhere as few as let the design fit or be faster.

Only memories that are written before they are read: UltraRAM of UltraScale+ has no initial contents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from toolchain.codegen.kernel import Folding, Kernel
from toolchain.hardware.board import Resources
from toolchain.hardware.network import Network, Stream
from toolchain.hardware.resources import Estimate, fifo_estimate, limits, memory, network_estimate, ultra_memory
from toolchain.hardware.solver import Option

WORTH = 1.0
"""Block RAMs of 36 Kib that a memory has to save for each block of UltraRAM that it takes."""


def placements(kernels: Sequence[Kernel]) -> list[tuple[tuple[str, ...], Estimate]]:
    """Memories of a chain of kernels that may lie in UltraRAM, and what that adds to its cost.

    The one that saves most, that and the next, and so on.
    """
    moves: dict[str, Estimate] = {}
    for kernel in kernels:
        for name, count, words, bits in kernel.cost.written:
            block, ultra = memory(words, bits), ultra_memory(words, bits)
            more = Estimate(bram36=-block.bram36 * count, lut=-block.lut * count, uram=ultra.uram * count)
            moves[name] = moves.get(name, Estimate()) + more
    worth = [name for name, more in moves.items() if -more.bram36 >= WORTH * more.uram]
    found: list[tuple[tuple[str, ...], Estimate]] = []
    names, total = tuple[str, ...](), Estimate()
    for name in sorted(worth, key=lambda name: moves[name].bram36 / moves[name].uram):
        names, total = (*names, name), total + moves[name]
        found.append((names, total))
    return found


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


def fifo_options(network: Network) -> dict[str, list[Option]]:
    """For each FIFO that is worth it, block RAM or UltraRAM: what the solver decides with the kernels' memories."""
    return {
        f"fifo {name}": [
            Option(Folding(uram=names), 0, fifo_estimate(stream.depth, stream.port.bits, bool(names)))
            for names in ((), ("fifo",))
        ]
        for name, stream in network.streams.items()
        if _saving(stream) >= WORTH
    }


def without_fifos(connections: Estimate, network: Network) -> Estimate:
    """What is left of the connections' cost without those FIFOs."""
    movable = (stream for stream in network.streams.values() if _saving(stream) >= WORTH)
    costs = (fifo_estimate(stream.depth, stream.port.bits, stream.in_uram) for stream in movable)
    return connections - sum(costs, Estimate())


def _saving(stream: Stream) -> float:
    """BRAM36 for each block of UltraRAM."""
    block, ultra = (fifo_estimate(stream.depth, stream.port.bits, is_ultra) for is_ultra in (False, True))
    return block.bram36 / ultra.uram if ultra.uram else 0.0
