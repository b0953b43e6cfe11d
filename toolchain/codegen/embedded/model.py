"""A program on its way to C: its stages, the names and places of its values, its functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from toolchain.codegen.embedded import layout, linear, pooling  # noqa: F401 - they register their kernels
from toolchain.codegen.embedded.arena import ALIGNMENT, Buffer, place
from toolchain.codegen.embedded.function import Function
from toolchain.codegen.embedded.packed import Weights
from toolchain.codegen.embedded.stages import Stage, moves_nothing, stages
from toolchain.codegen.embedded.storage import Storage, storage
from toolchain.codegen.embedded.writer import Tables
from toolchain.hardware.identifiers import Identifiers
from toolchain.hardware.terminals import input_terminal, output_terminal
from toolchain.ir import Graph, TensorType
from toolchain.ops.quantize import Quantize
from toolchain.packing.packed import Packed

LEAST_SHARE = 0.1
MORE = 0.125
"""The arena grows by at most this share, so that a layer whose values fill it does not decode output by output."""
SMALLER = 0.7
"""Room for decoded weights is tried in such steps, down to the least share of what is free."""


class Model:
    """A program on its way to C."""

    def __init__(self, graph: Graph, ram: int | None = None) -> None:
        self.graph = graph
        self.names = Identifiers()
        self.name = self.names.make(graph.name).lower()
        self.stages = stages(graph)
        self.tables = Tables()
        self.dots: set[tuple[Storage, Storage, int]] = set()
        self.sparse_dots: set[tuple[Storage, int]] = set()
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
        self.functions: dict[int, Function] = {}
        self.texts: dict[int, str] = {}
        for k in range(len(self.stages)):
            self._write(k)
        self._place()
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

    def _write(self, stage: int, room: int = 0) -> None:
        """Writes a stage's function, with so much room for decoded weights."""
        function = Function(
            self.graph,
            self.stages[stage],
            self.identifiers[stage],
            self.numbers,
            self.tables,
            self.dots,
            self.sparse_dots,
            self.packed,
            room,
        )
        self.texts[stage] = function.write()
        self.functions[stage] = function

    def _place(self) -> None:
        self.buffers = self._buffers()
        self.arena = place(self.buffers)

    def _fill(self, ram: int | None) -> None:
        """Decodes as many outputs at once as fit into what is needed anyway and a little more, or the given RAM."""
        most = max(self.arena.bytes, ram) if ram else int(self.arena.bytes * (1 + MORE))
        for k in (k for k, stage in enumerate(self.stages) if self._is_packed(stage)):
            free = most - sum(one.bytes + ALIGNMENT for one in self.buffers if one.first <= k <= one.last)
            room = float(free)
            while room > LEAST_SHARE * free:
                self._write(k, int(room))
                self._place()
                if self.arena.bytes <= most:
                    break
                self._write(k)
                room *= SMALLER
        self._place()

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
        for k, (stage, function) in enumerate(zip(self.stages, self.functions.values(), strict=True)):
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

    def pointer(self, name: str, const: bool = True) -> str:
        """The C expression of a value's first element."""
        root, held = self.roots[name], storage(self.type(name))
        inputs = [given.name for given in self.graph.inputs]
        if root in inputs:
            return self.inputs[inputs.index(root)].identifier
        if root in self.direct:
            return self.outputs[self.direct[root]].identifier
        qualifier = "const " if const else ""
        return f"({qualifier}{held.ctype}*)(void*)(arena.bytes + {self.arena.offsets[self.places[root]]})"

    @property
    def calls(self) -> list[str]:
        """The statements of invoke."""
        found = []
        for stage, function in zip(self.stages, self.functions.values(), strict=True):
            arguments = [self.pointer(name) for name in dict.fromkeys(stage.reads)]
            arguments.append(self.pointer(stage.value, const=False))
            if function.scratch:
                arguments.append(f"arena.bytes + {self.arena.offsets[f'{stage.value}/scratch']}")
            found.append(f"{function.name}({', '.join(arguments)});")
        for output, terminal in zip(self.graph.outputs, self.outputs, strict=True):
            if output.name in self.copied:
                source = self.pointer(output.value)
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
