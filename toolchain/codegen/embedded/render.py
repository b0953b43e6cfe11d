"""Renders an integer program as a C99 project: same program in, same bytes out."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jinja2

from toolchain.codegen.embedded import layout, linear, pooling  # noqa: F401 - they register their kernels
from toolchain.codegen.embedded.arena import ALIGNMENT, Arena, Buffer, place
from toolchain.codegen.embedded.function import Function
from toolchain.codegen.embedded.packed import Weights
from toolchain.codegen.embedded.stages import Stage, moves_nothing, stages
from toolchain.codegen.embedded.storage import Storage, storage
from toolchain.codegen.embedded.writer import Tables
from toolchain.codegen.hls import c_string, comment
from toolchain.codegen.host import float_literal
from toolchain.codegen.project import Files
from toolchain.errors import ConfigurationError, PassError
from toolchain.hardware.identifiers import Identifiers
from toolchain.hardware.terminals import input_terminal, output_terminal
from toolchain.ir import Graph, TensorType
from toolchain.ops.quantize import Quantize
from toolchain.packing.packed import Packed
from toolchain.resources import folder
from toolchain.version import __version__

SOURCES = ("dct_integers.h", "dct_kernels.h")
UNPACKING = ("dct_packed.c", "dct_packed.h")
"""Further ones, for packed weights."""
LEAST_SHARE = 0.1
SMALLER = 0.7
SHARED = ("numbers.c", "numbers.h")
"""Files of the hosts' driver that the project shares: how real numbers enter and leave."""
MANIFEST = "manifest.json"
FOOTPRINT = ("arena_bytes", "input_bytes", "output_bytes", "constants")
"""Keys of the manifest that the report has too."""
TUNED = tuple((x, w, 32) for x in ("s8", "u8", "s16") for w in ("s8", "s16"))
"""Dot products that dct_kernels.h has for some processors."""


@dataclass(frozen=True)
class Value:
    """Where a value lies: `pointer` is the C expression of its first element."""

    pointer: str
    storage: Storage


