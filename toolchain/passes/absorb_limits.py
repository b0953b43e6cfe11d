"""Puts Relu and Clip into the quantization behind them, whose levels they limit."""

from __future__ import annotations

from toolchain.ir import Graph
from toolchain.ops.clip import Clip
from toolchain.ops.fake_quantize import FakeQuantize
from toolchain.passes.rewriting import Rewriter


def absorb_limits(graph: Graph) -> Graph:
    """Exact in real numbers: clip(x) -> quantize is quantize with fewer levels, since rounding is monotone."""
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        inputs = rewriter.inputs(node)
        maker = rewriter.by_name.get(inputs[0]) if inputs else None
        operator = node.operator
        if (
            isinstance(operator, FakeQuantize)
            and operator.is_per_tensor
            and maker is not None
            and isinstance(maker.operator, Clip)
        ):
            limited = operator.limited(maker.operator.low, maker.operator.high)
            rewriter.stand_for(node.name, rewriter.add(node.name, limited, maker.inputs, node.layer))
        else:
            rewriter.keep(node)
    return rewriter.finish()
