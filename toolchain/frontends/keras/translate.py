"""Keras model file -> ONNX model: the one public function of this package."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.errors import ModelError
from toolchain.frontends.keras.builder import Builder, Call, Value, unsupported
from toolchain.frontends.keras.calls import Reference
from toolchain.frontends.keras.files import open_model
from toolchain.frontends.keras.model import Input, Member, Model, Reader
from toolchain.frontends.keras.weights import Weights, find_weights


def load(
    path: Path, weights: Path | None = None, input_shapes: Mapping[str, tuple[int, ...]] | None = None
) -> onnx.ModelProto:
    """Reads a Keras model as data and gives it as a float32 ONNX model (opset 17) of the same meaning.

    Tensors between layers keep Keras's layout; Transpose nodes stand around operators for which ONNX prescribes its
    own. Nodes and values bear the names of their layers, the batch dimension is called N.

    Args:
        path: a `.keras`, `.h5` or `.json` file of Keras 2 or 3.
        weights: an HDF5 file that replaces the weights in or beside the model.
        input_shapes: shapes with batch for inputs with free dimensions, by name of the input.

    Raises:
        ModelError: the file is damaged or inconsistent, or a shape is not known.
        UnsupportedOperator: layers or attributes without a translation, all of them in `.problems`.
        UnsafeModel: the file asks for something that a model must not do.
    """
    with open_model(path, weights) as file:
        problems: list[str] = []
        model = Reader(file.keras_major, problems).read_model(file.config)
        if problems:
            raise unsupported(problems)
        return Translation(find_weights(file, model), Builder()).run(model, dict(input_shapes or {}))


class Translation:
    """Walks the calls of a model in order of their dependencies, nested models inline."""

    def __init__(self, weights: Weights, builder: Builder) -> None:
        self.weights = weights
        self.builder = builder

    def run(self, model: Model, input_shapes: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
        """The whole model."""
        unknown = input_shapes.keys() - set(model.inputs)
        if unknown:
            raise ModelError(
                f"the model has no input {min(unknown)!r}", fix=f"Its inputs are {', '.join(model.inputs)}"
            )
        inputs = []
        for index, name in enumerate(model.inputs):
            shape = resolve_shape(name, model.input_shape(index), input_shapes.get(name))
            inputs.append(Value(self.builder.value_name(name), shape))
        found = self.inline(model, inputs, ())
        outputs = self._name_outputs(model, inputs, found)
        return self.builder.model(model.name, inputs, outputs)

    def inline(self, model: Model, inputs: list[Value], path: tuple[str, ...], tag: str = "") -> list[Value]:
        """Translates one call of a model.

        Args:
            model: the model.
            inputs: its inputs in its own order.
            path: names of the models around its layers, which the weights are stored under.
            tag: the same as a prefix of node names, with the number of the call.
        """
        values: dict[tuple[str, int], list[Value]] = {}
        for name, value in zip(model.inputs, inputs, strict=True):
            values[name, 0] = [value]
        waiting = [(member, index) for member in model.members for index in range(len(member.calls))]
        while waiting:
            later = []
            for member, index in waiting:
                arguments = member.calls[index]
                if all((reference.layer, reference.call) in values for reference in arguments):
                    values[member.name, index] = self._call(member, index, values, path, tag)
                else:
                    later.append((member, index))
            if len(later) == len(waiting):
                raise ModelError("the layer's inputs are never computed", where="/".join((*path, later[0][0].name)))
            waiting = later
        return [pick(values, reference, path) for reference in model.outputs]

    def _call(
        self,
        member: Member,
        index: int,
        values: dict[tuple[str, int], list[Value]],
        path: tuple[str, ...],
        tag: str,
    ) -> list[Value]:
        here = (*path, member.name)
        name = f"{tag}{member.name}" + (f"/call_{index}" if index else "")
        arguments = [pick(values, reference, path) for reference in member.calls[index]]
        if not arguments:
            raise ModelError("the layer is called without inputs", where="/".join(here))
        if isinstance(member.content, Model):
            check_inputs(member.content, arguments, "/".join(here))
            return self.inline(member.content, arguments, here, f"{name}/")
        if isinstance(member.content, Input):
            raise ModelError("an InputLayer cannot be called", where="/".join(here))

        def read(role: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
            return self.weights.read(here, role, shape)

        call = Call(self.builder, name, "/".join(here), member.class_name, read)
        first = len(self.builder.nodes)
        result = member.content.translate(call, arguments)
        if len(self.builder.nodes) == first:
            return [result]
        final = self.builder.value_name(name)
        self.builder.rename(result.name, final, first)
        return [Value(final, result.shape)]

    def _name_outputs(self, model: Model, inputs: list[Value], found: list[Value]) -> list[Value]:
        """Gives every output the name of its layer, by an Identity where it cannot have it otherwise."""
        outputs: list[Value] = []
        for reference, value in zip(model.outputs, found, strict=True):
            name = value.name
            if name != reference.layer or any(value.name == taken.name for taken in (*inputs, *outputs)):
                name = self.builder.value_name(reference.layer)
                self.builder.append("Identity", [value.name], name, self.builder.node_name(reference.layer), {})
            outputs.append(Value(name, value.shape))
        return outputs


def pick(values: dict[tuple[str, int], list[Value]], reference: Reference, path: tuple[str, ...]) -> Value:
    """The tensor that a reference means."""
    found = values.get((reference.layer, reference.call), [])
    if reference.tensor >= len(found):
        where = "/".join((*path, reference.layer))
        raise ModelError(f"output {reference.tensor} of call {reference.call} does not exist", where=where)
    return found[reference.tensor]


def check_inputs(model: Model, arguments: list[Value], where: str) -> None:
    """Compares the arguments of a nested model with the inputs it declares."""
    if len(arguments) != len(model.inputs):
        raise ModelError(f"the model takes {len(model.inputs)} inputs, not {len(arguments)}", where=where)
    for index, argument in enumerate(arguments):
        declared = model.input_shape(index)
        if declared is None:
            continue
        fits = len(declared) == len(argument.shape)
        if not fits or any(d not in (None, a) for d, a in zip(declared, argument.shape, strict=True)):
            raise ModelError(f"the input {argument.shape} does not fit the declared shape {declared}", where=where)


def resolve_shape(name: str, declared: tuple[int | None, ...] | None, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """The input's shape without batch, free dimensions filled from `given`, which has the batch in front."""
    example = ",".join(["1", *(str(size or 224) for size in declared or (224, 224, 3))])
    fix = f"Give it with --input-shape {name}={example}"
    if given is None:
        if declared is None:
            raise ModelError("the file does not tell the input's shape", where=name, fix=fix)
        fixed = tuple(size for size in declared if size is not None)
        if len(fixed) != len(declared):
            raise ModelError(f"the input shape {declared} has free dimensions", where=name, fix=fix)
        return fixed
    shape = tuple(given[1:])
    if not shape or any(size < 1 for size in shape):
        raise ModelError(f"{given} is not a shape with the batch in front", where=name, fix=fix)
    if declared is not None and (
        len(declared) != len(shape) or any(d not in (None, s) for d, s in zip(declared, shape, strict=True))
    ):
        raise ModelError(f"the shape {shape} does not fit the declared {declared}", where=name, fix=fix)
    return shape
