"""TFLite file -> ONNX model: the one public function of this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.tflite import (  # noqa: F401 - they register what they translate
    arrangement,
    curves,
    elementwise,
    kernels,
    layers,
    products,
    reductions,
    resizing,
    shapes,
    transposed,
)
from toolchain.frontends.tflite.builder import INPUT_TYPES, REAL, TRANSLATIONS, Builder, Call
from toolchain.frontends.tflite.dilations import with_dilations
from toolchain.frontends.tflite.files import Model, Operation, Tensor, read
from toolchain.frontends.tflite.integers import integer_graph, is_quantized
from toolchain.frontends.tflite.reading import translate_all
from toolchain.ir import Graph

STATIC = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
"""Operators whose result has the shape of their output tensor, so that a computed second input is not needed."""


def load(path: Path) -> onnx.ModelProto:
    """Reads a TFLite model as data and gives it as a float32 ONNX model of the same meaning.

    Tensors between layers keep TFLite's layout, channels last; Transpose nodes stand around operators for which ONNX
    prescribes its own. Weights stored as integers or float16 become what they mean.

    Raises:
        ModelError: the file is damaged or inconsistent.
        UnsupportedOperator: operators or options without a translation, all of them in `.problems`.
    """
    model = read(path)
    if is_quantized(needed(model)):
        raise UnsupportedOperator("is quantized: there is no model of real numbers in it", where=path.name)
    return translate(model, path.name)


def load_integers(path: Path, input_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Graph | None:
    """The integer program of a quantized model, which gives LiteRT's integers; None when the model is a real one.

    Raises as `load` does, and ModelError for input shapes that are not the model's own.
    """
    model = read(path)
    operations = needed(model)
    if not is_quantized(operations):
        return None
    own = {tensor.name: tensor.shape for tensor in model.inputs}
    for name, shape in (input_shapes or {}).items():
        if name not in own:
            raise ModelError(f"has no input {name!r}", where=path.name, fix=f"Its inputs are {', '.join(own)}.")
        if tuple(shape[1:]) != own[name][1:]:
            raise ModelError(f"has the shape {list(own[name])}, --input-shape gives {list(shape)}", where=name)
    return integer_graph(model, operations, path.stem)


def translate(model: Model, name: str) -> onnx.ModelProto:
    """The ONNX model of what `read` gave."""
    builder = Builder()
    for tensor in model.inputs:
        if tensor.element not in INPUT_TYPES:
            raise UnsupportedOperator(f"the input has elements of type {tensor.element}", where=tensor.where)
        if len(tensor.shape) < 2:
            raise ModelError(f"the input of shape {list(tensor.shape)} has only a batch", where=tensor.where)
        builder.values[tensor.index] = builder.value_name(tensor.name)
    outputs = {builder.value_name(tensor.name): tensor for tensor in model.outputs}
    translate_all(needed(model), lambda operation: _translate(builder, operation), name)
    for tensor in model.outputs:
        if tensor.index not in builder.values:
            raise ModelError("is an output that nothing computes", where=tensor.where)
    return builder.model(name, model.inputs, outputs)


def needed(model: Model) -> list[Operation]:
    """The operators that the outputs depend on, in order, with dilated convolutions as such."""
    wanted = {tensor.index for tensor in model.outputs}
    found = []
    for operation in reversed(model.operations):
        if any(tensor.index in wanted for tensor in operation.outputs):
            found.append(operation)
            sources = operation.inputs[:1] if operation.kind in STATIC else operation.inputs
            wanted.update(tensor.index for tensor in sources if tensor is not None)
    return with_dilations(found[::-1], model.outputs)


def _translate(builder: Builder, operation: Operation) -> None:
    if operation.kind not in TRANSLATIONS:
        raise UnsupportedOperator("this operator is not supported")
    for tensor in (*operation.inputs, *operation.outputs):
        if tensor is not None and tensor.data is None:
            _check_computed(tensor)
    call = Call(operation, builder.layer(operation), builder=builder)
    call.finish(lambda: TRANSLATIONS[operation.kind](call))


def _check_computed(tensor: Tensor) -> None:
    """Real numbers, or the integers that shapes are computed with."""
    if tensor.element not in (*REAL, "INT32", "INT64", "BOOL") or (
        tensor.quantization is not None and tensor.element not in REAL
    ):
        raise UnsupportedOperator(f"{tensor.where} is computed as {tensor.element}, only real numbers are supported")
