"""What the report tells about a layer's weights: how they are coded, what that costs, and what was rejected."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from toolchain.codegen.basis import basis_additions
from toolchain.hardware.network import Process
from toolchain.ir import Constant, Node, TensorType
from toolchain.ops.conv import Conv
from toolchain.ops.linear import LinearOperator
from toolchain.packing.container import Statistics
from toolchain.packing.packed import Coding, Packed
from toolchain.packing.search import Candidate

FEW = 1.1
"""Steps over those of as many full rounds as there are groups of pixels: above, filling and draining bind."""
SPARSE, CENTRES = ("sparse_matrix_vector", "sparse_rows"), "centre_responses"


def coding_of(node: Node) -> Coding | None:
    """The coding of a node's weights, None where they are plain."""
    weights = getattr(node.operator, "weights", None)
    return weights.coding if isinstance(weights, Packed) else None


def coding_name(coding: Coding | None) -> str:
    """`plain`, `spatial`, `dct taps 3x3`, `dct channels 1x4`, with clusters and rounding where there are any."""
    if coding is None:
        return "plain"
    transform = coding.transform
    name = f"dct {transform.kind} {transform.rows}x{transform.columns}" if coding.is_frequency else "spatial"
    name += f", {len(coding.clusters.centres.array)} centres" if coding.clusters else ""
    return name + (f", rounded {coding.rounded} bits" if coding.rounded else "")


def packing_entry(
    node: Node,
    types: Sequence[TensorType],
    processes: Iterable[Process],
    stored: Mapping[Constant, Statistics],
    candidates: Mapping[str, Sequence[Candidate]],
    unit: str,
) -> dict[str, Any]:
    """The keys of a layer's entry that describe coding and execution."""
    engine = engine_entry(processes)
    entry: dict[str, Any] = {
        "coding": "spatial",
        "coded": "plain",
        "execution": engine.pop("execution"),
        "engine": engine,
        "density": 1.0,
        "multiplications": {"dense": 0, "packed": 0, "basis_additions": 0, "centre_responses": 0},
        "storage": None,
        "alternatives": [],
        "spectrum": None,
    }
    operator = node.operator
    if not isinstance(operator, LinearOperator):
        return entry
    coding = coding_of(node)
    dense = operator.multiplications(*(t.shape for t in types))
    entry["multiplications"] = _multiplications(operator, coding, dense, engine["unit"], entry["execution"])
    entry["density"] = float(np.count_nonzero(operator.weights.array) / max(operator.weights.array.size, 1))
    if coding is None:
        return entry
    levels = coding.levels.array
    entry["coding"] = "frequency" if coding.is_frequency else "spatial"
    entry["coded"] = coding_name(coding)
    entry["density"] = float(np.count_nonzero(coding.coefficients) / max(levels.size, 1))
    entry["storage"] = _storage(stored[operator.weights], levels.size)
    tried = candidates.get(node.name, ())  # none where the weights were trained
    entry["alternatives"] = [
        {"coded": coding_name(c.coding), "relative_error": c.error / max(tried[0].error, 1e-300), unit: round(c.rate)}
        for c in tried[1:]
    ]
    entry["spectrum"] = _spectrum(coding)
    return entry


def engine_entry(processes: Iterable[Process]) -> dict[str, Any]:
    """The unit that multiplies, and what its rounds wait for."""
    processes = tuple(processes)
    unit = "clustered" if any(process.kernel.function == CENTRES for process in processes) else "sparse"
    for process in processes:
        config = process.kernel.config
        if process.kernel.function in SPARSE:
            written = {name: (count, words, bits) for name, count, words, bits in process.kernel.cost.written}
            held = written["rows" if "UNITS" in config else "vectors"]
            schedule = [*process.kernel.cost.memories, written.get("schedule", (0, 0, 0))]
            return {
                "execution": "frequency" if config.get("FREQUENCY") else "spatial",
                "unit": unit,
                "lanes": config["MACS"],
                "pixels": config["GROUP_PIXELS"],
                "copies": "rows" if "UNITS" in config else "vectors",
                "nonzeros": config["NONZEROS"],
                "binds": _binding(process),
                "schedule_bits": sum(math.prod(sizes) for sizes in schedule),
                "operand_bits": math.prod(held),
            }
        if process.kernel.function == "streamed_matrix_vector":
            vectors = next(sizes for name, *sizes in process.kernel.cost.written if name == "vectors")
            return {
                "execution": "frequency" if config["FREQUENCY"] else "spatial",
                "unit": "streamed",
                "lanes": config["LANES"],
                "pixels": config["GROUP_PIXELS"],
                "nonzeros": config["NONZEROS"],
                "operand_bits": math.prod(vectors),
            }
        if process.kernel.function in ("matrix_vector", "depthwise"):
            return {"execution": "spatial", "unit": "dense"}
    return {"execution": "spatial", "unit": None}


