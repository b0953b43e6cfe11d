"""A matrix behind a flattened channels-first picture takes the channels-last one, its rows in another order."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter

import numpy as np

from toolchain.ir import Graph
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
        if (
            not isinstance(node.operator, Gemm)
            or flat is None
            or not isinstance(flat.operator, Reshape)
            or len(flat.operator.sizes) != 1
        ):
            rewriter.keep(node)
            continue
        operator, source, value = node.operator, flat.inputs[0], inputs[0]
        turned = rewriter.by_name.get(source)
        if turned is not None and isinstance(turned.operator, Transpose):
            back = np.argsort(turned.operator.axes)
            rows = np.arange(flat.operator.sizes[0]).reshape(rewriter.types[source].shape).transpose(back).ravel()
            operator = replace(operator, weights=operator.weights.rearranged(itemgetter(rows)))
            source = turned.inputs[0]
            value = rewriter.add(flat.name, flat.operator, (source,), flat.layer)
        shape = rewriter.types[source].shape
        operator = replace(operator, geometry=shape if len(shape) == 3 else ())
        rewriter.stand_for(node.name, rewriter.add(node.name, operator, (value,), node.layer))
    return rewriter.finish()
