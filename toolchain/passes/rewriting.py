"""The one tool of all passes: a new node list is built front to back, with values renamed on the way."""

from __future__ import annotations

from dataclasses import replace

from toolchain.ir import Graph, Input, Node, Output, Type
from toolchain.ops.base import Operator


class Rewriter:
    """Builds the graph that replaces another. Values of the old graph map to values of the new one."""

    def __init__(self, graph: Graph) -> None:
        self.old = graph
        self.nodes: list[Node] = []
        self.types: dict[str, Type] = {given.name: given.type for given in graph.inputs}
        self.by_name: dict[str, Node] = {}
        self._new: dict[str, str] = {given.name: given.name for given in graph.inputs}

    def new(self, name: str) -> str:
        """The new value that stands for an old one."""
        return self._new[name]

    def inputs(self, node: Node) -> tuple[str, ...]:
        return tuple(self._new[name] for name in node.inputs)

    def keep(self, node: Node) -> None:
        """Takes a node over, its inputs renamed."""
        self.stand_for(node.name, self.add(node.name, node.operator, self.inputs(node), node.layer))

    def add(self, name: str, operator: Operator, inputs: tuple[str, ...], layer: str) -> str:
        """A new node. A name that is taken gets a number."""
        unique, number = name, 1
        while unique in self.types:
            number += 1
            unique = f"{name}.{number}"
        node = Node(unique, operator, inputs, layer)
        self.types[unique] = operator.typed(tuple(self.types[value] for value in inputs))
        self.nodes.append(node)
        self.by_name[unique] = node
        return unique

    def replace(self, name: str, operator: Operator) -> None:
        """Gives a new node, which nothing reads yet, another operator."""
        node = replace(self.by_name[name], operator=operator)
        self.nodes[self.nodes.index(self.by_name[name])] = node
        self.by_name[name] = node
        self.types[name] = operator.typed(tuple(self.types[value] for value in node.inputs))

    def stand_for(self, old: str, new: str) -> None:
        """The old value is from now on the new one."""
        self._new[old] = new

    def finish(self) -> Graph:
        """The new graph, without nodes that nothing needs."""
        outputs = tuple(replace(output, value=self._new[output.value]) for output in self.old.outputs)
        return without_dead_nodes(Graph(self.old.name, self.old.inputs, tuple(self.nodes), outputs))


def without_dead_nodes(graph: Graph) -> Graph:
    """The graph without nodes from which no output can be reached."""
    alive = {output.value for output in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if node.name in alive:
            kept.append(node)
            alive.update(node.inputs)
    return graph.with_nodes(tuple(reversed(kept)))


def with_ends(graph: Graph, inputs: tuple[Input, ...], outputs: tuple[Output, ...]) -> Graph:
    """The graph with other inputs and outputs, and no more nodes than these need."""
    return without_dead_nodes(replace(graph, inputs=inputs, outputs=outputs))
