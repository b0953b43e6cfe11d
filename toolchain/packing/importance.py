"""How much an error in each layer's output matters at the outputs of the network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from toolchain.ir import Array, Graph
from toolchain.ops.linear import LinearOperator
from toolchain.progress import Progress

LEVEL = 0.03
"""Energy of the noise relative to that of the layer's output."""
LEAST = 1e-4
ROWS = 64
MULTIPLICATIONS = 1 << 36
"""Work to spend on it; large networks are measured on fewer rows."""


def measure_importance(graph: Graph, inputs: Mapping[str, Array], progress: Progress | None = None) -> dict[str, float]:
    """For each linear node of a real graph: relative squared error of the outputs over that of the node's output.

    Measured by adding white noise to the node's output (rows of `inputs`, channels last, as the graph has them) and
    running what depends on it. The seed is fixed.
    """
    nodes = [node for node in graph.nodes if isinstance(node.operator, LinearOperator)]
    macs = sum(n.operator.multiplications(*(t.shape for t in graph.input_types(n))) for n in nodes)
    rows = int(np.clip(2 * MULTIPLICATIONS // max(macs * max(len(nodes), 1), 1), 2, ROWS))
    values: dict[str, Array] = {name: array[:rows].astype(np.float64) for name, array in inputs.items()}
    for node in graph.nodes:
        values[node.name] = node.operator.evaluate(*(values[name] for name in node.inputs))
    rng = np.random.default_rng(0)
    found = {}
    for position, node in enumerate(graph.nodes):
        if not isinstance(node.operator, LinearOperator):
            continue
        if progress:
            progress(f"sensitivity of {node.layer}", position, len(graph.nodes))
        exact = values[node.name]
        noise = rng.normal(size=exact.shape) * np.sqrt(LEVEL * float(_centred(exact).var()))
        changed = {node.name: exact + noise}
        for later in graph.nodes[position + 1 :]:
            if any(name in changed for name in later.inputs):
                given = (changed.get(name, values[name]) for name in later.inputs)
                changed[later.name] = later.operator.evaluate(*given)
        total = 0.0
        for output in graph.outputs:
            wanted = _centred(values[output.value])
            difference = changed.get(output.value, values[output.value]) - values[output.value]
            energy = float(np.square(wanted).sum())
            total += float(np.square(_centred(difference)).sum()) / energy if energy else 0.0
        found[node.name] = max(total / LEVEL / len(graph.outputs), LEAST)
    return found


def _centred(values: Array) -> Array:
    return np.asarray(values - values.mean(axis=tuple(range(values.ndim - 1)) or None))
