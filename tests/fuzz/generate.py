"""Random networks with everything that decides how they are compiled, made from one seed.

A node is proposed, ONNX's own shape inference judges it, and what does not fit or grows too large is proposed anew. So
nothing here computes shapes, and a mistake in the compiler's shapes is not made twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolchain.ir import FixedType, Overflow, Rounding
from toolchain.quantization.configuration import Configuration

LARGEST = 512
"""Elements of a tensor."""
MACS = 30_000
OPSETS = range(7, 25)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """What a case is beside its network. Calibration and test inputs follow from the seed and the input shapes."""

    seed: int
    weight_bits: int = 8
    activation_bits: int = 8
    layers: dict[str, dict[str, str]] = field(default_factory=dict)
    rows: int = 8
    scale: float = 1.0
    data: str = "normal"
    foldings: str = "random"
    pack: str = "none"
    execute: str = "auto"

    @property
    def configuration(self) -> Configuration:
        names = ("weight_bits", "activation_bits", "layers", "pack", "execute")
        return Configuration.model_validate({name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Case:
    """A network with its settings. `name` becomes the name of the C++ design."""

    name: str
    model: onnx.ModelProto
    settings: Settings

    def arrays(self, rows: int, stream: int) -> dict[str, np.ndarray]:
        """Random inputs, batch first. `stream` tells calibration (0) from tests (1)."""
        s = self.settings
        rng = np.random.default_rng([s.seed, stream])
        arrays = {}
        for given in self.model.graph.input:
            shape = (rows, *(d.dim_value for d in given.type.tensor_type.shape.dim[1:]))
            if s.data == "bytes":
                values = rng.integers(0, 256, shape) / 256.0
            elif s.data == "grid":
                values = rng.integers(-8, 8, shape) / 4.0
            elif s.data == "positive":
                values = np.abs(rng.normal(size=shape)) * s.scale
            elif s.data == "constant":
                values = np.full(shape, s.scale * (given.name[-1] in "02468"))
            else:
                values = rng.normal(size=shape) * s.scale
            if stream:  # a quarter of the rows at and beyond the ends of the formats, or exactly zero
                wild = rng.choice([-20.0, -4.0, 0.0, 4.0, 20.0], shape) * s.scale
                values[::4] = wild[::4]
                values[1::16] = np.abs(wild[1::16])
            arrays[given.name] = values.astype(np.float32)
        return arrays

    def save(self, path: Path, found: str = "") -> None:
        """`path`.onnx and `path`.json; `found` says what went wrong."""
        path.with_suffix(".onnx").write_bytes(self.model.SerializeToString(deterministic=True))
        path.with_suffix(".json").write_text(json.dumps({"found": found, **asdict(self.settings)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Case:
        settings = json.loads(path.with_suffix(".json").read_text())
        settings.pop("found", None)
        model = onnx.load_model_from_string(path.with_suffix(".onnx").read_bytes())
        return cls(f"crasher_{path.stem}", model, Settings(**settings))


class Network:
    """A network under construction. `shapes` are those of all values, the batch left out."""

    def __init__(self, rng: np.random.Generator, opset: int) -> None:
        self.rng = rng
        self.opset = opset
        self.inputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes: dict[str, Shape] = {}
        self.chaining = False
        self._used = 0

    # Random choices.

    def flip(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def draw(self, low: int, high: int) -> int:
        """Both ends included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def value(self, accept: Callable[[Shape], bool] = lambda _: True) -> str | None:
        """An existing value, the latest most often."""
        fitting = [name for name, shape in self.shapes.items() if accept(shape)]
        if not fitting:
            return None
        return fitting[-1] if self.chaining or self.flip(0.6) else self.pick(*fitting)

    # Building.

    def name(self, stem: str) -> str:
        self._used += 1
        return f"{stem}{self._used}"

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        name = self.name("c")
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def input(self, shape: Shape) -> None:
        name = self.name("x")
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape]))
        self.shapes[name] = shape

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> bool:
        """Appends a node if ONNX accepts it and its output is of moderate size."""
        output = self.name("v")
        attributes = {key: value for key, value in attributes.items() if value is not None}
        node = helper.make_node(op_type, list(inputs), [output], name=f"{op_type.lower()}_{output}", **attributes)
        shape = self._infer(node)
        if shape is None:
            return False
        self.nodes.append(node)
        self.shapes[output] = shape
        return True

    def _infer(self, node: onnx.NodeProto) -> Shape | None:
        graph = helper.make_graph(
            [*self.nodes, node], "g", self.inputs, [helper.make_empty_tensor_value_info(node.output[0])], self.constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        try:
            inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError:
            return None
        dims = inferred.graph.output[0].type.tensor_type.shape.dim
        shape = tuple(d.dim_value for d in dims)
        if len(shape) < 2 or len(shape) > 6 or shape[0] != 1 or min(shape) < 1 or int(np.prod(shape)) > LARGEST:
            return None
        return shape[1:]

    def noise(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        values = self.rng.normal(size=shape) * scale
        if self.flip(0.15):
            values *= self.rng.random(shape) < 0.4
        if self.flip(0.1) and shape:
            values[0] = 0
        if self.flip(0.04):
            values *= self.pick(0.0, 1e-4, 50.0)
        return values

    def per_channel(self, shape: Shape) -> np.ndarray | None:
        """A random broadcastable shape for a constant operand."""
        channel = (shape[0], *(1,) * (len(shape) - 1))
        return self.noise(*self.pick((), (1,), channel, (1, *channel), shape[-1:], shape, (1, *shape)))


def conv(net: Network) -> bool:
    x = net.value(lambda s: len(s) in (2, 3))
    if x is None:
        return False
    channels, *sizes = net.shapes[x]
    groups = net.pick(1, 1, *(g for g in range(1, channels + 1) if channels % g == 0), channels)
    outputs = groups * net.draw(1, max(1, 8 // groups))
    kernel = [min(net.pick(1, 2, 3, 3, 4, 5), size + 1) for size in sizes]
    weights = net.noise(outputs, channels // groups, *kernel, scale=(channels // groups * np.prod(kernel)) ** -0.5)
    if weights.size * np.prod(sizes) > MACS:
        return False
    operands = [x, net.constant(weights)]
    if net.flip(0.7):
        operands.append(net.constant(net.noise(outputs, scale=0.3)))
    attributes = window(net, kernel, sizes, dilated=True)
    if attributes is None:
        return False
    if net.flip(0.5):
        attributes["kernel_shape"] = kernel
    return net.add("Conv", *operands, group=groups if groups > 1 or net.flip() else None, **attributes)


def window(net: Network, kernel: list[int], sizes: Shape, dilated: bool) -> dict[str, Any] | None:
    """Random geometry; None where the kernel would not fit, which ONNX's shape inference lets pass."""
    rank = len(kernel)
    found: dict[str, Any] = {}
    if net.flip(0.4):
        found["strides"] = [net.draw(1, 3) for _ in range(rank)]
    if dilated and net.flip(0.25):
        found["dilations"] = [net.draw(1, 2) for _ in range(rank)]
    kind = net.draw(0, 9)
    if kind == 0:
        found["auto_pad"] = "VALID"
    elif kind in (1, 2):
        found["auto_pad"] = net.pick("SAME_UPPER", "SAME_LOWER")
        found.pop("dilations", None)  # ONNX Runtime refuses both together
        if any(k < s for k, s in zip(kernel, found.get("strides", kernel), strict=True)):
            return None  # ONNX Runtime computes negative padding
    elif kind <= 6:
        found["pads"] = [net.draw(0, k - 1) for k in (*kernel, *kernel)]
    pads, dilations = found.get("pads", [0] * 2 * rank), found.get("dilations", [1] * rank)
    fits = all((kernel[k] - 1) * dilations[k] < sizes[k] + pads[k] + pads[k + rank] for k in range(rank))
    return found if fits or found.get("auto_pad", "").startswith("SAME") else None


def pool(net: Network) -> bool:
    x = net.value(lambda s: len(s) in (2, 3))
    if x is None:
        return False
    op_type = net.pick("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
    if op_type.startswith("Global"):
        return net.add(op_type, x)
    sizes = net.shapes[x][1:]
    kernel = [min(net.draw(1, 3), size) for size in sizes]
    attributes = window(net, kernel, sizes, dilated=net.opset >= (10 if op_type == "MaxPool" else 19))
    if attributes is None:
        return False
    if net.flip(0.3) and "auto_pad" not in attributes and net.opset >= 10:
        attributes["ceil_mode"] = 1
    if op_type == "AveragePool" and net.flip(0.4):
        attributes["count_include_pad"] = 1
    return net.add(op_type, x, kernel_shape=kernel, **attributes)


def gemm(net: Network) -> bool:
    x = net.value(lambda s: len(s) == 1)
    if x is None:
        return False
    (columns,), rows = net.shapes[x], net.draw(1, 10)
    turned = net.flip()
    weights = net.noise(*((rows, columns) if turned else (columns, rows)), scale=columns**-0.5)
    operands = [x, net.constant(weights)]
    if net.flip(0.7) or net.opset < 11:
        operands.append(net.constant(net.noise(*net.pick((rows,), (rows,), (1, rows), (), (1,)), scale=0.3)))
    alpha, beta = (net.pick(None, 0.5, 1.3) for _ in range(2))
    return net.add("Gemm", *operands, transB=int(turned) if turned or net.flip(0.2) else None, alpha=alpha, beta=beta)


def matmul(net: Network) -> bool:
    x = net.value()
    assert x is not None
    columns = net.shapes[x][-1]
    return net.add("MatMul", x, net.constant(net.noise(columns, net.draw(1, 8), scale=columns**-0.5)))


def batch_normalization(net: Network) -> bool:
    x = net.value()
    assert x is not None
    channels = net.shapes[x][0]
    constants = [
        net.noise(channels),
        net.noise(channels, scale=0.5),
        net.noise(channels),
        net.rng.uniform(0.1, 3, channels),
    ]
    return net.add("BatchNormalization", x, *map(net.constant, constants), epsilon=net.pick(None, 1e-3))


def activation(net: Network) -> bool:
    x = net.value()
    assert x is not None
    op_type = net.pick("Relu", "Relu", "Relu", "Clip", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Softmax")
    if op_type == "Clip":
        low, high = sorted(net.rng.normal(size=2) * 2)
        bounds = net.pick(
            (0.0, 6.0), (low, high), (low, None), (None, high), (0.0, None), (0.0, abs(high)), (-1.0, 1.0)
        )
        operands = ["" if bound is None else net.constant(bound) for bound in bounds]
        if net.opset < 11:
            return net.add("Clip", x, min=bounds[0], max=bounds[1])
        return net.add("Clip", x, *operands[: 1 if bounds[1] is None and net.flip() else 2])
    if op_type == "LeakyRelu":
        return net.add("LeakyRelu", x, alpha=net.pick(None, 0.1, 0.25, 0.3, 1.5, -0.2))
    if op_type == "PRelu":
        slope = net.per_channel(net.shapes[x])
        return slope.shape != () and net.add("PRelu", x, net.constant(slope))
    if op_type == "Softmax":
        axes = range(1, len(net.shapes[x]) + 1)
        if net.opset < 13:  # the older operator works on a matrix
            return net.add("Softmax", x, axis=len(axes))
        return net.add("Softmax", x, axis=net.pick(-1, -1, *axes, *(-a for a in axes)))
    return net.add(op_type, x)


def arithmetic(net: Network) -> bool:
    """With a constant."""
    x = net.value()
    assert x is not None
    op_type = net.pick("Mul", "Add", "Sub", "Div")
    values = net.per_channel(net.shapes[x])
    if op_type == "Div":
        values = np.where(np.abs(values) < 0.3, 0.7, values)
    elif op_type == "Add" and net.flip(0.2) and net.opset >= 9:
        shape = net.integers(*values.shape)
        fill = numpy_helper.from_array(np.array([net.pick(0.0, 0.75)], np.float32))
        name = net.name("k")
        net.nodes.append(helper.make_node("ConstantOfShape", [shape], [name], name=f"fill_{name}", value=fill))
        return net.add("Add", x, name)
    constant = net.constant(values)
    operands = (constant, x) if op_type != "Div" and net.flip(0.3) else (x, constant)
    return net.add(op_type, *operands)


def merge(net: Network) -> bool:
    """Of several computed values."""
    x = net.value()
    assert x is not None
    op_type = net.pick("Add", "Add", "Sub", "Sum", "Concat", "Concat")
    shape = net.shapes[x]
    if op_type == "Concat":
        k = net.draw(0, len(shape) - 1)
        others = [
            n
            for n, s in net.shapes.items()
            if len(s) == len(shape) and s[:k] + s[k + 1 :] == shape[:k] + shape[k + 1 :]
        ]
        values = [x, *(net.pick(*others) for _ in range(net.pick(1, 1, 2, 3)))]
        net.rng.shuffle(values)
        return net.add("Concat", *values, axis=net.pick(k + 1, k - len(shape)) if net.opset >= 11 else k + 1)
    others = [n for n, s in net.shapes.items() if s == shape]
    if others == [x] and net.flip(0.8):
        return False
    count = net.draw(1, 4) if op_type == "Sum" else 2
    values = [x, *(net.pick(*others) for _ in range(count - 1))]
    net.rng.shuffle(values)
    return net.add(op_type, *values)


def layout(net: Network) -> bool:
    x = net.value()
    assert x is not None
    shape = net.shapes[x]
    rank, size = len(shape), int(np.prod(shape))
    op_type = net.pick("Pad", "Slice", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout")
    if op_type == "Pad":
        if rank > 3:
            return False
        before, after = ([net.pick(0, 0, 1, 2) for _ in shape] for _ in range(2))
        value = net.pick(None, 0.0, 0.0, 1.0, -0.4)
        if net.opset < 11:
            return net.add("Pad", x, pads=[0, *before, 0, *after], value=value)
        operands = [x, net.integers(0, *before, 0, *after)]
        if value is not None:
            operands.append(net.constant(value))
        return net.add("Pad", *operands)
    if op_type == "Slice":
        if rank > 3:
            return False
        axes = sorted(net.rng.permutation(rank)[: net.draw(1, rank)].tolist())
        starts = [net.draw(0, shape[a] - 1) for a in axes]
        ends = [net.pick(net.draw(s + 1, shape[a]), shape[a], 2**31 - 1) for s, a in zip(starts, axes, strict=True)]
        if net.flip(0.2):
            starts = [s - shape[a] for s, a in zip(starts, axes, strict=True)]
        if net.opset < 10:
            return net.add("Slice", x, starts=starts, ends=ends, axes=[a + 1 for a in axes])
        operands = [net.integers(*starts), net.integers(*ends)]
        operands.append(net.integers(*(a + 1 if net.flip(0.8) else a - rank for a in axes)))
        if net.flip():
            operands.append(net.integers(*(net.draw(1, 3) for _ in axes)))
        return net.add("Slice", x, *operands)
    if op_type == "Flatten":
        return net.add("Flatten", x, axis=net.pick(None, 1, -rank) if net.opset >= 11 else 1)
    if op_type == "Reshape":
        sizes: list[int] = []
        left = size
        for _ in range(net.draw(1, 4) - 1):
            sizes.append(net.pick(*(d for d in range(1, min(left, 8) + 1) if left % d == 0)))
            left //= sizes[-1]
        sizes.append(left)
        net.rng.shuffle(sizes)
        batch = net.pick(0, -1)
        if batch == 0 and net.flip(0.4):
            sizes[net.draw(0, len(sizes) - 1)] = -1
        return net.add("Reshape", x, net.integers(batch, *sizes))
    if op_type == "Transpose":
        return net.add("Transpose", x, perm=[0, *(int(a) + 1 for a in net.rng.permutation(rank))])
    if op_type == "Squeeze":
        ones = [k for k, d in enumerate(shape) if d == 1]
        if not ones or rank == 1:
            return False
        chosen = ones[: net.draw(1, min(len(ones), rank - 1))]
        if net.opset < 13:
            return net.add("Squeeze", x, axes=[k + 1 for k in chosen])
        return net.add("Squeeze", x, net.integers(*(k + 1 if net.flip() else k - rank for k in chosen)))
    if op_type == "Unsqueeze":
        if net.opset < 13:
            return rank < 4 and net.add("Unsqueeze", x, axes=[net.draw(1, rank + 1)])
        return rank < 4 and net.add("Unsqueeze", x, net.integers(net.pick(*range(1, rank + 2), -1)))
    return net.add(op_type, x)


def block(net: Network) -> bool:
    """What networks are made of, one behind the other."""
    net.chaining = True
    plans = (
        (conv, batch_normalization, activation),
        (activation, batch_normalization, conv),
        (activation, batch_normalization, matmul),
        (conv, activation, pool),
        (layout, conv),
        (conv, layout, gemm, activation),
        (conv, activation, conv, merge),
    )
    for part in net.pick(*plans):
        part(net)
    net.chaining = False
    return True


BUILDERS = (
    block,
    block,
    conv,
    conv,
    conv,
    conv,
    pool,
    pool,
    gemm,
    matmul,
    batch_normalization,
    activation,
    activation,
    activation,
)
BUILDERS += (arithmetic, merge, merge, merge, layout, layout, layout, layout, layout)


def generate(seed: int, name: str = "") -> Case:
    """The random case of a seed."""
    rng = np.random.default_rng([seed, 20])
    net = Network(rng, net_opset := int(rng.choice(OPSETS)))
    for _ in range(net.pick(1, 1, 1, 1, 2, 3)):
        rank = net.pick(1, 2, 3, 3, 3, 3)
        shape = tuple(net.draw(1, 8) for _ in range(rank))
        net.input(next(iter(net.shapes.values())) if net.shapes and net.flip(0.7) else shape)
    wanted, tries = net.draw(2, 12), 0
    while sum(node.op_type != "ConstantOfShape" for node in net.nodes) < wanted and tries < 200:
        tries += 1
        net.pick(*BUILDERS)(net)
    model = finish(net, net_opset)
    case = Case(name or f"net_{seed}", model, settings(net, seed))
    return with_odd_names(case, rng) if net.flip(0.15) else case


def finish(net: Network, opset: int) -> onnx.ModelProto:
    """Leaves become outputs, and now and then a value that others read; the batch becomes free, as a rule."""
    read = {name for node in net.nodes for name in node.input}
    made = [node.output[0] for node in net.nodes if node.op_type != "ConstantOfShape"]
    leaves = [name for name in made if name not in read]
    kept = leaves[-3:]
    outputs = [name for name in made if name in kept or net.flip(0.04)]
    batch: Any = net.pick("N", "N", "N", 1)
    inputs = [
        helper.make_tensor_value_info(given.name, TensorProto.FLOAT, [batch, *net.shapes[given.name]])
        for given in net.inputs
    ]
    graph = helper.make_graph(
        net.nodes,
        "random",
        inputs,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *net.shapes[name]]) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.graph.initializer.extend(net.constants)
    return pruned(model)


def pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without nodes, constants and inputs that no output needs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    alive = {output.name for output in model.graph.output}
    nodes = []
    for node in reversed(model.graph.node):
        if alive.intersection(node.output):
            nodes.append(node)
            alive.update(node.input)
    for target, items in (
        (result.graph.node, nodes[::-1]),
        (result.graph.initializer, [c for c in model.graph.initializer if c.name in alive]),
        (result.graph.input, [i for i in model.graph.input if i.name in alive]),
    ):
        kept = [type(item).FromString(item.SerializeToString()) for item in items]
        del target[:]
        target.extend(kept)
    return result


ODD_NAMES = (
    *("class", "x.1", "x_1", "x-1", "X_1", "a/b", "a", "a/b/c", "1", "9lives", "int", "main", "hls", "dct", "é", "//"),
    *("x" * 80, 'quote"', "back\\slash", "new\nline", "*/", "%d", "$(x)", "v/requantize", "v", "a b", "x_1_axis", "_"),
)


def with_odd_names(case: Case, rng: np.random.Generator) -> Case:
    """Some values and nodes get names that are no identifiers, or the same one when written as identifiers."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    graph = model.graph
    names = {name for node in graph.node for name in (*node.input, *node.output) if name}
    odd = [str(name) for name in rng.permutation(ODD_NAMES)]
    new = {name: odd.pop() for name in sorted(names) if odd and rng.random() < 0.5}
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new.get(value.name, value.name)
    layers = {}
    for k, node in enumerate(graph.node):
        for values in (node.input, node.output):
            renamed = [new.get(name, name) for name in values]
            del values[:]
            values.extend(renamed)
        before = node.name
        if rng.random() < 0.5:
            names = ["", f"a/{k}", node.output[0], ODD_NAMES[k % len(ODD_NAMES)]]
            node.name = names[int(rng.integers(len(names)))]
        elif before in case.settings.layers:
            layers[before] = case.settings.layers[before]
    return replace(case, model=model, settings=replace(case.settings, layers=layers))


def settings(net: Network, seed: int) -> Settings:
    """Random bits, formats, data, foldings, and how weights are coded and executed."""
    layers: dict[str, dict[str, str]] = {}
    if net.flip(0.5):
        for node in net.nodes:
            if node.op_type != "ConstantOfShape" and net.flip(0.3):
                layers[node.name] = forced_formats(net, node.op_type)
    return Settings(
        seed,
        net.pick(8, 8, net.draw(3, 16)),
        net.pick(8, 8, net.draw(3, 16)),
        layers,
        net.draw(1, 16),
        float(net.pick(1, 1, 0.1, 5)),
        net.pick("normal", "normal", "normal", "positive", "bytes", "grid", "grid", "constant"),
        net.pick("random", "random", "random", "solver"),
        net.pick("none", "none", "dct", "dct", "spatial", "auto"),
        net.pick("auto", "auto", "spatial", "frequency"),
    )


def forced_formats(net: Network, op_type: str) -> dict[str, str]:
    formats = {}
    keys = ["output", "input"]
    if op_type in ("Conv", "Gemm", "MatMul"):
        keys += ["accumulator", "accumulator", "weight"]
    for key in {net.pick(*keys) for _ in range(net.draw(1, 2))}:
        width = net.draw(3, 24 if key == "accumulator" else 32 if key != "weight" and net.flip(0.1) else 16)
        integer = net.draw(-1, 5)
        while True:
            signed, rounding, overflow = net.flip(0.7), net.pick(*Rounding), net.pick(*Overflow)
            if signed or overflow != Overflow.WRAP_SM:
                break
        formats[key] = str(FixedType(width, integer, signed, rounding, overflow))
    return formats


def renamed(case: Case, name: str) -> Case:
    return replace(case, name=name)
