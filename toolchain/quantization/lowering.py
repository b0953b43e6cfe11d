"""From a real graph and calibration inputs to an integer program: the lossy part of the compiler.

Nodes are lowered in execution order. Beside the real value of each node runs the value that the integer program gives
on the same inputs, so that formats are chosen, biases corrected and saturations counted on what hardware will see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from toolchain.errors import CalibrationError, ConfigurationError, PassError
from toolchain.frontends.importer import unique
from toolchain.ir import Array, Constant, FixedType, Graph, Input, Node, Output, Overflow, Rounding, TensorType
from toolchain.ir.types import needed_width
from toolchain.ops.base import Operator
from toolchain.ops.fake_quantize import FakeQuantize
from toolchain.ops.fixed_quantize import FixedQuantize
from toolchain.ops.linear import LinearOperator
from toolchain.ops.lookup import Lookup
from toolchain.ops.quantize import Quantize
from toolchain.ops.requantize import Requantize
from toolchain.packing.packed import Packed
from toolchain.packing.packer import HOLD, Layer, Packer, is_held
from toolchain.packing.search import Candidate
from toolchain.progress import Progress
from toolchain.quantization.configuration import CHOICES, OWN_FIX, Configuration, LayerConfiguration
from toolchain.quantization.entry import entry_grid, quantizes_itself
from toolchain.quantization.formats import choose_format, dyadic_grid
from toolchain.quantization.scaled import Scale, Scaled
from toolchain.quantization.weights import quantize_weights, weights_in_format

OUTPUT_BITS = 16
"""Width of what leaves the program, unless activations are wider: nobody multiplies it, and ties cost accuracy."""
UNSEEN_BITS = 8
"""Inputs of fewer bits count as so many where weights are too small to be seen in an output."""
ROWS = 256
"""Calibration rows that formats are chosen on."""
PACKING_ROWS = 4096
"""Calibration rows that packing may use: a fully connected layer sees one vector a row."""
MULTIPLICATIONS = 1 << 38
"""Work for one run over the calibration data; more rows than ROWS / 4 have to keep within it."""
BIAS_BITS = 3
"""Bits of a coded layer's bias below the step of its output."""
ELEMENTS = 1 << 26
"""Elements that one value may have over all calibration rows."""
EXACT_FLOAT = 1 << 53
RAW_BITS = 32
"""The widest integers that are taken as raw inputs."""


@dataclass(frozen=True)
class Lowered:
    """An integer program and what its making cost.

    `saturations` counts the calibration values that saturated in each Requantize or Quantize; `errors` gives the
    relative error of each real layer's output: root mean square of the difference over that of the real values.
    `output_error` is that of all model outputs, their means left out, on held-out rows. `accumulators` names the
    Requantize of each operator, by the operator's name, that a user forced on its sums.
    """

    graph: Graph
    saturations: Mapping[str, int]
    errors: Mapping[str, float]
    accumulators: Mapping[str, str] = field(default_factory=dict)
    output_error: float = 0.0


