"""Cuts a program into stages, each a C function: one kernel, then what works element by element on what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolchain.codegen.embedded.expressions import EXPRESSIONS
from toolchain.ir import Graph, Node
from toolchain.ops.quantize import Quantize
from toolchain.ops.reshape import Reshape


@dataclass
class Stage:
    """`nodes` are applied one after the other to each element; only the last one's value goes to memory.

    The first one is a kernel, or works element by element too. `reads` are the values in memory that they take.
    """

    nodes: list[Node] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)

    @property
    def value(self) -> str:
        """The value that it leaves in memory."""
        return self.nodes[-1].name

    @property
    def is_elementwise(self) -> bool:
        return is_elementwise(self.nodes[0])

    @property
    def operands(self) -> list[str]:
        """The values that are read element by element, at the place that is written."""
        first = 0 if self.is_elementwise else 1
        made = {node.name for node in self.nodes}
        return [name for node in self.nodes[first:] for name in node.inputs if name not in made]


def is_elementwise(node: Node) -> bool:
    """Does each element of the value depend on those of the inputs at the same place alone?"""
    return type(node.operator) in EXPRESSIONS


def moves_nothing(node: Node) -> bool:
    """Does the value lie in memory where its input does?"""
    return isinstance(node.operator, Quantize | Reshape)


def stages(graph: Graph) -> list[Stage]:
    """The stages in execution order."""
    found: list[Stage] = []
    tips: dict[str, Stage] = {}
    ready: dict[str, int] = {given.name: -1 for given in graph.inputs}
    for node in graph.nodes:
        if moves_nothing(node):
            ready[node.name] = ready.get(node.inputs[0], len(found))
            tips.pop(node.inputs[0], None)
            continue
        stage = _extended(node, tips, ready, found)
        if stage is None:
            stage = Stage([], [])
            found.append(stage)
            stage.reads += node.inputs
        else:
            tips.pop(stage.value)
            ready.pop(stage.value)
            stage.reads += [name for name in node.inputs if name != stage.value]
        stage.nodes.append(node)
        ready[node.name] = found.index(stage)
        if graph.sole_consumer(node.name) is not None:
            tips[node.name] = stage
    return found


def _extended(node: Node, tips: dict[str, Stage], ready: dict[str, int], found: list[Stage]) -> Stage | None:
    """The stage that a node can be part of: it makes one operand, and the others are there before it."""
    if not is_elementwise(node) or len(set(node.inputs)) < len(node.inputs):
        return None
    for name in node.inputs:
        stage = tips.get(name)
        if stage is None:
            continue
        place = found.index(stage)
        others = [other for other in node.inputs if other != name]
        if all(ready.get(other, place) < place for other in others):
            return stage
    return None
