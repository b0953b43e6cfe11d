"""Renders stretches of an integer program as ONNX graphs of float32 operators that give the same integers.

A float32 operation on integers is exact as long as every operand and every partial sum stays below 2**24 in absolute
value; `Operator.bound` proves that for each node. Scaling by powers of two is exact always, so a Requantize behind a
convolution goes into its weights and bias: y = floor(clip(x * (w * 2**-s) + (b * 2**-s + 1/2))).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolchain.ir import Array, Graph, Node, Overflow, Rounding, TensorType
from toolchain.ops.requantize import Requantize

FLOAT_LIMIT = 1 << 24


class Renderer:
    """Collects ONNX operators. Tensors with rows and columns are channels-first here, all others as in the program.

    `stretch` names the nodes that are rendered together, None all of the program's.
    """

    free_batch = True

    def __init__(self, graph: Graph, stretch: frozenset[str] | None = None) -> None:
        self.graph = graph
        self._stretch = stretch
        self.taken_over: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    # What operators use.

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Array) -> str:
        return self._constant(np.asarray(values, dtype=np.float32))

    def shape_constant(self, values: Any) -> str:
        return self._constant(np.asarray(values, dtype=np.int64))

    def axes(self, *axes: int) -> str:
        return self.shape_constant(axes)

    def _constant(self, array: Array) -> str:
        name = f"c{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def integer_type(self, name: str) -> TensorType:
        type = self.graph.types[name]
        assert isinstance(type, TensorType)
        return type

    def rank(self, name: str) -> int:
        return len(self.graph.types[name].shape)

    def channels_last(self, name: str, value: str) -> str:
        return self.op("Transpose", value, perm=(0, 2, 3, 1)) if self.rank(name) == 3 else value

    def from_channels_last(self, name: str, value: str) -> str:
        return self.op("Transpose", value, perm=(0, 3, 1, 2)) if self.rank(name) == 3 else value

    def like(self, array: Array, name: str) -> str:
        """A constant of the program's axis order, brought to the order that value `name` has here."""
        return self.constant(array.transpose(2, 0, 1) if self.rank(name) == 3 else array)

    def per_channel(self, values: Array, name: str) -> tuple[str, Array]:
        """One number per entry of the last axis of `name` (or one for all) as a constant that broadcasts."""
        rank = self.rank(name)
        shaped = values.reshape((1,) * (rank - 1) + (-1,)) if rank else values
        return self.like(shaped, name), shaped

    def flat_gemm(self, value: str, shape: tuple[int, ...], weights: Array, bias: Array) -> str:
        if len(shape) == 1:
            return self.op("Gemm", value, self.constant(weights), self.constant(bias))
        return self.op("Add", self.op("MatMul", value, self.constant(weights)), self.constant(bias))

    def clip(self, value: str, low: int, high: int) -> str:
        return self.op("Clip", value, self.constant(np.array(low)), self.constant(np.array(high)))

    def can_overflow_in_float(self, operator: Requantize, given: TensorType) -> bool:
        """Is the overflow of this Requantize one that Clip can express?"""
        return operator.type.overflow in (Overflow.SAT, Overflow.SAT_SYM) or not operator.can_overflow(given)

    def epilogue(self, node: Node) -> tuple[Array, Array, Callable[[str], str]]:
        """What a linear operator can take over from the Requantize that alone reads it.

        The half that rounding adds goes into the bias, and the order of the sum is the runtime's: so the partial sums
        of the linear operator, with the half on top, have to stay below the limit.

        Returns the scale per output channel (powers of two), the offset to add after scaling, and a function that
        finishes the rendered value. Scale 1 and offset 0 when there is nothing to take over.
        """
        reader = self.graph.sole_consumer(node.name)
        given = self.integer_type(node.name)
        operator = reader.operator if reader is not None else None
        types = tuple(self.integer_type(name) for name in node.inputs)
        if (
            reader is None
            or (self._stretch is not None and reader.name not in self._stretch)
            or not isinstance(operator, Requantize)
            or operator.type.rounding not in (Rounding.RND, Rounding.TRN)
            or not self.can_overflow_in_float(operator, given)
            or operator.bound_behind(given, node.operator.bound(*types)) >= FLOAT_LIMIT
        ):
            return np.array(1.0), np.array(0.0), lambda value: value
        half = 0.5 if operator.type.rounding == Rounding.RND and max(operator.shifts) > 0 else 0.0
        self.taken_over.add(reader.name)
        requantize = operator

        def finish(value: str) -> str:
            return self._saturate_then_floor(value, requantize, given)

        return np.array([2.0**-s for s in operator.shifts]), np.array(half), finish

    def _saturate_then_floor(self, value: str, operator: Requantize, given: TensorType) -> str:
        """floor(clip(x)) = clip(floor(x)) for integer bounds; the clip in front can join the convolution."""
        low, high = self._limits(operator)
        if operator.can_overflow(given):
            # The upper bound leaves what floor removes: anything from `high` up to just below `high` + 1 is `high`.
            value = self.clip(value, low, high)
        return self.op("Floor", value) if max(operator.shifts) > 0 else value

    def _limits(self, operator: Requantize) -> tuple[int, int]:
        return operator.lowest, operator.type.high

    def round_and_saturate(self, value: str, operator: Requantize, given: TensorType) -> str:
        """Rounds scaled values by any of the seven modes, then saturates."""
        rounding = operator.type.rounding
        half = self.constant(np.array(0.5))
        if max(operator.shifts) <= 0:
            pass
        elif rounding == Rounding.TRN:
            value = self.op("Floor", value)
        elif rounding == Rounding.RND:
            value = self.op("Floor", self.op("Add", value, half))
        elif rounding == Rounding.RND_MIN_INF:
            value = self.op("Ceil", self.op("Sub", value, half))
        elif rounding == Rounding.RND_CONV:
            value = self.op("Round", value)
        else:
            size, sign = self.op("Abs", value), self.op("Sign", value)
            if rounding == Rounding.TRN_ZERO:
                size = self.op("Floor", size)
            elif rounding == Rounding.RND_INF:
                size = self.op("Floor", self.op("Add", size, half))
            else:
                size = self.op("Ceil", self.op("Sub", size, half))
            value = self.op("Mul", size, sign)
        if operator.can_overflow(given):
            value = self.clip(value, *self._limits(operator))
        return value

    # The model.

    def model(self, inputs: dict[str, str], outputs: dict[str, str]) -> bytes:
        """A serialized ONNX model. `inputs` and `outputs` map program values to names here."""

        def info(name: str, value: str) -> onnx.ValueInfoProto:
            shape = self.graph.types[name].shape
            if len(shape) == 3:
                shape = (shape[2], shape[0], shape[1])
            return helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", *shape])

        graph = helper.make_graph(
            self._nodes,
            "program",
            [info(name, value) for name, value in inputs.items()],
            [info(name, value) for name, value in outputs.items()],
            list(self._constants.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        return bytes(model.SerializeToString())
