"""Retrained weights in the formats of a program that is there: for hardware whose weights are loaded.

Everything but weights and biases stays: formats of values, shifts, and of each layer the transform, the steps of its
frequencies and the binary point. So the integers of the new program are those of the old program's hardware.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from toolchain.errors import ConfigurationError
from toolchain.ir import Array, Constant, Graph, Node, TensorType, Type
from toolchain.ir.tabulated import Tabulated
from toolchain.ops.base import Operator
from toolchain.ops.linear import LinearOperator
from toolchain.ops.requantize import Requantize
from toolchain.packing.compensation import Solver, round_compensated
from toolchain.packing.packed import Coding, Packed
from toolchain.packing.packer import FEWEST_ROWS, Layer, is_held
from toolchain.packing.search import DAMPINGS, Candidate, Problem
from toolchain.progress import Progress, no_progress
from toolchain.quantization.lowering import BIAS_BITS, PACKING_ROWS, chosen_rows
from toolchain.simulation import reference

PRICES = (1e-16, 1e2)
"""Between these, relative to a layer's energy, lies the price at which its nonzeros fit."""
BISECTIONS = 14
FOREIGN_ERROR = 0.25
"""Relative error behind constants that stay, beyond which they are those of another network."""


@dataclass(frozen=True)
class Capacity:
    """What the hardware has room for: entries of a layer's schedule, and bits of a level."""

    nonzeros: int
    weight_bits: int


@dataclass(frozen=True)
class Reweighted:
    """The program with the new weights, and each output's error relative to that of the real network."""

    graph: Graph
    errors: Mapping[str, float]


def reweighted(
    program: Graph,
    real: Graph,
    calibration: Mapping[str, Array],
    capacities: Mapping[str, Capacity],
    progress: Progress | None = None,
) -> Reweighted:
    """The integer `program` with the weights of the `real` graph, a retrained network of the same layers.

    Raises ConfigurationError when the real graph is another network.
    """
    report = progress or no_progress
    check_same(program, real)
    rows = chosen_rows(real, calibration, PACKING_ROWS)
    wanted = _RealRun(real, {given.name: given.from_model(rows[given.name]) for given in real.inputs})
    values: dict[str, Array] = {given.name: given.from_model(rows[given.name]) for given in program.inputs}
    nodes: list[Node] = []
    for position, (node, dying) in enumerate(program.last_uses()):
        report(node.layer, position, len(program.nodes))
        operator = node.operator
        if node.name in capacities:
            assert isinstance(operator, LinearOperator)
            given, source = values[node.inputs[0]], program.types[node.inputs[0]]
            assert isinstance(source, TensorType)
            layer = wanted.operator(node), wanted.values(node.name)
            operator = _reweighted(program, node, operator, *layer, given, source.fraction, capacities[node.name])
        types = program.input_types(node)
        values[node.name] = operator.evaluate(*(_exact(operator, types, values[name]) for name in node.inputs))
        nodes.append(replace(node, operator=operator))
        if node.name in wanted.names and node.name not in capacities and _has_constants(operator):
            _check_constants(program, node, values[node.name], wanted.values(node.name))
        for name in dying:
            values.pop(name, None)
    graph = program.with_nodes(tuple(nodes))
    errors: dict[str, float] = {}
    for output, one in zip(program.outputs, real.outputs, strict=True):
        type = graph.types[output.value]
        assert isinstance(type, TensorType)
        got = np.ldexp(values[output.value].astype(np.float64), -np.array(type.fractions))
        errors[output.name] = _relative(output.to_model(got), one.to_model(wanted.values(one.value)))
    return Reweighted(graph, errors)