def _binding(process: Process) -> str:
    """What makes most of the steps of a sparse unit."""
    config = {name: value for name, value in process.kernel.config.items() if isinstance(value, int)}
    rounds = {"nonzeros": config["STEPS"], "fill": config["FILL"], "drain": config.get("DRAIN", config["EMIT"])}
    binds = max(rounds, key=lambda name: rounds[name])
    if binds != "nonzeros":
        return binds
    if "UNITS" in config and config["STEPS"] * config["MACS"] > FEW * config["NONZEROS"]:
        return "nonzeros, lanes without any counted"
    groups = process.kernel.output.type.size // config["OUTPUTS"] // config["GROUP_PIXELS"]
    return "first and last rounds" if process.kernel.schedule.steps > FEW * groups * config["STEPS"] else "nonzeros"


def _multiplications(
    operator: LinearOperator, coding: Coding | None, dense: int, unit: str | None, execution: str
) -> dict[str, int]:
    """Dense and packed multiplications for one input (CNNpack's r_s), and the additions that come with frequency.

    Packed: those by nonzero coefficients in the domain that the weights are coded in. The clustered unit multiplies by
    private residuals instead, and by the centres once per input block.
    """
    found = {"dense": dense, "packed": dense, "basis_additions": 0, "centre_responses": 0}
    if coding is None:
        return found
    pixels = dense // max(operator.weights.array.size, 1)
    is_clustered = coding.clusters is not None and unit == "clustered"
    nonzeros = coding.levels.array if is_clustered else coding.coefficients
    nonzeros = operator.weights.array if coding.rounded else nonzeros
    found["packed"] = pixels * int(np.count_nonzero(nonzeros))
    if coding.clusters and is_clustered:
        taps, channels, _ = coding.levels.shape
        centres = int(np.count_nonzero(coding.clusters.centres.array))
        found["centre_responses"] = pixels * centres * taps * channels // coding.transform.size
        found["packed"] += found["centre_responses"]
    if execution == "frequency":
        taps, channels, _ = coding.levels.shape
        if coding.transform.kind == "channels":
            channels *= taps
        groups = operator.groups if isinstance(operator, Conv) else 1
        strides = operator.window.strides if isinstance(operator, Conv) else (1, coding.transform.columns)
        found["basis_additions"] = basis_additions(coding, strides, pixels, channels * groups)
    return found


def _storage(stored: Statistics, weights: int) -> dict[str, Any]:
    bits = sum(stored.parts.values())
    return {
        "coder": stored.coder,
        "longest_run": stored.longest,
        "substreams": stored.substreams,
        "bits": dict(sorted(stored.parts.items())),
        "bits_per_weight": bits / max(weights, 1),
        "mean_code_length": stored.mean_code_length if stored.symbols else 0.0,
        "redundancy": stored.redundancy,
    }


def _spectrum(coding: Coding) -> list[list[float]] | None:
    """Share of the kernel's energy in each frequency, rows by columns; None where nothing is transformed."""
    if not coding.is_frequency:
        return None
    transform = coding.transform
    norms = np.square(transform.matrix).sum(1)
    blocks = transform.blocks(coding.scaled).reshape(transform.size, -1).astype(np.float64)
    energy = np.square(blocks).sum(1) * norms
    shares = energy / max(float(energy.sum()), math.ulp(1.0))
    return [[float(v) for v in row] for row in shares.reshape(transform.rows, transform.columns)]
