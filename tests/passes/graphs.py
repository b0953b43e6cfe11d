"""Random graphs for the tests of passes: real ones as importers make them, and integer ones as lowering makes them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tests.ops.designs import Entry
from toolchain.ir import Constant, FixedType, Graph, Input, Node, Output, Overflow, RealType, Rounding, TensorType
from toolchain.ir.window import Window
from toolchain.ops import Operator
from toolchain.ops.add import Add
from toolchain.ops.affine import Affine
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.clip import Clip
from toolchain.ops.concat import Concat
from toolchain.ops.conv import Conv
from toolchain.ops.fake_quantize import FakeQuantize
from toolchain.ops.gemm import Gemm
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.pad import Pad
from toolchain.ops.prelu import PRelu
from toolchain.ops.product import Product
from toolchain.ops.requantize import Requantize
from toolchain.ops.reshape import Reshape
from toolchain.ops.slice import Slice
from toolchain.ops.softmax import Softmax
from toolchain.ops.table import Sigmoid, Table, Tanh
from toolchain.ops.transpose import Transpose
from toolchain.simulation import reference

ROWS = 4


@dataclass
class Builder:
    """A graph that grows node by node, each value readable by every later one."""

    rng: np.random.Generator
    name: str = "random"
    inputs: list[Input] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    types: dict = field(default_factory=dict)

    def add(self, operator: Operator, *values: str) -> str:
        name = f"n{len(self.nodes)}"
        self.types[name] = operator.infer(tuple(self.types[value] for value in values))
        self.nodes.append(Node(name, operator, values, name))
        return name

    def input(self, shape: tuple[int, ...], given: TensorType | None = None) -> str:
        name = f"x{len(self.inputs)}"
        axes = tuple(int(a) for a in self.rng.permutation(len(shape)))
        self.inputs.append(Input(name, RealType(shape), axes))
        self.types[name] = RealType(shape)
        if given is None:
            return name
        return self.add(Entry(FixedType(given.width, given.width, given.signed), given=given), name)

    def graph(self, *values: str) -> Graph:
        outputs = tuple(
            Output(f"y{k}", value, tuple(int(a) for a in self.rng.permutation(len(self.types[value].shape))))
            for k, value in enumerate(values)
        )
        return Graph(self.name, tuple(self.inputs), tuple(self.nodes), outputs)


def finish(build: Builder) -> Graph:
    """Outputs: every value that nothing reads, and sometimes one that something does."""
    read = {value for node in build.nodes for value in node.inputs}
    made = [node.name for node in build.nodes if not isinstance(node.operator, Entry)]
    ends = [name for name in made if name not in read]
    if build.rng.integers(2):
        ends.append(made[int(build.rng.integers(len(made)))])
    return build.graph(*dict.fromkeys(ends))


def random_window(rng: np.random.Generator, shape: tuple[int, ...], padded: bool = True) -> Window:
    kernel = tuple(int(rng.integers(1, min(3, d) + 1)) for d in shape[:2])
    pads = tuple(int(rng.integers(0, kernel[k % 2])) if padded and rng.integers(2) else 0 for k in range(4))
    strides = tuple(int(s) for s in rng.integers(1, 3, 2))
    return Window(kernel, strides, (1, 1), pads)


# ---------------------------------------------------------------------------------------------- real graphs


def random_real_graph(seed: int, steps: int = 14) -> Graph:
    """Convolutions between the transpositions of a channels-first model, and everything else in either order."""
    rng = np.random.default_rng(seed)
    build = Builder(rng)
    values = [build.input(tuple(int(d) for d in rng.integers(1, 6, int(rng.integers(2, 4)))))]
    if rng.integers(2):
        values.append(build.input(build.types[values[0]].shape))
    while len(build.nodes) < steps:
        value = values[-1] if rng.integers(4) else values[int(rng.integers(len(values)))]
        values.append(_real_step(build, value, values))
    return finish(build)


def _real_step(build: Builder, value: str, values: list[str]) -> str:
    rng, shape = build.rng, build.types[value].shape
    rank, size = len(shape), int(np.prod(shape))

    def constant(scale=1.0):
        return Constant(rng.normal(size=[d if rng.integers(2) else 1 for d in shape]) * scale)

    def per_channel():
        ones = (1,) * (rank - 1)
        return Affine(Constant(rng.uniform(0.5, 2, (*ones, shape[-1]))), Constant(rng.normal(size=(*ones, shape[-1]))))

    def transposed():
        return build.add(Transpose(tuple(int(a) for a in rng.permutation(rank))), value)

    def windowed(make: Callable[[Window], Operator]):
        """As an importer does it: channels first outside."""
        last = build.add(Transpose((1, 2, 0)), value)
        return build.add(Transpose((2, 0, 1)), build.add(make(random_window(rng, build.types[last].shape)), last))

    def conv():
        groups = shape[0] if rng.integers(3) == 0 else 1
        outputs = groups * int(rng.integers(1, 4))

        def make(window):
            weights = rng.normal(size=(*window.kernel, shape[0] // groups, outputs))
            return Conv(Constant(weights), Constant(rng.normal(size=outputs)), window, groups)

        result = windowed(make)
        if rng.integers(2):
            ones = (outputs, 1, 1)
            result = build.add(Affine(Constant(rng.normal(size=ones)), Constant(rng.normal(size=ones))), result)
        return result

    def pool():
        window = random_window(rng, (shape[1], shape[2]), padded=False)
        return windowed(
            lambda _: MaxPool(window) if rng.integers(2) else AveragePool(window, Constant([[window.taps]]))
        )

    def gemm():
        outputs = int(rng.integers(1, 5))
        operator = Gemm(Constant(rng.normal(size=(shape[-1], outputs))), Constant(rng.normal(size=outputs)))
        return build.add(operator, value)

    def flat_gemm():
        flat = build.add(Reshape((size,)), value)
        return build.add(Gemm(Constant(rng.normal(size=(size, 3))), Constant(rng.normal(size=3))), flat)

    def reshaped():
        divisor = next(d for d in (*rng.permutation([2, 3, 4, 5]), 1) if size % d == 0)
        sizes = [(size,), (int(divisor), size // int(divisor)), (1, *shape) if rank < 3 else (size, 1)]
        return build.add(Reshape(sizes[int(rng.integers(len(sizes)))]), value)

    def pair():
        same = [other for other in values if build.types[other].shape == shape]
        other = same[int(rng.integers(len(same)))]
        if rng.integers(2):
            return build.add(Add(subtract=bool(rng.integers(2))), value, other)
        return build.add(Concat(int(rng.integers(rank))), value, other)

    def sliced():
        sizes = [int(rng.integers(1, d + 1)) for d in shape]
        starts = tuple(int(rng.integers(0, d - s + 1)) for d, s in zip(shape, sizes, strict=True))
        return build.add(Slice(starts, (1,) * rank, tuple(sizes)), value)

    def padded():
        before, after = (tuple(int(v) for v in rng.integers(0, 2, rank)) for _ in range(2))
        return build.add(Pad(before, after, float(rng.normal())), value)

    def elementwise():
        operators = (
            Clip(0, None),
            Clip(-0.5, 0.75),
            Sigmoid(),
            Tanh(),
            Softmax(),
            PRelu(constant(0.3)),
            Affine(constant(), constant()),
            per_channel(),
        )
        return build.add(operators[int(rng.integers(len(operators)))], value)

    def quantized():
        """Limits in front of a model's own quantization."""
        limited = build.add(Clip(*((0, None), (-0.5, 0.75), (None, 1.0))[int(rng.integers(3))]), value)
        step = Constant(np.full((1,) * rank, rng.uniform(0.01, 0.1)))
        result = build.add(FakeQuantize(step, *((-8, 7), (0, 255), (-127, 127))[int(rng.integers(3))]), limited)
        if rng.integers(3) == 0:
            whole = build.add(Concat(int(rng.integers(rank))), result, value)
            other = Constant(np.full((1,) * rank, rng.uniform(0.01, 0.1)))
            return build.add(FakeQuantize(other, -128, 127), whole)
        if rng.integers(2):
            curve = build.add(Sigmoid(), result)
            gate = curve if rng.integers(2) else build.add(Product(), result, curve)
            result = build.add(FakeQuantize(step, -16, 15), gate)
        return result

    choices = [
        transposed,
        elementwise,
        elementwise,
        quantized,
        per_channel_then_linear(build, value, per_channel),
        pair,
    ]
    choices += [gemm, flat_gemm, reshaped, sliced]
    if size < 200:
        choices.append(padded)
    if rank == 3:
        choices += [conv] * 4 + [pool] * 2
    return choices[int(rng.integers(len(choices)))]()


