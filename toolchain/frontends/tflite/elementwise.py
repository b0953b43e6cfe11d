"""Operators that work element by element, and those that normalize along the channels."""

from __future__ import annotations

import numpy as np

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.tflite.builder import Call, translates

SAME = {
    "RELU": "Relu",
    "LOGISTIC": "Sigmoid",
    "TANH": "Tanh",
    "HARD_SWISH": "HardSwish",
    "ELU": "Elu",
    "ABS": "Abs",
    "NEG": "Neg",
    "EXP": "Exp",
    "LOG": "Log",
    "SQRT": "Sqrt",
    "SIN": "Sin",
    "COS": "Cos",
    "SIGN": "Sign",
    "FLOOR": "Floor",
    "CEIL": "Ceil",
    "ROUND": "Round",
    "LOG_SOFTMAX": "LogSoftmax",
}
BINARY = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div"}
SELECTING = {"MAXIMUM": "Max", "MINIMUM": "Min", "POW": "Pow"}
CLIPS = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}


@translates(*SAME)
def same(call: Call) -> None:
    """What ONNX has under another name."""
    call.give(call.node(SAME[call.operation.kind], [call.value(0)]))


@translates(*BINARY)
def binary(call: Call) -> None:
    call.ignore("PotScaleInt16")
    call.give(call.activated(call.node(BINARY[call.operation.kind], [call.value(0), call.value(1)])))


@translates("ADD_N")
def add_many(call: Call) -> None:
    call.give(call.node("Sum", [call.value(k) for k in range(len(call.operation.inputs))]))


@translates(*SELECTING)
def selecting(call: Call) -> None:
    call.give(call.node(SELECTING[call.operation.kind], [call.value(0), call.value(1)]))


@translates(*CLIPS)
def clip(call: Call) -> None:
    low, high = CLIPS[call.operation.kind]
    call.give(call.node("Clip", [call.value(0), call.scalar("low", low), call.scalar("high", high)]))


@translates("LEAKY_RELU")
def leaky_relu(call: Call) -> None:
    call.give(call.node("LeakyRelu", [call.value(0)], alpha=float(call.option("Alpha"))))


@translates("PRELU")
def prelu(call: Call) -> None:
    call.give(call.node("PRelu", [call.value(0), call.value(1)]))


@translates("GELU")
def gelu(call: Call) -> None:
    """Written out: the operator came with a later opset than ours."""
    if call.option("Approximate"):
        raise UnsupportedOperator("option Approximate is not supported")
    value = call.value(0)
    inner = call.node("Erf", [call.node("Mul", [value, call.scalar("root", 0.5**0.5)], "scaled")], "erf")
    half = call.node("Mul", [value, call.scalar("half", 0.5)], "halved")
    call.give(call.node("Mul", [half, call.node("Add", [inner, call.scalar("one", 1.0)], "shifted")]))


@translates("SQUARE")
def square(call: Call) -> None:
    call.give(call.node("Mul", [call.value(0), call.value(0)]))


@translates("SQUARED_DIFFERENCE")
def squared_difference(call: Call) -> None:
    difference = call.node("Sub", [call.value(0), call.value(1)], "difference")
    call.give(call.node("Mul", [difference, difference]))


@translates("RSQRT")
def reciprocal_root(call: Call) -> None:
    call.give(call.node("Reciprocal", [call.node("Sqrt", [call.value(0)], "root")]))


@translates("SOFTMAX")
def softmax(call: Call) -> None:
    beta, value = float(call.option("Beta")), call.value(0)
    if not np.isfinite(beta) or beta <= 0:
        raise ModelError(f"has Beta = {beta}")
    if beta != 1:
        value = call.node("Mul", [value, call.scalar("beta", beta)], "scaled")
    call.give(call.node("Softmax", [value], axis=call.rank(0) - 1))


@translates("L2_NORMALIZATION")
def l2_normalization(call: Call) -> None:
    call.give(call.activated(call.node("LpNormalization", [call.value(0)], axis=call.rank(0) - 1, p=2)))


@translates("LOCAL_RESPONSE_NORMALIZATION")
def local_response_normalization(call: Call) -> None:
    """ONNX divides alpha by the number of channels summed."""
    call.rank(0, 4)
    size = 2 * int(call.option("Radius")) + 1
    value = call.node(
        "LRN",
        [call.channels_first(call.value(0))],
        size=size,
        alpha=float(call.option("Alpha")) * size,
        beta=float(call.option("Beta")),
        bias=float(call.option("Bias")),
    )
    call.give(call.channels_last(value))


@translates("DEQUANTIZE")
def dequantize(call: Call) -> None:
    """Of weights stored as integers or float16: a constant."""
    call.builder.folded[call.output.index] = call.constant(0)


@translates("CAST")
def cast(call: Call) -> None:
    """Between floating-point types nothing changes here: the integer program has its own formats."""
    call.ignore("InDataType", "OutDataType")
    elements = call.tensor(0).element, call.output.element
    if not all(element.startswith("FLOAT") for element in elements):
        raise UnsupportedOperator(f"from {elements[0]} to {elements[1]}")
    call.give(call.value(0))
