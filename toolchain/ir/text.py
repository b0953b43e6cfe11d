"""The textual form of graphs. It prints everything a graph holds and reads back to an equal one.

    program "lenet"
    input "data": real[1, 28, 28] axes [0, 1, 2]
    "data/quantize" = Quantize("data") {"type": "ufixed<8,0,RND,SAT>"} layer "data": ufixed<8,0>[1, 28, 28] ...
    output "logits" = "ip2/requantize" axes [0]

One line a node: its name, operator, inputs, fields as JSON, the model's layer, and its type (which is checked against
the inferred one when read). Names are JSON strings, so that they may hold anything. An array is its nested list, or
`{"constant": k}` for entry k of a list of constants kept elsewhere, or `{"table": ...}` for a table that its definition
gives, or `{"packed": ...}` with the coding of weights.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np

from toolchain.errors import ModelError, ToolchainError
from toolchain.ir.constant import Constant
from toolchain.ir.fixed import FixedType
from toolchain.ir.graph import Graph, Input, Node, Output
from toolchain.ir.tabulated import Tabulated
from toolchain.ir.types import Meaning, RealType, TensorType, Type
from toolchain.packing.packed import Coding, Packed

_DECODER = json.JSONDecoder()


def to_text(graph: Graph, constants: list[Constant] | None = None, *, shared: bool = True) -> str:
    """The text of a graph. Given a list, constants are appended to it and referred to by number.

    Equal constants are appended once, or with `shared` off each time.
    """
    numbers: dict[Constant, int] = {}

    def encode(value: Any) -> Any:
        if isinstance(value, Tabulated):
            return {"table": value.function, "index": encode(value.index), "type": encode(value.type)}
        if isinstance(value, Constant):
            if constants is None and isinstance(value, Packed):
                return {"packed": encode(value.coding), "shape": list(value.shape)}
            if constants is None:
                shape = {} if value.array.size else {"shape": list(value.shape)}  # which nested lists would not tell
                return {"array": value.array.tolist(), "real": not value.is_integer, **shape}
            if not shared or value not in numbers:
                numbers[value] = len(constants)
                constants.append(value)
            return {"constant": numbers[value]}
        if isinstance(value, FixedType):
            return str(value)
        if isinstance(value, Enum):
            return value.value
        if dataclasses.is_dataclass(value):
            return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, tuple):
            return [encode(item) for item in value]
        return value

    lines = [f"program {json.dumps(graph.name)}"]
    lines += [f"input {json.dumps(one.name)}: {one.type} axes {list(one.axes)}" for one in graph.inputs]
    for node in graph.nodes:
        fields = {f.name: encode(getattr(node.operator, f.name)) for f in dataclasses.fields(node.operator)}
        inputs = ", ".join(map(json.dumps, node.inputs))
        lines.append(
            f"{json.dumps(node.name)} = {type(node.operator).__name__}({inputs}) {json.dumps(fields)} "
            f"layer {json.dumps(node.layer)}: {graph.types[node.name]}"
        )
    lines += [f"output {json.dumps(one.name)} = {json.dumps(one.value)} axes {list(one.axes)}" for one in graph.outputs]
    return "\n".join(lines) + "\n"


def from_text(text: str, constants: Sequence[Constant] = ()) -> Graph:
    """The graph of a text. Raises ModelError with the line's number when the text is damaged."""
    name = ""
    inputs: list[Input] = []
    nodes: list[Node] = []
    outputs: list[Output] = []
    written: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            reader = _Reader(line, constants)
            if line.startswith("program "):
                name = reader.skip("program ").name()
            elif line.startswith("input "):
                given = reader.skip("input ").name()
                inputs.append(Input(given, reader.skip(": ").type(), reader.skip(" axes ").axes()))
            elif line.startswith("output "):
                output = reader.skip("output ").name()
                outputs.append(Output(output, reader.skip(" = ").name(), reader.skip(" axes ").axes()))
            elif line.startswith('"'):
                node, type = reader.node()
                nodes.append(node)
                written.append(type)
            elif line.strip():
                raise ValueError("is no program, input, node or output")
            reader.end()
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RecursionError,
            ToolchainError,
        ) as error:
            raise ModelError(f"line {number} of the program is damaged: {error}") from None
    graph = Graph(name, tuple(inputs), tuple(nodes), tuple(outputs))
    try:
        types = graph.types
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise ModelError(f"the operators of the program do not fit together: {error}") from None
    for node, type in zip(nodes, written, strict=True):
        if str(types[node.name]) != type:
            raise ModelError(f"has the type {types[node.name]}, its line says {type}", where=node.name)
    return graph


