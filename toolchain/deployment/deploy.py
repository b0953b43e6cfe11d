"""`toolchain deploy`: a project onto a board, its outputs compared with the simulation integer by integer."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.deployment.remote import ANSWER_SECONDS, Access, Connection
from toolchain.errors import BoardError, ConfigurationError, ModelError, ToolError
from toolchain.hardware.board import load_board
from toolchain.ir import Array, Graph, Input, TensorType
from toolchain.ops.quantize import Quantize
from toolchain.progress import Progress, no_progress
from toolchain.project import WEIGHTS, Project, load
from toolchain.simulation.arrays import save_arrays
from toolchain.simulation.simulator import Simulator, check_inputs
from toolchain.verification.compare import first_difference

DIRECTORY = ".dct-toolchain"
FIRMWARE = "/lib/firmware/xilinx"
"""Where dfx-mgr looks for applications."""
DESCRIPTION = "accelerator.json"
RUN_SECONDS = 300.0
ROOM = 16 << 20
"""Bytes that have to stay free on the board, beside a copy of everything and the outputs."""
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
BUILD_ID = re.compile(r"BUILD_ID = (0x[0-9a-f]{8});")
ARTEFACTS = {
    "vivado": ("{}.bit", "{}.hwh"),
    "kria": ("{}.bit", "{}.hwh", "firmware/{}.bit.bin", "firmware/{}.dtbo", "firmware/shell.json"),
    "vitis": ("{}.xclbin",),
}
"""What a flow's board needs of `hls/out/`; the first is the image that the host program gets.

On Kria PYNQ programs the bitstream again when it opens the overlay, with the same bits. It must not find the device
tree beside it: it would apply it a second time.
"""
KRIA_FIRMWARE = slice(2, None)
RESERVED = ("run", "firmware")
"""Folders of a deployment that are not the host program's."""
Say = Callable[[str], None]


def no_lines(line: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class Options:
    """How a deployment is made.

    `directory` on the board is relative to the home there; `frames` limits the rows; `repeat` runs the batch so many
    times for the throughput; `seconds` is the longest that the board may compute; `keep` keeps older deployments of the
    network; `firmware` is where a Kria board's applications are.
    """

    directory: str = DIRECTORY
    frames: int | None = None
    repeat: int = 1
    seconds: float = RUN_SECONDS
    keep: bool = False
    firmware: str = FIRMWARE


@dataclass(frozen=True)
class Package:
    """Everything that goes onto the board, and what its accelerator is called."""

    name: str
    board: str
    flow: str
    build_id: int
    files: Mapping[str, bytes] = field(repr=False)
    artefacts: tuple[str, ...]
    weights: bool


@dataclass(frozen=True)
class Deployment:
    """What a deployment that passed found. `seconds` is what the board took for all repetitions of `frames` frames."""

    path: str
    build_id: int
    frames: int
    values: int
    seconds: float
    frames_per_second: float


def deploy_project(
    path: Path,
    access: Access,
    inputs: Mapping[str, Array] | None = None,
    options: Options | None = None,
    say: Say | None = None,
    progress: Progress | None = None,
) -> Deployment:
    """Copies a built project to a board, runs it there and compares every output integer with the reference engine.

    `inputs` are the model's, by name; without them the rows of the project's test bench run. `say` gets lines about
    what is found. Only when all integers agree does `current` on the board point to the new deployment; after any
    error the board is as it was.

    Raises ModelError or ConfigurationError for a project that is not whole or not built, InputError for inputs that
    cannot be run, BoardError when the board is unreachable or has no room, ToolError when a program on it is missing,
    fails or takes too long, MismatchError with the first integer that differs.
    """
    chosen, tell, report = options or Options(), say or no_lines, progress or no_progress
    project = load(path)
    package = collect(project)
    rows = check_inputs(project.graph, project_rows(project) if inputs is None else inputs)
    rows = {name: array[: chosen.frames] for name, array in rows.items()}
    frames = len(next(iter(rows.values())))
    expected = Simulator(project.graph, "reference").raw_outputs(rows, lambda a, b: report("simulating", a, b))
    kind = "npy" if len(rows) == 1 else "npz", "npy" if len(expected) == 1 else "npz"
    files = {**package.files, f"run/inputs.{kind[0]}": array_file(rows, kind[0])}
    most = sum(array.nbytes for array in expected.values()) + (1 << 16)
    with Connection(access) as board:
        tell(f"{access.target}: {board.hello.get('machine')}, Python {board.hello.get('python')}")
        room = sum(map(len, files.values())) + most + ROOM
        copy(board, package, files, chosen, room, tell, report)
        if package.flow == "kria":
            names = list(package.artefacts[KRIA_FIRMWARE])
            loading = board.request(
                "load_firmware", patience=2 * ANSWER_SECONDS, app=package.name, folder=chosen.firmware, names=names
            )
            before = ", ".join(map(str, loading["before"])) or "nothing"
            tell(f"xmutil: {package.name} is loaded; before it {before}")
        tell(f"running {frames} inputs")
        result = run(board, package, frames, kind, chosen, report)
        got = fetch(board, project.graph, f"run/outputs.{kind[1]}", most)
        values = compare(expected, got, str(access.target))
        done = board.request("commit", keep=chosen.keep)
    tell(f"current -> {done['path']}" + (f", {done['removed']} older removed" if done["removed"] else ""))
    return Deployment(str(done["path"]), package.build_id, frames, values, result[0], result[1])


# What goes onto the board


def collect(project: Project) -> Package:
    """Reads everything that the board needs. Raises ModelError or ConfigurationError when something is not there."""
    host, out = project.path / "host", project.path / "hls" / "out"
    description = read_description(host)
    name, flow = description["name"], description["flow"]
    if flow not in ARTEFACTS:
        raise ConfigurationError(
            f"{description['board']} has no processor to deploy to",
            where=str(project.path),
            fix="Use the packaged IP of toolchain build --stage ip.",
        )
    check_build_id(project, description["build_id"])
    artefacts = tuple(pattern.format(name) for pattern in ARTEFACTS[flow])
    missing = [one for one in artefacts if not (out / one).is_file() or (out / one).stat().st_size == 0]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not there",
            where=str(out),
            fix=f"Build it with toolchain build {project.path} --stage bitstream.",
        )
    files = {one: (out / one).read_bytes() for one in artefacts}
    for path in sorted(host.rglob("*")):
        parts = path.relative_to(host).parts
        if not path.is_file() or "__pycache__" in parts:
            continue
        if not all(SAFE_NAME.fullmatch(part) for part in parts) or parts[0] in RESERVED or "/".join(parts) in files:
            raise ModelError("holds a file that does not belong there", where=str(path), fix="Take it away.")
        files["/".join(parts)] = path.read_bytes()
    if "run.py" not in files:
        raise ModelError("has no run.py", where=str(host), fix="Compile the model again.")
    if description["loaded"]:
        files[WEIGHTS] = (project.path / WEIGHTS).read_bytes()
    return Package(name, description["board"], flow, description["build_id"], files, artefacts, description["loaded"])