class Model:
    """A program on its way to C."""

    def __init__(self, graph: Graph, ram: int | None = None) -> None:
        self.graph = graph
        self.names = Identifiers()
        self.name = self.names.make(graph.name).lower()
        self.stages = stages(graph)
        self.tables = Tables()
        self.dots: set[tuple[Storage, Storage, int]] = set()
        self.numbers = {node.name: k for k, node in enumerate(n for n in graph.nodes if not moves_nothing(n))}
        self.roots = self._roots()
        entries = {node.inputs[0]: node for node in graph.nodes if isinstance(node.operator, Quantize)}
        self.inputs = [
            input_terminal(one, entries[one.name], self.type(entries[one.name].name), self.names.make(one.name), 1)
            for one in graph.inputs
        ]
        self.outputs = [
            output_terminal(one, self.type(one.value), self.names.make(one.name), 1) for one in graph.outputs
        ]
        self.packed = Weights(graph, self.tables)
        self.identifiers = [self.names.make(stage.nodes[0].layer or stage.nodes[0].name) for stage in self.stages]
        self._write({}, None)
        self._fill(ram)

    def type(self, name: str) -> TensorType:
        found = self.graph.types[name]
        assert isinstance(found, TensorType)
        return found

    def _roots(self) -> dict[str, str]:
        """The value whose memory each value's is."""
        roots: dict[str, str] = {given.name: given.name for given in self.graph.inputs}
        for node in self.graph.nodes:
            roots[node.name] = roots[node.inputs[0]] if moves_nothing(node) else node.name
        return roots

    def _write(self, rooms: dict[int, int], arena: Arena | None) -> None:
        """Writes all functions, with so much room for decoded weights."""
        self.functions, self.texts = [], []
        for k, (stage, name) in enumerate(zip(self.stages, self.identifiers, strict=True)):
            function = Function(
                self.graph, stage, name, self.numbers, self.tables, self.dots, self.packed, rooms.get(k, 0)
            )
            self.texts.append(function.write())
            self.functions.append(function)
        self.buffers = self._buffers()
        self.arena = arena or place(self.buffers)

    def _fill(self, ram: int | None) -> None:
        """Decodes as many outputs at once as fit: into what other stages need anyway, or into the RAM that is given."""
        most = max(self.arena.bytes, ram or 0)
        unpacking = [k for k, stage in enumerate(self.stages) if self._is_packed(stage)]
        share = 1.0
        while unpacking and share > LEAST_SHARE:
            live = {
                k: sum(one.bytes + ALIGNMENT for one in self.buffers if one.first <= k <= one.last) for k in unpacking
            }
            self._write({k: int(max(0, most - live[k]) * share) for k in unpacking}, None)
            if self.arena.bytes <= most:
                return
            self._write({}, None)
            share *= SMALLER

    @staticmethod
    def _is_packed(stage: Stage) -> bool:
        return isinstance(getattr(stage.nodes[0].operator, "weights", None), Packed)

    def _buffers(self) -> list[Buffer]:
        """The memory of values and functions, and who shares it: see `_overwritten`."""
        last: dict[str, int] = {}
        for k, stage in enumerate(self.stages):
            for name in stage.reads:
                last[self.roots[name]] = k
        for output in self.graph.outputs:
            last[self.roots[output.value]] = len(self.stages)
        values: dict[str, Buffer] = {}
        scratch = []
        self.places: dict[str, str] = {}
        for k, (stage, function) in enumerate(zip(self.stages, self.functions, strict=True)):
            if function.scratch:
                scratch.append(Buffer(f"{stage.value}/scratch", function.scratch, k, k))
            if stage.value in self.direct:
                continue
            until = last.get(stage.value, k)
            reused = self._overwritten(stage, k, last)
            if reused is not None:
                place = self.places[reused]
                values[place] = replace(values[place], last=until)
            else:
                place = stage.value
                values[place] = Buffer(place, self._size(stage.value), k, until)
            self.places[stage.value] = place
        return [*values.values(), *scratch]

    def _overwritten(self, stage: Stage, k: int, last: dict[str, int]) -> str | None:
        """A value that nobody needs any more and that the stage reads just where it writes, such as a residual."""
        kernel_reads = set() if stage.is_elementwise else {self.roots[name] for name in stage.nodes[0].inputs}
        held = storage(self.type(stage.value))
        for name in stage.operands:
            root = self.roots[name]
            dies = last[root] == k and root in self.places and root not in kernel_reads
            if dies and storage(self.type(root)).bytes == held.bytes and self._size(root) == self._size(stage.value):
                return root
        return None

    def _size(self, name: str) -> int:
        """Bytes of a value."""
        return self.type(name).size * storage(self.type(name)).bytes

    @property
    def direct(self) -> dict[str, int]:
        """Values that are made where an output is wanted, with the first output that they are."""
        made = {stage.value for stage in self.stages}
        found: dict[str, int] = {}
        for k, output in enumerate(self.graph.outputs):
            root = self.roots[output.value]
            if root in made:
                found.setdefault(root, k)
        return found

    def value(self, name: str, const: bool = True) -> Value:
        """Where a value lies."""
        root, held = self.roots[name], storage(self.type(name))
        inputs = [given.name for given in self.graph.inputs]
        if root in inputs:
            return Value(self.inputs[inputs.index(root)].identifier, held)
        if root in self.direct:
            return Value(self.outputs[self.direct[root]].identifier, held)
        qualifier = "const " if const else ""
        return Value(f"({qualifier}{held.ctype}*)(void*)(arena.bytes + {self.arena.offsets[self.places[root]]})", held)

    @property
    def calls(self) -> list[str]:
        """The statements of invoke."""
        found = []
        for stage, function in zip(self.stages, self.functions, strict=True):
            arguments = [self.value(name).pointer for name in dict.fromkeys(stage.reads)]
            arguments.append(self.value(stage.value, const=False).pointer)
            if function.scratch:
                arguments.append(f"arena.bytes + {self.arena.offsets[f'{stage.value}/scratch']}")
            found.append(f"{function.name}({', '.join(arguments)});")
        for output, terminal in zip(self.graph.outputs, self.outputs, strict=True):
            if output.name in self.copied:
                source = self.value(output.value).pointer
                found.append(f"memcpy({terminal.identifier}, {source}, {self._size(output.value)}U);")
        return found

    @property
    def copied(self) -> list[str]:
        """Outputs that are made elsewhere."""
        return [one.name for k, one in enumerate(self.graph.outputs) if self.direct.get(self.roots[one.value]) != k]

    @property
    def trace(self) -> list[dict[str, Any]]:
        """Every value that a stage makes, and where a build with MODEL_TRACE keeps it."""
        found, offset = [], 0
        for name in self.numbers:
            held = storage(self.type(name))
            found.append({"value": name, "offset": offset, "bits": held.bits, "signed": held.signed})
            offset += -(-self.type(name).size * held.bytes // 8) * 8
        return found

    @property
    def trace_bytes(self) -> int:
        """Bytes of the traced values, at least what an array may have."""
        if not self.trace:
            return 8
        last = self.trace[-1]
        return int(last["offset"]) + -(-self.type(last["value"]).size * int(last["bits"]) // 64) * 8


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder("c_templates") / "project"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - C and make; names go through Identifiers, comment or c_string
    )


@dataclass(frozen=True)
class Embedded:
    """The files of `embedded/`, and what they take of a microcontroller's memories, in bytes."""

    files: Files
    footprint: dict[str, Any]


def render_embedded(graph: Graph, ram: int | None = None) -> Embedded:
    """The C project of a program, within so many bytes of RAM for its arena.

    Raises PassError, with the layer, for what C99 has no integers for, and ConfigurationError when RAM is missing.
    """
    try:
        model = Model(graph, ram)
    except PassError as error:
        error.fix = error.fix or "Use --target hls, or narrower formats for this layer."
        raise
    dots = sorted(model.dots, key=lambda dot: (dot[0].short, dot[1].short, dot[2]))
    values: dict[str, Any] = {
        "model": model,
        "name": model.name,
        "prefix": model.name.upper(),
        "dots": dots,
        "tables": model.tables.all,
        "crc": model.tables.checksum,
        "stages": list(zip(model.stages, model.texts, strict=True)),
        "tuned": TUNED,
        "storage": storage,
        "comment": comment,
        "c_string": c_string,
        "float_literal": float_literal,
        "version": __version__,
    }
    files: Files = {}
    source = folder("c_templates") / "project"
    for path in sorted(source.glob("*.j2")):
        target = path.name.removesuffix(".j2").replace("model", model.name)
        files[target] = _environment().get_template(path.name).render(values)
    for name in (*SOURCES, *(UNPACKING if model.packed.packed else ())):
        files[name] = (folder("c_templates") / name).read_text()
    for name in SHARED:
        files[name] = (folder("hls_templates") / "host/c" / name).read_text()
    described = manifest(model)
    files[MANIFEST] = json.dumps(described, indent=1) + "\n"
    if ram is not None and model.arena.bytes > ram:
        raise ConfigurationError(f"--ram {ram} is not enough: the arena needs {model.arena.bytes} bytes")
    return Embedded(files, {key: described[key] for key in FOOTPRINT})


def manifest(model: Model) -> dict[str, Any]:
    """What `verify` and the report have to know about the C."""
    flash: dict[str, int] = {}
    for table in model.tables.all:
        flash[table.kind] = flash.get(table.kind, 0) + table.bytes
    if model.packed.packed:
        flash["dictionaries"] = flash.get("dictionaries", 0) + model.packed.dictionary_bytes
    return {
        "format": "dct-toolchain embedded",
        "name": model.name,
        "arena_bytes": model.arena.bytes,
        "input_bytes": sum(one.type.size * one.lane_bits // 8 for one in model.inputs),
        "output_bytes": sum(one.type.size * one.lane_bits // 8 for one in model.outputs),
        "constants": flash,
        "stages": [[node.name for node in stage.nodes] for stage in model.stages] + [[one] for one in model.copied],
        "trace_bytes": model.trace_bytes,
        "trace": model.trace,
    }
