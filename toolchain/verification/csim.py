"""Builds and runs the C++ of a generated HLS project, as it lies there, and compares every integer of every layer."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from toolchain.codegen.hls import decimal_rows
from toolchain.compiler import raw_frames
from toolchain.errors import MismatchError, ModelError, ToolError
from toolchain.ir import Array, Graph, TensorType
from toolchain.ops.quantize import Quantize
from toolchain.ops.reshape import Reshape
from toolchain.progress import Progress, no_progress
from toolchain.project import WEIGHTS, Project
from toolchain.simulation import reference
from toolchain.simulation.reference import batches
from toolchain.verification.compare import Agreement, check_same_layers, compare_layers, first_difference

TRACE_BYTES = 64 << 20
"""Trace files that one process may write; frames beyond are compared at the outputs only."""
MODEL_OUTPUT = re.compile(
    r"FAIL layer=(?P<layer>.*) frame=(?P<frame>\d+) index=(?P<index>\d+) expected=(?P<e>-?\d+) got=(?P<g>-?\d+)$",
    re.DOTALL | re.MULTILINE,
)


def ap_types() -> Path:
    """The folder with the vendor's ap_int.h. Raises ToolError when there is none."""
    given = os.environ.get("AP_TYPES")
    if given:
        return Path(given)
    spec = importlib.util.find_spec("hls4ml")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "templates/vivado/ap_types"
        if (path / "ap_int.h").is_file():
            return path
    raise ToolError("the vendor's ap_int.h is not found", fix="Install hls4ml or set AP_TYPES to its folder.")


