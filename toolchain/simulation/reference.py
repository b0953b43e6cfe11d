"""The living definition of an integer program: one operator after the other on int64, nothing clever."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from toolchain.ir import Array, Graph, TensorType

INT64_LIMIT = 1 << 63
Observer = Callable[[str, Array], None]


def evaluate(graph: Graph, inputs: Mapping[str, Array], observer: Observer | None = None) -> dict[str, Array]:
    """Raw output integers, channels-last, for channels-last inputs (real ones where the program starts with Quantize).

    `observer` is called with the name and the integers of every node. Where a bound passes 63 bits, Python integers
    take over.
    """
    values: dict[str, Array] = {name: np.asarray(array) for name, array in inputs.items()}
    for node, dying in graph.last_uses():
        arrays = [values[name] for name in node.inputs]
        types = tuple(t for t in graph.input_types(node) if isinstance(t, TensorType))
        if len(types) == len(arrays):
            wide = node.operator.bound(*types) >= INT64_LIMIT
            arrays = [array.astype(object if wide else np.int64) for array in arrays]
        result = node.operator.evaluate(*arrays)
        type = graph.types[node.name]
        if result.dtype == object and isinstance(type, TensorType) and type.magnitude < INT64_LIMIT:
            result = result.astype(np.int64)
        values[node.name] = result
        if observer:
            observer(node.name, result)
        for name in dying:
            values.pop(name, None)
    return {output.name: values[output.value] for output in graph.outputs}


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices of `size` rows that cover `count` rows."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
