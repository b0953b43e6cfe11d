"""Quantizes what a concatenation joins in place of the whole: parts of several scales then have one."""

from __future__ import annotations

from toolchain.ir import Graph
from toolchain.ops.concat import Concat
from toolchain.ops.fake_quantize import FakeQuantize
from toolchain.passes.rewriting import Rewriter


def quantize_parts(graph: Graph) -> Graph:
    """Exact in real numbers: concat -> quantize is quantize -> concat, element by element."""
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        (value, *_) = node.inputs
        whole = graph.by_name.get(value)
        operator = node.operator
        if (
            not isinstance(operator, FakeQuantize)
            or not operator.is_per_tensor
            or whole is None
            or not isinstance(whole.operator, Concat)
            or not all(isinstance(reader.operator, FakeQuantize) for reader in graph.consumers[value])
        ):
            rewriter.keep(node)
            continue
        parts = tuple(
            rewriter.add(f"{node.name}/part{k}", operator, (part,), node.layer)
            for k, part in enumerate(rewriter.inputs(whole))
        )
        rewriter.stand_for(node.name, rewriter.add(node.name, whole.operator, parts, node.layer))
    return rewriter.finish()
