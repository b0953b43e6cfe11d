"""Networks as data: a graph of nodes in execution order, each an operator applied to named values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from toolchain.errors import PassError, ToolchainError
from toolchain.ir.constant import Array
from toolchain.ir.types import Shape, Type

if TYPE_CHECKING:
    from toolchain.ops.base import Operator


@dataclass(frozen=True)
class Input:
    """A value that the user gives.

    `axes` leads from the model's own layout to the program's: program axis i is the model's axis axes[i] (without the
    batch axis). `model_shape` is the shape that the user's arrays have.
    """

    name: str
    type: Type
    axes: tuple[int, ...]

    @property
    def model_shape(self) -> Shape:
        return tuple(self.type.shape[self.axes.index(k)] for k in range(len(self.axes)))

    def from_model(self, values: Array) -> Array:
        """(N, *model_shape) to (N, *type.shape)."""
        return np.transpose(values, (0, *(a + 1 for a in self.axes)))


@dataclass(frozen=True)
class Node:
    """`name` names the operator's application and the one value it gives. `layer` is the model's layer it came from."""

    name: str
    operator: Operator
    inputs: tuple[str, ...]
    layer: str = ""


@dataclass(frozen=True)
class Output:
    """A value that the user gets: model axis i is the value's axis axes[i] (without the batch axis)."""

    name: str
    value: str
    axes: tuple[int, ...]

    def to_model(self, values: Array) -> Array:
        """(N, *value shape) to (N, *model shape)."""
        return np.transpose(values, (0, *(a + 1 for a in self.axes)))


@dataclass(frozen=True)
class Graph:
    """Nodes in execution order, inputs and outputs. Real before quantization, an integer program after it.

    Raises PassError when a name is given twice, used before it exists, or when types do not fit an operator.
    """

    name: str
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]

    @cached_property
    def types(self) -> dict[str, Type]:
        """The type of every value, inferred in execution order."""
        types: dict[str, Type] = {}
        for given in self.inputs:
            if given.name in types:
                raise PassError("a value is defined twice", where=given.name)
            if sorted(given.axes) != list(range(len(given.type.shape))):
                raise PassError(
                    f"axes {list(given.axes)} do not order the shape {list(given.type.shape)}", where=given.name
                )
            types[given.name] = given.type
        for node in self.nodes:
            if node.name in types:
                raise PassError("a value is defined twice", where=node.name)
            missing = [name for name in node.inputs if name not in types]
            if missing:
                raise PassError(f"uses {missing[0]!r} before it is defined", where=node.name)
            try:
                types[node.name] = node.operator.typed(tuple(types[name] for name in node.inputs))
            except ToolchainError as error:
                error.where = error.where or node.name
                raise
        for output in self.outputs:
            if output.value not in types:
                raise PassError(f"output value {output.value!r} is not defined", where=output.name)
            shape = types[output.value].shape
            if sorted(output.axes) != list(range(len(shape))):
                raise PassError(f"axes {list(output.axes)} do not order the shape {list(shape)}", where=output.name)
        return types

    @cached_property
    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """The nodes that read each value (a node that reads it twice appears twice)."""
        readers: dict[str, list[Node]] = {name: [] for name in self.types}
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    @cached_property
    def by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    def input_types(self, node: Node) -> tuple[Type, ...]:
        return tuple(self.types[name] for name in node.inputs)

    def is_output(self, name: str) -> bool:
        return any(output.value == name for output in self.outputs)

    def sole_consumer(self, name: str) -> Node | None:
        """The only reader of a value, None when there are several or when it is an output too."""
        readers = self.consumers[name]
        return readers[0] if len(readers) == 1 and not self.is_output(name) else None

    def last_uses(self) -> Iterator[tuple[Node, tuple[str, ...]]]:
        """Every node in order with the values that nobody needs after it, so that memory can be freed."""
        kept = {output.value for output in self.outputs}
        last: dict[str, int] = {}
        for position, node in enumerate(self.nodes):
            for name in (node.name, *node.inputs):
                last[name] = position
        dying: dict[int, list[str]] = {}
        for name, position in last.items():
            if name not in kept:
                dying.setdefault(position, []).append(name)
        for position, node in enumerate(self.nodes):
            yield node, tuple(dying.get(position, ()))

    def with_nodes(self, nodes: tuple[Node, ...]) -> Graph:
        return replace(self, nodes=nodes)
