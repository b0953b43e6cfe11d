"""Chooses lanes, SIMD, PE and the engine of every node: the shortest interval that the board's budget allows.

Bisection over the step counts that occur finds the smallest for which the foldings that are fast enough fit together;
`solver.py` tells whether they do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from toolchain.codegen.kernel import Folding
from toolchain.codegen.sparse import Nonzeros
from toolchain.errors import ConfigurationError, PassError
from toolchain.hardware.board import Resources
from toolchain.hardware.network import WORD_BITS, lane_bits
from toolchain.hardware.resources import Estimate, kernel_estimate, rank
from toolchain.hardware.solver import Option, solve
from toolchain.ir import Graph, Node, TensorType
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.quantize import Quantize
from toolchain.ops.reshape import Reshape
from toolchain.packing.packed import Coding
from toolchain.quantization.configuration import Configuration, Execute, LayerConfiguration

MACS = (1, 2, 4, 8, 16, 32, 64)
"""Multipliers a pixel of the sparse engine."""
GROUP_PIXELS = (1, 2, 4, 8)
FEW_ROUNDS = 32
UNROLL = 4096
"""HLS refuses to unroll or partition further."""


def divisors(number: int) -> list[int]:
    """All divisors, in order."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def options(
    graph: Graph, node: Node, layer: LayerConfiguration, execute: Execute = "auto", loaded: int = 0
) -> list[Option]:
    """All foldings of a node that the limits on words and unrolling allow, cheapest hardware first.

    A layer whose `pe` or `simd` is forced has the dense engine; its own `execute` wins over the network's. With
    `loaded` > 0, bits of a weight, layers have the sparse engine in the domain that their weights are coded in.
    """
    types = tuple(t for t in graph.input_types(node) if isinstance(t, TensorType))
    output = graph.types[node.name]
    assert isinstance(output, TensorType)
    forced = layer.simd is not None or layer.pe is not None
    execute = "spatial" if forced else layer.execute or execute
    # Remembered, for a design may be folded several times.
    known: dict[Any, list[Option]] = node.operator.__dict__.setdefault("_options", {})
    key = (types, output, layer.simd, layer.pe, execute, loaded)
    if key not in known:
        known[key] = _options(node, types, output, layer, execute, loaded)
    return known[key]


def _options(
    node: Node,
    types: tuple[TensorType, ...],
    output: TensorType,
    layer: LayerConfiguration,
    execute: Execute,
    loaded: int,
) -> list[Option]:
    forced = layer.simd is not None or layer.pe is not None
    found = []
    for folding in _with_multipliers(node, _foldings(node, types, output, execute, loaded)):
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
        cost = sum((kernel_estimate(kernel) for kernel in kernels), Estimate())
        found.append(Option(folding, max(kernel.schedule.steps for kernel in kernels), cost))
    if not found and execute == "frequency":
        return _options(node, types, output, layer, "spatial", loaded)
    if not found:
        dense = (f for f in _foldings(node, types, output, execute, loaded) if f.engine == "dense")
        legal = sorted({f.simd or f.lanes for f in dense})
        raise ConfigurationError(
            f"no folding with simd={layer.simd} and pe={layer.pe} exists", where=node.layer, fix=f"simd may be {legal}."
        )
    return sorted(found, key=lambda option: (rank(option.cost), option.steps))


def _with_multipliers(node: Node, foldings: Iterable[Folding]) -> Iterable[Folding]:
    """Each folding of a layer with its multipliers in DSP slices, and in LUTs."""
    is_matrix = isinstance(node.operator, Conv | Gemm)
    for folding in foldings:
        yield folding
        if is_matrix and not (isinstance(node.operator, Conv) and node.operator.is_depthwise):
            yield replace(folding, multiplier="lut")