def check_same(program: Graph, real: Graph) -> None:
    """Raises ConfigurationError unless the real graph has the inputs, outputs and weighted layers of the program."""
    for what, mine, others in (
        ("inputs", [(i.name, i.model_shape) for i in program.inputs], [(i.name, i.model_shape) for i in real.inputs]),
        ("outputs", [o.name for o in program.outputs], [o.name for o in real.outputs]),
        ("layers with weights", _linear(program), _linear(real)),
    ):
        if mine != others:
            differing = [pair for pair in zip(mine, others, strict=False) if pair[0] != pair[1]]
            pair = differing[0] if differing else (len(mine), len(others))
            raise ConfigurationError(
                f"is another network: its {what} differ, the project has {pair[0]}, the model {pair[1]}"
            )


def _linear(graph: Graph) -> list[tuple[str, str, tuple[int, ...]]]:
    return [
        (node.name, type(node.operator).__name__, node.operator.weights.shape)
        for node in graph.nodes
        if isinstance(node.operator, LinearOperator)
    ]


class _RealRun:
    """The real network, run on as far as a value is asked for."""

    def __init__(self, graph: Graph, inputs: Mapping[str, Array]) -> None:
        self._graph = graph
        self.names = frozenset(node.name for node in graph.nodes)
        self._values = dict(inputs)
        self._steps = self._run()
        self._outputs = {output.value for output in graph.outputs}

    def operator(self, node: Node) -> LinearOperator:
        operator = self._graph.by_name[node.name].operator
        assert isinstance(operator, LinearOperator)
        return operator

    def values(self, name: str) -> Array:
        """The values of a node that comes behind those asked for before, or of an output."""
        while name not in self._values:
            next(self._steps)
        return self._values[name]

    def _run(self) -> Iterator[None]:
        for node, dying in self._graph.last_uses():
            self._values[node.name] = node.operator.evaluate(*(self._values[name] for name in node.inputs))
            yield
            for name in dying:
                self._values.pop(name, None)


def _exact(operator: Operator, types: Sequence[Type], values: Array) -> Array:
    """Inputs of an integer operator in a type that holds whatever it computes."""
    integer = [one for one in types if isinstance(one, TensorType)]
    if len(integer) < len(types):  # real inputs of the program
        return values
    return values.astype(object if operator.bound(*integer) >= reference.INT64_LIMIT else np.int64)


def _has_constants(operator: Operator) -> bool:
    values = (getattr(operator, f.name) for f in fields(operator))
    return any(isinstance(value, Constant) and not isinstance(value, Tabulated) for value in values)


def _check_constants(program: Graph, node: Node, got: Array, real: Array) -> None:
    type = program.types[node.name]
    assert isinstance(type, TensorType)
    error = _relative(np.ldexp(got.astype(np.float64), -np.array(type.fractions)), real)
    if error > FOREIGN_ERROR:
        raise ConfigurationError(
            f"has constants that are part of the hardware and differ from it (relative error {error:.2f})",
            where=f"layer {node.layer!r}",
            fix="Keep them fixed in training, or compile the model again.",
        )


def _relative(got: Array, real: Array) -> float:
    energy = float(np.square(real).sum())
    return float(np.sqrt(np.square(got - real).sum() / energy)) if energy else 0.0