def per_channel_then_linear(build: Builder, value: str, per_channel: Callable[[], Operator]) -> Callable[[], str]:
    """A scale right in front of a matrix, which folds forwards."""

    def add() -> str:
        scaled = build.add(per_channel(), value)
        size = build.types[scaled].shape[-1]
        weights, bias = build.rng.normal(size=(size, 2)), build.rng.normal(size=2)
        return build.add(Gemm(Constant(weights), Constant(bias)), scaled)

    return add


# ---------------------------------------------------------------------------------------------- integer graphs


def random_integer_graph(seed: int, steps: int = 12) -> Graph:
    """Operators with the Requantizes, rectifiers and limits between them that exact passes act upon."""
    rng = np.random.default_rng(seed)
    build = Builder(rng)
    given = TensorType.of((4, 3, 4), FixedType(int(rng.integers(2, 9)), 3, bool(rng.integers(2))))
    values = [build.input(given.shape, given)]
    while len(build.nodes) < steps:
        value = values[-1] if rng.integers(4) else values[int(rng.integers(len(values)))]
        values.append(_integer_step(build, value, values))
    return finish(build)


def _integer_step(build: Builder, value: str, values: list[str]) -> str:
    rng, given = build.rng, build.types[value]

    def requantize(name=value, overflow=None):
        source = build.types[name]
        width = int(rng.integers(2, 10))
        rounding, overflow = Rounding(rng.choice(list(Rounding))), Overflow(overflow or rng.choice(list(Overflow)))
        signed = bool(rng.integers(2)) or overflow == Overflow.WRAP_SM
        fraction = min(source.fractions) - int(rng.integers(-1, 1 + max(1, source.width - width)))
        return build.add(
            Requantize.between(source, FixedType(width, width - fraction, signed, rounding, overflow)), name
        )

    if not given.is_scalar or given.width > 16:
        relu = build.add(Clip(0, None), value) if rng.integers(2) else value
        return requantize(relu, rng.choice(["SAT", "SAT_SYM", "WRAP"]))

    def same():
        """Requantizes that may change nothing."""
        width, signed = given.width, given.signed
        low, high = Overflow(rng.choice(["SAT", "SAT_SYM", "WRAP"])), Rounding(rng.choice(list(Rounding)))
        return build.add(Requantize.between(given, FixedType(width, width - given.fraction, signed, high, low)), value)

    def relu_then_requantize():
        return requantize(build.add(Clip(0, None), value), rng.choice(["SAT", "SAT_SYM", "WRAP", "SAT_ZERO"]))

    def limit():
        low, high = sorted(int(v) for v in rng.integers(given.low, given.high, 2, endpoint=True))
        ends = [(given.low, given.high), (given.low - 3, given.high + 5), (low, high), (0, None), (None, high)]
        low, high = ends[int(rng.integers(len(ends)))]
        return build.add(Clip(low, high), value)

    def table():
        if given.width > 8:
            return requantize()
        type = FixedType(int(rng.integers(2, 9)), 2, bool(rng.integers(2)))
        entries = rng.integers(type.low, type.high, 1 << given.width, endpoint=True)
        return build.add(Table(Constant(entries), type), value)

    def add():
        alike = [o for o in values if build.types[o].is_scalar and build.types[o].shape == given.shape]
        other = alike[int(rng.integers(len(alike)))]
        a, b = given.fraction, build.types[other].fraction
        if abs(a - b) > 8:
            return requantize()
        return build.add(Add((max(b - a, 0), max(a - b, 0)), bool(rng.integers(2))), value, other)

    def join():
        kind = (given.width, given.signed, given.fractions)
        alike = [
            o for o in values if (t := build.types[o]).shape == given.shape and (t.width, t.signed, t.fractions) == kind
        ]
        if given.shape[-1] > 16:
            return limit()
        return build.add(Concat(2), value, alike[int(rng.integers(len(alike)))])

    def conv():
        window = Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
        weights = rng.integers(-4, 4, (3, 3, given.shape[2], 4))
        fractions = tuple(int(f) for f in rng.integers(0, 3, 4)) if rng.integers(2) else (2,) * 4
        bias = Constant(rng.integers(-20, 20, 4))
        return build.add(Conv(Constant(weights), bias, window, 1, FixedType(3, 1), fractions), value)

    def pool():
        return build.add(MaxPool(Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))), value)

    choices = [requantize, same, same, relu_then_requantize, relu_then_requantize, limit, limit, table, add, join, conv]
    choices.append(pool)
    return choices[int(rng.integers(len(choices)))]()


# ---------------------------------------------------------------------------------------------- evaluation


def random_inputs(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """Inputs in the model's own layout: integers in range where they enter an integer program."""
    rng = np.random.default_rng([seed, 1])
    arrays = {}
    for given in graph.inputs:
        entries = [node.operator for node in graph.consumers[given.name] if isinstance(node.operator, Entry)]
        shape = (ROWS, *given.model_shape)
        if entries:
            low, high = entries[0].given.low, entries[0].given.high
            arrays[given.name] = rng.integers(low, high, shape, endpoint=True)
            arrays[given.name][0], arrays[given.name][1] = low, high
        else:
            arrays[given.name] = rng.normal(size=shape)
    return arrays


def outputs(graph: Graph, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs in the model's layout."""
    given = {i.name: i.from_model(inputs[i.name]) for i in graph.inputs}
    results = reference.evaluate(graph, given)
    return {output.name: output.to_model(results[output.name]) for output in graph.outputs}
