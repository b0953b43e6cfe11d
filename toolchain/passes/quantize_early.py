"""Quantizes in front of what only moves, joins or compares numbers, where one scale a tensor comes cheapest."""

from __future__ import annotations

from dataclasses import replace

from toolchain.ir import Graph
from toolchain.ops.base import Operator
from toolchain.ops.fake_quantize import FakeQuantize
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.pad import Pad
from toolchain.ops.resample import Resample
from toolchain.passes.rewriting import Rewriter


def quantize_early(graph: Graph) -> Graph:
    """Exact in real numbers: a quantization is the same for every element, and monotone.

    Values with a scale for each channel, and the parts of a concatenation with their own, have one before they move.
    """
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        operator = node.operator
        if isinstance(operator, FakeQuantize) and operator.is_per_tensor and _moved(graph, node.inputs[0], operator):
            rewriter.stand_for(node.name, _quantized(rewriter, graph, node.inputs[0], operator, node.name, node.layer))
        else:
            rewriter.keep(node)
    return rewriter.finish()


def _moved(graph: Graph, value: str, quantizer: FakeQuantize) -> Operator | None:
    """What makes a value by moving numbers, in its form for quantized ones; None where something else does.

    Its readers quantize, or there is one, which moves on what it gets.
    """
    maker, readers = graph.by_name.get(value), graph.consumers[value]
    if maker is None or graph.is_output(value):
        return None
    if len(readers) > 1 and not all(isinstance(reader.operator, FakeQuantize) for reader in readers):
        return None
    operator = maker.operator
    if isinstance(operator, Pad):
        return replace(operator, value=quantizer.number(operator.value))
    copies = isinstance(operator, MaxPool) or (isinstance(operator, Resample) and operator.copies)
    return operator if operator.is_layout or copies else None


def _quantized(rewriter: Rewriter, graph: Graph, value: str, quantizer: FakeQuantize, name: str, layer: str) -> str:
    """The quantized `value`, from its quantized sources."""
    operator = _moved(graph, value, quantizer)
    ranked = quantizer.ranked(len(graph.types[value].shape))
    if operator is None:
        return rewriter.add(name, ranked, (rewriter.new(value),), layer)
    sources = graph.by_name[value].inputs
    names = [f"{name}/early"] if len(sources) == 1 else [f"{name}/part{k}" for k in range(len(sources))]
    parts = [
        _quantized(rewriter, graph, source, quantizer, part, layer) for source, part in zip(sources, names, strict=True)
    ]
    return rewriter.add(name, operator, tuple(parts), layer)