def _reweighted(
    program: Graph,
    node: Node,
    operator: LinearOperator,
    real: LinearOperator,
    outputs: Array,
    given: Array,
    fraction: int,
    capacity: Capacity,
) -> LinearOperator:
    """The integer operator with the real one's weights, for the integers that it is `given`."""
    weights = operator.weights
    assert isinstance(weights, Packed)
    filters = real.filters
    grouped = outputs.reshape(-1, filters.groups, outputs.shape[-1] // filters.groups)
    floats = given.astype(np.float64)

    def vectors(chosen: Array) -> tuple[Array, Array]:
        return np.ldexp(real.vectors(floats, chosen), -fraction), grouped[chosen]

    pixels = len(grouped) // max(len(outputs), 1)
    layer = Layer(node.name, filters, "auto", len(outputs), pixels, -1024, vectors)
    found = _coded(layer, weights.coding, operator.fractions[0], capacity)
    packed = Packed(found.coding, weights.shape)
    points = operator.fractions[0] + fraction
    kept = min(points, visible_fraction(program, node, points))

    def on_grid(values: Array) -> Constant:
        return Constant(np.floor(np.ldexp(values, kept) + 0.5).astype(np.int64) << (points - kept))

    trial = operator.with_weights(packed, on_grid(real.bias.array))
    raw = trial.evaluate(_exact(trial, program.input_types(node), given))
    sums = np.ldexp(raw.astype(np.float64), -points)
    difference = (outputs - sums).reshape(-1, outputs.shape[-1])
    mean, noise = difference.mean(axis=0), difference.var(axis=0) / max(len(outputs), 1)
    shrunk = mean * np.clip(1 - noise / np.maximum(np.square(mean), 1e-300), 0, 1)
    return trial.with_weights(packed, on_grid(real.bias.array + shrunk))


def visible_fraction(program: Graph, node: Node, otherwise: int) -> int:
    """Fraction bits of a bias beyond which its node's narrowed output does not show them."""
    for reader in program.consumers[node.name]:
        if isinstance(reader.operator, Requantize):
            return reader.operator.type.fraction + BIAS_BITS
    return otherwise


def _coded(layer: Layer, like: Coding, fraction: int, capacity: Capacity) -> Candidate:
    """The coding in the steps of `like` with the least error whose nonzeros fit."""
    weights = layer.filters.grouped(layer.filters.weights)
    held = is_held(layer.rows)
    hold, fit = layer.moments(np.flatnonzero(held)), layer.moments(np.flatnonzero(~held))
    both = fit + hold if fit and hold else fit or hold
    assert both is not None
    whole = Problem(layer.filters, both.statistics(weights), capacity.weight_bits)
    energy = float(whole.statistics.energy.sum())

    def coded(problem: Problem, price: float, damping: float) -> Candidate:
        return _code(problem, like, fraction, price * energy, damping)

    damping = np.inf
    if fit and hold and layer.rows >= FEWEST_ROWS:
        half, unseen = replace(whole, statistics=fit.statistics(weights)), hold.statistics(weights)
        errors = {d: unseen.error(half.change(coded(half, 0.0, d))) for d in (np.inf, *DAMPINGS[::2])}
        damping = min(errors, key=lambda d: errors[d])

    def fits(found: Candidate) -> bool:
        counts = np.count_nonzero(found.coding.levels.array, axis=(0, 1))
        return int(np.maximum(counts, 1).sum()) <= capacity.nonzeros

    best = coded(whole, 0.0, damping)
    if fits(best):
        return best
    low, high = np.log(PRICES[0]), np.log(PRICES[1])
    best = coded(whole, PRICES[1], damping)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        trial = coded(whole, float(np.exp(middle)), damping)
        if fits(trial):
            high, best = middle, trial
        else:
            low = middle
    return best


def _code(problem: Problem, like: Coding, fraction: int, price: float, damping: float) -> Candidate:
    filters, transform = problem.filters, like.transform
    taps, channels, _ = filters.weights.shape
    moved = problem.statistics.transformed(transform, taps)
    coefficients = filters.grouped(transform.forward(filters.weights))
    solver = Solver.plain(moved, coefficients) if np.isinf(damping) else Solver.of(moved, coefficients, damping)
    steps = np.ldexp(1.0, np.array(like.shifts) - fraction)[transform.frequency(taps, channels).ravel()]
    limit = (1 << (problem.bits - 1)) - 1
    levels = np.clip(np.rint(solver.target / steps[:, None]), -limit, limit)
    # Every nonzero costs the same: they are what the schedule has room for.
    levels = round_compensated(solver, steps, limit, price, replace(problem, pixels=1).model(levels))
    error = moved.error(levels * steps[:, None] - coefficients)
    coding = Coding(Constant(filters.ungrouped(levels)), transform, like.shifts)
    return Candidate(coding, fraction, error, float(np.count_nonzero(levels)), damping)
