"""The ONNX graph while it grows, and what the translation of one TFLite operator works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
import tflite
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.names import Names
from toolchain.frontends.tflite.files import Operation, Tensor
from toolchain.frontends.tflite.reading import Reading

OPSET: Final = 18
IR_VERSION: Final = 8
MAX_NAME: Final = 120
REAL: Final = ("FLOAT32", "FLOAT16", "FLOAT64")
INTEGER: Final = ("INT32", "INT64")
INPUT_TYPES: Final = {"FLOAT32": TensorProto.FLOAT, "FLOAT16": TensorProto.FLOAT16, "FLOAT64": TensorProto.DOUBLE}
ACTIVATIONS: Final = {
    tflite.ActivationFunctionType.RELU: ("Relu", ()),
    tflite.ActivationFunctionType.RELU6: ("Clip", (0.0, 6.0)),
    tflite.ActivationFunctionType.RELU_N1_TO_1: ("Clip", (-1.0, 1.0)),
}
"""Fused activations as an ONNX operator and its constant inputs. The runtime ignores TANH and SIGN_BIT: refused."""


@dataclass
class Builder(Names):
    """Nodes and constants. `values` gives the ONNX value of each tensor computed so far, `folded` what is constant."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    values: dict[int, str] = field(default_factory=dict)
    folded: dict[int, NDArray[Any]] = field(default_factory=dict)

    def layer(self, operation: Operation) -> str:
        """A layer's name: the first of the names that the converter joined for its output."""
        name = operation.outputs[0].name.split(";")[0][:MAX_NAME] if operation.outputs else ""
        return self.node_name(name or f"{operation.kind.lower()}_{operation.index}")

    def append(
        self, kind: str, inputs: Sequence[str], name: str, outputs: int, attributes: dict[str, Any]
    ) -> list[str]:
        results = [self.value_name(f"{name}/output" if outputs == 1 else f"{name}/output_{k}") for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, results, name=name, **attributes))
        return results

    def model(self, name: str, inputs: Sequence[Tensor], outputs: Mapping[str, Tensor]) -> onnx.ModelProto:
        """The finished model. `outputs` go by the names that they shall have."""
        sources = []
        for tensor in inputs:
            sizes: list[str | int] = ["N", *(size if size > 0 else "?" for size in tensor.shape[1:])]
            kind = INPUT_TYPES[tensor.element]
            sources.append(helper.make_tensor_value_info(self.values[tensor.index], kind, sizes))
        for result, tensor in outputs.items():
            node = self.node_name(result)
            self.nodes.append(helper.make_node("Identity", [self.values[tensor.index]], [result], name=node))
        results = [helper.make_tensor_value_info(result, TensorProto.FLOAT, None) for result in outputs]
        used = {source for node in self.nodes for source in node.input}
        initializers = [numpy_helper.from_array(a, key) for key, a in self.constants.items() if key in used]
        graph = helper.make_graph(self.nodes, name, sources, results, initializers)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name=__name__)


