"""The C function of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from toolchain.codegen.embedded.expressions import EXPRESSIONS, Element, element_bits
from toolchain.codegen.embedded.packed import Weights
from toolchain.codegen.embedded.stages import Stage
from toolchain.codegen.embedded.storage import Storage, storage
from toolchain.codegen.embedded.writer import Tables, Writer
from toolchain.ir import Array, Graph, Node, TensorType
from toolchain.ops.base import Operator

Kernel = Callable[["Function"], None]
KERNELS: dict[type[Operator], Kernel] = {}


def computes(*operators: type[Operator]) -> Callable[[Kernel], Kernel]:
    """Registers how the C of an operator that is no element-by-element one is written."""

    def register(function: Kernel) -> Kernel:
        for one in operators:
            KERNELS[one] = function
        return function

    return register


@dataclass
class Function:
    """Writes a stage. Kernels write loops and, inside, call `finish` for each element."""

    graph: Graph
    stage: Stage
    name: str
    numbers: dict[str, int]
    tables: Tables
    dots: set[tuple[Storage, Storage, int]]
    sparse_dots: set[tuple[Storage, int]]
    packed: Weights
    room: int = 0
    """Bytes that decoded weights may take beyond those of one output."""
    writer: Writer = field(default_factory=Writer)
    scratch: int = 0
    """Bytes of its own while it runs."""

    @property
    def node(self) -> Node:
        return self.stage.nodes[0]

    @property
    def operator(self) -> Any:
        return self.node.operator

    @property
    def types(self) -> tuple[TensorType, ...]:
        """Of the kernel's inputs."""
        return tuple(self.type(name) for name in self.node.inputs)

    @property
    def output(self) -> TensorType:
        """Of what the kernel gives."""
        return self.type(self.node.name)

    @property
    def bits(self) -> int:
        """The integers in which the kernel works."""
        return element_bits(self.operator, self.types)

    def type(self, name: str) -> TensorType:
        found = self.graph.types[name]
        assert isinstance(found, TensorType)
        return found

    def input(self, k: int = 0) -> str:
        """The pointer to an input of the kernel."""
        return self.pointer(self.node.inputs[k])

    def pointer(self, name: str) -> str:
        return f"x{list(dict.fromkeys(self.stage.reads)).index(name)}"

    def line(self, text: str) -> None:
        self.writer.line(text)

    @contextmanager
    def loops(self, **sizes: int) -> Iterator[None]:
        """Nested loops, the last one innermost."""
        if not sizes:
            yield
            return
        (name, size), *rest = sizes.items()
        with self.writer.loop(name, size), self.loops(**dict(rest)):
            yield

    def table(self, part: str, values: Array, kind: str) -> str:
        """The name of a constant array."""
        return self.tables.add(f"{self.name}_{part}", values, kind).name

    def dot(self, x: Storage, w: Storage, bits: int) -> str:
        """The name of a dot product."""
        self.dots.add((x, w, bits))
        return f"dct_dot_{x.short}_{w.short}_{bits}"

    def sparse_dot(self, x: Storage, bits: int) -> str:
        """The name of a sum over nonzero weights."""
        self.sparse_dots.add((x, bits))
        return f"dct_sparse_{x.short}_{bits}"

    def reserve(self, count: int, held: Storage, name: str) -> None:
        """A pointer to so many elements of the function's own."""
        place = -(-self.scratch // 8) * 8
        self.scratch = place + count * held.bytes
        self.line(f"{held.ctype}* const {name} = ({held.ctype}*)(void*)(scratch + {place});")

    def finish(self, expression: str, index: str, channel: str = "", bits: int = 0) -> None:
        """An element of the kernel's value goes through the rest of the stage and to memory."""
        channel = channel or f"{index} % {self.type(self.stage.value).shape[-1] if self.output.shape else 1}"
        self._bind(self.node, expression, bits or self.bits, index)
        self._rest(self.stage.nodes[1:], index, channel)

    def elementwise(self) -> None:
        """A stage without a kernel."""
        shape = self.output.shape
        channels = shape[-1] if shape else 1
        with self.loops(pixel=self.output.size // channels, channel=channels):
            self.line(f"const int32_t i = pixel * {channels} + channel;")
            self._rest(self.stage.nodes, "i", "channel")

    def _bind(self, node: Node, expression: str, bits: int, index: str) -> None:
        number = self.numbers[node.name]
        kept = storage(self.type(node.name)).ctype
        self.line(f"const int{bits}_t v{number} = {expression};")
        self.line(f"MODEL_TRACE({kept}, {number}, {index}, v{number});")

    def _rest(self, nodes: list[Node], index: str, channel: str) -> None:
        made = {node.name for node in self.stage.nodes}
        for node in nodes:
            types = tuple(self.type(name) for name in node.inputs)
            bits = element_bits(node.operator, types)
            operands = []
            for name in node.inputs:
                source = f"v{self.numbers[name]}" if name in made else f"{self.pointer(name)}[{index}]"
                operands.append(f"(int{bits}_t){source}")
            element = Element(
                node.operator,
                tuple(operands),
                types,
                self.type(node.name),
                bits,
                index,
                channel,
                f"{self.name}_{self.numbers[node.name]}",
                self.tables,
            )
            self._bind(node, EXPRESSIONS[type(node.operator)](element), bits, index)
        last = self.stage.value
        self.line(f"y[{index}] = ({storage(self.type(last)).ctype})v{self.numbers[last]};")

    def write(self) -> str:
        """The function's definition."""
        if self.stage.is_elementwise:
            self.elementwise()
        else:
            KERNELS[type(self.operator)](self)
        arguments = [f"const {storage(self.type(n)).ctype}* {self.pointer(n)}" for n in dict.fromkeys(self.stage.reads)]
        arguments.append(f"{storage(self.type(self.stage.value)).ctype}* y")
        if self.scratch:
            arguments.append("uint8_t* scratch")
        return f"static void {self.name}({', '.join(arguments)}) {{\n{self.writer.text}\n}}"
