"""Builds the C of a project's `embedded/`, runs it on this host or an emulated processor, compares every integer."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.codegen.embedded.render import MANIFEST
from toolchain.codegen.embedded.storage import storage
from toolchain.compiler import raw_frames
from toolchain.errors import ConfigurationError, MismatchError, ModelError, ToolError
from toolchain.ir import Array, Graph, Input, TensorType
from toolchain.ops.quantize import Quantize
from toolchain.ops.reshape import Reshape
from toolchain.progress import Progress, no_progress
from toolchain.project import Project
from toolchain.simulation import reference
from toolchain.simulation.reference import batches
from toolchain.verification.compare import Agreement, check_same_layers, compare_layers, first_difference
from toolchain.verification.machines import MACHINES, Machine

SECONDS = 900
"""After so long a run counts as hanging."""
SLICE_BYTES = 64 << 20
"""Trace files that one run may write."""
CODE_BYTES = 128 << 10
"""Of an emulated board's flash that constants may not take."""
WEIGHTS_SECTION = ".weights"


def verify_embedded(
    project: Project,
    inputs: Mapping[str, Array],
    machine: str = "host",
    traced: bool = False,
    progress: Progress | None = None,
) -> Agreement:
    """Compares the C of `embedded/` on a machine with the reference engine on these inputs.

    Model outputs come from the code as users build it; `traced` also compares every layer, in a build that keeps them.
    Raises MismatchError with the first differing integer, ToolError when a compiler or emulator is missing,
    ConfigurationError when the machine has not the memory, ModelError when the folder is damaged.
    """
    return compare(project.graph, project.path / "embedded", inputs, MACHINES[machine], traced, progress)


def compare(
    graph: Graph,
    folder: Path,
    inputs: Mapping[str, Array],
    chosen: Machine,
    traced: bool = False,
    progress: Progress | None = None,
) -> Agreement:
    """`verify_embedded` for a program and the folder of its C."""
    report = progress or no_progress
    machine = chosen.name
    manifest = read_manifest(folder, graph)
    check_tools(chosen)
    raw_inputs, raw_outputs = raw_frames(graph, inputs)
    frames = len(next(iter(raw_inputs.values())))
    entering = _frames([(raw_inputs[given.name], given) for given in graph.inputs], graph)
    with tempfile.TemporaryDirectory(prefix="toolchain-") as temporary:
        place = Path(temporary)
        report(f"building for {machine}", 0, frames)
        build(folder, place / "plain", chosen, manifest)
        report(f"running on {machine}", 0, frames)
        data = _run(place / "plain", chosen, entering, "outputs.bin")
        error = _compare_outputs(graph, data, raw_outputs, frames)
        layers, values = len(graph.outputs), sum(array.size for array in raw_outputs.values())
        if error is not None or traced:
            report(f"tracing on {machine}", 0, frames)
            build(folder, place / "traced", chosen, manifest, "TRACE")
            layers, values = _compare_trace(graph, inputs, place / "traced", chosen, entering, manifest)
        if error is not None:
            raise error
    report(f"running on {machine}", frames, frames)
    return Agreement(f"embedded on {machine}", frames, layers, values)


def profile(project: Project, inputs: Mapping[str, Array], machine: str) -> list[tuple[list[str], int]]:
    """Instructions of one inference on an emulated machine: the nodes of each stage of the C, and how many it took.

    QEMU counts them (`-icount shift=0`); the mean over the inputs, to the step of the machine's counter. Raises as
    `verify_embedded` does.
    """
    counting = MACHINES[machine]
    if counting.tick:
        counting = replace(counting, runner=(counting.runner[0], "-icount", "shift=0", *counting.runner[1:]))
    data, frames, stages = _measured(project, inputs, counting, "PROFILE", "profile.bin")
    if len(data) != 8 * len(stages):
        raise MismatchError("the profile", (), f"{len(stages)} stages", f"{len(data)} bytes")
    return [
        ([str(name) for name in names], round(float(count) * counting.tick / frames))
        for names, count in zip(stages, np.frombuffer(data, "<u8"), strict=True)
    ]


def measured_stack(project: Project, inputs: Mapping[str, Array], machine: str) -> int:
    """Bytes of stack that `invoke` took on an emulated machine, at most over the inputs."""
    data, _, _ = _measured(project, inputs, MACHINES[machine], "STACK", "stack.bin")
    return int.from_bytes(data, "little")


