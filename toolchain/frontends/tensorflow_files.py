"""TensorFlow SavedModel folders and frozen graphs, through tf2onnx in a process of its own.

A graph is a program: loading a SavedModel runs functions that the file chooses, and folding constants runs operators.
So the file is read as data first. TensorFlow is given a copy of what was checked, whose operators only compute: the
functions that save and restore a SavedModel are taken out, since its loader reads the variables by itself.
"""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from toolchain.errors import ModelError, ToolError, UnsafeModel
from toolchain.frontends.onnx import FILE_LIMIT
from toolchain.frontends.onnx import load as load_onnx
from toolchain.frontends.tensorflow_operators import COMPUTING, OUTPUTS, SAVING, SEVERAL, SOURCES

OPSET = 18
TIME_LIMIT = 1800
"""Seconds for one conversion."""
SAVED_MODEL = "saved_model.pb"
VARIABLES = "variables"
WITHOUT_OUTPUT = ("Assert", "Const", "ControlTrigger", "NoOp")
EXTRA = "Type: pip install 'dct-toolchain[tensorflow]'"
FREEZE = "Freeze the graph with convert_variables_to_constants_v2 and give the .pb file."


@dataclass(frozen=True)
class Operation:
    """A node of a graph: its name, operator, the names of the nodes that it reads, and attributes that are integers."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    integers: Mapping[str, int] = field(default_factory=dict)


def is_tensorflow(path: Path) -> bool:
    """A SavedModel's folder, or a file with a graph."""
    return (path.is_dir() and (path / SAVED_MODEL).is_file()) or (path.is_file() and path.suffix.lower() == ".pb")


def load(path: Path, input_shapes: Mapping[str, tuple[int, ...]] | None = None) -> onnx.ModelProto:
    """The model as ONNX, channels last where TensorFlow has it so.

    Raises UnsafeModel for operators that may reach beyond the network, ModelError for what tf2onnx cannot convert, and
    ToolError without the extra `tensorflow`.
    """
    folder = path.is_dir()
    file = path / SAVED_MODEL if folder else path
    size = file.stat().st_size
    if size > FILE_LIMIT:
        raise ModelError(f"the file has {size} bytes, more than the {FILE_LIMIT} that are read", where=path.name)
    message = read_message(file.read_bytes(), is_saved_model=folder)
    if folder:
        remove_savers(message, path.name)
        _check_variables(path)
    graphs = list(operations(message))
    if not any(graphs):
        raise ModelError("holds no TensorFlow graph", where=path.name, fix="Export it again.")
    found = sorted({one.kind or "(none)" for graph in graphs for one in graph} - COMPUTING)
    if found:
        raise UnsafeModel(
            f"holds operators that are not known to compute only: {', '.join(found[:5])}", where=path.name, fix=FREEZE
        )
    options = ["--saved-model"] if folder else ends_of(graphs[0], input_shapes or {}, path.name)
    missing = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
    if missing:
        raise ToolError(f"{' and '.join(missing)} is needed to read TensorFlow's files", where=path.name, fix=EXTRA)
    with tempfile.TemporaryDirectory(prefix="toolchain-") as place:
        source, target = _copy(message, path, Path(place)), Path(place) / "model.onnx"
        _convert([*options, str(source), "--opset", str(OPSET), "--output", str(target)], path.name)
        return load_onnx(target)


def read_message(data: bytes, *, is_saved_model: bool) -> Any:
    """What is needed of a file; the rest of it is kept, unread. Raises ModelError for what is none."""
    try:
        return _MESSAGES["SavedModel" if is_saved_model else "GraphDef"].FromString(data)
    except (DecodeError, UnicodeDecodeError, ValueError) as error:
        raise ModelError("is no TensorFlow graph", fix="Export it again.") from error


def remove_savers(message: Any, name: str) -> None:
    """Takes out what TensorFlow 2's loader has no use for: outermost nodes but constants, functions that reach files.

    What still calls one of these functions is then an error of the loader. TensorFlow 1's loader runs the outermost
    nodes, its restore operators first.
    """
    if len(message.meta_graphs) != 1 or not message.meta_graphs[0].HasField("object_graph_def"):
        raise ModelError("is no SavedModel of TensorFlow 2 with one graph", where=name, fix=FREEZE)
    graph = message.meta_graphs[0].graph_def
    constants = [node for node in graph.node if node.op == "Const"]
    del graph.node[:]
    graph.node.extend(constants)
    kept = [one for one in graph.library.function if not SAVING.intersection(node.op for node in one.node_def)]
    del graph.library.function[:]
    graph.library.function.extend(kept)


def _check_variables(path: Path) -> None:
    """TensorFlow follows links; nothing outside the folder is read."""
    folder = path / VARIABLES
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    linked = [one for one in files if not stat.S_ISREG(one.lstat().st_mode) or one.lstat().st_nlink > 1]
    if folder.is_symlink() or linked:
        name = linked[0].name if linked else VARIABLES
        raise UnsafeModel(f"{name} is a link or no file", where=path.name, fix="Copy the model without links.")


