"""TensorFlow SavedModel folders and frozen graphs, through tf2onnx in a process of its own.

A graph is a program: loading a SavedModel runs its restore functions, and folding constants runs operators. So the file
is read as data first, and operators that reach files, the network or Python are refused before TensorFlow sees any.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from toolchain.errors import ModelError, ToolError, UnsafeModel
from toolchain.frontends.onnx import FILE_LIMIT
from toolchain.frontends.onnx import load as load_onnx

OPSET = 18
TIME_LIMIT = 1800
"""Seconds for one conversion."""
SAVED_MODEL = "saved_model.pb"
SOURCES = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "IteratorGetNext")
DANGEROUS = re.compile(
    r"(Read|Write)File|MatchingFiles|.*PyFunc.*|.*Dataset.*|.*Queue.*|.*Reader(V\d)?|.*TensorArrayFile.*|.*Summary.*"
    r"|Rpc.*|.*Socket.*|.*Send|.*Recv|Collective.*|TPU.*|Xla.*|Shell.*|DebugIdentity.*|PrintV?2?"
)
"""Operators that no network needs when it is used and that may reach beyond it."""
EXTRA = "Type: pip install 'dct-toolchain[tensorflow]'"


@dataclass(frozen=True)
class Operation:
    """A node of a graph: its name, operator, and the names of the nodes that it reads."""

    name: str
    kind: str
    inputs: tuple[str, ...]


def is_tensorflow(path: Path) -> bool:
    """A SavedModel's folder, or a file with a graph."""
    return (path.is_dir() and (path / SAVED_MODEL).is_file()) or (path.is_file() and path.suffix.lower() == ".pb")


def load(path: Path, input_shapes: Mapping[str, tuple[int, ...]] | None = None) -> onnx.ModelProto:
    """The model as ONNX, channels last where TensorFlow has it so.

    Raises UnsafeModel for operators that reach beyond the network, ModelError for what tf2onnx cannot convert, and
    ToolError without the extra `tensorflow`.
    """
    folder = path.is_dir()
    file = path / SAVED_MODEL if folder else path
    size = file.stat().st_size
    if size > FILE_LIMIT:
        raise ModelError(f"the file has {size} bytes, more than the {FILE_LIMIT} that are read", where=path.name)
    graphs = list(read_operations(file.read_bytes(), is_saved_model=folder))
    if not any(graphs):
        raise ModelError("holds no TensorFlow graph", where=path.name, fix="Export it again.")
    found = sorted({one.kind for graph in graphs for one in graph if DANGEROUS.fullmatch(one.kind)})
    if found:
        raise UnsafeModel(f"holds operators that reach beyond the network: {', '.join(found[:5])}", where=path.name)
    missing = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
    if missing:
        raise ToolError(f"{' and '.join(missing)} is needed to read TensorFlow's files", where=path.name, fix=EXTRA)
    with tempfile.TemporaryDirectory(prefix="toolchain-") as place:
        target = Path(place) / "model.onnx"
        _convert([*arguments(path, graphs[0], input_shapes or {}), "--output", str(target)], path.name)
        return load_onnx(target)


def read_operations(data: bytes, *, is_saved_model: bool) -> Iterator[list[Operation]]:
    """The operations of each graph in a file, those of functions too. Raises ModelError for what is none."""
    kind = _MESSAGES["SavedModel" if is_saved_model else "GraphDef"]
    try:
        message: Any = kind.FromString(data)
    except (DecodeError, UnicodeDecodeError, ValueError) as error:
        raise ModelError("is no TensorFlow graph", fix="Export it again.") from error
    for graph in [meta.graph_def for meta in message.meta_graphs] if is_saved_model else [message]:
        yield [_operation(node) for node in graph.node]
        for function in graph.library.function:
            yield [_operation(node) for node in function.node_def]


def _operation(node: Any) -> Operation:
    sources = tuple(name.split(":")[0].removeprefix("^") for name in node.input)
    return Operation(node.name, node.op, sources)


def arguments(path: Path, graph: list[Operation], input_shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What tf2onnx is told: a frozen graph's inputs and outputs have to be named."""
    common = ["--opset", str(OPSET)]
    if path.is_dir():
        return ["--saved-model", str(path), *common]
    read = {name for one in graph for name in one.inputs}
    sources = [one.name for one in graph if one.kind in SOURCES and one.name in read]
    ends = [one.name for one in graph if one.name not in read and one.kind not in (*SOURCES, "Const", "NoOp")]
    shapes = {name.split(":")[0]: shape for name, shape in input_shapes.items()}
    unknown = sorted(set(shapes) - set(sources))
    if unknown:
        raise ModelError(f"has no input {unknown[0]!r}", where=path.name, fix=f"Its inputs are {', '.join(sources)}.")
    if not sources or not ends:
        raise ModelError("has no input or no output that can be found", where=path.name, fix="Freeze it again.")
    without = [name for name in sources if name not in shapes]
    if without:
        raise ModelError(
            "does not tell the input's shape",
            where=f"{path.name}: {without[0]}",
            fix=f"Give it with --input-shape {without[0]}=1,ROWS,COLUMNS,CHANNELS.",
        )
    inputs = [f"{name}:0[{','.join(['-1', *map(str, shapes[name][1:])])}]" for name in sources]
    ends = [f"{name}:0" for name in ends]
    return ["--graphdef", str(path), "--inputs", ",".join(inputs), "--outputs", ",".join(ends), *common]


def _convert(options: list[str], name: str) -> None:
    command = [sys.executable, "-m", "tf2onnx.convert", *options]
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
    text, message = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    fields: dict[str, list[tuple[str, int, str, bool]]] = {
        "NodeDef": [("name", 1, "", False), ("op", 2, "", False), ("input", 3, "", True)],
        "FunctionDef": [("node_def", 3, "NodeDef", True)],
        "Library": [("function", 1, "FunctionDef", True)],
        "GraphDef": [("node", 1, "NodeDef", True), ("library", 2, "Library", False)],
        "MetaGraphDef": [("graph_def", 2, "GraphDef", False)],
        "SavedModel": [("meta_graphs", 2, "MetaGraphDef", True)],
    }
    file = descriptor_pb2.FileDescriptorProto(name="toolchain/tensorflow.proto", package="toolchain", syntax="proto3")
    for name, members in fields.items():
        described = file.message_type.add(name=name)
        for member, number, kind, repeated in members:
            one = described.field.add(name=member, number=number, type=message if kind else text)
            one.label = one.LABEL_REPEATED if repeated else one.LABEL_OPTIONAL
            if kind:
                one.type_name = f".toolchain.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"toolchain.{name}")) for name in fields}


_MESSAGES = _message_classes()