@dataclass
class Call(Reading):
    """One operator under translation. Shapes have the batch first, as TFLite and ONNX have it."""

    builder: Builder = field(kw_only=True)

    def shape(self, tensor: Tensor, *free: int) -> tuple[int, ...]:
        """A shape of which all but the batch and the axes `free` is known."""
        unknown = [k for k, size in enumerate(tensor.shape) if size < 0 and k and k not in free]
        if unknown:
            raise UnsupportedOperator(f"needs dimension {unknown[0]} of {tensor.where}, which is free")
        return tensor.shape

    def rank(self, index: int, *wanted: int) -> int:
        """The number of dimensions of an input, one of `wanted` if these are given."""
        rank = len(self.tensor(index).shape)
        if wanted and rank not in wanted:
            raise UnsupportedOperator(f"has an input of {rank} dimensions instead of {' or '.join(map(str, wanted))}")
        return rank

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from 0 with the batch."""
        if not -rank <= axis < rank:
            raise ModelError(f"axis {axis} does not exist in {rank} dimensions")
        return axis % rank

    def is_constant(self, index: int) -> bool:
        tensor = self.tensor(index)
        return tensor.data is not None or tensor.index in self.builder.folded

    def constant(self, index: int) -> NDArray[Any]:
        """A constant: real numbers as float32, quantized ones as what they mean, other integers as int64."""
        tensor = self.tensor(index)
        if tensor.index in self.builder.folded:
            return self.builder.folded[tensor.index]
        if tensor.data is None:
            raise UnsupportedOperator(f"{tensor.where} is computed by the network, only constants are supported")
        return real(tensor)

    def integers(self, index: int) -> list[int]:
        """A short constant list, as axes and shapes are."""
        array = self.constant(index)
        if array.dtype.kind != "i" or array.size > 64:
            raise ModelError(f"{self.tensor(index).where} is no list of integers")
        return [int(v) for v in array.ravel()]

    def value(self, index: int) -> str:
        """The ONNX value of an input, computed or constant."""
        tensor = self.tensor(index)
        if self.is_constant(index):
            return self.add_constant(f"input_{index}", self.constant(index))
        if tensor.index not in self.builder.values:
            raise ModelError(f"reads {tensor.where} before it is computed")
        return self.builder.values[tensor.index]

    def add_constant(self, suffix: str, array: NDArray[Any]) -> str:
        """A constant of the layer."""
        name = self.builder.value_name(f"{self.layer}/{suffix}")
        self.builder.constants[name] = np.ascontiguousarray(array)
        return name

    def list_of(self, suffix: str, values: Sequence[int]) -> str:
        """An int64 constant, as shapes and axes are."""
        return self.add_constant(suffix, np.array(values, dtype=np.int64))

    def scalar(self, suffix: str, value: float) -> str:
        return self.add_constant(suffix, np.array(value, dtype=np.float32))

    def node(self, kind: str, inputs: Sequence[str], suffix: str = "", **attributes: Any) -> str:
        """Appends an ONNX node named after the layer, `layer/suffix` with a suffix, and gives its value."""
        return self.nodes(kind, inputs, 1, suffix, **attributes)[0]

    def nodes(self, kind: str, inputs: Sequence[str], outputs: int, suffix: str = "", **attributes: Any) -> list[str]:
        """A node with several values."""
        name = self.builder.node_name(f"{self.layer}/{suffix}") if suffix else self.layer
        return self.builder.append(kind, inputs, name, outputs, attributes)

    def channels_first(self, value: str) -> str:
        return self.node("Transpose", [value], "to_channels_first", perm=(0, 3, 1, 2))

    def channels_last(self, value: str) -> str:
        return self.node("Transpose", [value], "to_channels_last", perm=(0, 2, 3, 1))

    def activated(self, value: str) -> str:
        """The value behind the operator's fused activation."""
        code = self.option("FusedActivationFunction")
        if code == tflite.ActivationFunctionType.NONE:
            return value
        if code not in ACTIVATIONS:
            raise UnsupportedOperator(f"fused activation {code} is not supported")
        kind, bounds = ACTIVATIONS[code]
        limits = [self.scalar("low" if k == 0 else "high", bound) for k, bound in enumerate(bounds)]
        return self.node(kind, [value, *limits], kind.lower())

    def give(self, *values: str) -> None:
        """These are the operator's outputs."""
        for tensor, value in zip(self.operation.outputs, values, strict=True):
            self.builder.values[tensor.index] = value


def real(tensor: Tensor) -> NDArray[Any]:
    """What a constant tensor means: float32, or int64 where it is not quantized. Raises ModelError on NaN."""
    assert tensor.data is not None
    if tensor.element in REAL:
        array: NDArray[Any] = tensor.data.astype(np.float32)
    elif tensor.quantization is not None:
        scales, points = (
            along(values, tensor) for values in (tensor.quantization.scales, tensor.quantization.zero_points)
        )
        array = ((tensor.data.astype(np.int64) - points) * scales.astype(np.float64)).astype(np.float32)
    else:
        return tensor.data.astype(np.int64)
    if not np.isfinite(array).all():
        raise ModelError("holds NaN or infinity", where=tensor.where, fix="Train or convert again.")
    return array


def along(values: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """Scales or zero points, shaped to broadcast along the tensor's quantized axis."""
    if len(values) == 1 or tensor.quantization is None:
        return values.reshape(())
    shape = [1] * len(tensor.shape)
    shape[tensor.quantization.axis] = len(values)
    return values.reshape(shape)


Translate = Callable[[Call], None]
TRANSLATIONS: dict[str, Translate] = {}


def translates(*kinds: str) -> Callable[[Translate], Translate]:
    """Registers a function that translates operators of these kinds."""

    def register(function: Translate) -> Translate:
        for kind in kinds:
            TRANSLATIONS[kind] = function
        return function

    return register