def _foldings(
    node: Node, types: tuple[TensorType, ...], output: TensorType, execute: Execute, loaded: int
) -> Iterable[Folding]:
    operator = node.operator
    if loaded and isinstance(operator, Conv | Gemm):
        groups = operator.groups if isinstance(operator, Conv) else 1
        lanes = groups if isinstance(operator, Conv) and operator.is_depthwise else types[0].shape[-1] // groups
        domain: Execute = "frequency" if operator.frequency_coding else "spatial"
        for folding in _sparse(operator, lanes, groups, output, domain, clusters=False):
            yield replace(folding, loaded=loaded)
    elif isinstance(operator, Conv):
        per_group = types[0].shape[2] // operator.groups
        if per_group == 1 and operator.groups > 1:
            for lanes in divisors(operator.groups):
                if lanes * operator.outputs // operator.groups <= UNROLL:
                    yield Folding(lanes, lanes * operator.outputs // operator.groups)
            return
        if execute != "frequency" or operator.frequency_coding is None:
            yield from _matrix(per_group, operator.outputs // operator.groups, operator.window.taps)
        yield from _sparse(operator, per_group, operator.groups, output, execute)
    elif isinstance(operator, Gemm):
        if execute != "frequency" or operator.frequency_coding is None:
            yield from _matrix(*operator.weights.shape)
        yield from _sparse(operator, operator.weights.shape[0], 1, output, execute)
    else:
        limit = operator.lanes_divide(*(t.shape for t in types))
        for lanes in divisors(math.gcd(limit, output.shape[-1] if output.shape else 1)):
            if lanes <= UNROLL:
                yield Folding(lanes, lanes)


def _matrix(channels: int, rows: int, taps: int = 1) -> Iterable[Folding]:
    """Dense units. SIMD may go over taps; windows are then as narrow as they can be without being waited for."""
    for simd in divisors(channels * taps):
        for pe in divisors(rows):
            if simd * pe > UNROLL:
                continue
            if channels % simd == 0:
                yield Folding(simd, pe)
            else:
                enough = (lanes for lanes in divisors(channels) if lanes * rows >= simd * pe)
                yield Folding(next(enough, channels), pe, simd=simd)


def _sparse(
    operator: Conv | Gemm, channels: int, groups: int, output: TensorType, execute: Execute, clusters: bool = True
) -> Iterable[Folding]:
    """Sparse engines over the weights, their coefficients, or centres and residuals, as far as that is possible.

    Without `clusters` the residuals are to be decoded into coefficients.
    """
    coding = None if execute == "spatial" else operator.frequency_coding
    pixels = output.size // operator.outputs
    if coding is None or execute == "auto":
        nonzeros = Nonzeros.of(operator.weights, operator.nonzeros_shape)
        words = [(lanes, 0, lanes) for lanes in divisors(channels)]
        yield from _sparse_foldings("spatial", nonzeros, words, groups, pixels)
    if coding:
        nonzeros = Nonzeros.of(operator.weights, operator.nonzeros_shape, coding)
        size = coding.transform.size
        if coding.transform.kind == "taps":
            words = [(lanes, 0, lanes * size) for lanes in divisors(nonzeros.values.shape[1])]
        else:
            words = [(lanes, 0, lanes) for lanes in divisors(channels) if lanes % size == 0]
        words = [*((words[0][0], simd, simd) for simd in divisors(size)[:-1]), *words]
        yield from _sparse_foldings("frequency", nonzeros, words, groups, pixels)
        if clusters:
            yield from _clustered(operator, coding, groups, pixels)


def _clustered(operator: Conv | Gemm, coding: Coding, groups: int, pixels: int) -> Iterable[Folding]:
    """Clustered units, whose centre stage makes just so many responses a step that no round waits for it."""
    if coding.transform.kind != "taps" or coding.clusters is None:
        return
    count = int(coding.clusters.centres.array.any(1).sum())
    if not count:
        return
    nonzeros = Nonzeros.of(operator.weights, operator.nonzeros_shape, coding, has_centres=True)
    taps, channels, _ = nonzeros.values.shape
    words = [(lanes, 0, lanes * taps) for lanes in divisors(channels)]
    for folding in _sparse_foldings("frequency", nonzeros, words, groups, pixels):
        pieces = nonzeros.pieces(folding.macs)
        arriving = folding.pixels * channels * groups // folding.lanes
        free = max(pieces.steps, pieces.partials) // arriving
        per_step = next(n for n in divisors(count) if count <= n * free or n == count)
        yield replace(folding, centres=per_step)


def _sparse_foldings(
    domain: Literal["spatial", "frequency"],
    nonzeros: Nonzeros,
    words: list[tuple[int, int, int]],
    groups: int,
    pixels: int,
) -> Iterable[Folding]:
    """For each number of multipliers the narrowest words that do not bind, and their neighbours.

    `words` are the possible (lanes, SIMD, elements) of a word in, by width. PE is the least with which no round waits
    for the words out, or four times that with few rounds, whose last one counts. Multipliers that would wait for the
    partial sums are left out.
    """
    taps, channels, outputs = nonzeros.values.shape
    inputs = taps * channels * groups
    for macs in MACS:
        pieces = nonzeros.pieces(macs)
        bound = max(pieces.steps, pieces.partials)
        for group in (n for n in GROUP_PIXELS if pixels % n == 0):
            emitting = bound if pixels >= FEW_ROUNDS * group else max(bound // 4, 1)
            pe = next((d for d in divisors(outputs) if group * outputs <= emitting * d), outputs)
            wide = (k for k, (_, _, elements) in enumerate(words) if group * inputs <= bound * elements)
            enough = next(wide, len(words) - 1)
            for lanes, simd, elements in words[max(enough - 1, 0) : enough + 2]:
                if macs * group * elements <= UNROLL:
                    yield Folding(lanes, pe, "sparse", domain, macs, group, simd)
        if pieces.steps <= pieces.partials:
            break


def fold(
    graph: Graph,
    resources: Resources,
    configuration: Configuration,
    interval: int = 0,
    reserved: Estimate = Estimate(),
) -> dict[str, Folding]:
    """A folding for every node but reshapes. `interval` > 0 asks for no more than that many cycles a frame, cheaply.

    `reserved` is what the rest of the design takes of the part: FIFOs, forks, the bus. When nothing fits, the smallest
    design is returned; the caller's estimate shows what binds.
    """
    nodes = [node for node in graph.nodes if not isinstance(node.operator, Quantize | Reshape)]
    linear = {node.layer for node in nodes if isinstance(node.operator, Conv | Gemm)}

    def forced(node: Node) -> LayerConfiguration:
        """A layer's folding is that of its convolution or matrix; what else the layer consists of follows freely."""
        follows = node.layer in linear and not isinstance(node.operator, Conv | Gemm)
        return LayerConfiguration() if follows else configuration.layer(node.layer)

    loaded = configuration.weight_bits if configuration.weight_memory == "loaded" else 0
    table = {node.name: options(graph, node, forced(node), configuration.execute, loaded) for node in nodes}
    target, chosen = solve(table, resources, reserved, interval)
    foldings = {name: option.folding for name, option in chosen.items()}
    return _matched(graph, foldings, table, target)


def _matched(
    graph: Graph, foldings: dict[str, Folding], table: Mapping[str, list[Option]], target: int
) -> dict[str, Folding]:
    """Lets simple nodes take the lanes of the node before them where that is legal, so that nothing is repacked."""
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
            same = [o for o in table[node.name] if o.folding.lanes == before and o.steps <= target]
            folding = same[0].folding if same else folding
        result[node.name] = folding
        lanes_out[node.name] = folding.pe if isinstance(node.operator, Conv | Gemm) else folding.lanes
    return result


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
