"""Quantized operators of two operands: sums, products, extrema. Small operands are repeated, one may be constant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.broadcasting import repetition
from toolchain.frontends.tflite.integers import Step, meaning_of, translates
from toolchain.frontends.tflite.kernels import integer_weights, limits, rescaled, weight_type
from toolchain.frontends.tflite.multipliers import factors, ratio
from toolchain.ir import Constant
from toolchain.ops.add import Add
from toolchain.ops.affine import Affine
from toolchain.ops.extremum import Extremum
from toolchain.ops.product import Product
from toolchain.ops.resample import Resample
from toolchain.ops.rescale import Rescale
from toolchain.ops.reshape import Reshape

ADD_SHIFT = 20
"""Bits that the addition puts below its operands."""
Integers = NDArray[np.int64]


@translates("ADD", "SUB")
def add(step: Step) -> None:
    """Both operands with 20 more bits in twice the larger scale, each rounded once; their sum once more."""
    if step.option("PotScaleInt16") not in (0, 1):
        raise ModelError("has an unknown option PotScaleInt16")
    scales = [meaning_of(step.tensor(k)).scale for k in range(2)]
    twice = 2 * max(scales)
    fine = [Rescale(*factors([scale / twice]), before=ADD_SHIFT) for scale in scales]
    a, b = operands(step)
    subtract = step.operation.kind == "SUB"
    if not isinstance(a, str):
        total = _affine(step, step.add(fine[1], str(b), part="operand_1"), -1 if subtract else 1, fine[0].evaluate(a))
    elif not isinstance(b, str):
        constant = fine[1].evaluate(b)
        total = _affine(step, step.add(fine[0], a, part="operand_0"), 1, -constant if subtract else constant)
    else:
        values = [step.add(fine[k], value, part=f"operand_{k}") for k, value in enumerate((a, b))]
        total = step.add(Add(subtract=subtract), *values)
    result = twice / ((1 << ADD_SHIFT) * meaning_of(step.output).scale)
    step.give(rescaled(step, total, [result], step.option("FusedActivationFunction")))


@translates("MUL")
def multiply(step: Step) -> None:
    """The exact product, rescaled once."""
    scales = [meaning_of(step.tensor(k)).scale for k in range(2)]
    result = ratio(scales[0], meaning_of(step.output).scale, scales[1])
    a, b = operands(step)
    if not isinstance(a, str):
        product = _affine(step, str(b), a, 0)
    elif not isinstance(b, str):
        product = _affine(step, a, b, 0)
    else:
        product = step.add(Product(), a, b)
    step.give(rescaled(step, product, [result], step.option("FusedActivationFunction")))


@translates("MAXIMUM", "MINIMUM")
def extremum(step: Step) -> None:
    step.same_meaning(0, 1)
    whole = Rescale.identity(0, *limits(step, 0))
    a, b = operands(step)
    if not isinstance(a, str):
        step.give(_bounded(step, str(b), a))
    elif not isinstance(b, str):
        step.give(_bounded(step, a, b))
    else:
        ends = [(step.type(value).low, step.type(value).high) for value in (a, b)]
        fits = [end == (whole.low, whole.high) for end in ends]
        values = [v if fits[k] else step.add(whole, v, part=f"operand_{k}") for k, v in enumerate((a, b))]
        step.give(step.add(Extremum(step.operation.kind == "MAXIMUM"), *values))


def _bounded(step: Step, value: str, bound: Integers) -> str:
    """A value and a constant: what their difference has on one side of 0, added to the constant."""
    difference = _affine(step, value, 1, -bound, part="difference")
    type = step.type(difference)
    ends = (0, max(type.high, 0)) if step.operation.kind == "MAXIMUM" else (min(type.low, 0), 0)
    cut = step.add(Rescale.identity(0, *ends), difference, part="side")
    total = _affine(step, cut, 1, bound, part="bounded")
    return step.add(Rescale.identity(0, *limits(step, 0)), total)


@translates("PRELU")
def prelu(step: Step) -> None:
    """Numbers from 0 on are rescaled, others multiplied by their slope and rescaled; the other part is 0 each time."""
    x, slopes = operands(step)
    if not isinstance(x, str) or isinstance(slopes, str):
        raise UnsupportedOperator("has slopes that are computed, or nothing else that is")
    given, slope, result = meaning_of(step.tensor(0)), meaning_of(step.tensor(1)), meaning_of(step.output)
    low, high = limits(step, 0)
    above = Rescale(*factors([ratio(given.scale, result.scale)]), 0, high)
    below = Rescale(*factors([ratio(given.scale, result.scale, slope.scale)]), low, high)
    type = step.type(x)
    negative = step.add(Rescale.identity(0, min(type.low, 0), 0), x, part="negative")
    scaled = step.add(below, _affine(step, negative, slopes, 0, part="slopes"), part="below")
    total = step.add(Add(), step.add(above, x, part="above"), scaled, part="total")
    step.give(step.add(Rescale.identity(0, low, high), total))


def operands(step: Step) -> list[str | Integers]:
    """Both, repeated to their common shape where computed; constants less their zero point, shaped to broadcast."""
    rank = len(step.output.shape) - 1
    found = [_constant(step, k, rank) if step.tensor(k).data is not None else _computed(step, k, rank) for k in (0, 1)]
    if not any(isinstance(operand, str) for operand in found):
        raise UnsupportedOperator("has two constants")
    shapes = [step.type(operand).shape if isinstance(operand, str) else operand.shape for operand in found]
    common = np.broadcast_shapes(*shapes)
    return [_repeated(step, operand, common, f"repeat_{k}") for k, operand in enumerate(found)]


def _constant(step: Step, index: int, rank: int) -> str | Integers:
    meaning_of(step.tensor(index))
    array = np.asarray(integer_weights(step, index))
    if array.ndim > rank and array.shape[0] != 1:
        raise UnsupportedOperator(f"{step.tensor(index).where} has a constant for each sample of a batch")
    return array.reshape((1,) * (rank - array.ndim) + array.shape[max(array.ndim - rank, 0) :])


def _computed(step: Step, index: int, rank: int) -> str | Integers:
    """A value of fewer dimensions gets more in front of its batch, which has to be 1 then."""
    value, tensor = step.value(index), step.tensor(index)
    shape = step.type(value).shape
    missing = rank - len(shape)
    if missing > 0 and tensor.shape[0] != 1:
        raise UnsupportedOperator(f"{tensor.where} has a batch where the other operand has none")
    return step.chain([(f"shape_{index}", Reshape((1,) * missing + shape))], value)


def _repeated(step: Step, operand: str | Integers, common: tuple[int, ...], part: str) -> str | Integers:
    if not isinstance(operand, str):
        return operand
    operators = repetition(step.type(operand).shape, common, part)
    return step.chain(((name, one.copying() if isinstance(one, Resample) else one) for name, one in operators), operand)


def _affine(step: Step, value: str, scale: int | Integers, offset: int | Integers, part: str = "") -> str:
    """value * scale + offset, numbers or arrays that broadcast to the value."""
    ones = (1,) * len(step.type(value).shape)
    factor, term = (np.array(constant, dtype=np.int64) for constant in (scale, offset))
    factor, term = (constant if constant.ndim else constant.reshape(ones) for constant in (factor, term))
    return step.add(Affine(Constant(factor), Constant(term), weight_type(factor), (0,)), value, part=part)