class Lowering:
    """The program under construction, as `Operator.lower` sees it."""

    def __init__(
        self, graph: Graph, configuration: Configuration, packer: Packer | None = None, invented: bool = False
    ) -> None:
        self.graph = graph
        self.configuration = configuration
        self.packer = packer
        self.invented = invented
        self.is_quantizing = quantizes_itself(graph)
        self.scaled = Scaled(self)
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.saturations: dict[str, int] = {}
        self.accumulators: dict[str, str] = {}
        self._values: dict[str, Array] = {}
        self._real: dict[str, Array] = {}
        self._origin: dict[str, str] = {}
        self._narrowed: dict[tuple[str, FixedType], str] = {}
        self._aliases: dict[str, str] = {}
        self._forced: set[str] = set()
        self._taken: dict[str, None] = {}
        self._tail = _tail(graph)

    # What operators use.

    def add(
        self, node: Node, operator: Operator, inputs: tuple[str, ...], part: str = "", values: Array | None = None
    ) -> str:
        """Appends an integer operator for the real `node` and returns the name of its value.

        The operator is evaluated, unless its exact `values` are given.
        """
        name = unique(f"{node.name}/{part}" if part else node.name, self._taken)
        types = tuple(self.types[value] for value in inputs)
        inferred = operator.typed(types)
        if not isinstance(inferred, TensorType):
            raise PassError("an integer operator gave a real value", where=node.name)
        if values is None:
            arrays = [self._values[value] for value in inputs]
            if operator.bound(*types) >= EXACT_FLOAT:
                arrays = [_exact(array) for array in arrays]
            values = operator.evaluate(*arrays)
        self._append(Node(name, operator, self._names(inputs), node.layer or node.name), inferred, values, node.name)
        return name

    def alias(self, value: str, node: Node) -> str:
        """Another handle for a value, one that lives as long as the real `node`'s does."""
        handle = unique(f"{node.name}/as", self._taken)
        self._taken[handle] = None
        self._aliases[handle] = self._aliases.get(value, value)
        self._origin[handle] = node.name
        self.types[handle], self._values[handle] = self.types[value], self._values[value]
        return handle

    def _names(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """The values that handles stand for."""
        return tuple(self._aliases.get(value, value) for value in values)

    def origin(self, value: str) -> Node:
        """The real node that a value stands for; an input of the model in the form of one."""
        name = self._origin[value]
        return self.graph.by_name.get(name) or Node(name, Operator(), (), name)

    def real(self, value: str) -> Array:
        """What a value stands for on the calibration data. Raises CalibrationError when there is none."""
        return self._seen(self._origin[value])

    def _seen(self, name: str) -> Array:
        """Real values of a node, or their ends where the model's own quantization is all that is known."""
        if self.invented:
            node = self.graph.by_name.get(name)
            for one in ([node] if node else []) + list(self.graph.consumers[name]):
                if isinstance(one.operator, FakeQuantize | Lookup):
                    return one.operator.ends
        return self._observed(name)

    def _observed(self, name: str) -> Array:
        """Real values of a node. Raises CalibrationError when there is no data."""
        if self.invented:
            node = self.graph.by_name.get(name)
            raise CalibrationError(
                "the model does not say how this value is quantized, so a format has to be chosen on real inputs",
                where=f"layer {node.layer if node else name!r}",
                fix="Give some with --calibrate X.npz.",
            )
        return self._real[name]

    def type(self, value: str) -> TensorType:
        return self.types[value]

    def width(self, node: Node) -> int:
        """Bits of a node's output: those of activations, more on the way to a model output."""
        return self._width(node.name)

    def format(self, node: Node, signed: bool | None = None) -> FixedType:
        """The format that suits the real output of `node`."""
        real = self._seen(node.name)
        return choose_format(real, self._width(node.name), bool(real.min(initial=0) < 0) if signed is None else signed)

    def narrow(self, value: str, like: Node | None = None) -> str:
        """The value with one binary point and no more bits than activations may have, or in its forced format.

        The format suits the real values that `value` stands for, or those of the output of `like`.
        """
        origin = like.name if like else self._origin[value]
        given = self.types[value]
        if given.is_scalar and (given.width <= self._width(origin) or value in self._forced):
            return value
        real = self._seen(origin)
        signed = bool(real.min(initial=0) < 0) if like else given.low < 0
        return self.to_format(value, choose_format(real, self._width(origin), signed))

    def aligned(self, value: str) -> str:
        """The value with one binary point, nothing lost."""
        given = self.types[value]
        if given.is_scalar:
            return value
        finest = max(given.fractions)
        low = min(given.low << (finest - f) for f in given.fractions)
        high = max(given.high << (finest - f) for f in given.fractions)
        exact = TensorType.holding(given.shape, min(low, 0), max(high, 0), (finest,))
        return self.to_format(value, FixedType(exact.width, exact.width - finest, exact.signed))

    def to_format(self, value: str, type: FixedType) -> str:
        """The value in exactly this format, requantized when it is not."""
        given = self.types[value]
        unused = type.overflow == Overflow.SAT_SYM and given.low == type.low  # a value that symmetric types give up
        if given.is_scalar and given.fixed == FixedType(type.width, type.integer, type.signed) and not unused:
            return value
        key = (value, type)
        if key not in self._narrowed:
            operator = Requantize.between(given, type)
            name = unique(f"{self._names((value,))[0]}/requantize", self._taken)
            node = Node(name, operator, self._names((value,)), self.node(value).layer)
            inferred = operator.typed((given,))
            assert isinstance(inferred, TensorType)
            values = self._values[value]
            if operator.bound(given) >= EXACT_FLOAT and values.dtype != object:
                values = values.astype(np.int64)  # float64 would lose the low bits of the result
            self.saturations[name] = operator.overflows(values)
            self._append(node, inferred, operator.evaluate(values), self._origin[value])
            self._narrowed[key] = name
        return self._narrowed[key]

    def weights(self, node: Node, operator: LinearOperator, value: str) -> tuple[Constant, tuple[int, ...], FixedType]:
        """The integer weights of a layer, their fraction bits per output channel, and the format that holds them all.

        A packer may code them; a forced format keeps it out.
        """
        coded = None if self.configuration.layer(node.layer).weight else self._coded(node, operator, value)
        if coded is None:
            integers, fractions, type = self.quantized(node, operator.weights.array, value)
            return Constant(integers), fractions, type
        packed = Packed(coded.coding, operator.weights.shape)
        needed, _ = needed_width(int(packed.array.min(initial=-1)), int(packed.array.max(initial=0)))
        return packed, (coded.fraction,) * operator.outputs, FixedType(needed, needed - coded.fraction)

    def quantized(self, node: Node, weights: Array, value: str) -> tuple[Array, tuple[int, ...], FixedType]:
        """Plain integer weights, their fraction bits per output channel, and their format (the widest channel's).

        Products with `value` are at most as many bits finer than an output of
        OUTPUT_BITS as the weights and `value` have together: the largest sum of weights that lose bits for it is below
        the output's step. Weights far below become 0 in place of making the sums wide.
        """
        forced = self.configuration.layer(node.layer).weight
        if forced:
            integers = weights_in_format(weights, forced)
            exact = np.floor(np.ldexp(weights, forced.fraction) + 0.5)
            self.saturations[f"{node.name}/weights"] = int((integers != exact).sum())
            return integers, (forced.fraction,) * weights.shape[-1], forced
        width = self.configuration.weight_bits
        integers, fractions = quantize_weights(weights, width, self._most_fraction(node, value))
        return integers, fractions, FixedType(width, width - min(fractions), True)

    def _most_fraction(self, node: Node, value: str) -> int:
        """The fraction bits beyond which weights that meet `value` cannot be seen in the node's output."""
        given, width = self.types[value], self.configuration.weight_bits
        seen = choose_format(self._seen(node.name), max(OUTPUT_BITS, self.configuration.activation_bits), True).fraction
        return seen + width + max(given.width, UNSEEN_BITS) - given.fraction

    def _coded(self, node: Node, operator: LinearOperator, value: str) -> Candidate | None:
        """The packer's coding of a layer's weights."""
        if self.packer is None:
            return None
        filters, real, given = operator.filters, self._observed(node.name), self.types[value]
        outputs = real.reshape(-1, filters.groups, real.shape[-1] // filters.groups)

        def vectors(chosen: Array) -> tuple[Array, Array]:
            raw = operator.vectors(self._values[value], chosen).astype(np.float64)
            return np.ldexp(raw, -given.fraction), outputs[chosen]

        rows = len(real)
        domain = self.configuration.layer(node.layer).pack or self.configuration.pack
        pixels, finest = len(outputs) // max(rows, 1), -self._most_fraction(node, value)
        return self.packer.code(Layer(node.name, filters, domain, rows, pixels, finest, vectors))

    def linear(
        self,
        node: Node,
        value: str,
        bias: Array,
        fractions: tuple[int, ...],
        make: Callable[[Constant], Operator],
        coarse: bool = False,
    ) -> str:
        """Adds a linear operator with its bias on the accumulator's grid, corrected for the mean error of the weights.

        `make` gives the operator for a raw bias. The correction is the mean over calibration of the real output minus
        the integer one, per output channel, shrunk towards zero where its own standard error is large. A `coarse` bias
        keeps BIAS_BITS below the step of the output's format: what is below cannot be seen and costs storage.
        """
        points = np.array([f + self.types[value].fraction for f in fractions])
        kept_points = np.minimum(points, self.format(node).fraction + BIAS_BITS) if coarse else points

        def on_grid(real: Array) -> Array:
            rounded = _round_half_up(np.ldexp(real, kept_points))
            return np.asarray(rounded << (points - kept_points)) if coarse else rounded

        raw = on_grid(bias)
        given = self.types[value]
        trial = make(Constant(raw))
        arrays = self._values[value]
        if trial.bound(given) >= EXACT_FLOAT:
            arrays = _exact(arrays)
        sums = trial.evaluate(arrays)
        got = np.ldexp(sums.astype(np.float64), -points)
        difference = (self._observed(node.name) - got).reshape(-1, got.shape[-1])
        mean, count = difference.mean(axis=0), len(got)
        noise = difference.var(axis=0) / max(count, 1)
        kept = np.clip(1 - noise / np.maximum(np.square(mean), 1e-300), 0, 1)
        corrected = on_grid(bias + mean * kept)
        operator = make(Constant(corrected))
        exact = sums.dtype == object or max(trial.bound(given), operator.bound(given)) < EXACT_FLOAT
        return self.add(node, operator, (value,), values=sums + (corrected - raw) if exact else None)

    # The run.

    def run(self, calibration: Mapping[str, Array], progress: Progress | None = None) -> Lowered:
        inputs, values = [], {}
        for given in self.graph.inputs:
            self._taken[given.name] = None
            real = given.from_model(calibration[given.name])
            inputs.append(given)
            values[given.name] = self._quantize(given, real)
        errors = {}
        for position, (node, dying) in enumerate(self.graph.last_uses()):
            if progress:
                progress(node.layer, position, len(self.graph.nodes))
            self._real[node.name] = node.operator.evaluate(*(self._real[name] for name in node.inputs))
            try:
                values[node.name] = self._lower(node, tuple(values[name] for name in node.inputs))
            except PassError as error:
                error.where = error.where or node.layer
                raise
            errors[node.layer] = self._error(node, values[node.name])
            for name in dying:
                self._forget(name)
        outputs, squares = [], []
        for output in self.graph.outputs:
            value = self._as_output(values[output.value])
            squares.append(self._output_error(output.value, value))
            outputs.append(Output(output.name, self._names((value,))[0], output.axes))
        graph = Graph(self.graph.name, tuple(inputs), tuple(self.nodes), tuple(outputs))
        return Lowered(graph, self.saturations, errors, self.accumulators, float(np.sqrt(np.mean(squares))))

    def _quantize(self, given: Input, real: Array) -> str:
        forced = next(
            (
                layer.input
                for node in self.graph.consumers[given.name]
                if (layer := self.configuration.layer(node.layer)).input
            ),
            None,
        )
        width = self.configuration.activation_bits
        floats = np.asarray(real, dtype=np.float64)
        name = unique(f"{given.name}/quantize", self._taken)
        self._real[given.name] = floats
        grid = entry_grid(self.graph, given.name) if real.dtype.kind == "f" and not forced else None
        own = grid.operator() if grid else None
        if own is not None:
            return self._own_entry(given, name, own)
        if self.is_quantizing and real.dtype.kind == "f":
            width = max(width, OUTPUT_BITS)  # so that the model's own quantization behind it sees what it saw
        type = forced or _raw_format(real, width) or (None if self.invented else dyadic_grid(floats, width))
        if type is None:
            seen = np.array(grid.ends) if grid and self.invented else self._observed(given.name)
            type = choose_format(seen, width, bool(seen.min(initial=0) < 0))
        if forced:
            self._forced.add(name)
        node = Node(name, Quantize(type), (given.name,), given.name)
        raw = node.operator.evaluate(floats)
        scaled = np.floor(np.ldexp(floats, type.fraction) + 0.5)
        self.saturations[name] = int(((scaled < type.low) | (scaled > type.high)).sum())
        self._append(node, TensorType.of(given.type.shape, type), raw, given.name)
        return self.scaled.mark(name, Scale.of(1.0)) if self.is_quantizing and not forced else name

    def _own_entry(self, given: Input, name: str, operator: Quantize) -> str:
        """An input as the model itself quantizes it."""
        node = Node(name, operator, (given.name,), given.name)
        inferred = operator.infer((given.type,))
        assert isinstance(inferred, TensorType)
        self.saturations[name] = 0
        self._append(node, inferred, operator.evaluate(self._real[given.name]), given.name)
        meaning = operator.meaning
        scale = Scale.of(meaning.scale, -meaning.scale * meaning.zero_point) if meaning else Scale.of(1.0)
        return self.scaled.mark(name, scale)

    def _lower(self, node: Node, inputs: tuple[str, ...]) -> str:
        forced = self.configuration.layer(node.layer)
        helps = _is_helper(node)
        kept = self.scaled.lower(node, inputs)
        if kept is not None:
            self._refuse_forced(node, forced)
            return kept
        if not isinstance(node.operator, FakeQuantize | FixedQuantize | Lookup):
            inputs = tuple(self.scaled.settled(value) for value in inputs)
        if helps and node.operator.is_layout:
            return node.operator.lower(self, node, inputs)
        if forced.input:
            inputs = tuple(
                self._force(value, forced.input) if self._comes_from_outside(name, node) else value
                for name, value in zip(node.inputs, inputs, strict=True)
            )
        value = node.operator.lower(self, node, inputs)
        if self.scaled.has(value):
            self._refuse_forced(node, forced)
        if helps:
            return value
        if forced.accumulator:
            exact = value
            value = self.accumulators[exact] = self.to_format(exact, forced.accumulator)
        if forced.output:
            value = self._force(value, forced.output)
        return value

    def _refuse_forced(self, node: Node, forced: LayerConfiguration) -> None:
        given = [key for key in CHOICES if getattr(forced, key) is not None]
        if given:
            raise ConfigurationError(
                f"{given[0]!r}: the model brings its own quantization here", where=f"layer {node.layer!r}", fix=OWN_FIX
            )

    def _force(self, value: str, type: FixedType) -> str:
        """The value in a format that the user asked for."""
        return self.keep(self.to_format(value, type))

    def keep(self, value: str) -> str:
        """The value, which its readers take as it is from here on, however wide."""
        self._forced.add(value)
        return value

    def _comes_from_outside(self, name: str, reader: Node) -> bool:
        """Is a value an input of the reader's layer, not one of its own partial results?"""
        maker = self.graph.by_name.get(name)
        while maker is not None and _is_helper(maker) and maker.operator.is_layout:
            maker = self.graph.by_name.get(maker.inputs[0])
        return maker is None or maker.layer != reader.layer or not _is_helper(maker)

    def _as_output(self, value: str) -> str:
        if self.scaled.has(value):
            return self.scaled.as_output(value)
        given = self.types[value]
        width = max(OUTPUT_BITS, self.configuration.activation_bits)
        if given.is_scalar and (given.width <= width or value in self._forced):
            return value
        return self.to_format(value, choose_format(self.real(value), width, given.low < 0))

    def _width(self, name: str) -> int:
        bits = self.configuration.activation_bits
        return max(bits, OUTPUT_BITS) if name in self._tail else bits

    def node(self, value: str) -> Node:
        (name,) = self._names((value,))
        return next(node for node in reversed(self.nodes) if node.name == name)

    def _append(self, node: Node, type: TensorType, values: Array, origin: str) -> None:
        if type.magnitude < EXACT_FLOAT:
            values = values.astype(np.float64)
        elif values.dtype != object:
            values = values.astype(np.int64).astype(object)  # object arrays hold Python integers
        self._taken[node.name] = None
        self.nodes.append(node)
        self.types[node.name] = type
        self._values[node.name] = values
        self._origin[node.name] = origin

    def _error(self, node: Node, value: str) -> float:
        real, got = self._real[node.name], self.scaled.real(value, self._values[value])
        scale = float(np.sqrt(np.square(real).mean())) if real.size else 0.0
        return float(np.sqrt(np.square(got - real).mean())) / scale if scale else 0.0

    def _output_error(self, origin: str, value: str) -> float:
        """Squared error of a model output over its energy without the mean, on the held-out rows."""
        real, got = self._real[origin], self.scaled.real(value, self._values[value])
        held = is_held(len(real)) if len(real) >= HOLD else np.ones(len(real), dtype=bool)
        real, got = real[held], got[held]
        energy = float(np.square(real - real.mean(0)).sum()) or float(np.square(real).sum())
        return float(np.square(got - real).sum()) / energy if energy else 0.0

    def _forget(self, name: str) -> None:
        self._real.pop(name, None)
        for value in [value for value, origin in self._origin.items() if origin == name]:
            self._values.pop(value, None)


def lower(
    graph: Graph,
    calibration: Mapping[str, Array],
    configuration: Configuration,
    progress: Progress | None = None,
    packer: Packer | None = None,
    invented: bool = False,
) -> Lowered:
    """Makes the integer program of a real graph.

    `calibration` has an array (rows, *model shape) for every input, in the model's own layout and scale; evenly spread
    rows of it are used. On `invented` data no format is chosen: what needs one is refused. A `packer` codes the
    weights; without one they are quantized plainly. Raises CalibrationError when the data does not fit the model or is
    needed and not there, ModelError for weights that are not finite, PassError when a forced format is
    impossible.
    """
    most = PACKING_ROWS if packer else ROWS
    return Lowering(graph, configuration, packer, invented).run(chosen_rows(graph, calibration, most), progress)


def chosen_rows(graph: Graph, calibration: Mapping[str, Array], most: int) -> dict[str, Array]:
    """Evenly spread rows of the calibration data, `most` or what memory and time allow for."""
    counts = {len(array) for array in calibration.values()}
    if len(counts) != 1 or 0 in counts:
        raise CalibrationError(f"has {sorted(counts)} rows for the inputs, one equal number above zero is needed")
    total = counts.pop()
    largest = max(type.size for type in graph.types.values())
    macs = sum(node.operator.multiplications(*(t.shape for t in graph.input_types(node))) for node in graph.nodes)
    rows = max(1, min(most, total, ELEMENTS // largest, max(ROWS // 4, MULTIPLICATIONS // max(macs, 1))))
    chosen = np.arange(rows) * total // rows
    return {name: array[chosen] for name, array in calibration.items()}


def _is_helper(node: Node) -> bool:
    """Is the node only a part of its layer (`Importer.add`), a transposition around a convolution for example?"""
    return node.name.startswith(f"{node.layer}/")


def _tail(graph: Graph) -> set[str]:
    """Values that reach only model outputs, through operators that move elements or end a network."""
    tail: set[str] = set()
    outputs = {output.value for output in graph.outputs}
    for node in reversed(graph.nodes):
        readers = graph.consumers[node.name]
        if (readers or node.name in outputs) and all(r.operator.is_layout and r.name in tail for r in readers):
            tail.add(node.name)
    return tail


def _raw_format(values: Array, width: int) -> FixedType | None:
    """Integer calibration data is the raw input itself: binary point 0, as many bits as it needs or `width`."""
    if values.dtype.kind not in "iub":
        return None
    needed, signed = needed_width(int(min(values.min(), 0)), int(max(values.max(), 0)))
    if needed > RAW_BITS:
        raise CalibrationError(
            f"holds integers of {needed} bits, {RAW_BITS} are possible", fix="Give real values as floats."
        )
    return FixedType(max(needed, width), max(needed, width), signed, Rounding.RND, Overflow.SAT)


def _exact(values: Array) -> Array:
    """Integer-valued floats as Python integers."""
    return values if values.dtype == object else values.astype(np.int64).astype(object)


def _round_half_up(values: Array) -> Array:
    rounded = np.floor(values + 0.5)
    if np.abs(rounded).max(initial=0) >= EXACT_FLOAT:
        return np.array([int(v) for v in rounded.ravel()], dtype=object).reshape(rounded.shape)
    return rounded.astype(np.int64)
