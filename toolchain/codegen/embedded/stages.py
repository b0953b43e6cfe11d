"""Cuts a program into stages, each a C function: one kernel, then what works element by element on what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolchain.codegen.embedded.expressions import EXPRESSIONS
from toolchain.codegen.embedded.storage import storage
from toolchain.ir import Graph, Node, TensorType
from toolchain.ops.quantize import Quantize
from toolchain.ops.reshape import Reshape


@dataclass(eq=False)
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
            made = {one.name for one in stage.nodes}
            for name in made & tips.keys():
                tips.pop(name)
                ready.pop(name)
            stage.reads += [name for name in node.inputs if name not in made]
        stage.nodes.append(node)
        ready[node.name] = found.index(stage)
        if graph.sole_consumer(node.name) is not None:
            tips[node.name] = stage
    found = [stage for stage in found if stage.nodes]
    _sink(graph, found)
    return found


def _extended(node: Node, tips: dict[str, Stage], ready: dict[str, int], found: list[Stage]) -> Stage | None:
    """The stage that a node can be part of: it makes one operand, and the others are there before it.

    An operand that is made element by element, of what is there before, for this node alone is made in that stage too.
    """
    if not is_elementwise(node) or len(set(node.inputs)) < len(node.inputs):
        return None
    for name in sorted(node.inputs, key=lambda one: one in tips and tips[one].is_elementwise):  # kernels first
        stage = tips.get(name)
        if stage is None:
            continue
        place = found.index(stage)
        late = [other for other in node.inputs if other != name and ready.get(other, place) >= place]
        makers = [tips.get(other) for other in late]
        if all(m and m.is_elementwise and all(ready.get(r, place) < place for r in m.reads) for m in makers):
            for maker in makers:
                assert maker is not None
                stage.nodes += maker.nodes
                stage.reads += maker.reads
                maker.nodes, maker.reads = [], []
            for other in late:
                tips.pop(other)
                ready.pop(other)
            return stage
    return None


def _sink(graph: Graph, found: list[Stage]) -> None:
    """Moves what only makes elements wider behind the memory: to the stage that reads them, one by one."""
    for stage in found:
        while len(stage.nodes) > 1:
            last, before = stage.nodes[-1], stage.nodes[-2].name
            reader = graph.sole_consumer(last.name)
            target = next((one for one in found if reader in one.nodes), None)
            if target is None or last.name not in target.operands or list(last.inputs) != [before]:
                break
            if _bytes(graph, before) >= _bytes(graph, last.name):
                break
            assert reader is not None
            stage.nodes.pop()
            target.nodes.insert(target.nodes.index(reader), last)
            target.reads = [before if name == last.name else name for name in target.reads]


def _bytes(graph: Graph, name: str) -> int:
    type = graph.types[name]
    assert isinstance(type, TensorType)
    return storage(type).bytes
