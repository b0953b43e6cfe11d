"""The bytes of a `.tflite` file as plain Python data, every size and offset checked before it is used.

flatbuffers' Python reader refuses places outside the buffer but believes every length; those are compared with the
file's size here. It raises what struct and numpy raise, which becomes a ModelError.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from inspect import isfunction
from pathlib import Path
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from toolchain.errors import ModelError

FILE_LIMIT = 2 << 30
IDENTIFIER = b"TFL3"
MAX_RANK = 8
MAX_ELEMENTS = 1 << 40
UNREADABLE = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError)
"""What flatbuffers raises on damaged bytes."""

OPERATORS: dict[int, str] = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
OPTIONS: dict[int, str] = {code: name for name, code in vars(tflite.BuiltinOptions).items() if isinstance(code, int)}
OPTIONS_2: dict[int, str] = {code: name for name, code in vars(tflite.BuiltinOptions2).items() if isinstance(code, int)}
ELEMENTS: dict[int, str] = {code: name for name, code in vars(tflite.TensorType).items() if isinstance(code, int)}
STORED: dict[str, np.dtype[Any]] = {
    "FLOAT32": np.dtype("<f4"),
    "FLOAT16": np.dtype("<f2"),
    "FLOAT64": np.dtype("<f8"),
    "INT8": np.dtype("i1"),
    "UINT8": np.dtype("u1"),
    "INT16": np.dtype("<i2"),
    "UINT16": np.dtype("<u2"),
    "INT32": np.dtype("<i4"),
    "UINT32": np.dtype("<u4"),
    "INT64": np.dtype("<i8"),
    "UINT64": np.dtype("<u8"),
    "BOOL": np.dtype("?"),
}
"""How elements lie in a buffer. INT4 is unpacked from nibbles; nothing else is read."""


@dataclass(frozen=True, eq=False)
class Quantization:
    """real = scale * (integer - zero point), one of each or one for every entry of `axis`."""

    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    axis: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the graph; `shape` has the batch first and -1 where a size is free. `data` is None when computed."""

    index: int
    name: str
    element: str
    shape: tuple[int, ...]
    data: NDArray[Any] | None
    quantization: Quantization | None

    @property
    def where(self) -> str:
        return f"tensor {self.index} {self.name!r}"


@dataclass(frozen=True, eq=False)
class Operation:
    """One operator of the graph: `kind` is its name in the schema, None stands for an input that is left out."""

    index: int
    kind: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        name = f" {self.outputs[0].name!r}" if self.outputs else ""
        return f"{self.kind} {self.index}{name}"


