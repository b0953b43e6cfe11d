"""`toolchain inspect`: a table of what a model holds, and one list of what is not supported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from toolchain.errors import printable
from toolchain.frontends import read_graph
from toolchain.ir import Array, Graph, Levels, TensorType, Type
from toolchain.ir.types import needed_width
from toolchain.ops.base import Operator
from toolchain.ops.fake_quantize import FakeQuantize
from toolchain.ops.fixed_quantize import FixedQuantize
from toolchain.ops.linear import LinearOperator
from toolchain.packing.search import transforms
from toolchain.passes import pipeline


def inspect_model(model: Path, weights: Path | None, input_shapes: Mapping[str, tuple[int, ...]], out: Console) -> None:
    """Prints the layers of a supported model. Raises UnsupportedOperator, which lists every problem, for another."""
    graph = pipeline.run(read_graph(model, weights, input_shapes), pipeline.REAL_PASSES)
    out.print(layer_table(graph))
    for given in graph.inputs:
        out.print(f"input  {printable(given.name)}: rows x {' x '.join(map(str, given.model_shape))}", markup=False)
    for output in graph.outputs:
        shape = (graph.types[output.value].shape[a] for a in output.axes)
        out.print(f"output {printable(output.name)}: rows x {' x '.join(map(str, shape))}", markup=False)


def layer_table(graph: Graph) -> Table:
    """One line a layer after clean-up: normalization folded, transpositions gone where they could be."""
    table = Table(title=printable(graph.name))
    own = [quantization(node.operator, graph.types[node.name]) for node in graph.nodes]
    columns = ("layer", "op", "input", "output", *(["quantization"] if any(own) else []))
    for column in columns:
        table.add_column(column, overflow="fold")
    table.add_column("domains", overflow="fold")
    for column in ("parameters", "MACs"):
        table.add_column(column, justify="right")
    totals = [0, 0]
    for node, found in zip(graph.nodes, own, strict=True):
        shapes = [graph.types[name].shape for name in node.inputs]
        parameters, macs = node.operator.parameters(), node.operator.multiplications(*shapes)
        totals = [totals[0] + parameters, totals[1] + macs]
        table.add_row(
            printable(node.name),
            type(node.operator).__name__,
            ", ".join("x".join(map(str, shape)) for shape in shapes),
            "x".join(map(str, graph.types[node.name].shape)),
            *([found] if any(own) else []),
            ", ".join(domains(node.operator)),
            str(parameters),
            str(macs),
        )
    table.add_section()
    table.add_row("total", f"{len(graph.nodes)} layers", *[""] * (len(columns) - 1), *map(str, totals))
    return table


def quantization(operator: Operator, type: Type) -> str:
    """What the model itself says about the integers of a layer's weights, or of its output."""
    if isinstance(operator, FakeQuantize):
        width, signed = needed_width(operator.low, operator.high)
        zero = f" zero {operator.zero_point:g}" if operator.zero_point else ""
        return f"{'' if signed else 'u'}int{width} {_scales(operator.scale.array)}{zero}"
    if isinstance(operator, FixedQuantize):
        widths = sorted({int(operator.widths.min()), int(operator.widths.max())})
        return f"fixed-point, {' to '.join(map(str, widths))} bits, {operator.rounding}, {operator.overflow}"
    if isinstance(operator, LinearOperator) and isinstance(operator.weights, Levels):
        integers = operator.weights.integers
        width, signed = needed_width(int(integers.min(initial=0)), int(integers.max(initial=0)))
        return f"weights {'' if signed else 'u'}int{width} {_scales(operator.weights.scales)}"
    if isinstance(operator, LinearOperator) and operator.weight_type is not None:
        return f"weights {operator.weight_type.width} bits"
    if isinstance(type, TensorType):
        meaning = f" x {type.meaning.scale:.6g} zero {type.meaning.zero_point}" if type.meaning else ""
        return f"{'' if type.signed else 'u'}int{type.width}{meaning}"
    return ""


def domains(operator: Operator) -> Iterator[str]:
    """What the packing may code a layer's weights in: as they are, or transformed over taps or over channels."""
    if not isinstance(operator, LinearOperator) or operator.weight_type is not None:
        return
    if isinstance(operator.weights, Levels):
        yield "own integers"
        return
    for transform in transforms(operator.filters, "auto"):
        size = "x".join(str(n) for n in (transform.rows, transform.columns) if n > 1)
        yield {"taps": f"dct {size}", "channels": f"channels {size}"}.get(transform.kind, "spatial")


def _scales(scales: Array) -> str:
    values = np.unique(scales)
    kind = " (powers of 2)" if (np.frexp(values)[0] == 0.5).all() else ""
    return f"x {values[0]:.6g}{kind}" if values.size == 1 else f"x {values[0]:.3g} to {values[-1]:.3g}{kind}"
