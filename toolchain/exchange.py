"""Other weights for hardware that is there: `toolchain weights`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from toolchain.codegen.hls import decimal_rows
from toolchain.codegen.loaded import hardware_graph, is_loaded
from toolchain.codegen.project import Files
from toolchain.compiler import TEST_FRAMES, calibration_data, raw_frames
from toolchain.errors import ConfigurationError, ModelError
from toolchain.frontends import read_graph
from toolchain.ir import Array, Constant, Graph, Node, TensorType
from toolchain.ops.linear import LinearOperator
from toolchain.packing.packed import Packed
from toolchain.passes import pipeline
from toolchain.progress import Progress
from toolchain.project import Project, is_project, load, store_program
from toolchain.quantization.reweighting import Capacity, reweighted

HARDWARE = frozenset({"Makefile", "README.md", "hls_config.cfg", "run_hls.tcl", "sim", "src", "tb", "trace.json"})
"""What of a project's `hls/` does not depend on weights."""
AGAIN = "Give the retrained model itself with --calibrate: its weights are then coded in the project's formats."


@dataclass(frozen=True)
class NewWeights:
    """A container for the hardware of a project, and the program that the hardware then runs.

    `errors` gives each output's error relative to the real network, and `frames` some of its inputs, where it was
    quantized here.
    """

    data: bytes
    graph: Graph
    errors: Mapping[str, float]
    frames: Mapping[str, Array]


def other_weights(
    project: str | Path,
    other: str | Path,
    *,
    calibrate: str | Path | Array | Mapping[str, Array] | None = None,
    weights: str | Path | None = None,
    progress: Progress | None = None,
) -> NewWeights:
    """The container with the weights of `other` for the hardware of `project`.

    `other` is a project of the same network, or a retrained model, which is quantized on `calibrate` in the project's
    formats. Raises ConfigurationError when the hardware cannot take such weights, naming the layer.
    """
    mine = load(project)
    capacities = read_capacities(mine)
    path = Path(other)
    if path.is_dir():
        if not is_project(path):
            raise ConfigurationError("is neither a project nor a model", where=str(path))
        if calibrate is not None:
            raise ConfigurationError("--calibrate goes with a model, not with a project", where=str(path))
        graph, errors, frames = load(path).graph, {}, {}
    else:
        real = pipeline.run(read_graph(path, Path(weights) if weights else None, None), pipeline.REAL_PASSES)
        data = calibration_data(real, calibrate)
        found = reweighted(mine.graph, real, data, capacities, progress)
        graph, errors = found.graph, dict(found.errors)
        frames = {name: array[:TEST_FRAMES] for name, array in data.items()}
    check_fits(mine.graph, graph, capacities)
    # The program of the hardware, with the other constants only: no name of the other project comes in.
    replaced = {node.name: theirs.operator for node, theirs in zip(mine.graph.nodes, graph.nodes, strict=True)}
    nodes = tuple(Node(node.name, replaced[node.name], node.inputs, node.layer) for node in mine.graph.nodes)
    graph = mine.graph.with_nodes(nodes)
    return NewWeights(store_program(graph, shared=False).weights, graph, errors, frames)


def project_files(project: str | Path, found: NewWeights) -> Files:
    """A project that is the hardware of another one with the new weights, for simulation and verification.

    It has no report.json: the hardware is that of the other project.
    """
    if not found.frames:
        raise ConfigurationError("--project needs a retrained model: a project with these weights is there already")
    hls = Path(project) / "hls"
    files = dict(store_program(found.graph, shared=False).files)
    for path in sorted(hls.rglob("*")):
        name = path.relative_to(hls)
        if path.is_file() and name.parts[0] in HARDWARE:
            files[f"hls/{name.as_posix()}"] = path.read_bytes()
    inputs, outputs = raw_frames(found.graph, found.frames)
    files["hls/tb_data/inputs.dat"] = decimal_rows([inputs[one.name] for one in found.graph.inputs])
    files["hls/tb_data/outputs.dat"] = decimal_rows([outputs[one.name] for one in found.graph.outputs])
    files["hls/tb_data/weights.bin"] = found.data
    return files