def _measured(
    project: Project, inputs: Mapping[str, Array], machine: Machine, variant: str, result: str
) -> tuple[bytes, int, list[list[str]]]:
    """What a build that measures writes, the number of frames, and the nodes of each stage."""
    if not machine.tick:
        raise ConfigurationError(
            f"--profile: {machine.name} has no counter of instructions", fix="Take cortex-m4 or riscv32."
        )
    folder = project.path / "embedded"
    manifest = read_manifest(folder, project.graph)
    check_tools(machine)
    raw_inputs, _ = raw_frames(project.graph, inputs)
    entering = _frames([(raw_inputs[given.name], given) for given in project.graph.inputs], project.graph)
    with tempfile.TemporaryDirectory(prefix="toolchain-") as temporary:
        place = Path(temporary) / "built"
        build(folder, place, machine, manifest, variant)
        return _run_slice(place, machine, entering, result), len(entering), manifest["stages"]


def check_tools(machine: Machine) -> None:
    """Raises ToolError, with the Debian package, when a compiler or emulator is missing."""
    for tool in ("make", machine.compiler[0], *machine.runner[:1]):
        if shutil.which(tool) is None:
            package = "make" if tool == "make" else machine.packages
            raise ToolError(f"{tool} is not installed", fix=f"On Debian: apt-get install {package}")


def read_manifest(folder: Path, graph: Graph) -> dict[str, Any]:
    """`manifest.json` of the C, checked. Raises ModelError, or MismatchError when it is that of another program."""
    if not (folder / "Makefile").is_file():
        raise ModelError(
            "the project has no embedded/", where=str(folder.parent), fix="Compile it with --target embedded."
        )
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        traced = [(str(e["value"]), int(e["offset"]), int(e["bits"]), bool(e["signed"])) for e in content["trace"]]
        valid = re.fullmatch(r"[a-z]\w*", content["name"]) and int(content["trace_bytes"]) >= 8
        content["constants"] = {str(key): int(value) for key, value in content["constants"].items()}
        stages = [name for stage in content["stages"] for name in stage]
        if (
            not valid
            or not all(isinstance(name, str) for name in stages)
            or any(bits not in (8, 16, 32, 64) or offset < 0 for _, offset, bits, _ in traced)
        ):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError("is damaged", where=str(folder / MANIFEST), fix="Compile the model again.") from None
    made = [node.name for node in graph.nodes if not isinstance(node.operator, Quantize | Reshape)]
    check_same_layers(made, [name for name, *_ in traced], folder)
    return dict(content)


def _frames(arrays: list[tuple[Array, Input]], graph: Graph) -> list[bytes]:
    """The inputs as the C has them in memory: frame by frame, channels last, little-endian."""
    parts = []
    for array, given in arrays:
        entry = next(node for node in graph.consumers[given.name] if isinstance(node.operator, Quantize))
        type = graph.types[entry.name]
        assert isinstance(type, TensorType)
        ordered = np.ascontiguousarray(given.from_model(array).astype(storage(type).dtype))
        parts.append(ordered.reshape(len(array), -1))
    return [b"".join(part[k].tobytes() for part in parts) for k in range(len(parts[0]))]


def build(
    folder: Path,
    place: Path,
    machine: Machine,
    manifest: Mapping[str, Any],
    variant: str = "",
    flags: Sequence[str] = (),
) -> None:
    """Compiles the runner into `place`, as the project's Makefile does it; as a `variant` that measures."""
    place.mkdir()
    defines, linking = [], list(machine.linking)
    if variant:
        defines.append(f"-D{manifest['name'].upper()}_{variant}")
    if machine.memory and sum(manifest["constants"].values()) + CODE_BYTES > machine.memory[1]:
        defines.append(f'-DMODEL_SECTION=__attribute__((section("{WEIGHTS_SECTION}")))')
        linking.append(f"-Wl,--section-start={WEIGHTS_SECTION}={machine.memory[2] + machine.memory[3] // 2:#x}")
    argv = ["make", "-s", "-C", str(folder), f"BUILD={place}", f"CC={machine.compiler[0]}", "runner"]
    argv += [f"CFLAGS={shlex.join(('-O2', *machine.flags, *flags))}", f"CPPFLAGS={shlex.join(defines)}"]
    argv.append(f"LDFLAGS={shlex.join(linking)}")
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return
    if "overflowed by" in done.stderr or "will not fit in region" in done.stderr:
        raise ConfigurationError(
            f"the model{' with its trace' if variant == 'TRACE' else ''} does not fit the emulated {machine.name}",
            fix="Take --machine host, riscv32 or aarch64" + (", or leave out --trace." if variant == "TRACE" else "."),
        )
    lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()[-1:]
    raise ToolError(f"the C does not compile: {lines[0] if lines else 'no message'}", where=str(folder))