def operations(message: Any) -> Iterator[list[Operation]]:
    """The operations of each graph in a file, those of functions too."""
    graph = message.meta_graphs[0].graph_def if hasattr(message, "meta_graphs") else message
    yield [_operation(node) for node in graph.node]
    for function in graph.library.function:
        yield [_operation(node) for node in function.node_def]


def _operation(node: Any) -> Operation:
    sources = tuple(name.split(":")[0].removeprefix("^") for name in node.input)
    return Operation(node.name, node.op, sources, {one.key: one.value.i for one in node.attr})


def ends_of(graph: list[Operation], input_shapes: Mapping[str, tuple[int, ...]], name: str) -> list[str]:
    """What tf2onnx is told of a frozen graph, whose inputs and outputs have to be named; the file's name comes next."""
    read = {source for one in graph for source in one.inputs}
    sources = [one.name for one in graph if one.kind in SOURCES and one.name in read]
    ends = [one for one in graph if one.name not in read and one.kind not in (*SOURCES, *WITHOUT_OUTPUT)]
    shapes = {given.split(":")[0]: shape for given, shape in input_shapes.items()}
    unknown = sorted(set(shapes) - set(sources))
    if unknown:
        raise ModelError(f"has no input {unknown[0]!r}", where=name, fix=f"Its inputs are {', '.join(sources)}.")
    if not sources or not ends:
        raise ModelError("has no input or no output that can be found", where=name, fix="Freeze it again.")
    without = [source for source in sources if source not in shapes]
    if without:
        raise ModelError(
            "does not tell the input's shape",
            where=f"{name}: {without[0]}",
            fix=f"Give it with --input-shape {without[0]}=1,ROWS,COLUMNS,CHANNELS.",
        )
    inputs = ",".join(f"{source}:0[{','.join(['-1', *map(str, shapes[source][1:])])}]" for source in sources)
    outputs = ",".join(f"{one.name}:{index}" for one in ends for index in range(_count(one, name)))
    return [f"--inputs={inputs}", f"--outputs={outputs}", "--graphdef"]


def _count(operation: Operation, name: str) -> int:
    """How many outputs the last node of a graph has."""
    if operation.kind in SEVERAL:
        raise ModelError(
            f"ends in {operation.kind}, which may have several outputs",
            where=f"{name}: {operation.name}",
            fix="Put an Identity behind each of them and freeze it again.",
        )
    count = OUTPUTS.get(operation.kind, 1)
    return operation.integers.get(count, 1) if isinstance(count, str) else count


def _copy(message: Any, path: Path, place: Path) -> Path:
    """What was checked, in a place that nobody else writes to; the variables stay where they are."""
    data = message.SerializeToString()
    if not path.is_dir():
        (place / "graph.pb").write_bytes(data)
        return place / "graph.pb"
    source = place / "model"
    source.mkdir()
    (source / SAVED_MODEL).write_bytes(data)
    (source / VARIABLES).symlink_to((path / VARIABLES).resolve(), target_is_directory=True)
    return source


def _convert(options: list[str], name: str) -> None:
    command = [sys.executable, "-P", "-m", "tf2onnx.convert", *options]  # -P: no modules of the current folder
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=quiet, timeout=TIME_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        raise ModelError(f"tf2onnx did not end within {TIME_LIMIT} s", where=name) from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = lines[-1][:300] if lines else f"exit code {done.returncode}"
        raise ModelError(f"tf2onnx cannot convert it: {said}", where=name)


def _message_classes() -> dict[str, Any]:
    """The parts of TensorFlow's `graph.proto`, `function.proto` and `saved_model.proto` that are read here."""
    kinds = descriptor_pb2.FieldDescriptorProto
    text, integer, nested = kinds.TYPE_STRING, kinds.TYPE_INT64, kinds.TYPE_MESSAGE
    fields: dict[str, list[tuple[str, int, int | str, bool]]] = {
        "AttrValue": [("i", 3, integer, False)],
        "Attribute": [("key", 1, text, False), ("value", 2, "AttrValue", False)],
        "NodeDef": [
            ("name", 1, text, False), ("op", 2, text, False), ("input", 3, text, True), ("attr", 5, "Attribute", True),
        ],
        "FunctionDef": [("node_def", 3, "NodeDef", True)],
        "Library": [("function", 1, "FunctionDef", True)],
        "GraphDef": [("node", 1, "NodeDef", True), ("library", 2, "Library", False)],
        "ObjectGraph": [],
        "MetaGraphDef": [("graph_def", 2, "GraphDef", False), ("object_graph_def", 7, "ObjectGraph", False)],
        "SavedModel": [("meta_graphs", 2, "MetaGraphDef", True)],
    }  # fmt: skip
    file = descriptor_pb2.FileDescriptorProto(name="toolchain/tensorflow.proto", package="toolchain", syntax="proto3")
    for name, members in fields.items():
        described = file.message_type.add(name=name)
        for member, number, kind, repeated in members:
            one = described.field.add(name=member, number=number, type=nested if isinstance(kind, str) else kind)
            one.label = one.LABEL_REPEATED if repeated else one.LABEL_OPTIONAL
            if isinstance(kind, str):
                one.type_name = f".toolchain.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"toolchain.{name}")) for name in fields}


_MESSAGES = _message_classes()
