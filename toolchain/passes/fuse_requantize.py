"""Removes integer operators that a neighbouring Requantize makes superfluous."""

from __future__ import annotations

from toolchain.ir import Graph, Overflow, TensorType
from toolchain.ops.clip import Clip
from toolchain.ops.requantize import Requantize
from toolchain.passes.rewriting import Rewriter


def fuse_requantize(graph: Graph) -> Graph:
    """Exact.

    A Relu in front of a saturating unsigned Requantize goes, since rounding is monotone and keeps 0; so does a
    Requantize that changes neither binary point nor any value of the known range, and a Clip that limits nothing.
    """
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        inputs = rewriter.inputs(node)
        maker = rewriter.by_name.get(inputs[0]) if inputs else None
        operator = node.operator
        if isinstance(operator, Requantize):
            saturates = operator.type.overflow in (Overflow.SAT, Overflow.SAT_SYM) and not operator.type.signed
            if saturates and maker is not None and isinstance(maker.operator, Clip) and maker.operator.is_relu:
                rewriter.stand_for(node.name, rewriter.add(node.name, operator, maker.inputs, node.layer))
                continue
            given, result = rewriter.types[inputs[0]], graph.types[node.name]
            if not any(operator.shifts) and _same_values(given, result, operator):
                rewriter.stand_for(node.name, inputs[0])
                continue
        if isinstance(operator, Clip):
            given = rewriter.types[inputs[0]]
            if isinstance(given, TensorType) and given.is_scalar:
                low, high = operator.limits(given)
                if low <= given.low and given.high <= high and _same_type(given, operator.ranges(given)):
                    rewriter.stand_for(node.name, inputs[0])
                    continue
        rewriter.keep(node)
    return rewriter.finish()


def _same_values(given: object, result: object, operator: Requantize) -> bool:
    return (
        isinstance(given, TensorType)
        and isinstance(result, TensorType)
        and not operator.can_overflow(given)
        and _same_type(given, result)
    )


def _same_type(given: TensorType, result: TensorType) -> bool:
    """A Concat or a table behind either sees the same width."""
    return (given.width, given.signed, given.fractions) == (result.width, result.signed, result.fractions)
