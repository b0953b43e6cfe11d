"""Builds `report.json`: its keys are a contract, DESIGN section 7."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from toolchain.hardware.board import Board
from toolchain.hardware.dataflow import Timing
from toolchain.hardware.network import Network
from toolchain.hardware.resources import (
    Estimate,
    amounts,
    exceeded,
    fifo_estimate,
    kernel_estimate,
    limits,
    network_estimate,
)
from toolchain.ir import Constant, Graph, Node, TensorType
from toolchain.ops.linear import LinearOperator
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.quantize import Quantize
from toolchain.ops.requantize import Requantize
from toolchain.ops.rescale import Rescale
from toolchain.ops.reshape import Reshape
from toolchain.project import StoredProgram
from toolchain.quantization.budget import Packing
from toolchain.report.packing import packing_entry
from toolchain.version import __version__


@dataclass(frozen=True)
class Design:
    """A program with the hardware chosen for it."""

    graph: Graph
    network: Network
    timing: Timing
    board: Board
    clock_mhz: float

    @property
    def shortfall(self) -> float:
        """The largest share of a budget that the design takes: above 1 it does not fit."""
        used, room = amounts(network_estimate(self.network)), limits(self.board.resources)
        return max(used[name] / limit if limit else math.inf * bool(used[name]) for name, limit in room.items())


def build_report(
    model: str, design: Design, packing: Packing, stored: StoredProgram, interval: int = 0
) -> dict[str, Any]:
    """All of `report.json`. `interval` is the cycles a frame asked for, or 0."""
    graph, lowered = design.graph, packing.lowered
    layers = [_layer(design, packing, node, stored) for node in _layer_nodes(graph)]
    size, breakdown = stored.size, stored.breakdown
    parameters = sum(node.operator.parameters() for node in graph.nodes)
    macs = sum(layer["macs"] for layer in layers)
    weights = sum(found[0].size for node in graph.nodes if (found := _weights(node)))
    return {
        "model": model,
        "board": design.board.name,
        "toolchain_version": __version__,
        "parameters": parameters,
        "macs": macs,
        "compression": {
            "ratio_float32": parameters * 4 / size,
            "ratio_int8": parameters / size,
            "bits_per_weight": 8 * size / max(weights, 1),
            "mean_code_length": _mean_code_length(stored, weights),
            "breakdown": dict(sorted(breakdown.items())),
            "output_error": lowered.output_error,
            "plain_output_error": packing.plain_error,
        },
        "multiplications": _multiplications(layers),
        "hardware": _hardware(design, stored, interval),
        "inputs": [
            {"name": node.inputs[0], "type": str(node.operator.type), "saturations": lowered.saturations[node.name]}
            for node in graph.nodes
            if isinstance(node.operator, Quantize)
        ],
        "layers": layers,
    }


def _layer_nodes(graph: Graph) -> list[Node]:
    """One node for each line of the report: everything but entry, narrowing and reshaping."""
    return [node for node in graph.nodes if not isinstance(node.operator, Quantize | Requantize | Rescale | Reshape)]


def _mean_code_length(stored: StoredProgram, weights: int) -> float:
    """Bits of a coded symbol, or of a weight where nothing is coded."""
    coded = stored.statistics.values()
    symbols = sum(one.symbols for one in coded)
    if not symbols:
        return stored.breakdown.get("weights", 0) / max(weights, 1)
    return sum(one.code_bits + one.raw_bits for one in coded) / symbols


def _multiplications(layers: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("dense", "packed", "basis_additions", "centre_responses")
    total = {key: sum(layer["multiplications"][key] for layer in layers) for key in keys}
    return {**total, "ratio": total["dense"] / max(total["packed"], 1)}


def _layer(
    design: Design,
    packing: Packing,
    node: Node,
    stored: StoredProgram,
) -> dict[str, Any]:
    lowered, plan = packing.lowered, packing.plan
    candidates, unit = (plan.chosen, plan.unit) if plan else ({}, "bits")
    graph = design.graph
    types = tuple(t for t in graph.input_types(node) if isinstance(t, TensorType))
    type = graph.types[node.name]
    assert isinstance(type, TensorType)
    narrowing = [r.name for r in graph.consumers[node.name] if isinstance(r.operator, Requantize | Rescale)]
    sums = [name for name in narrowing if name == lowered.accumulators.get(node.name)]
    if sums and len(narrowing) == 1:  # the layer's own narrowing comes behind the accumulator that a user forced
        narrowing = [r.name for r in graph.consumers[sums[0]] if isinstance(r.operator, Requantize)]
    mine = [process for process in design.network.processes if process.node in (node.name, *sums, *narrowing)]
    cost = sum((kernel_estimate(process.kernel) for process in mine), Estimate())
    for process in mine:
        for name in process.outputs:
            if name in design.network.streams:
                stream = design.network.streams[name]
                cost += fifo_estimate(stream.depth, stream.port.bits, stream.in_uram)
    weights = _weights(node)
    entry = {
        "name": node.name,
        "layer": node.layer,
        "op": _op_name(node),
        **packing_entry(node, types, mine, stored.statistics, candidates, unit),
        "input_type": value_type(graph, node.inputs[0]),
        "weight_type": str(weights[1]) if weights else None,
        "accumulator_type": value_type(graph, sums[0]) if sums else str(type.fixed),
        "output_type": value_type(graph, narrowing[0] if len(narrowing) == 1 else sums[0] if sums else node.name),
        "input_shape": list(types[0].shape),
        "output_shape": list(type.shape),
        "parameters": node.operator.parameters(),
        "macs": node.operator.multiplications(*(t.shape for t in types)) if weights else 0,
        "cycles": max((design.timing.steps[process.name] for process in mine), default=0),
        "dsp": cost.dsp,
        "bram36": cost.bram36,
        "lut": cost.lut,
        "uram": cost.uram,
        "pe": 1,
        "simd": 1,
        "saturations": sum(lowered.saturations.get(name, 0) for name in {*sums, *narrowing}),
        "weight_saturations": lowered.saturations.get(f"{node.name}/weights", 0),
        "relative_error": lowered.errors.get(node.layer, 0.0),
    }
    for process in mine:
        config = process.kernel.config
        if process.kernel.function == "streamed_matrix_vector":
            entry["pe"], entry["simd"] = config["GROUP_PIXELS"], config["LANES"]
        elif process.kernel.function in ("sparse_matrix_vector", "sparse_rows"):
            entry["pe"], entry["simd"] = config["GROUP_PIXELS"], config["MACS"]
        elif "PE" in config:
            entry["pe"], entry["simd"] = config["PE"], config["SIMD"]
        elif process.kernel.function == "depthwise":
            entry["pe"] = entry["simd"] = config["LANES"]
        if process.kernel.memories:
            room = (
                int(type.shape[-1]) * int(config["TAPS"]) * int(config["CHANNELS"])
                if process.kernel.decoders
                else int(config["MACS"]) * int(config["STEPS"])
            )
            entry["capacity"] = {"nonzeros": room, "weight_bits": config["WEIGHT_BITS"]}
    return entry


def _op_name(node: Node) -> str:
    return type(node.operator).__name__


def _weights(node: Node) -> tuple[Any, Any] | None:
    """The integer weights of a node and their format, None for operators without weights."""
    weights = getattr(node.operator, "weights", getattr(node.operator, "scale", None))
    if isinstance(weights, Constant):
        return weights.array, getattr(node.operator, "weight_type", None)
    return None


def value_type(graph: Graph, name: str) -> str:
    """A value's format with the modes that made it, found through operators that only move elements."""
    node = graph.by_name.get(name)
    while node is not None:
        if isinstance(node.operator, Quantize | Requantize):
            return str(node.operator.type)
        if not (node.operator.is_layout or isinstance(node.operator, MaxPool)):
            break
        node = graph.by_name.get(node.inputs[0])
    type = graph.types[name]
    assert isinstance(type, TensorType)
    return str(type.fixed)


