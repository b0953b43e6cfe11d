"""Small networks that together use most kernels, compiled as a user would: for tests of what is generated."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.ops.designs import expected_outputs, program, program_inputs
from toolchain.codegen.codings import random_packed
from toolchain.codegen.hls import render_hls
from toolchain.codegen.kernel import Folding
from toolchain.compiler import compile_model
from toolchain.hardware.board import load_board
from toolchain.hardware.folding import fold
from toolchain.hardware.network import build_network
from toolchain.ir import Constant, FixedType, Graph, Overflow, Rounding, TensorType
from toolchain.ir.window import Window
from toolchain.ops import Operator
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.conv import Conv
from toolchain.ops.fixed_softmax import FixedSoftmax, exponential
from toolchain.ops.requantize import Requantize
from toolchain.ops.rescale import Rescale, ScaleRounding
from toolchain.packing.basis import Transform
from toolchain.quantization.configuration import Configuration


class Model:
    """An ONNX model under construction; weights are drawn with a fixed seed."""

    def __init__(self, *shape: int) -> None:
        self.rng = np.random.default_rng(11)
        self.shape = shape
        self.nodes, self.constants = [], []

    def constant(self, values, dtype=np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def noise(self, *shape: int) -> str:
        return self.constant(self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])))

    def add(self, op_type: str, *inputs: str, **attributes) -> str:
        name = f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def conv(self, x: str, outputs: int, inputs: int, size: int, **attributes) -> str:
        return self.add("Conv", x, self.noise(outputs, inputs, size, size), self.noise(outputs), **attributes)

    def save(self, path: Path, *outputs: str) -> Path:
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *self.shape])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)
        return path


def residual(path: Path) -> Path:
    """A residual block, a depthwise convolution, global average pooling, softmax."""
    m = Model(3, 8, 8)
    stem = m.add("Relu", m.conv("x", 6, 3, 3, pads=[1, 1, 1, 1], strides=[2, 2]))
    branch = m.conv(stem, 6, 6, 3, pads=[1, 1, 1, 1])
    joined = m.add("Relu", m.add("Add", stem, branch))
    depthwise = m.add("Relu", m.conv(joined, 6, 1, 3, group=6))
    pooled = m.add("Flatten", m.add("GlobalAveragePool", depthwise))
    return m.save(path, m.add("Softmax", m.add("Gemm", pooled, m.noise(6, 5), m.noise(5)), axis=-1))


def branches(path: Path) -> Path:
    """Odd channel counts joined by concatenation, windows that hang over the border, three readers, two outputs."""
    m = Model(2, 7, 9)
    a = m.conv("x", 3, 2, 3)
    b = m.add("Slice", "x", m.constant([1, 1], np.int64), m.constant([6, 8], np.int64), m.constant([2, 3], np.int64))
    c = m.add("MaxPool", m.add("PRelu", a, m.constant([[[0.25]], [[0.5]], [[-1]]])), kernel_shape=[2, 2])
    joined = m.add("Concat", a, b, axis=1)
    average = m.add("AveragePool", joined, kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=0)
    sigmoid = m.add("Sigmoid", m.add("GlobalMaxPool", average))
    return m.save(path, sigmoid, m.add("Transpose", c, perm=[0, 2, 3, 1]))


def vector(path: Path) -> Path:
    """Dense layers without a picture, one of them grouped one-dimensional convolution."""
    m = Model(4, 12)
    x = m.add("Conv", "x", m.noise(8, 2, 3), m.noise(8), group=2, dilations=[2])
    x = m.add(
        "Clip",
        m.add("BatchNormalization", x, *(m.constant(np.full(8, v)) for v in (1.5, 0.1, 0, 0.5))),
        m.constant(0.0),
        m.constant(6.0),
    )
    x = m.add("Flatten", m.add("Pad", x, m.constant([0, 0, 1, 0, 0, 2], np.int64)))
    return m.save(path, m.add("Tanh", m.add("Gemm", x, m.noise(88, 10), m.noise(10))))


def computed(path: Path) -> Path:
    """Two computed operands, pictures that grow, normalization, and the largest of the outputs."""
    m = Model(4, 6, 6)
    a, b = m.conv("x", 4, 4, 1), m.conv("x", 4, 4, 1)
    c = m.add("LRN", m.add("Mul", m.add("Max", a, b), b), size=3, alpha=0.1)
    d = m.add("LayerNormalization", c, m.noise(6), axis=-1)
    e = m.add("MatMul", d, a)
    f = m.add("Resize", e, "", m.constant([1, 1, 2, 2]), mode="linear", coordinate_transformation_mode="half_pixel")
    flat = m.add("Flatten", m.add("GlobalAveragePool", f))
    m.nodes.append(helper.make_node("TopK", [flat, m.constant([2], np.int64)], ["most", "which"], name="top"))
    return m.save(path, "most", "which")


def packed(folder: Path) -> Path:
    """The sparse and clustered units behind each kind of window: no model file, weights as the packing gives them."""
    rng = np.random.default_rng(3)
    given = TensorType.of((6, 7, 8), FixedType(8, 4))
    behind: list[Operator] = []
    for kernel, transform in (
        ((3, 3), Transform("taps", 3, 3)),
        ((3, 3), Transform("taps", 3, 3)),
        ((2, 2), Transform("channels", 2, 2)),
        ((3, 3), Transform()),
        ((5, 6), Transform()),
    ):
        levels, is_clustered = (kernel[0] * kernel[1], 8, 8), not behind
        weights, format = random_packed(rng, transform, levels, (*kernel, 8, 8), is_clustered=is_clustered)
        pads = (1, 1, 1, 1) if kernel == (3, 3) else (0, 0, 0, 0)
        conv = Conv(weights, Constant(rng.integers(-9, 9, 8)), Window(kernel, pads=pads), 1, format, (3,) * 8)
        narrow = Requantize.between(conv.ranges(given), FixedType(8, 4, True, Rounding.RND, Overflow.SAT))
        behind += [conv, narrow]
        given = narrow.ranges(conv.ranges(given))
    graph = program("packed", behind[0], (TensorType.of((6, 7, 8), FixedType(8, 4)),), *behind[1:])
    sparse = [
        Folding(2, 4, "sparse", "frequency", 4, 2, centres=1),
        Folding(2, 4, "sparse", "frequency", 4, 2),
        Folding(4, 8, "sparse", "frequency", 7, 3),
        Folding(4, 4, "sparse", "spatial", 6, 2, copies="rows", units=2),
        Folding(4, 1, "sparse", "spatial", 16),
    ]
    chosen = dict(zip(("y", "y1", "y3", "y5", "y7"), sparse, strict=True))
    return rendered(graph, folder, chosen)


def quantized(folder: Path) -> Path:
    """What models that bring their own quantization use besides."""
    channels = Constant([(1 << 31) - 1, 3 << 29, 1 << 30, 5 << 28]), Constant([0, -1, -2, 1])
    behind = [
        AveragePool(Window((2, 2), (2, 2)), Constant([[4]]), 0, -128),
        Rescale(Constant([5 << 28]), Constant([0]), 0, 255, 9, rounding=ScaleRounding.HALF_EVEN),
        AveragePool(Window((3, 3)), Constant([[9]]), 0, -100),
        FixedSoftmax(Constant([exponential(-k << 22) for k in range(200)])),
    ]
    first = Rescale(*channels, 0, 255, 128)
    graph = program("quantized", first, (TensorType.of((6, 6, 4), FixedType(8, 8)),), *behind)
    return rendered(graph, folder, {})


def rendered(graph: Graph, folder: Path, chosen: Mapping[str, Folding]) -> Path:
    """The `hls/` of an integer program, some foldings forced."""
    network = build_network(graph, {**fold(graph, load_board("zcu104").resources, Configuration()), **chosen})
    inputs = program_inputs(graph, 1, 2)
    files = render_hls(network, load_board("zcu104"), 200.0, inputs, {"y": expected_outputs(graph, inputs)})
    for name, content in files.items():
        path = folder / "hls" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder / "hls"


NETWORKS = {
    "residual": residual,
    "branches": branches,
    "vector": vector,
    "computed": computed,
    "packed": packed,
    "quantized": quantized,
}
PROGRAMS = ("packed", "quantized")
BITS = {"residual": (8, 8), "branches": (5, 7), "vector": (3, 4), "computed": (8, 8)}
"""Weights and activations; those below 8 do not fill the words."""


def generate(name: str, folder: Path, board: str = "zcu104") -> Path:
    """Compiles a network into `folder` and returns the project's `hls/`."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in PROGRAMS:
        return NETWORKS[name](folder)
    model = NETWORKS[name](folder / f"{name}.onnx")
    shape = [d.dim_value for d in onnx.load(model).graph.input[0].type.tensor_type.shape.dim]
    data = np.random.default_rng(5).normal(size=(8, *shape[1:])).astype(np.float32)
    weights, activations = BITS[name]
    compile_model(
        model,
        folder / "project",
        calibrate=data,
        board=board,
        weight_bits=weights,
        activation_bits=activations,
    )
    return folder / "project" / "hls"
