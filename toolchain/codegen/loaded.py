"""Hardware whose weights are loaded: what its container has to look like, and room for weights that come later."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from toolchain.codegen.kernel import Streams
from toolchain.errors import ToolchainError
from toolchain.hardware.terminals import lane_bits
from toolchain.ir import Array, Constant, Graph, Node, TensorType
from toolchain.ir.tabulated import Tabulated
from toolchain.ir.types import Type
from toolchain.ops.linear import LinearOperator
from toolchain.packing.container import Statistics
from toolchain.packing.packed import Coding, Packed
from toolchain.packing.records import KINDS, ROLES

HEADROOM_BITS = 1
"""Of sums whose width is not that of a port: other weights may have larger ones."""
FIELD_ROLES = {"weights": "weights", "scale": "weights", "slopes": "weights", "bias": "biases", "offset": "biases"}
TABLES = ("entries", "exponentials")
DECODERS = 4
"""That may share the weights of a layer."""
LEVEL_BITS = 18


def constants(graph: Graph) -> Iterator[tuple[Node, str, Constant]]:
    """Every stored constant with its node and field, in the order of the program's text."""
    for node in graph.nodes:
        for f in dataclasses.fields(node.operator):
            value = getattr(node.operator, f.name)
            if isinstance(value, Constant) and not isinstance(value, Tabulated):
                yield node, f.name, value


def role_of(field: str) -> str:
    """The role of a constant in the container: `weights`, `biases`, `tables` or `parameters`."""
    return "tables" if field in TABLES else FIELD_ROLES.get(field, "parameters")


def is_loaded(node: Node) -> bool:
    """Does a node have packed weights, which hardware can load?"""
    return isinstance(node.operator, LinearOperator) and isinstance(node.operator.weights, Packed)


def hardware_graph(graph: Graph, bits: int = HEADROOM_BITS) -> Graph:
    """The program with types for any weights that fit the hardware: sums have the whole range of their width.

    It is `bits` wider than the program's, unless that makes a port of the design wider. Where an operator cannot take
    such sums (a table has an entry for each value) the types remain those of the program.
    """
    types: dict[str, Type] = {given.name: given.type for given in graph.inputs}
    try:
        for node in graph.nodes:
            type = node.operator.typed(tuple(types[name] for name in node.inputs))
            if is_loaded(node) and isinstance(type, TensorType):
                width = max(type.width, _program_type(graph, node).width)
                is_wider_port = graph.is_output(node.name) and lane_bits(width + bits) > lane_bits(width)
                type = _whole(type, width + (0 if is_wider_port else bits))
            types[node.name] = type
    except ToolchainError:
        return graph
    widened = replace(graph)
    widened.__dict__["types"] = types  # where the graph remembers what it inferred
    return widened


def _program_type(graph: Graph, node: Node) -> TensorType:
    type = graph.types[node.name]
    assert isinstance(type, TensorType)
    return type


def _whole(type: TensorType, width: int) -> TensorType:
    """The whole signed range of a width: weights of either sign may come."""
    width += not type.signed
    return TensorType(type.shape, width, True, type.fractions, -(1 << (width - 1)), (1 << (width - 1)) - 1)


def checksum(*arrays: Array) -> int:
    """CRC-32 of the elements as 64-bit integers, `checksum` of `weight_loader.h`."""
    crc = 0
    for array in arrays:
        if array.dtype == np.int64:
            low = array.astype("<u8")
        else:
            low = np.array([int(value) & ((1 << 64) - 1) for value in array.ravel().tolist()], dtype="<u8")
        crc = zlib.crc32(low.tobytes(), crc)
    return crc


def identity(constant: Constant) -> int:
    """The checksum of a constant that is part of the hardware; of coded ones `identify_levels` of `weight_loader.h`."""
    if not isinstance(constant, Packed):
        return checksum(constant.array)
    levels = constant.coding.levels.array.transpose(2, 0, 1).ravel()
    places = np.flatnonzero(levels)
    return checksum(places << LEVEL_BITS | levels[places] & ((1 << LEVEL_BITS) - 1))


def _shared(coding: Coding) -> tuple[int, int]:
    """How many centres there are, and the checksum of centres and indices: `check_centres` of `weight_loader.h`."""
    if coding.clusters is None:
        return 0, 0
    centres, indices = coding.clusters.centres.array, coding.clusters.indices.array
    return len(centres), checksum(centres, *([indices.T] if len(centres) > 1 else []))


def streams_of(stored: Mapping[Constant, Statistics]) -> dict[Constant, Streams]:
    """What decoders of the tensors of a container have to do."""
    return {
        constant: Streams(one.substreams, one.coder, one.longest, one.filler, one.codes)
        for constant, one in stored.items()
    }


@dataclass(frozen=True)
class Expected:
    """A tensor of the container as the hardware wants it; the fields are those of `expectation`, `weight_loader.h`.

    `process` is the unit that it is for, None for a constant that is part of the hardware.
    """

    process: str | None
    is_weights: bool
    numbers: tuple[int, ...]
    shifts: tuple[int, ...]


@dataclass(frozen=True)
class Container:
    """The weights of a design whose weights are loaded, and what any others have to look like."""

    data: bytes
    tensors: tuple[Expected, ...]


def expected_tensors(graph: Graph, processes: Mapping[str, str]) -> tuple[Expected, ...]:
    """What the hardware of a program expects; `processes` names the units of nodes whose weights come at run time."""
    found: list[Expected] = []
    shifts_at = 0
    for node, field, constant in constants(graph):
        process = processes.get(node.name) if is_loaded(node) and field in ("weights", "bias") else None
        shifts: tuple[int, ...] = ()
        form: tuple[int, ...] = (0,) * 6
        if isinstance(constant, Packed):
            transform = constant.coding.transform
            shifts = constant.coding.shifts
            form = (*constant.coding.levels.shape, KINDS.index(transform.kind), transform.rows, transform.columns)
        digest = 0 if process else identity(constant)
        kept = (constant.coding.rounded, *_shared(constant.coding)) if isinstance(constant, Packed) else (0, 0, 0)
        head = (ROLES.index(role_of(field)), int(bool(shifts)), int(constant.array.size), digest)
        numbers = (*head, *form, *kept, shifts_at)
        found.append(Expected(process, field == "weights", numbers, shifts))
        shifts_at += len(shifts)
    return tuple(found)