def _weight_traffic(design: Design, stored: StoredProgram) -> int:
    """Bytes of weights that are read from DDR for a frame."""
    bits = 0
    for process in design.network.processes:
        if process.kernel.decoders:
            operator = design.graph.by_name[process.node].operator
            assert isinstance(operator, LinearOperator)
            coded = stored.statistics[operator.weights]
            config = process.kernel.config
            bits += (coded.code_bits + coded.raw_bits) * (int(config["PIXELS"]) // int(config["GROUP_PIXELS"]))
    return -(-bits // 8)


def _hardware(design: Design, stored: StoredProgram, wanted: int) -> dict[str, Any]:
    total = network_estimate(design.network)
    over = exceeded(total, design.board.resources)
    memory = "streamed" if total.masters else "loaded" if design.network.decoders else None
    return {
        **({"weight_memory": memory} if memory else {}),
        **({"weight_traffic_bytes": _weight_traffic(design, stored)} if memory == "streamed" else {}),
        "latency_cycles": design.timing.latency,
        "interval_cycles": design.timing.interval,
        "clock_mhz": design.clock_mhz,
        "dsp": total.dsp,
        "bram36": total.bram36,
        "lut": total.lut,
        "ff": total.ff,
        "uram": total.uram,
        "fits": not over,
        "interval_wanted": wanted or None,
        "exceeded": {name: {"used": used, "limit": limit} for name, (used, limit) in over.items()},
    }