@dataclass(frozen=True, eq=False)
class Model:
    """The main subgraph."""

    operations: tuple[Operation, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read(path: Path) -> Model:
    """Parses a file. Raises ModelError with the place of what is wrong; executes nothing."""
    try:
        size = path.stat().st_size
        if size > FILE_LIMIT:
            raise ModelError(f"the file has {size} bytes, more than the {FILE_LIMIT} that are read", where=path.name)
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if content[4:8] != IDENTIFIER:
        raise ModelError("is not a TFLite file: the identifier TFL3 is missing", where=path.name)
    try:
        return _Reader(content, path.name).model()
    except UNREADABLE as error:
        raise ModelError(f"is damaged: {error}", where=path.name, fix="Convert the model again.") from None


class _Reader:
    def __init__(self, content: bytes, name: str) -> None:
        self.content = content
        self.name = name
        self.root = tflite.Model.GetRootAs(content, 0)
        self.room = FILE_LIMIT
        if self.root.Version() != 3:
            raise ModelError(f"has schema version {self.root.Version()}, 3 is read", where=name)

    def model(self) -> Model:
        kinds = [self._kind(code) for code in self._tables(self.root, "OperatorCodes", "operator codes")]
        graphs = self._tables(self.root, "Subgraphs", "subgraphs")
        graph = next(graphs, None)  # others are bodies of control flow, whose operators are refused
        if graph is None:
            raise ModelError("holds no graph", where=self.name)
        buffers = list(self._tables(self.root, "Buffers", "buffers"))
        tensors = [self._tensor(k, t, buffers) for k, t in enumerate(self._tables(graph, "Tensors", "tensors"))]
        operations = []
        for index, operator in enumerate(self._tables(graph, "Operators", "operators")):
            code = operator.OpcodeIndex()
            if not 0 <= code < len(kinds):
                raise ModelError(f"has the operator code {code}, which does not exist", where=f"operator {index}")
            where = f"{kinds[code]} {index}"
            inputs = tuple(self._pick(tensors, i, where, True) for i in self._indices(operator, "Inputs", where))
            outputs = tuple(self._pick(tensors, i, where) for i in self._indices(operator, "Outputs", where))
            made = tuple(t for t in outputs if t is not None)
            operations.append(Operation(index, kinds[code], inputs, made, self._options(operator, where)))
        ends = {
            end: tuple(
                tensor
                for i in self._indices(graph, end, f"the graph's {end.lower()}")
                if (tensor := self._pick(tensors, i, f"the graph's {end.lower()}")) is not None
            )
            for end in ("Inputs", "Outputs")
        }
        return Model(tuple(operations), ends["Inputs"], ends["Outputs"])

    def _kind(self, code: Any) -> str:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # numbers above 127 lie in the new field only
        if number == tflite.BuiltinOperator.CUSTOM:
            return f"CUSTOM {_text(code.CustomCode())!r}"
        return OPERATORS.get(number, f"OPERATOR_{number}")

    def _tables(self, owner: Any, method: str, what: str) -> Iterator[Any]:
        count = self._length(owner, method, 4, what)
        for k in range(count):
            table = getattr(owner, method)(k)
            if table is None:
                raise ModelError(f"has no {what}", where=self.name)
            yield table

    def _length(self, owner: Any, method: str, size: int, what: str) -> int:
        count = int(getattr(owner, f"{method}Length")())
        if count * size > len(self.content):
            raise ModelError(f"claims {count} {what}, more than the file can hold", where=self.name)
        return count

    def _array(self, owner: Any, method: str, size: int, what: str) -> NDArray[Any]:
        """A vector of numbers, a view of the file."""
        if not self._length(owner, method, size, what):
            return np.zeros(0, dtype=np.int64)
        return np.asarray(getattr(owner, f"{method}AsNumpy")())

    def _indices(self, owner: Any, method: str, where: str) -> list[int]:
        return [int(i) for i in self._array(owner, method, 4, f"tensors in {where}")]

    def _pick(self, tensors: list[Tensor], index: int, where: str, optional: bool = False) -> Tensor | None:
        if index == -1 and optional:
            return None
        if not 0 <= index < len(tensors):
            raise ModelError(f"reads or writes tensor {index}, there are {len(tensors)}", where=where)
        return tensors[index]

    def _tensor(self, index: int, tensor: Any, buffers: list[Any]) -> Tensor:
        name = _text(tensor.Name()) or f"tensor_{index}"
        where = f"tensor {index} {name!r}"
        element = ELEMENTS.get(tensor.Type(), str(tensor.Type()))
        shape = tuple(int(d) for d in self._array(tensor, "Shape", 4, f"dimensions in {where}"))
        signature = tuple(int(d) for d in self._array(tensor, "ShapeSignature", 4, f"dimensions in {where}"))
        free = any(d < 0 for d in shape) or (
            signature and any(s not in (-1, d) for s, d in zip(signature, shape, strict=False))
        )
        if len(shape) > MAX_RANK or free or len(signature) not in (0, len(shape)):
            raise ModelError(f"has the shape {list(shape)}", where=where)
        if math.prod(shape) > MAX_ELEMENTS:
            raise ModelError(f"has the shape {list(shape)}, too large", where=where)
        if tensor.IsVariable():
            raise ModelError("keeps a state between inferences, which is not supported", where=where)
        if tensor.Sparsity() is not None:
            raise ModelError("is stored sparsely, which is not supported", where=where, fix="Convert it densely.")
        if not 0 <= tensor.Buffer() < len(buffers):
            raise ModelError(f"lies in buffer {tensor.Buffer()}, there are {len(buffers)}", where=where)
        data = self._data(buffers[tensor.Buffer()], element, shape, where)
        sizes = signature if signature and data is None else shape
        return Tensor(index, name, element, sizes, data, self._quantization(tensor, shape, where))

    def _data(self, buffer: Any, element: str, shape: tuple[int, ...], where: str) -> NDArray[Any] | None:
        """The constant in a buffer, a view of the file; None when the buffer is empty."""
        content = self._bytes(buffer, where)
        if not len(content):
            return None
        count = math.prod(shape)
        packed = element == "INT4"
        if not packed and element not in STORED:
            raise ModelError(f"holds elements of type {element}, which are not supported", where=where)
        wanted = -(-count // 2) if packed else count * STORED[element].itemsize
        if wanted != len(content):
            raise ModelError(f"holds {len(content)} bytes, its shape {list(shape)} needs {wanted}", where=where)
        self.room -= count * 8
        if self.room < 0:  # many tensors may name one buffer
            raise ModelError(f"has constants of more than {FILE_LIMIT >> 3} elements", where=where)
        if packed:
            nibbles = np.stack([content << 4, content], axis=1).view(np.int8) >> 4
            return nibbles.reshape(-1)[:count].reshape(shape)
        return content.view(STORED[element]).reshape(shape)

    def _bytes(self, buffer: Any, where: str) -> NDArray[np.uint8]:
        start, size = buffer.Offset(), buffer.Size()
        if start > 1:  # behind the flatbuffer, as in files above 2 GB
            if start + size > len(self.content):
                raise ModelError("has data outside the file", where=where)
            return np.frombuffer(self.content, np.uint8, size, start)
        return self._array(buffer, "Data", 1, f"bytes in {where}").astype(np.uint8, copy=False)

    def _quantization(self, tensor: Any, shape: tuple[int, ...], where: str) -> Quantization | None:
        given = tensor.Quantization()
        if given is None:
            return None
        if given.DetailsType():
            raise ModelError("is quantized in a custom way, which is not supported", where=where)
        scales = self._array(given, "Scale", 4, f"scales in {where}").astype(np.float32)
        points = self._array(given, "ZeroPoint", 8, f"zero points in {where}").astype(np.int64)
        axis = given.QuantizedDimension()
        if not len(scales):
            return None
        if not len(points):
            points = np.zeros(1, dtype=np.int64)
        channels = shape[axis] if 0 <= axis < len(shape) else 1
        fits = all(len(values) in (1, channels) for values in (scales, points))
        if not fits or not (np.isfinite(scales) & (scales > 0)).all() or (np.abs(points) >= 1 << 31).any():
            raise ModelError("has scales or zero points that do not fit it", where=where)
        return Quantization(scales, points, axis)

    def _options(self, operator: Any, where: str) -> dict[str, Any]:
        """Every field of an operator's options by its schema name; defaults where they are left out."""
        if self._length(operator, "CustomOptions", 1, "bytes of options") and not where.startswith("CUSTOM"):
            raise ModelError("has custom options that its kind does not know", where=where)
        for number, names, union in (
            (operator.BuiltinOptions2Type(), OPTIONS_2, operator.BuiltinOptions2),
            (operator.BuiltinOptionsType(), OPTIONS, operator.BuiltinOptions),
        ):
            if number:
                return self._fields(getattr(tflite, names.get(number, ""), None), union, where)
        return {}

    def _fields(self, kind: Any, union: Callable[[], Any], where: str) -> dict[str, Any]:
        table = union()
        if kind is None or table is None:
            raise ModelError("has options of an unknown kind", where=where)
        options = kind()
        options.Init(table.Bytes, table.Pos)
        slots = _Slots()
        getattr(tflite, f"{kind.__name__}Start")(slots)
        vtable = table.Pos - struct.unpack_from("<i", self.content, table.Pos)[0]
        (used,) = struct.unpack_from("<H", self.content, max(vtable, 0))
        if vtable < 0 or used > 4 + 2 * slots.count:
            raise ModelError(f"has options that {kind.__name__} does not know", where=where)
        values: dict[str, Any] = {}
        methods = {name: method for name, method in vars(kind).items() if isfunction(method) and name != "Init"}
        for name in methods:
            if f"{name}AsNumpy" in methods:
                values[name] = [int(v) for v in self._array(options, name, 4, f"options in {where}")]
            elif not any(name.removesuffix(end) + "AsNumpy" in methods for end in ("AsNumpy", "IsNone", "Length")):
                values[name] = getattr(options, name)()
        return values


@dataclass
class _Slots:
    """Stands in for flatbuffers' builder, to learn how many fields the schema gives a table."""

    count: int = 0

    def StartObject(self, count: int) -> None:  # noqa: N802 - flatbuffers calls it so
        self.count = count


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", errors="replace")