def _run(place: Path, machine: Machine, frames: list[bytes], result: str) -> bytes:
    """What the runner writes for some frames, which several processes share."""
    workers = max(1, min(os.cpu_count() or 1, len(frames)))

    def run(part: slice) -> bytes:
        return _run_slice(place, machine, frames[part], result)

    with ThreadPoolExecutor(workers) as pool:
        return b"".join(pool.map(run, batches(len(frames), -(-len(frames) // workers))))


def _run_slice(built: Path, machine: Machine, frames: list[bytes], result: str) -> bytes:
    with tempfile.TemporaryDirectory(dir=built) as temporary:
        place = Path(temporary)
        (place / "inputs.bin").write_bytes(b"".join(frames))
        argv = [*machine.runner, str(built / "runner")]
        try:
            done = subprocess.run(
                argv, cwd=place, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            raise ToolError(f"the program hangs on {machine.name}", fix="Try --machine host.") from None
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            raise ToolError(
                f"the program stops on {machine.name} with exit code {done.returncode}"
                + (f": {said[0]}" if said else "")
            )
        return (place / result).read_bytes()


def _compare_outputs(graph: Graph, data: bytes, expected: Mapping[str, Array], frames: int) -> MismatchError | None:
    """The first difference in the model's outputs."""
    at, whole = 0, np.frombuffer(data, np.uint8)
    sizes = [_bytes(graph, output.value) for output in graph.outputs]
    if len(whole) != frames * sum(sizes):
        return MismatchError("the outputs", (), f"{frames * sum(sizes)} bytes", f"{len(whole)}")
    rows = whole.reshape(frames, -1)
    for output, size in zip(graph.outputs, sizes, strict=True):
        got = output.to_model(_elements(graph, output.value, rows[:, at : at + size]))
        error = first_difference(output.name, expected[output.name], got)
        if error is not None:
            return error
        at += size
    return None


def _compare_trace(
    graph: Graph,
    inputs: Mapping[str, Array],
    built: Path,
    machine: Machine,
    entering: list[bytes],
    manifest: Mapping[str, Any],
) -> tuple[int, int]:
    """Compares every value. Returns how many layers and integers there were; raises MismatchError."""
    each, count = int(manifest["trace_bytes"]), 0
    channels_last = {given.name: given.from_model(inputs[given.name]) for given in graph.inputs}
    for part in batches(len(entering), max(1, SLICE_BYTES // each)):
        data = _run(built, machine, entering[part], "trace.bin")
        rows = np.frombuffer(data, np.uint8)
        if len(rows) != len(entering[part]) * each:
            raise MismatchError("the trace", (), f"{len(entering[part]) * each} bytes", f"{len(rows)}")
        rows = rows.reshape(-1, each)
        expected: dict[str, Array] = {}
        reference.evaluate(graph, {name: a[part] for name, a in channels_last.items()}, expected.__setitem__)
        got = {
            e["value"]: _elements(graph, e["value"], rows[:, e["offset"] : e["offset"] + _bytes(graph, e["value"])])
            for e in manifest["trace"]
        }
        error = compare_layers([node.name for node in graph.nodes], expected, got, part.start)
        if error is not None:
            raise error
        count += sum(array.size for array in got.values())
    return len(manifest["trace"]), count


def _type(graph: Graph, name: str) -> TensorType:
    type = graph.types[name]
    assert isinstance(type, TensorType)
    return type


def _bytes(graph: Graph, name: str) -> int:
    return _type(graph, name).size * storage(_type(graph, name)).bytes


def _elements(graph: Graph, name: str, rows: Array) -> Array:
    """(frames, bytes) as (frames, *shape) of int64."""
    type = _type(graph, name)
    return np.ascontiguousarray(rows).view(storage(type).dtype).astype(np.int64).reshape(len(rows), *type.shape)
