"""Moves transpositions towards the outputs, where channels-first models cancel them against the next convolution's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from toolchain.ir import Graph, Input, Node, Shape
from toolchain.ops.reshape import Reshape
from toolchain.ops.transpose import Transpose
from toolchain.passes.rewriting import Rewriter, with_ends

Axes = tuple[int, ...]


def sink_transposes(graph: Graph) -> Graph:
    """Exact.

    Transpose(x) -> op becomes op' -> Transpose, consecutive ones merge, and those that stand directly behind an input
    or before an output become part of how the user's arrays are read.
    """
    return _absorb_outputs(_absorb_inputs(_sink(_reorder_inputs(graph))))


def inverse(axes: Axes) -> Axes:
    """The order that undoes `axes`."""
    return tuple(int(a) for a in np.argsort(axes))


def _reorder_inputs(graph: Graph) -> Graph:
    """Takes an input in another order when all that reads it, element by element, ends in one transposition.

    So a normalization in front of a channels-first network meets the first convolution without one in between.
    """
    inputs, moved = [], {}
    for given in graph.inputs:
        direct = any(isinstance(reader.operator, Transpose) for reader in graph.consumers[given.name])
        orders = {None} if direct else _orders_behind(graph, given.name)
        order = orders.pop() if len(orders) == 1 else None
        if order is None or graph.is_output(given.name):
            inputs.append(given)
            continue
        inputs.append(_reordered(given, order))
        moved[given.name] = Node(f"{given.name}/order", Transpose(inverse(order)), (given.name,), given.name)
    nodes = [
        replace(node, inputs=tuple(moved[v].name if v in moved else v for v in node.inputs)) for node in graph.nodes
    ]
    return with_ends(graph.with_nodes((*moved.values(), *nodes)), tuple(inputs), graph.outputs)


def _orders_behind(graph: Graph, name: str) -> set[Axes | None]:
    """The transpositions first met behind a value; None where something else is met."""
    found: set[Axes | None] = set()
    for reader in graph.consumers[name]:
        if isinstance(reader.operator, Transpose):
            found.add(reader.operator.axes)
        elif len(reader.inputs) == 1 and reader.operator.permuted(tuple(range(len(graph.types[name].shape))), 0):
            found |= _orders_behind(graph, reader.name) if not graph.is_output(reader.name) else {None}
        else:
            found.add(None)
    return found


def _sink(graph: Graph) -> Graph:
    rewriter = Rewriter(graph)

    def transposed(name: str, value: str, axes: Axes, layer: str) -> str:
        """transpose(value), merged with a transposition or reshape that made it."""
        maker = rewriter.by_name.get(value)
        if maker is not None and isinstance(maker.operator, Transpose):
            axes = tuple(maker.operator.axes[a] for a in axes)
            value = maker.inputs[0]
        if axes == tuple(range(len(axes))):
            return value
        shape = rewriter.types[value].shape
        if _keeps_order(axes, shape):
            return _reshaped(rewriter, name, value, tuple(shape[a] for a in axes), layer)
        return rewriter.add(name, Transpose(axes), (value,), layer)

    for node in graph.nodes:
        inputs = rewriter.inputs(node)
        if isinstance(node.operator, Transpose):
            rewriter.stand_for(node.name, transposed(node.name, inputs[0], node.operator.axes, node.layer))
            continue
        if isinstance(node.operator, Reshape):
            rewriter.stand_for(node.name, _reshaped(rewriter, node.name, inputs[0], node.operator.sizes, node.layer))
            continue
        orders = [_order(rewriter, value) for value in inputs]
        found = Counter(axes for axes in orders if axes is not None)
        axes = found.most_common(1)[0][0] if found else None
        operator = node.operator.permuted(axes, len(axes)) if axes is not None else None
        if axes is None or operator is None:
            rewriter.keep(node)
            continue
        back = inverse(axes)
        bare = tuple(
            rewriter.by_name[value].inputs[0]
            if order == axes
            else transposed(f"{node.name}/align{k}", value, back, node.layer)
            for k, (value, order) in enumerate(zip(inputs, orders, strict=True))
        )
        result = rewriter.add(node.name, operator, bare, node.layer)
        rewriter.stand_for(node.name, transposed(f"{node.name}/order", result, axes, node.layer))
    return rewriter.finish()


def _order(rewriter: Rewriter, value: str) -> Axes | None:
    maker = rewriter.by_name.get(value)
    return maker.operator.axes if maker is not None and isinstance(maker.operator, Transpose) else None


def _keeps_order(axes: Axes, shape: Shape) -> bool:
    """Do only axes of size 1 change places?"""
    moving = [a for a in axes if shape[a] != 1]
    return moving == sorted(moving)


def _reshaped(rewriter: Rewriter, name: str, value: str, sizes: Shape, layer: str) -> str:
    maker = rewriter.by_name.get(value)
    if maker is not None and isinstance(maker.operator, Reshape):
        value = maker.inputs[0]
    if rewriter.types[value].shape == sizes:
        return value
    return rewriter.add(name, Reshape(sizes), (value,), layer)


def _absorb_inputs(graph: Graph) -> Graph:
    """An input that is only read through one and the same transposition is taken in that order."""
    rewriter = Rewriter(graph)
    inputs: list[Input] = []
    gone: set[str] = set()
    for given in graph.inputs:
        readers = graph.consumers[given.name]
        orders = {reader.operator.axes if isinstance(reader.operator, Transpose) else None for reader in readers}
        order = orders.pop() if len(orders) == 1 else None
        if order is None or graph.is_output(given.name):
            inputs.append(given)
            continue
        inputs.append(_reordered(given, order))
        rewriter.types[given.name] = inputs[-1].type
        gone.update(reader.name for reader in readers)
    for node in graph.nodes:
        if node.name in gone:
            rewriter.stand_for(node.name, node.inputs[0])
        else:
            rewriter.keep(node)
    outputs = tuple(replace(output, value=rewriter.new(output.value)) for output in graph.outputs)
    return with_ends(graph.with_nodes(tuple(rewriter.nodes)), tuple(inputs), outputs)


def _reordered(given: Input, order: Axes) -> Input:
    """The input, taken in another order of axes."""
    type = replace(given.type, shape=tuple(given.type.shape[a] for a in order))
    return replace(given, type=type, axes=tuple(given.axes[a] for a in order))


def _absorb_outputs(graph: Graph) -> Graph:
    """An output that is a transposition leaves the program before it."""
    outputs = []
    for output in graph.outputs:
        maker = graph.by_name.get(output.value)
        if maker is None or not isinstance(maker.operator, Transpose):
            outputs.append(output)
            continue
        axes = tuple(maker.operator.axes[a] for a in output.axes)
        outputs.append(replace(output, value=maker.inputs[0], axes=axes))
    return with_ends(graph, graph.inputs, tuple(outputs))
