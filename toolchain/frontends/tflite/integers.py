"""Quantized TFLite models -> integer programs that give the integers of LiteRT's reference kernels.

Nothing is chosen here: scales, zero points and integers are the file's. A value of scale s and zero point z is held as
r - z for the file's integer r, so that real zero is 0: padding and biases need no correction. Inputs and outputs are r.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.importer import unique
from toolchain.frontends.tflite.builder import MAX_NAME
from toolchain.frontends.tflite.files import Model, Operation, Tensor
from toolchain.frontends.tflite.reading import Reading, translate_all
from toolchain.ir import FixedType, Graph, Input, Meaning, Node, Output, RealType, TensorType, Type
from toolchain.ops.base import Operator
from toolchain.ops.quantize import Quantize
from toolchain.ops.rescale import Rescale
from toolchain.ops.reshape import Reshape

TYPES = {"INT8": FixedType(8, 8, True), "UINT8": FixedType(8, 8, False)}
"""Elements of quantized activations."""


@dataclass
class Program:
    """The integer program while it grows. `values` gives the program's value of each tensor, centred at 0."""

    inputs: dict[int, Tensor]
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, Type] = field(default_factory=dict)
    values: dict[int, str] = field(default_factory=dict)
    layers: dict[str, None] = field(default_factory=dict)

    def add(self, name: str, operator: Operator, inputs: tuple[str, ...], layer: str) -> str:
        """Appends an operator and returns its value."""
        name = unique(name, self.types)
        self.types[name] = operator.typed(tuple(self.types[value] for value in inputs))
        self.nodes.append(Node(name, operator, inputs, layer))
        return name

    def enter(self, given: Tensor, tensor: Tensor) -> str:
        """Where the model's input `given` becomes the integers of `tensor`, which it may be itself."""
        type, meaning = TYPES[tensor.element], meaning_of(tensor)
        value = self.add(f"{given.name}/quantize", Quantize(type, meaning), (given.name,), given.name)
        zero = meaning.zero_point
        if zero:
            centre = Rescale.identity(-zero, type.low - zero, type.high - zero)
            value = self.add(f"{given.name}/centre", centre, (value,), given.name)
        return value

    def leave(self, tensor: Tensor) -> str:
        """The file's own integers of a computed tensor."""
        type, meaning = TYPES[tensor.element], meaning_of(tensor)
        away = Rescale.identity(meaning.zero_point, type.low, type.high, meaning)
        return self.add(f"{layer_name(tensor)}/output", away, (self.values[tensor.index],), layer_name(tensor))


@dataclass
class Step(Reading):
    """One operator of a quantized model under translation."""

    program: Program = field(kw_only=True)

    def value(self, index: int) -> str:
        tensor = self.tensor(index)
        if tensor.data is not None:
            raise UnsupportedOperator(f"{tensor.where} is a constant where a computed value is expected")
        if tensor.index not in self.program.values:
            raise ModelError(f"reads {tensor.where} before it is computed")
        return self.program.values[tensor.index]

    def type(self, value: str) -> TensorType:
        type = self.program.types[value]
        assert isinstance(type, TensorType)
        return type

    def add(self, operator: Operator, *inputs: str, part: str = "") -> str:
        """An operator of this layer; `part` names its helpers."""
        name = f"{self.layer}/{part}" if part else self.layer
        return self.program.add(name, operator, inputs, self.layer)

    def chain(self, operators: Iterable[tuple[str, Operator]], value: str) -> str:
        """Helpers of this layer by their names, one behind the other."""
        for part, operator in operators:
            if not isinstance(operator, Reshape) or operator.sizes != self.type(value).shape:
                value = self.add(operator, value, part=part)
        return value

    def give(self, *values: str) -> None:
        """These are the operator's outputs."""
        for tensor, value in zip(self.operation.outputs, values, strict=True):
            self.program.values[tensor.index] = value

    def same_meaning(self, *indices: int) -> None:
        """Refuses inputs with another scale or zero point than an output: nothing would convert them."""
        for output, wanted in ((tensor, meaning_of(tensor)) for tensor in self.operation.outputs):
            for index in indices:
                found = meaning_of(self.tensor(index))
                if found != wanted or self.tensor(index).element != output.element:
                    raise UnsupportedOperator(
                        f"input {index} has {found}, the output {wanted}: equal ones are supported"
                    )


def meaning_of(tensor: Tensor) -> Meaning:
    """The one scale and zero point of an activation."""
    quantization = tensor.quantization
    if tensor.element not in TYPES or quantization is None:
        raise UnsupportedOperator(f"{tensor.where} holds {tensor.element}, quantized int8 and uint8 are supported")
    if len(quantization.scales) != 1 or len(quantization.zero_points) != 1:
        raise UnsupportedOperator(f"{tensor.where} is quantized per channel, only weights may be")
    zero_point, type = int(quantization.zero_points[0]), TYPES[tensor.element]
    if not type.low <= zero_point <= type.high:
        raise ModelError(f"has the zero point {zero_point}, which {tensor.element} does not hold", where=tensor.where)
    return Meaning(float(quantization.scales[0]), zero_point)


def layer_name(tensor: Tensor) -> str:
    """The first of the names that the converter joined for a tensor."""
    return tensor.name.split(";")[0][:MAX_NAME] or f"tensor_{tensor.index}"


Translate = Callable[[Step], None]
INTEGER: dict[str, Translate] = {}


def translates(*kinds: str) -> Callable[[Translate], Translate]:
    """Registers a function that translates operators of these kinds."""

    def register(function: Translate) -> Translate:
        for kind in kinds:
            INTEGER[kind] = function
        return function

    return register


def is_quantized(operations: list[Operation]) -> bool:
    """Are activations integers with a scale?"""
    return any(tensor.element in (*TYPES, "INT16") for operation in operations for tensor in operation.outputs)


def integer_graph(model: Model, operations: list[Operation], name: str) -> Graph:
    """The integer program of a quantized model, channels last as the file has them.

    Raises one UnsupportedOperator that lists everything unsupported.
    """
    program = Program({tensor.index: tensor for tensor in model.inputs})
    inputs = []
    for tensor in model.inputs:
        if len(tensor.shape) < 2 or min(tensor.shape[1:]) < 1:
            raise ModelError(f"the input has the shape {list(tensor.shape)}", where=tensor.where)
        type = RealType(tensor.shape[1:])
        inputs.append(Input(tensor.name, type, tuple(range(len(type.shape)))))
        program.types[tensor.name] = type
        if tensor.element in TYPES:
            program.values[tensor.index] = program.enter(tensor, tensor)
    translate_all(operations, lambda operation: _translate(program, operation), name)
    outputs = []
    for tensor in model.outputs:
        source = next((o.inputs[0] for o in operations if o.kind == "DEQUANTIZE" and tensor in o.outputs), tensor)
        if source is None or source.index not in program.values:
            raise ModelError("is an output that nothing computes", where=tensor.where)
        value = program.leave(source)
        outputs.append(Output(tensor.name, value, tuple(range(len(program.types[value].shape)))))
    return Graph(name, tuple(inputs), tuple(program.nodes), tuple(outputs))


def _translate(program: Program, operation: Operation) -> None:
    if operation.kind not in INTEGER or not operation.outputs:
        raise UnsupportedOperator("this operator is not supported on quantized values")
    layer = unique(layer_name(operation.outputs[0]), program.layers)
    program.layers[layer] = None
    step = Step(operation, layer, program=program)
    step.finish(lambda: INTEGER[operation.kind](step))
