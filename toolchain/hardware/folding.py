"""Chooses lanes, SIMD, PE and the engine of every node: the shortest interval that the board's budget allows.

Bisection over the step counts that occur finds the smallest for which the foldings that are fast enough fit together;
`solver.py` tells whether they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from toolchain.codegen.kernel import Folding, Streams
from toolchain.errors import ConfigurationError, PassError
from toolchain.hardware.board import Resources
from toolchain.hardware.foldings import all_foldings, divisors
from toolchain.hardware.network import WORD_BITS
from toolchain.hardware.resources import Estimate, amounts, kernel_estimate, limits, rank
from toolchain.hardware.solver import Option, Table, solve
from toolchain.hardware.terminals import lane_bits
from toolchain.hardware.ultra_ram import placements
from toolchain.ir import Graph, Node, TensorType
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.quantize import Quantize
from toolchain.ops.reshape import Reshape
from toolchain.quantization.configuration import Configuration, Execute, LayerConfiguration


def options(
    graph: Graph,
    node: Node,
    layer: LayerConfiguration,
    execute: Execute = "auto",
    loaded: int = 0,
    streams: Streams | None = None,
    has_uram: bool = False,
) -> list[Option]:
    """All foldings of a node that the limits on words and unrolling allow, cheapest hardware first.

    A layer whose `pe` or `simd` is forced has the dense engine; its own `execute` wins over the network's. `loaded` and
    `streams` are those of `all_foldings`. Where the part `has_uram`, each also with memories in it.
    """
    types = tuple(t for t in graph.input_types(node) if isinstance(t, TensorType))
    output = graph.types[node.name]
    assert isinstance(output, TensorType)
    forced = layer.simd is not None or layer.pe is not None
    execute = "spatial" if forced else layer.execute or execute
    streams = None if forced else streams
    # Remembered, for a design may be folded several times.
    known: dict[Any, list[Option]] = node.operator.__dict__.setdefault("_options", {})
    key = (types, output, layer.simd, layer.pe, execute, loaded, streams, has_uram)
    if key not in known:
        known[key] = _options(node, types, output, layer, execute, loaded, streams, has_uram)
    return known[key]


def _options(
    node: Node,
    types: tuple[TensorType, ...],
    output: TensorType,
    layer: LayerConfiguration,
    execute: Execute,
    loaded: int,
    streams: Streams | None,
    has_uram: bool,
) -> list[Option]:
    forced = layer.simd is not None or layer.pe is not None
    found = []
    for folding in all_foldings(node, types, output, execute, loaded, streams):
        if forced and folding.engine == "sparse":
            continue
        if layer.simd not in (None, folding.simd or folding.lanes) or (
            isinstance(node.operator, Conv | Gemm) and layer.pe not in (None, folding.pe)
        ):
            continue
        try:
            kernels = node.operator.kernels(types, output, folding)
        except PassError as error:
            if folding.engine == "sparse":  # entries too wide for a schedule
                continue
            error.where = error.where or node.layer
            raise
        if any(port.bits > WORD_BITS for kernel in kernels for port in (*kernel.inputs, kernel.output)):
            continue
        steps = max(kernel.schedule.steps for kernel in kernels)
        cost = sum((kernel_estimate(kernel) for kernel in kernels), Estimate())
        found.append(Option(folding, steps, cost))
        if has_uram:
            found += [Option(replace(folding, uram=uram), steps, cost + more) for uram, more in placements(kernels)]
    if not found and execute == "frequency":
        return _options(node, types, output, layer, "spatial", loaded, streams, has_uram)
    if not found:
        dense = (f for f in all_foldings(node, types, output, execute, loaded) if f.engine == "dense")
        legal = sorted({f.simd or f.lanes for f in dense})
        raise ConfigurationError(
            f"no folding with simd={layer.simd} and pe={layer.pe} exists", where=node.layer, fix=f"simd may be {legal}."
        )
    return sorted(found, key=lambda option: (rank(option.cost), option.steps))


def fold(
    graph: Graph,
    resources: Resources,
    configuration: Configuration,
    interval: int = 0,
    reserved: Estimate = Estimate(),
    streams: Mapping[str, Streams] = MappingProxyType({}),
    fifos: Table = MappingProxyType({}),
) -> dict[str, Folding]:
    """A folding for every node but reshapes. `interval` > 0 asks for no more than that many cycles a frame, cheaply.

    The weights of the nodes in `streams` may be streamed. `fifos` are the options of FIFOs that are not in `reserved`.

    `reserved` is what the rest of the design takes of the part: FIFOs, forks, the bus. When nothing fits, the smallest
    design is returned; the caller's estimate shows what binds.
    """
    nodes = [node for node in graph.nodes if not isinstance(node.operator, Quantize | Reshape)]
    linear = {node.layer for node in nodes if isinstance(node.operator, Conv | Gemm)}

    def forced(node: Node) -> LayerConfiguration:
        """A layer's folding is that of its convolution or matrix; what else the layer consists of follows freely."""
        follows = node.layer in linear and not isinstance(node.operator, Conv | Gemm)
        return LayerConfiguration() if follows else configuration.layer(node.layer)

    bits, is_loaded = configuration.weight_bits, configuration.weight_memory == "loaded"
    table = {
        node.name: options(
            graph,
            node,
            forced(node),
            configuration.execute,
            bits if is_loaded or node.name in streams else 0,
            streams.get(node.name),
            resources.uram > 0,
        )
        for node in nodes
    }
    target, found = solve({**table, **fifos}, resources, reserved, interval)
    total = sum((option.cost for option in found.values()), reserved)
    chosen = {name: found[name] for name in table}
    return _matched(graph, chosen, table, target, total, limits(resources))


