"""Quantized reductions: exact sums and extrema over all of the reduced axes, which become the rows of a picture."""

from __future__ import annotations

import numpy as np

from toolchain.errors import UnsupportedOperator
from toolchain.frontends.tflite.arrangement import integers
from toolchain.frontends.tflite.integers import Step, meaning_of, translates
from toolchain.frontends.tflite.kernels import limits
from toolchain.frontends.tflite.multipliers import factors, mean_factors
from toolchain.ir import Constant, FixedType
from toolchain.ir.window import Window
from toolchain.ops.affine import Affine
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.base import Operator
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.reductions import pictured
from toolchain.ops.rescale import Rescale
from toolchain.ops.reshape import Reshape


@translates("MEAN")
def mean(step: Step) -> None:
    """The exact sum, then one rescaling that holds the division too."""
    value, window = _picture(step)
    total = step.add(_sum(window), value, part="sum")
    scales = meaning_of(step.tensor(0)).scale, meaning_of(step.output).scale
    divided = Rescale(*mean_factors(*scales, window.taps), *limits(step, 0))
    _give(step, step.add(divided, total))


@translates("SUM")
def sum_of(step: Step) -> None:
    """The reference kernel of LiteRT (2.3) reads int8 numbers as uint8 ones: no sum that a network means."""
    if step.output.element == "INT8":
        raise UnsupportedOperator("of int8: LiteRT's reference kernel reads its bytes as uint8, its others do not")
    value, window = _picture(step)
    total = step.add(_sum(window), value, part="sum")
    scale = meaning_of(step.tensor(0)).scale / meaning_of(step.output).scale
    _give(step, step.add(Rescale(*factors([scale]), *limits(step, 0)), total))


@translates("REDUCE_MAX", "REDUCE_MIN")
def extremum(step: Step) -> None:
    """A minimum is what is left of the maximum of negated numbers."""
    step.same_meaning(0)
    value, window = _picture(step)
    operators: list[tuple[str, Operator]] = [("maximum", MaxPool(window))]
    if step.operation.kind == "REDUCE_MIN":
        shape = (1, 1, 1)
        negated = Affine(Constant(-np.ones(shape, int)), Constant(np.zeros(shape, int)), FixedType(2, 2), (0,))
        operators = [("negative", negated), *operators, ("positive", negated)]
    _give(step, step.chain(operators, value))


def _sum(window: Window) -> AveragePool:
    return AveragePool(window, Constant([[1]]), 0)


def _picture(step: Step) -> tuple[str, Window]:
    """The input with the reduced axes as its rows and columns."""
    value = step.value(0)
    shape = step.type(value).shape
    axes = sorted({axis % (len(shape) + 1) - 1 for axis in integers(step, 1)})
    if not axes or axes[0] < 0 or axes[-1] >= len(shape):
        raise UnsupportedOperator("reduces no axis, or the batch")
    if len(axes) == len(shape) and not step.option("KeepDims"):
        raise UnsupportedOperator("leaves only the batch dimension, KeepDims is needed")
    operators, window = pictured(shape, axes, "reduced")
    return step.chain(operators, value), window


def _give(step: Step, value: str) -> None:
    """The output in its shape."""
    step.option("KeepDims")
    sizes = step.output.shape[1:]
    step.give(step.add(Reshape(sizes), value, part="shape") if step.type(value).shape != sizes else value)