def read_description(host: Path) -> dict[str, Any]:
    """host/accelerator.json, what is used of it checked. Raises ModelError."""
    if not host.is_dir():
        raise ModelError("the project has no host/", where=str(host.parent), fix="Compile it with --target hls.")
    damaged = ModelError("is damaged", where=str(host / DESCRIPTION), fix="Compile the model again.")
    try:
        found = json.loads((host / DESCRIPTION).read_bytes())
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(host / DESCRIPTION)) from None
    except (ValueError, RecursionError):
        raise damaged from None
    kinds = {"name": str, "board": str, "flow": str, "build_id": int, "loaded": bool}
    if not isinstance(found, dict) or found.get("format") != "dct-toolchain accelerator" or found.get("version") != 1:
        raise damaged
    if any(type(found.get(key)) is not kind for key, kind in kinds.items()):
        raise damaged
    if not re.fullmatch(r"[A-Za-z]\w*", found["name"], re.ASCII) or not 0 < found["build_id"] < 1 << 32:
        raise damaged
    if load_board(found["board"]).flow != found["flow"]:
        raise damaged
    return found


def check_build_id(project: Project, number: int) -> None:
    """Raises ModelError unless the hardware's sources have the number that the host programs expect."""
    path = project.path / "hls" / "src" / "build_id.h"
    try:
        found = BUILD_ID.search(path.read_text(errors="replace"))
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path), fix="Compile the model again.") from None
    if found is None or int(found[1], 16) != number:
        there = found[1] if found else "none"
        raise ModelError(
            f"the build id is {there}, host/ has {number:#010x}", where=str(path), fix="Compile the model again."
        )


# Rows


def project_rows(project: Project) -> dict[str, Array]:
    """The rows of the project's test bench as the model's reals: raw integer times step, float64, exactly."""
    path = project.path / "hls" / "tb_data" / "inputs.dat"
    try:
        table = [[int(word) for word in line.split()] for line in path.read_text().splitlines()]
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path), fix="Give --inputs.") from None
    except ValueError:
        table = []
    sizes = [int(np.prod(given.model_shape)) for given in project.graph.inputs]
    if not table or any(len(row) != sum(sizes) for row in table):
        raise ModelError("is damaged", where=str(path), fix="Give --inputs, or compile the model again.")
    rows, at = {}, 0
    for given, size in zip(project.graph.inputs, sizes, strict=True):
        raw = np.array([row[at : at + size] for row in table]).reshape(len(table), *given.model_shape)
        rows[given.name] = entry_type(project.graph, given).real(raw)
        at += size
    return rows


def entry_type(graph: Graph, given: Input) -> TensorType:
    """The integer type that an input gets where it enters the program."""
    node = next(n for n in graph.nodes if isinstance(n.operator, Quantize) and n.inputs[0] == given.name)
    type = graph.types[node.name]
    assert isinstance(type, TensorType)
    return type