def _matched(
    graph: Graph,
    chosen: Mapping[str, Option],
    table: Mapping[str, list[Option]],
    target: int,
    total: Estimate,
    room: Mapping[str, float],
) -> dict[str, Folding]:
    """Lets simple nodes take the lanes of the node before them where that is legal, so that nothing is repacked.

    Not for more multipliers, nor where `total`, what the design takes, would become more than there is `room` for.
    """
    foldings = {name: option.folding for name, option in chosen.items()}
    result: dict[str, Folding] = {}
    lanes_out: dict[str, int] = {}
    for node in graph.nodes:
        type = graph.types[node.name]
        assert isinstance(type, TensorType)
        if isinstance(node.operator, Quantize):
            lanes_out[node.name] = _input_lanes(graph, node, foldings, target)
            result[node.name] = Folding(lanes_out[node.name])
            continue
        before = lanes_out[node.inputs[0]]
        if isinstance(node.operator, Reshape):
            lanes_out[node.name] = before
            continue
        folding = foldings[node.name]
        if not isinstance(node.operator, Conv | Gemm):
            mine = chosen[node.name]
            legal = (o for o in table[node.name] if o.steps <= target and o.cost.dsp <= mine.cost.dsp)
            same = [o for o in legal if o.folding.lanes == before and o.folding.uram == folding.uram]
            if same and _fits(total + same[0].cost - mine.cost, total, room):
                total += same[0].cost - mine.cost
                folding = same[0].folding
        result[node.name] = folding
        lanes_out[node.name] = folding.pe if isinstance(node.operator, Conv | Gemm) else folding.lanes
    return result


def _fits(new: Estimate, old: Estimate, room: Mapping[str, float]) -> bool:
    before = amounts(old)
    return all(used <= max(room[name], before[name]) for name, used in amounts(new).items())


def _input_lanes(graph: Graph, node: Node, foldings: Mapping[str, Folding], target: int) -> int:
    """Elements a beat: enough for the target, a power of two of bytes, and what the reader takes where it can be."""
    type = graph.types[node.name]
    assert isinstance(type, TensorType)
    legal = [
        lanes
        for lanes in divisors(type.size)
        if (bits := lanes * lane_bits(type.width)) <= 512 and bits & (bits - 1) == 0 and lanes * type.width <= WORD_BITS
    ]
    if not legal:
        raise PassError("no beat width fits", where=node.layer)
    wanted = next((foldings[r.name].lanes for r in _readers(graph, node.name) if r.name in foldings), 1)
    enough = [lanes for lanes in legal if type.size // lanes <= target] or [legal[-1]]
    return wanted if wanted in enough else enough[0]


def _readers(graph: Graph, name: str) -> Iterable[Node]:
    for reader in graph.consumers[name]:
        if isinstance(reader.operator, Reshape):
            yield from _readers(graph, reader.name)
        else:
            yield reader
