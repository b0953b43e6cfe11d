"""QLinear and integer operators in terms of the operators that they quantize.

`QLinearConv` is DequantizeLinear -> Conv -> QuantizeLinear by its own definition; so are the others, those of ONNX
Runtime's domain `com.microsoft` among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from toolchain.errors import ModelError, UnsupportedOperator

MICROSOFT = "com.microsoft"


class _Expansion:
    """The nodes that one node becomes."""

    def __init__(self, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> None:
        self.node = node
        self.constants = constants
        self.nodes: list[onnx.NodeProto] = []
        self.added: list[onnx.TensorProto] = []
        self.layer = node.name or (node.output[0] if node.output else node.op_type)
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def has(self, index: int) -> bool:
        return index < len(self.node.input) and bool(self.node.input[index])

    def input(self, index: int) -> str:
        if not self.has(index):
            raise ModelError(f"input {index} is missing")
        return str(self.node.input[index])

    def add(self, kind: str, inputs: Sequence[str], part: str = "", **attributes: Any) -> str:
        """A node whose value has the name of `part`, or is the node's own output."""
        result = f"{self.layer}/{part}" if part else str(self.node.output[0])
        name = result if part else self.layer
        self.nodes.append(helper.make_node(kind, inputs, [result], name=name, **attributes))
        return result

    def constant(self, part: str, array: np.ndarray) -> str:
        name = f"{self.layer}/{part}"
        self.added.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def numbers(self, index: int) -> np.ndarray:
        tensor = self.constants.get(self.input(index))
        if tensor is None:
            raise UnsupportedOperator(f"input {index} is computed by the network, only constants are supported")
        return np.asarray(numpy_helper.to_array(tensor))

    def real(self, index: int, part: str, axis: int = 1) -> str:
        """Inputs index, index + 1 and index + 2 are integers, their scale and zero point: the real numbers."""
        given = [self.input(index), self.input(index + 1), *([self.input(index + 2)] if self.has(index + 2) else [])]
        return self.add("DequantizeLinear", given, part, axis=axis)

    def shifted(self, index: int, zero: int, part: str, axis: int) -> str:
        """Integers less their zero point, if there is one."""
        points = self.numbers(zero) if self.has(zero) else np.zeros((), dtype=np.int64)
        given = [self.input(index), self.constant(f"{part}_scale", np.ones(points.shape, dtype=np.float32))]
        return self.add("DequantizeLinear", [*given, *([self.input(zero)] if self.has(zero) else [])], part, axis=axis)

    def finish(self, value: str, index: int) -> None:
        """The output is `value`, quantized by the scale and zero point at inputs `index` and `index + 1`."""
        zero = [self.input(index + 1)] if self.has(index + 1) else []
        self.add("QuantizeLinear", [value, self.input(index), *zero])

    def bias(self, index: int, scales: np.ndarray, part: str = "bias") -> list[str]:
        """An int32 bias, which has the products' scale."""
        if not self.has(index):
            return []
        scale = self.constant(f"{part}_scale", scales.astype(np.float32).reshape(-1 if scales.size > 1 else ()))
        return [self.add("DequantizeLinear", [self.input(index), scale], part, axis=0)]


def _conv(self: _Expansion) -> None:
    x, weights = self.real(0, "x"), self.real(3, "weights", axis=0)
    bias = self.bias(8, self.numbers(1) * self.numbers(4))
    self.finish(self.add("Conv", [x, weights, *bias], "real", **self.attributes), 6)


def _matmul(self: _Expansion) -> None:
    self.finish(self.add("MatMul", [self.real(0, "a"), self.real(3, "b")], "real"), 6)


def _conv_integer(self: _Expansion) -> None:
    self.add("Conv", [self.shifted(0, 2, "x", 1), self.shifted(1, 3, "weights", 0)], **self.attributes)


def _matmul_integer(self: _Expansion) -> None:
    self.add("MatMul", [self.shifted(0, 2, "a", 0), self.shifted(1, 3, "b", 1)])


def _gemm(self: _Expansion) -> None:
    alpha, turned = self.attributes.get("alpha", 1.0), self.attributes.get("transB", 0)
    a, b = self.real(0, "a"), self.real(3, "b", axis=0 if turned else 1)
    bias = self.bias(6, alpha * self.numbers(1) * self.numbers(4), "c")
    if not self.has(7):
        self.add("Gemm", [a, b, *bias], **self.attributes)
        return
    self.finish(self.add("Gemm", [a, b, *bias], "real", **self.attributes), 7)


def _pair(kind: str) -> Callable[[_Expansion], None]:
    def expand(self: _Expansion) -> None:
        self.finish(self.add(kind, [self.real(0, "a"), self.real(3, "b")], "real", **self.attributes), 6)

    return expand


def _single(kind: str) -> Callable[[_Expansion], None]:
    def expand(self: _Expansion) -> None:
        options = {name: value for name, value in self.attributes.items() if name != "channels_last" or value}
        self.finish(self.add(kind, [self.real(0, "x")], "real", **options), 3)

    return expand


def _concat(self: _Expansion) -> None:
    parts = [self.real(k, f"x{k // 3}") for k in range(2, len(self.node.input), 3)]
    self.finish(self.add("Concat", parts, "real", **self.attributes), 0)


EXPANSIONS: dict[tuple[str, str], Callable[[_Expansion], None]] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    ("", "ConvInteger"): _conv_integer,
    ("", "MatMulInteger"): _matmul_integer,
    (MICROSOFT, "QGemm"): _gemm,
    (MICROSOFT, "QLinearAdd"): _pair("Add"),
    (MICROSOFT, "QLinearMul"): _pair("Mul"),
    (MICROSOFT, "QLinearAveragePool"): _single("AveragePool"),
    (MICROSOFT, "QLinearConcat"): _concat,
    (MICROSOFT, "QLinearGlobalAveragePool"): _single("GlobalAveragePool"),
    (MICROSOFT, "QLinearLeakyRelu"): _single("LeakyRelu"),
    (MICROSOFT, "QLinearSigmoid"): _single("Sigmoid"),
}
"""By domain and operator."""
RENAMED = ("QuantizeLinear", "DequantizeLinear")
"""Of ONNX Runtime's domain: ONNX's own, for types that these did not have yet."""


def spell_out_quantized(model: onnx.ModelProto) -> None:
    """Replaces the quantized operators of a model's graph. Raises ModelError with the place for damaged ones."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain == MICROSOFT and node.op_type in RENAMED:
            node.domain = ""
        expand = EXPANSIONS.get((domain, node.op_type))
        if expand is None:
            nodes.append(node)
            continue
        expansion = _Expansion(node, constants)
        try:
            expand(expansion)
        except (ModelError, ValueError) as error:
            message = error.message if isinstance(error, ModelError) else str(error)
            kind = type(error) if isinstance(error, ModelError) else ModelError
            raise kind(message, where=f"{node.op_type} {expansion.layer!r}") from error
        nodes += expansion.nodes
        model.graph.initializer.extend(expansion.added)
    if len(nodes) != len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(nodes)
