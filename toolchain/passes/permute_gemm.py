"""A matrix behind a flattened channels-first picture takes the channels-last one, its rows in another order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from toolchain.ir import Constant, Graph
from toolchain.ops.gemm import Gemm
from toolchain.ops.reshape import Reshape
from toolchain.ops.transpose import Transpose
from toolchain.passes.rewriting import Rewriter


def permute_gemm(graph: Graph) -> Graph:
    """Exact. Transpose -> Reshape to one axis -> Gemm becomes Reshape -> Gemm; the picture's geometry is kept."""
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        inputs = rewriter.inputs(node)
        flat = rewriter.by_name.get(inputs[0]) if inputs else None
        if isinstance(node.operator, Gemm) and flat is not None and isinstance(flat.operator, Reshape):
            if len(flat.operator.sizes) == 1:
                operator, source = node.operator, flat.inputs[0]
                turned = rewriter.by_name.get(source)
                if turned is not None and isinstance(turned.operator, Transpose):
                    shape = rewriter.types[source].shape
                    axes = turned.operator.axes
                    rows = np.arange(len(operator.weights.array)).reshape(shape).transpose(np.argsort(axes)).ravel()
                    operator = replace(operator, weights=Constant(operator.weights.array[rows]))
                    source = turned.inputs[0]
                shape = rewriter.types[source].shape
                operator = replace(operator, geometry=shape if len(shape) == 3 else ())
                value = rewriter.add(flat.name, Reshape(flat.operator.sizes), (source,), flat.layer)
                rewriter.stand_for(node.name, rewriter.add(node.name, operator, (value,), node.layer))
                continue
        rewriter.keep(node)
    return rewriter.finish()