def verify_hls(project: Project, inputs: Mapping[str, Array], progress: Progress | None = None) -> Agreement:
    """Compares the C simulation of `hls/` with the reference engine on these inputs.

    Raises MismatchError with the first differing integer, ToolError when there is no compiler or it fails, ModelError
    when the folder is damaged.
    """
    report = progress or no_progress
    folder = project.path / "hls"
    if not (folder / "Makefile").is_file():
        raise ModelError("the project has no hls/", where=str(project.path), fix="Compile it with --target hls.")
    raw_inputs, raw_outputs = raw_frames(project.graph, inputs)
    streams = _streams(folder, project.graph)
    frames = len(next(iter(raw_inputs.values())))
    with tempfile.TemporaryDirectory(prefix="toolchain-") as temporary:
        build = Path(temporary)
        report("building the C simulation", 0, frames)
        _build(folder, build)
        command = [str(build / "testbench")]
        if (folder / "tb_data/weights.bin").is_file():  # weights that are loaded: the program's own
            command += ["--weights", str((project.path / WEIGHTS).resolve())]
        workers = max(1, min(os.cpu_count() or 1, frames))
        slices = list(batches(frames, -(-frames // workers)))
        done = 0
        with ThreadPoolExecutor(workers) as pool:
            jobs = [
                pool.submit(_run_slice, project.graph, streams, build, command, part, raw_inputs, raw_outputs, inputs)
                for part in slices
            ]
            values = 0
            for part, job in zip(slices, jobs, strict=True):
                values += job.result()
                done += part.stop - part.start
                report("comparing", done, frames)
    return Agreement("hls", frames, len(streams), values)


def _streams(folder: Path, graph: Graph) -> dict[str, str]:
    """The C++ name of the stream of each value. Values that only reshape another one have none."""
    try:
        content = json.loads((folder / "trace.json").read_text())
        if not all(isinstance(k, str) and re.fullmatch(r"\w+", v) for k, v in content.items()):
            raise ValueError
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        raise ModelError("is damaged", where=str(folder / "trace.json"), fix="Compile the model again.") from None
    wanted = [node.name for node in graph.nodes if not isinstance(node.operator, Reshape)]
    if len(set(content.values())) != len(content):
        raise ModelError("is damaged", where=str(folder / "trace.json"), fix="Compile the model again.")
    check_same_layers(wanted, content, folder)
    return dict(content)


def _build(folder: Path, build: Path) -> None:
    for tool in ("make", "g++"):
        if shutil.which(tool) is None:
            raise ToolError(f"{tool} is not installed", fix="On Debian: apt-get install make g++")
    target = build / "testbench"
    argv = [
        "make",
        "-s",
        f"-j{os.cpu_count() or 1}",
        "-C",
        str(folder),
        f"BUILD={build}",
        f"AP_TYPES={ap_types()}",
        str(target),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()[-1:]
        raise ToolError(f"the C++ does not compile: {lines[0] if lines else 'no message'}", where=str(folder))


def _run_slice(
    graph: Graph,
    streams: Mapping[str, str],
    build: Path,
    command: Sequence[str],
    part: slice,
    raw_inputs: Mapping[str, Array],
    raw_outputs: Mapping[str, Array],
    inputs: Mapping[str, Array],
) -> int:
    """One process on some frames; returns how many integers were compared."""
    place = build / f"frames_{part.start}"
    place.mkdir()
    expected = [raw_outputs[output.name][part] for output in graph.outputs]
    (place / "inputs.dat").write_text(decimal_rows([raw_inputs[given.name][part] for given in graph.inputs]))
    (place / "outputs.dat").write_text(decimal_rows(expected))
    argv = [
        *command,
        "--inputs",
        str(place / "inputs.dat"),
        "--outputs",
        str(place / "outputs.dat"),
        "--dump",
        str(place / "dump.dat"),
    ]
    a_frame = sum(type.size for name, type in graph.types.items() if name in streams)
    traced = max(1, min(part.stop - part.start, TRACE_BYTES // (8 * a_frame)))
    trace = place / "trace"
    trace.mkdir()
    whole = traced == part.stop - part.start
    done = subprocess.run(
        argv + (["--trace", str(trace)] if whole else []), capture_output=True, text=True, errors="replace", check=False
    )
    if not whole:
        _trace_some(graph, place, trace, traced, raw_inputs, raw_outputs, part, command)
    rows = {name: np.asarray(array)[part][:traced] for name, array in inputs.items()}
    values, untraced = _compare_trace(graph, streams, trace, rows, part.start)
    if done.returncode == 0:
        _compare_dump(graph, place / "dump.dat", expected, part.start)
        if untraced:
            raise MismatchError(untraced, (), "a trace", "none", where=str(trace.name), fix="Was hls/ changed?")
        return values + sum(array.size for array in expected)
    found = MODEL_OUTPUT.search(done.stdout)
    if found:
        index = (int(found["frame"]) + part.start, int(found["index"]))
        raise MismatchError(found["layer"], index, int(found["e"]), int(found["g"]))
    text = (done.stdout + done.stderr).strip().splitlines()
    size = sum(array.size for array in expected)
    reason = text[-1] if text else f"exit code {done.returncode}"
    raise MismatchError("of the outputs", (), f"{size} values", "none", fix=f"The test bench said: {reason}")


def _trace_some(
    graph: Graph,
    place: Path,
    trace: Path,
    count: int,
    raw_inputs: Mapping[str, Array],
    raw_outputs: Mapping[str, Array],
    part: slice,
    command: Sequence[str],
) -> None:
    """A second run on the first frames only, for the trace."""
    few = slice(part.start, part.start + count)
    (place / "few_inputs.dat").write_text(decimal_rows([raw_inputs[given.name][few] for given in graph.inputs]))
    (place / "few_outputs.dat").write_text(decimal_rows([raw_outputs[output.name][few] for output in graph.outputs]))
    argv = [*command, "--inputs", str(place / "few_inputs.dat")]
    argv += ["--outputs", str(place / "few_outputs.dat"), "--trace", str(trace)]
    subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)


def _compare_trace(
    graph: Graph, streams: Mapping[str, str], trace: Path, rows: dict[str, Array], start: int
) -> tuple[int, str | None]:
    """Compares every traced layer; raises MismatchError at the first difference in execution order.

    Returns how many integers were equal, and the first layer that should have a trace and has none.
    """
    expected: dict[str, Array] = {}
    wanted = {node.name for node in graph.nodes if node.name in streams}
    channels_last = {given.name: given.from_model(rows[given.name]) for given in graph.inputs}
    reference.evaluate(graph, channels_last, lambda name, v: expected.update({name: v}) if name in wanted else None)
    got: dict[str, Array] = {}
    untraced = None
    for name, values in expected.items():
        type = graph.types[name]
        path = trace / f"{streams[name]}.bin"
        if not isinstance(type, TensorType) or type.width > 64:
            continue
        read = np.fromfile(path, dtype="<i8") if path.is_file() else np.zeros(0)
        if read.size == values.size:
            got[name] = read.reshape(values.shape)
        else:
            untraced = untraced or name
    order = [node.name for node in graph.nodes if not isinstance(node.operator, Quantize)]
    error = compare_layers(order, expected, got, start)
    if error is not None:
        raise error
    return sum(values.size for values in got.values()), untraced


def _compare_dump(graph: Graph, path: Path, expected: Sequence[Array], start: int) -> None:
    """The test bench's own verdict is not enough: the outputs it took are compared here once more."""
    frames, size = len(expected[0]), sum(array.size for array in expected)
    try:
        got = np.array(path.read_text().split(), dtype=np.int64)
    except (OSError, ValueError):
        got = np.zeros(0, dtype=np.int64)
    if got.size != size:
        raise MismatchError("of the outputs", (), f"{size} values", got.size, fix="Was tb/testbench.cpp changed?")
    got = got.reshape(frames, -1)
    at = 0
    for output, array in zip(graph.outputs, expected, strict=True):
        flat = array.reshape(frames, -1)
        error = first_difference(output.name, flat, got[:, at : at + flat.shape[1]], start)
        if error is not None:
            raise error
        at += flat.shape[1]
