"""Small networks that together use most kernels, compiled as a user would: for tests of what is generated."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolchain.compiler import compile_model


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


NETWORKS = {"residual": residual, "branches": branches, "vector": vector}
BITS = {"residual": (8, 8), "branches": (5, 7), "vector": (3, 4)}
"""Weights and activations; those below 8 do not fill the words."""


def generate(name: str, folder: Path, board: str = "zcu104") -> Path:
    """Compiles a network into `folder` and returns the project's `hls/`."""
    folder.mkdir(parents=True, exist_ok=True)
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