def plain(array: Array) -> Array:
    """Reals as float64 and integers as int64: widening is exact, and the board need not know other types."""
    return np.ascontiguousarray(array, np.float64 if array.dtype.kind == "f" else np.int64)


def array_file(arrays: Mapping[str, Array], kind: str) -> bytes:
    """The bytes of an `.npy` or `.npz` file with inputs."""
    with tempfile.TemporaryDirectory(prefix="toolchain-") as folder:
        path = Path(folder) / f"arrays.{kind}"
        save_arrays(path, {name: plain(array) for name, array in arrays.items()})
        return path.read_bytes()


# On the board


def copy(
    board: Connection,
    package: Package,
    files: Mapping[str, bytes],
    options: Options,
    room: int,
    tell: Say,
    report: Progress,
) -> None:
    """Everything into a new folder on the board, read back from its disk and compared."""
    where = str(board.access.target)
    stem = f"{package.build_id:08x}"
    opened = board.request("open", directory=options.directory, name=package.name, build=stem)
    if opened["swept"]:
        tell(f"removed what {opened['swept']} interrupted deployment(s) had left")
    if opened["free"] < room:
        raise BoardError(
            f"{opened['free'] / 1e6:.1f} MB are free, {room / 1e6:.1f} MB are needed",
            where=where,
            fix="Make room there, or name a folder on another disk with --directory.",
        )
    tell(f"NumPy {board.request('numpy')['numpy']}; copying {len(files)} files, {sum(map(len, files.values()))} bytes")
    total, sent = sum(map(len, files.values())), 0
    for name, data in files.items():
        board.put(name, data, lambda done, before=sent: report("copying", before + done, total))  # type: ignore[misc]
        sent += len(data)
    found = board.request("verify", names=list(files))["sha256"]
    for name, data in files.items():
        if found.get(name) != hashlib.sha256(data).hexdigest():
            raise BoardError(
                f"{name} arrived damaged (checksum)",
                where=where,
                fix="Deploy again; if it happens again, look at the board's storage.",
            )


def run(
    board: Connection, package: Package, frames: int, kind: tuple[str, str], options: Options, report: Progress
) -> tuple[float, float]:
    """Runs the host program; seconds and frames a second as it says."""
    where = str(board.access.target)
    argv = ["run.py", "--image", package.artefacts[0], "--raw"]
    argv += ["--inputs", f"run/inputs.{kind[0]}", "--outputs", f"run/outputs.{kind[1]}"]
    if package.weights:
        argv += ["--weights", WEIGHTS]
    if options.repeat > 1:
        argv += ["--repeat", str(options.repeat)]
    report("running", 0, 1)
    done = board.request("run", patience=options.seconds + ANSWER_SECONDS, argv=argv, seconds=options.seconds)
    if done["code"] != 0:
        lines = [line for line in str(done["stderr"]).splitlines() if line.strip()]
        last = lines[-1].removeprefix("error: ") if lines else "it said nothing"
        raise ToolError(f"run.py failed on the board with exit code {done['code']}: {last}", where=where)
    try:
        said = json.loads(str(done["stdout"]).strip().splitlines()[-1])
        number, count = int(said["build_id"]), int(said["frames"])
        seconds, rate = float(said["seconds"]), float(said["frames_per_second"])
    except (ValueError, TypeError, KeyError, IndexError):
        raise ToolError(
            "run.py ended without saying what it did", where=where, fix="Compile the model again."
        ) from None
    if number != package.build_id:
        raise BoardError(
            f"the board runs build {number:#010x}, the project is {package.build_id:#010x}",
            where=where,
            fix="Its bitstream is of another compilation: run toolchain build --stage bitstream again.",
        )
    if count not in (frames, frames * options.repeat):
        raise ToolError(f"run.py ran {count} frames instead of {frames}", where=where)
    return seconds, rate


def fetch(board: Connection, graph: Graph, name: str, most: int) -> dict[str, Array]:
    """The raw outputs by name."""
    where = str(board.access.target)
    data, checksum = board.get(name, most + most // 8)
    if hashlib.sha256(data).hexdigest() != checksum:
        raise BoardError("the outputs arrived damaged (checksum)", where=where, fix="Deploy again.")
    names = [output.name for output in graph.outputs]
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = {names[0]: loaded} if isinstance(loaded, np.ndarray) else {one: loaded[one] for one in loaded.files}
        found = {one: arrays[one] for one in names}
    except Exception as error:  # noqa: BLE001 - damaged archives and headers raise every kind of exception
        raise ToolError(f"run.py wrote outputs that cannot be read: {error}", where=where) from None
    for one, array in found.items():
        if array.dtype.kind not in "iu":
            raise ToolError(f"run.py wrote {array.dtype} for {one}, raw integers are needed", where=where)
    return found


def compare(expected: Mapping[str, Array], got: Mapping[str, Array], where: str) -> int:
    """How many integers were compared. Raises MismatchError with the first that differs."""
    for name, array in expected.items():
        error = first_difference(name, array, got[name])
        if error is not None:
            error.where = where
            error.fix = "The board is as it was before."
            raise error
    return sum(array.size for array in expected.values())
