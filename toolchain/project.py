"""A project folder: written whole or not at all, and read with every byte checked."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from toolchain.codegen import loaded
from toolchain.codegen.loaded import role_of
from toolchain.codegen.project import Files, remove_tree, write_files
from toolchain.errors import ConfigurationError, ModelError
from toolchain.ir import Constant, Graph
from toolchain.ir.text import from_text, to_text
from toolchain.packing.container import Statistics, Tensor, describe, pack, unpack
from toolchain.simulation.simulator import Engine, Simulator
from toolchain.version import __version__

FORMAT = "dct-toolchain program"
VERSION = 1
PROGRAM, WEIGHTS, REPORT = "program.json", "weights.bin", "report.json"


@dataclass(frozen=True)
class Project:
    """A compiled network on disk."""

    path: Path
    graph: Graph

    def simulator(self, engine: Engine = "fast", threads: int = 1) -> Simulator:
        """A simulator whose outputs are those of the hardware, bit for bit."""
        return Simulator(self.graph, engine, threads)

    @cached_property
    def report(self) -> dict[str, Any]:
        """The contents of report.json. Raises ModelError when it is damaged."""
        return read_report(self.path)


@dataclass(frozen=True)
class StoredProgram:
    """`program.json` and `weights.bin` of an integer program, and what the latter consists of.

    `breakdown` gives the bits of its parts, `statistics` how each coded constant is stored.
    """

    files: Files
    breakdown: Mapping[str, int]
    statistics: Mapping[Constant, Statistics]

    @property
    def weights(self) -> bytes:
        """`weights.bin`."""
        data = self.files[WEIGHTS]
        assert isinstance(data, bytes)
        return data

    @property
    def size(self) -> int:
        """Bytes of `weights.bin`."""
        return len(self.weights)


def store_program(graph: Graph, *, shared: bool = True) -> StoredProgram:
    """The files that hold an integer program.

    With `shared` off, for weights that the hardware decodes, equal constants are stored each time, so that the tensors
    do not depend on their values.
    """
    constants: list[Constant] = []
    text = to_text(graph, constants, shared=shared)
    if shared:
        roles = _roles(graph)
        data, breakdown = pack([Tensor(roles[constant], constant) for constant in constants])
    else:
        tensors = [Tensor(role_of(field), constant) for _, field, constant in loaded.constants(graph)]
        data, breakdown = pack(tensors, loaded.DECODERS)
    program = {
        "format": FORMAT,
        "version": VERSION,
        "toolchain": __version__,
        "weights": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        "program": text.splitlines(),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    files: Files = {PROGRAM: json.dumps(program, indent=1) + "\n", WEIGHTS: data}
    return StoredProgram(files, breakdown, {constants[one.number]: one for one in describe(data)})


def sealed(files: Files) -> Files:
    """The files with the checksum of report.json in program.json."""
    report = files[REPORT]
    assert isinstance(report, str)
    program = json.loads(files[PROGRAM])
    program["report"] = {"sha256": hashlib.sha256(report.encode()).hexdigest()}
    return {**files, PROGRAM: json.dumps(program, indent=1) + "\n"}


def _roles(graph: Graph) -> dict[Constant, str]:
    roles: dict[Constant, str] = {}
    for _, field, value in loaded.constants(graph):
        roles.setdefault(value, role_of(field))
    return roles


def load(path: str | Path) -> Project:
    """Reads a project folder. Raises ModelError when it is none, or when a file of it is damaged."""
    root = Path(path)
    program = _json(root, PROGRAM)
    if program.get("format") != FORMAT:
        raise ModelError("is not a project of this toolchain", where=str(root))
    if program.get("version") != VERSION:
        raise ModelError(f"has version {program.get('version')}, this toolchain reads {VERSION}", where=str(root))
    damaged = ModelError("is damaged", where=PROGRAM, fix="Compile the model again.")
    try:
        text = "\n".join(program["program"]) + "\n"
        checksum, size, digest = program["sha256"], program["weights"]["bytes"], program["weights"]["sha256"]
    except (KeyError, TypeError):
        raise damaged from None
    if hashlib.sha256(text.encode()).hexdigest() != checksum:
        raise damaged
    try:
        data = (root / WEIGHTS).read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(root / WEIGHTS)) from None
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise ModelError("is damaged (checksum)", where=WEIGHTS, fix="Compile the model again.")
    constants = [tensor.constant for tensor in unpack(data)]
    graph = from_text(text, constants)
    if not graph.inputs or not graph.outputs:
        raise damaged
    return Project(root, graph)


def read_report(root: Path) -> dict[str, Any]:
    """report.json of a project, its checksum compared with the one in program.json and its keys with the contract.

    Raises ModelError, naming the key that is missing or wrong: checksums keep nobody from writing another report.
    """
    from toolchain.report.schema import find_fault  # pydantic takes longer to load than most projects

    program = _json(root, PROGRAM)
    content = _json(root, REPORT)
    seal = program.get("report")
    digest = hashlib.sha256((root / REPORT).read_bytes()).hexdigest()
    if not isinstance(seal, dict) or seal.get("sha256") != digest:
        raise ModelError("is damaged (checksum)", where=REPORT, fix="Compile the model again.")
    if fault := find_fault(content):
        raise ModelError(f"is damaged: {fault}", where=REPORT, fix="Compile the model again.")
    return content


def _json(root: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((root / name).read_bytes())
    except OSError as error:
        if not root.is_dir():
            raise ModelError("is no project folder", where=str(root), fix="Make one with toolchain compile.") from None
        raise ModelError(f"cannot be read: {error.strerror}", where=str(root / name)) from None
    except (ValueError, RecursionError):
        raise ModelError("is damaged: no JSON", where=str(root / name), fix="Compile the model again.") from None
    if not isinstance(content, dict):
        raise ModelError("is damaged: no JSON object", where=str(root / name))
    return content


def is_project(path: Path) -> bool:
    """Does the folder hold a project of ours?"""
    try:
        return bool(_json(path, PROGRAM).get("format") == FORMAT)
    except ModelError:
        return False


def check_target(path: Path, force: bool) -> None:
    """Raises ConfigurationError when a project cannot be written to `path`."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ConfigurationError("exists and is no folder", where=str(path))
    if path.exists() and any(path.iterdir()):
        if not is_project(path):
            raise ConfigurationError("holds other files and is left alone", where=str(path), fix="Name another folder.")
        if not force:
            raise ConfigurationError("holds a project", where=str(path), fix="Replace it with --force.")
    if not path.resolve().parent.is_dir():
        raise ConfigurationError("the folder to write into does not exist", where=str(path.resolve().parent))


def write_project(path: Path, files: Mapping[str, str | bytes], force: bool = False) -> None:
    """Writes all files beside the target first, then renames; an interruption leaves the target as it was."""
    check_target(path, force)
    path = path.resolve()
    try:
        staging = Path(tempfile.mkdtemp(prefix=".toolchain-", dir=path.parent))
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", where=str(path)) from None
    try:
        fresh, old = staging / "new", staging / "old"
        fresh.mkdir()
        write_files(fresh, files)
        if path.exists():
            path.rename(old)
        try:
            fresh.rename(path)
        except BaseException:  # an interrupt too: the old project must not go away with the staging folder
            if old.exists() and not path.exists():
                old.rename(path)
            raise
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", where=str(path)) from None
    finally:
        remove_tree(staging)
