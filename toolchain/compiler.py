"""The whole way from a model file to a project folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from toolchain import apart
from toolchain.codegen.embedded.render import render_embedded
from toolchain.codegen.hls import hls_build_id, render_hls
from toolchain.codegen.host import render_host
from toolchain.codegen.kernel import Folding, Streams
from toolchain.codegen.loaded import Container, expected_tensors, hardware_graph, streams_of
from toolchain.codegen.project import Files, prefixed
from toolchain.errors import CalibrationError, ConfigurationError
from toolchain.frontends import read_graph
from toolchain.hardware.board import Board, load_board
from toolchain.hardware.dataflow import PIPELINE, simulate
from toolchain.hardware.folding import fold
from toolchain.hardware.foldings import can_stream
from toolchain.hardware.network import build_network
from toolchain.hardware.resources import (
    Estimate,
    connections_estimate,
    exceeded,
    excess,
    network_estimate,
)
from toolchain.hardware.solver import Table
from toolchain.hardware.ultra_ram import fifo_options, place_fifos, without_fifos
from toolchain.ir import Array, Graph
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.quantize import Quantize
from toolchain.passes import pipeline
from toolchain.progress import Progress, no_progress
from toolchain.project import REPORT, Project, check_target, load, sealed, store_program, write_project
from toolchain.quantization.budget import Budget, Packing, lower_packed
from toolchain.quantization.carried import is_program, random_rows
from toolchain.quantization.configuration import Configuration, check_layers, load_configuration
from toolchain.quantization.entry import quantizes_itself
from toolchain.quantization.loading import check_streaming, for_loading
from toolchain.report.build import Design, build_report
from toolchain.simulation import reference
from toolchain.simulation.arrays import load_arrays
from toolchain.simulation.fast import FastEngine
from toolchain.simulation.simulator import check_inputs

ATTEMPTS = 5
"""Foldings that are tried until the whole design fits."""
FAR = 1.1
"""Of a budget: a design that takes more will not fit with the next attempt."""
TRAINED_ROWS = 64
"""Rows of the training data that a fine-tuned project has its test frames from."""
TEST_FRAMES = 8
"""Rows of the calibration data that the test bench gets."""
REFERENCE_MULTIPLICATIONS = 1 << 32
"""Networks that need more of them for their test frames have these computed by the fast engine, which is equal."""
CLOCK_LIMITS = (10.0, 900.0)
TARGETS = ("hls", "embedded", "all")


def compile_model(
    model: str | Path,
    output: str | Path,
    *,
    calibrate: str | Path | Array | Mapping[str, Array] | None = None,
    board: str = "zcu104",
    config: str | Path | Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    pack: str | None = None,
    execute: str | None = None,
    weight_memory: str | None = None,
    budget: str | None = None,
    target: str = "hls",
    target_fps: float | None = None,
    ram: int | None = None,
    clock_mhz: float | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Project:
    """Compiles a trained network into a project folder and returns it.

    `calibrate` is a `.npy`/`.npz` file or arrays (rows, ...) in the model's own layout and scale; `config` a TOML file
    or its tables as a mapping. Raises ToolchainError
    for whatever is wrong with the model, the data or the options; then nothing is written.
    """
    if apart.is_needed():
        given = {name: value for name, value in locals().items() if name != "progress"}
        return load(apart.apart(_compiled, **given))
    path = Path(output)
    check_target(path, force)
    chosen = load_configuration(
        Path(config) if isinstance(config, str) else config,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        pack=pack,
        execute=execute,
        weight_memory=weight_memory,
    )
    _check_target(target, ram)
    allowed = Budget.parse(budget) if budget is not None else None
    the_board = load_board(board)
    clock = clock_mhz if clock_mhz is not None else the_board.clock_mhz
    if not CLOCK_LIMITS[0] <= clock <= CLOCK_LIMITS[1]:
        raise ConfigurationError(f"--clock {clock} is outside {CLOCK_LIMITS[0]:.0f} to {CLOCK_LIMITS[1]:.0f} MHz")
    if target_fps is not None and not 0 < target_fps < math.inf:
        raise ConfigurationError(f"--target-fps {target_fps} is no number above 0")
    report = progress or no_progress

    report("reading the model", 0, 1)
    real = pipeline.run(read_graph(Path(model), Path(weights) if weights else None, input_shapes), pipeline.REAL_PASSES)
    check_layers(chosen, real)
    if chosen.weight_memory == "loaded":
        chosen = for_loading(chosen, real)
    if chosen.weight_memory == "streamed" and not is_program(real):
        check_streaming(chosen, real)
    data = calibration_data(real, calibrate)
    interval = max(1, int(min(clock * 1e6 / target_fps, 2.0**62))) if target_fps else 0

    def packed(graph: Graph, configuration: Configuration) -> Packing:
        return lower_packed(graph, data, configuration, container_size, allowed, report, invented=calibrate is None)

    def designed(packing: Packing, configuration: Configuration) -> Design:
        graph = pipeline.run(packing.lowered.graph, pipeline.EXACT_PASSES)
        report("choosing hardware", 0, 1)
        return make_design(graph, the_board, clock, configuration, interval)

    packing = packed(real, chosen)
    may_stream = chosen.weight_memory == "auto" and packing.plan is not None
    if not may_stream:
        real = replace(real, nodes=())  # its weights are 8 bytes each, and may be 10^8
    design = designed(packing, chosen)
    if may_stream and design.shortfall > 1:
        report("does not fit, so with weights streamed from DDR", 0, 1)
        streamed = chosen.model_copy(update={"weight_memory": "streamed"})
        other = packed(real, streamed)
        packing, design = min((packing, design), (other, designed(other, streamed)), key=lambda one: one[1].shortfall)
    report("writing the project", 0, 1)
    files = project_files(Path(model).name, design, packing, data, interval, target, ram)
    write_project(path, files, force)
    return Project(path, design.graph)


def _compiled(**given: Any) -> Path:
    """Compiles in a process of its own, without telling progress."""
    return compile_model(**given).path


def design_project(
    path: Path,
    model: str,
    packing: Packing,
    board: Board,
    configuration: Configuration,
    data: Mapping[str, Array],
    *,
    target: str = "hls",
    force: bool = False,
) -> None:
    """Chooses the hardware of a packed program and writes its project, whose test frames come from `data`."""
    if apart.is_needed():
        apart.apart(design_project, path, model, packing, board, configuration, data, target=target, force=force)
        return
    _check_target(target, None)
    design = make_design(
        pipeline.run(packing.lowered.graph, pipeline.EXACT_PASSES), board, board.clock_mhz, configuration
    )
    write_project(path, project_files(model, design, packing, data, 0, target), force)


def _check_target(target: str, ram: int | None) -> None:
    if target not in TARGETS:
        raise ConfigurationError(f"--target {target!r} is none of {', '.join(TARGETS)}")
    if ram is not None and target == "hls":
        raise ConfigurationError("--ram goes with --target embedded or all")
    if ram is not None and ram < 1:
        raise ConfigurationError(f"--ram {ram} is no number of bytes above 0")


def calibration_data(graph: Graph, given: str | Path | Array | Mapping[str, Array] | None) -> dict[str, Array]:
    """Calibration arrays by input name, checked; random ones where a model brings its own quantization.

    Raises CalibrationError when there are none.
    """
    if given is None and (is_program(graph) or quantizes_itself(graph)):
        return random_rows(graph)
    if given is None:
        raise CalibrationError(
            "the model carries no quantization of its own, so formats have to be chosen on real inputs",
            where=graph.name,
            fix="Give some with --calibrate X.npz.",
        )
    names = [one.name for one in graph.inputs]
    if isinstance(given, str | Path):
        arrays = load_arrays(Path(given), names)
    elif isinstance(given, Mapping):
        arrays = dict(given)
    elif len(names) == 1:
        arrays = {names[0]: given}
    else:
        raise CalibrationError(f"the model has the inputs {', '.join(names)}", fix="Give a mapping from name to array.")
    return check_inputs(graph, arrays)


def container_size(graph: Graph) -> int:
    """Bytes of `weights.bin` for an integer program that the exact passes have not seen yet."""
    return store_program(pipeline.run(graph, pipeline.EXACT_PASSES)).size


def make_design(
    graph: Graph, board: Board, clock_mhz: float, configuration: Configuration, interval: int = 0
) -> Design:
    """Foldings, processes, streams and FIFO depths for a program on a board."""
    steps = max(interval - PIPELINE, 1) if interval else 0
    reserved, missing = Estimate(), Estimate()
    foldings: dict[str, Folding] = {}
    fifos: Table = {}
    best: Design | None = None
    hardware = hardware_graph(graph) if configuration.decodes_on_chip else graph
    streams = _streams(graph) if configuration.weight_memory == "streamed" else {}
    for attempt in range(ATTEMPTS):
        chosen = fold(hardware, board.resources, configuration, steps, reserved, streams, fifos)
        if chosen != foldings:
            foldings, network = chosen, build_network(hardware, chosen)
            timing = simulate(network)
            placed = place_fifos(network.with_depths(timing.depths), board.resources)
            design = Design(graph, placed, timing, board, clock_mhz)
        elif attempt > 1:
            break
        is_nearer = best is None or design.shortfall < best.shortfall
        best = design if is_nearer else best
        total = network_estimate(design.network)
        if not exceeded(total, board.resources):
            break
        if not is_nearer and design.shortfall > FAR:
            break
        connections = connections_estimate(design.network)
        if not attempt and exceeded(total - connections, board.resources):  # the least kernels alone are too much
            break
        # The folding counted kernels only: once more with room for what joins them, then also for what was too much.
        if attempt:
            missing += excess(total, board.resources)
        reserved = connections + missing
        if board.resources.uram:
            fifos = fifo_options(design.network)
            reserved = without_fifos(reserved, design.network)
    assert best is not None
    return best


def _streams(graph: Graph) -> dict[str, Streams]:
    """The nodes whose weights may be streamed, and how those are coded."""
    coded = streams_of(store_program(graph, shared=False).statistics)
    return {
        node.name: coded[node.operator.weights]
        for node in graph.nodes
        if isinstance(node.operator, Conv | Gemm) and can_stream(node.operator)
    }


def project_files(
    model: str,
    design: Design,
    packing: Packing,
    data: Mapping[str, Array],
    interval: int = 0,
    target: str = "hls",
    ram: int | None = None,
) -> Files:
    """Every file of the project. `interval` is the cycles a frame that were asked for, or 0."""
    units = {process.node: process.name for process in design.network.processes if process.kernel.memories}
    stored = store_program(design.graph, shared=not units)
    container = Container(stored.weights, expected_tensors(design.graph, units)) if units else None
    report = build_report(model, design, packing, stored, interval)
    files = dict(stored.files)
    if target != "embedded":
        rows = {name: array[:TEST_FRAMES] for name, array in data.items()}
        inputs, outputs = raw_frames(design.graph, rows)
        hls = render_hls(design.network, design.board, design.clock_mhz, inputs, outputs, container)
        host = render_host(design.network, design.board, design.clock_mhz, hls_build_id(hls), design.network.decoders)
        files |= prefixed("hls", hls) | prefixed("host", host)
    if target != "hls":
        embedded = render_embedded(design.graph, ram)
        files |= prefixed("embedded", embedded.files)
        report["embedded"] = embedded.footprint
    report["targets"] = ["hls", "embedded"] if target == "all" else [target]
    files[REPORT] = json.dumps(report, indent=1) + "\n"
    return sealed(files)


def raw_frames(graph: Graph, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the hardware is given and gives for these inputs: raw integers by name in the model's layout, int64."""
    checked = check_inputs(graph, inputs)
    channels_last = {one.name: one.from_model(checked[one.name]) for one in graph.inputs}
    entries: dict[str, Array] = {}
    for node in graph.nodes:
        if isinstance(node.operator, Quantize):
            given = next(one for one in graph.inputs if one.name == node.inputs[0])
            back = np.argsort(given.axes)
            values = node.operator.evaluate(channels_last[given.name])
            entries[given.name] = np.transpose(values, (0, *(int(a) + 1 for a in back)))
    frames = len(next(iter(channels_last.values())))
    macs = sum(node.operator.multiplications(*(t.shape for t in graph.input_types(node))) for node in graph.nodes)
    slow = frames * macs > REFERENCE_MULTIPLICATIONS
    results = FastEngine(graph).evaluate(channels_last) if slow else reference.evaluate(graph, channels_last)
    outputs = {output.name: output.to_model(results[output.name]) for output in graph.outputs}
    return entries, outputs