def read_capacities(project: Project) -> dict[str, Capacity]:
    """What each unit of the project's hardware has room for, from report.json.

    Raises ConfigurationError when its weights are constants.
    """
    report = project.report
    try:
        memory = report["hardware"].get("weight_memory")
        found = {
            layer["name"]: Capacity(layer["capacity"]["nonzeros"], layer["capacity"]["weight_bits"])
            for layer in report["layers"]
            if "capacity" in layer
        }
        sound = all(
            type(c.nonzeros) is int and c.nonzeros > 0 and c.weight_bits in range(2, 17) for c in found.values()
        )
    except (KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise ModelError("is damaged", where="report.json", fix="Compile the model again.")
    if memory != "loaded":
        raise ConfigurationError(
            "has its weights as constants of the hardware, other ones need a new synthesis",
            where=str(project.path),
            fix="Compile it with --weight-memory loaded.",
        )
    return found


def check_fits(mine: Graph, theirs: Graph, capacities: Mapping[str, Capacity]) -> None:
    """Raises ConfigurationError unless the hardware of `mine` runs the program `theirs`, given its constants."""
    for what, a, b in _forms(mine, theirs):
        if a != b:
            raise ConfigurationError(f"{what} is {b}, the hardware has {a}", fix=AGAIN)
    types = hardware_graph(mine).types
    for node, other in zip(mine.nodes, theirs.nodes, strict=True):
        where = f"layer {node.layer!r}"
        if is_loaded(node):
            _check_layer(node.operator, other.operator, capacities[node.name], where)
        room, needed = types[node.name], theirs.types[other.name]
        if not isinstance(room, TensorType) or not isinstance(needed, TensorType):
            continue
        if needed.low < room.low or needed.high > room.high or needed.fractions != room.fractions:
            raise ConfigurationError(
                f"{node.name} needs the range [{needed.low}, {needed.high}] with the fraction bits "
                f"{list(needed.fractions)}, the hardware has [{room.low}, {room.high}] with {list(room.fractions)}",
                where=where,
                fix=AGAIN,
            )


def _forms(mine: Graph, theirs: Graph) -> Iterator[tuple[str, object, object]]:
    """What has to be equal: everything but weights and biases that are loaded. (what, mine, theirs)."""
    yield "the number of nodes", len(mine.nodes), len(theirs.nodes)
    for kind in ("inputs", "outputs"):
        a, b = ([(o.name, o.axes) for o in getattr(graph, kind)] for graph in (mine, theirs))
        yield f"the list of {kind}", a, b
    numbers = [{node.name: k for k, node in enumerate(graph.nodes)} for graph in (mine, theirs)]
    for node, other in zip(mine.nodes, theirs.nodes, strict=True):
        yield f"node {other.name!r}: the operator", type(node.operator).__name__, type(other.operator).__name__
        first, second = ([at.get(i, i) for i in n.inputs] for at, n in zip(numbers, (node, other), strict=True))
        yield f"node {other.name!r}: the list of inputs", first, second
        free = {"weights", "bias", "weight_type"} if is_loaded(node) else set()
        for f in fields(node.operator):
            a, b = getattr(node.operator, f.name), getattr(other.operator, f.name)
            if f.name in free:
                continue
            if isinstance(a, Constant) and isinstance(b, Constant):
                yield f"layer {node.layer!r}: the constant {f.name}", a.digest[:12], b.digest[:12]
            else:
                yield f"layer {node.layer!r}: {f.name}", a, b


def _check_layer(mine: object, theirs: object, capacity: Capacity, where: str) -> None:
    assert isinstance(mine, LinearOperator)
    assert isinstance(theirs, LinearOperator)
    assert isinstance(mine.weights, Packed)
    if not isinstance(theirs.weights, Packed):
        raise ConfigurationError("has weights that are not packed", where=where, fix=AGAIN)
    a, b = mine.weights.coding, theirs.weights.coding
    for what, ours, other in (
        ("weights of shape", a.levels.shape, b.levels.shape),
        ("the transform", a.transform, b.transform),
        ("the shifts", a.shifts, b.shifts),
        ("clusters", False, b.clusters is not None),
        ("rounded bits", 0, b.rounded),
    ):
        if ours != other:
            raise ConfigurationError(f"{what} {other}, the hardware has {ours}", where=where, fix=AGAIN)
    levels = b.levels.array
    limit = 1 << (capacity.weight_bits - 1)
    largest, smallest = int(levels.max()), int(levels.min())
    if largest >= limit or smallest < -limit:
        raise ConfigurationError(
            f"has levels from {smallest} to {largest}, the hardware has {capacity.weight_bits} bits",
            where=where,
            fix=f"Compile it with --weight-bits {capacity.weight_bits}, or the project with more.",
        )
    nonzeros = int((levels != 0).sum(axis=(0, 1)).clip(min=1).sum())
    if nonzeros > capacity.nonzeros:
        raise ConfigurationError(
            f"has {nonzeros} nonzeros, the hardware has room for {capacity.nonzeros}",
            where=where,
            fix="Give a smaller --budget, or compile the project with a larger one.",
        )