class _Reader:
    """Reads one line from left to right."""

    def __init__(self, line: str, constants: Sequence[Constant]) -> None:
        self._line = line
        self._at = 0
        self._constants = constants

    def skip(self, text: str) -> _Reader:
        if not self._line.startswith(text, self._at):
            raise ValueError(f"{text!r} is missing at column {self._at + 1}")
        self._at += len(text)
        return self

    def end(self) -> None:
        if self._at != len(self._line) and self._line.strip():
            raise ValueError(f"unexpected {self._line[self._at : self._at + 20]!r}")

    def json(self) -> Any:
        value, self._at = _DECODER.raw_decode(self._line, self._at)
        return value

    def name(self) -> str:
        value = self.json()
        if not isinstance(value, str):
            raise TypeError(f"{value!r} is no name")
        return value

    def axes(self) -> tuple[int, ...]:
        return tuple(int(axis) for axis in self.json())

    def type(self) -> Type:
        match = re.compile(r"real(\[[\d, ]*\])").match(self._line, self._at)
        if match:
            self._at = match.end()
            return RealType(tuple(json.loads(match[1])))
        match = re.compile(
            r"(u?fixed<[^>]*>)(\[[\d, ]*\]) in \[(-?\d+), (-?\d+)\]"
            r"( points (\[[-\d, ]*\]))?( scale (\S+) zero (-?\d+))?"
        ).match(self._line, self._at)
        if not match:
            raise ValueError(f"no type at column {self._at + 1}")
        self._at = match.end()
        fixed = FixedType.parse(match[1])
        points = tuple(json.loads(match[6])) if match[6] else (fixed.fraction,)
        shape = tuple(json.loads(match[2]))
        meaning = Meaning(float(match[8]), int(match[9])) if match[7] else None
        return TensorType(shape, fixed.width, fixed.signed, points, int(match[3]), int(match[4]), meaning)

    def node(self) -> tuple[Node, str]:
        from toolchain.ops import OPERATORS

        name = self.name()
        self.skip(" = ")
        word = re.compile(r"\w+").match(self._line, self._at)
        if word is None or word[0] not in OPERATORS:
            raise ValueError(f"no known operator at column {self._at + 1}")
        self._at = word.end()
        self.skip("(")
        inputs = []
        while not self._line.startswith(")", self._at):
            inputs.append(self.name())
            if self._line.startswith(", ", self._at):
                self.skip(", ")
        fields = self.skip(") ").json()
        kind = OPERATORS[word[0]]
        hints = _hints(kind)
        if not isinstance(fields, dict) or set(fields) != {f.name for f in dataclasses.fields(kind)}:
            raise ValueError(f"the fields of {word[0]} are {[f.name for f in dataclasses.fields(kind)]}")
        operator = kind(**{key: self._decode(value, hints[key]) for key, value in fields.items()})
        layer = self.skip(" layer ").name()
        self.skip(": ")
        type = self._line[self._at :]
        self._at = len(self._line)
        return Node(name, operator, tuple(inputs), layer), type

    def _decode(self, value: Any, hint: Any) -> Any:
        """JSON to the Python type that a field declares."""
        origin = typing.get_origin(hint)
        if origin in (types.UnionType, typing.Union):
            if value is None:
                return None
            return self._decode(value, next(a for a in typing.get_args(hint) if a is not type(None)))
        if hint is Constant:
            return self._constant(value)
        if origin is typing.Literal:
            if value not in typing.get_args(hint):
                raise ValueError(f"{value!r} is none of {typing.get_args(hint)}")
            return value
        if hint is FixedType:
            return FixedType.parse(value)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return hint(value)
        if dataclasses.is_dataclass(hint):
            hints = _hints(hint)
            return hint(**{key: self._decode(item, hints[key]) for key, item in value.items()})  # type: ignore[operator]
        if origin is tuple:
            arguments = typing.get_args(hint)
            inner = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
            return tuple(self._decode(item, a) for item, a in zip(value, inner, strict=True))
        if hint is float and type(value) in (int, float):
            return value
        if type(value) is not hint:
            raise ValueError(f"{value!r} is no {hint.__name__}")
        return value

    def _constant(self, value: Any) -> Constant:
        if "constant" in value:
            number = value["constant"]
            if type(number) is not int or not 0 <= number < len(self._constants):
                raise ValueError(f"there is no constant {number}")
            return self._constants[number]
        if "table" in value:
            return Tabulated(value["table"], FixedType.parse(value["index"]), FixedType.parse(value["type"]))
        if "packed" in value:
            return Packed(self._decode(value["packed"], Coding), tuple(value["shape"]))
        array = np.array(value["array"], dtype=np.float64 if value["real"] else None)
        if array.size:
            return Constant(array)
        return Constant(array.astype(np.float64 if value["real"] else np.int64).reshape(value["shape"]))


def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)
