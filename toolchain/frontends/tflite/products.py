"""Quantized operators of gates and decoders: products, extrema, and pictures enlarged by repetition."""

from __future__ import annotations

import numpy as np

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.tflite.arrangement import integers
from toolchain.frontends.tflite.integers import Step, meaning_of, translates
from toolchain.frontends.tflite.kernels import limits, rescaled
from toolchain.frontends.tflite.multipliers import ratio
from toolchain.ir import Constant
from toolchain.ops.extremum import Extremum
from toolchain.ops.product import Product
from toolchain.ops.resample import Resample
from toolchain.ops.rescale import Rescale


@translates("MUL")
def multiply(step: Step) -> None:
    """The exact product, rescaled once; a gate of one pixel is repeated over the picture."""
    values = [step.value(k) for k in range(2)]
    shapes = [step.type(value).shape for value in values]
    common = tuple(max(pair) for pair in zip(*shapes, strict=True))
    scales = [meaning_of(step.tensor(k)).scale for k in range(2)]
    wide = [_repeated(step, value, common, k) for k, value in enumerate(values)]
    result = ratio(scales[0], meaning_of(step.output).scale, scales[1])
    step.give(rescaled(step, step.add(Product(), *wide), [result], step.option("FusedActivationFunction")))


def _repeated(step: Step, value: str, wanted: tuple[int, ...], index: int) -> str:
    shape = step.type(value).shape
    if shape == wanted:
        return value
    if len(shape) != 3 or shape != (1, 1, wanted[2]):
        raise UnsupportedOperator(f"has an operand of shape {list(shape)} for {list(wanted)}")
    return step.add(_copies((0,) * wanted[0], (0,) * wanted[1]), value, part=f"repeat_{index}")


def _copies(rows: tuple[int, ...], columns: tuple[int, ...]) -> Resample:
    """Pixels of the input at these places."""
    once = (Constant(np.ones((len(places), 1), dtype=np.int64)) for places in (rows, columns))
    return Resample(rows, columns, next(once), next(once))


@translates("MAXIMUM", "MINIMUM")
def extremum(step: Step) -> None:
    step.same_meaning(0, 1)
    low, high = limits(step, 0)
    values = []
    for k in range(2):
        value = step.value(k)
        if (step.type(value).low, step.type(value).high) != (low, high):
            value = step.add(Rescale.identity(0, low, high), value, part=f"operand_{k}")
        values.append(value)
    step.give(step.add(Extremum(step.operation.kind == "MAXIMUM"), *values))


@translates("RESIZE_NEAREST_NEIGHBOR")
def resize(step: Step) -> None:
    """Places are computed in float32, as the kernel does."""
    step.same_meaning(0)
    value, sizes = step.value(0), integers(step, 1)
    given = step.type(value).shape
    if len(given) != 3 or len(sizes) != 2 or min(sizes) < 1:
        raise ModelError(f"resizes {list(given)} to {sizes}")
    corners, centers = bool(step.option("AlignCorners")), bool(step.option("HalfPixelCenters"))
    rows, columns = (_places(given[k], sizes[k], corners=corners, centers=centers) for k in range(2))
    step.give(step.add(_copies(rows, columns), value))


def _places(given: int, wanted: int, *, corners: bool, centers: bool) -> tuple[int, ...]:
    spread = corners and wanted > 1
    scale = np.float32(given - 1) / np.float32(wanted - 1) if spread else np.float32(given) / np.float32(wanted)
    at = (np.arange(wanted, dtype=np.float32) + np.float32(0.5 if centers else 0)) * scale
    whole = np.floor(at + np.float32(0.5)) if corners else np.floor(at)
    return tuple(int(place) for place in whole.clip(0, given - 1))
