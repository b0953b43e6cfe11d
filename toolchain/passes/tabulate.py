"""Makes one table of everything between two quantizations of a model that is a function of single numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from toolchain.ir import Array, Constant, Graph, Node
from toolchain.ops.add import Add
from toolchain.ops.affine import Affine
from toolchain.ops.base import Operator
from toolchain.ops.clip import Clip
from toolchain.ops.extremum import Extremum
from toolchain.ops.fake_quantize import FakeQuantize
from toolchain.ops.functions import Curve, Sign
from toolchain.ops.lookup import Lookup
from toolchain.ops.prelu import PRelu
from toolchain.ops.product import Product
from toolchain.ops.table import INDEX_BITS, Sigmoid, Tanh
from toolchain.passes.rewriting import Rewriter

PLAIN = (Affine, Clip, Add)
"""What the integers pass, or nearly: a table is made only of what has something else in it."""
ELEMENTWISE = (*PLAIN, Curve, Extremum, PRelu, Product, Sigmoid, Sign, Tanh)


@dataclass(frozen=True)
class _Function:
    """What a value is of each level that `quantizer` gives, which are there under the name `place`."""

    place: str
    quantizer: FakeQuantize
    values: Array
    is_curve: bool


def tabulate(graph: Graph) -> Graph:
    """Exact in real numbers. Quantize -> curve -> quantize becomes quantize -> table, gates by a sigmoid too."""
    rewriter = Rewriter(graph)
    functions: dict[str, _Function] = {}
    for node in graph.nodes:
        operator = node.operator
        found = _moved(graph, node, functions) or _function(node, functions)
        if isinstance(operator, FakeQuantize) and _is_simple(operator):
            if found is None or not found.is_curve:
                functions[node.name] = _source(node, operator)
                rewriter.keep(node)
                continue
            functions[node.name] = found
            table = _lookup(found, operator)
            rewriter.stand_for(node.name, rewriter.add(node.name, table, (rewriter.new(found.place),), node.layer))
            continue
        if found is not None:
            functions[node.name] = found
        rewriter.keep(node)
    return rewriter.finish()


def _is_simple(operator: FakeQuantize) -> bool:
    return operator.is_per_tensor and not operator.zero_point and operator.high - operator.low < 1 << INDEX_BITS


def _source(node: Node, operator: FakeQuantize) -> _Function:
    levels = np.arange(operator.low, operator.high + 1) * operator.scale.array.flat[0]
    return _Function(node.name, operator, levels.reshape(-1, *(1,) * operator.scale.array.ndim), is_curve=False)


def _moved(graph: Graph, node: Node, functions: dict[str, _Function]) -> _Function | None:
    """The levels of a quantization themselves, in another place."""
    given = functions.get(node.inputs[0]) if node.operator.is_layout and len(node.inputs) == 1 else None
    if given is None or given.place != node.inputs[0]:
        return None
    rank = len(graph.types[node.name].shape)
    return replace(given, place=node.name, values=given.values.reshape(-1, *(1,) * rank))


def _function(node: Node, functions: dict[str, _Function]) -> _Function | None:
    """The node as a function of the one quantization that all its inputs are functions of."""
    given = [functions.get(name) for name in node.inputs]
    known = [one for one in given if one is not None]
    operator = node.operator
    if not known or len(known) < len(given) or len({one.place for one in known}) > 1:
        return None
    if not isinstance(operator, (*ELEMENTWISE, FakeQuantize)) or not _is_uniform(operator):
        return None
    values = operator.evaluate(*(one.values for one in known))
    is_curve = any(one.is_curve for one in known) or not isinstance(operator, (*PLAIN, FakeQuantize))
    return replace(known[0], values=np.asarray(values), is_curve=is_curve)


def _is_uniform(operator: Operator) -> bool:
    """Is it the same for every element?"""
    if isinstance(operator, Affine):
        return bool(operator.scale.array.size == operator.offset.array.size == 1)
    if isinstance(operator, PRelu):
        return bool(operator.slopes.array.size == 1)
    return not isinstance(operator, FakeQuantize) or _is_simple(operator)


def _lookup(found: _Function, operator: FakeQuantize) -> Lookup:
    levels = np.rint(found.values / operator.scale.array.flat[0]).astype(np.int64).ravel()
    scale, step = (float(one.scale.array.flat[0]) for one in (found.quantizer, operator))
    return Lookup(scale, found.quantizer.low, step, Constant(levels))
