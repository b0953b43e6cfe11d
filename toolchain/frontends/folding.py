"""Which operators on constants are computed beforehand: those whose results are known not to be too large."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from itertools import zip_longest

import onnx_ir

from toolchain.frontends.qonnx import OPERATORS as QONNX_OPERATORS

FOLD_LIMIT = 512 << 20
"""Bytes: no folded constant may be larger."""
TOTAL_LIMIT = 1 << 30
"""Bytes: nor may all of a model's together."""
KEPT = ("QuantizeLinear", "DequantizeLinear", *QONNX_OPERATORS)
"""Operators that say more than their result does."""

Numbers = Callable[[int], list[float]]


class Folding:
    """Answers `fold_constants`, which itself looks at sizes only when the arrays are there."""

    def __init__(self) -> None:
        self._room = TOTAL_LIMIT

    def __call__(self, node: onnx_ir.Node) -> bool | None:
        if node.op_type in KEPT:
            return None
        size = folded_size(node)
        if size > min(FOLD_LIMIT, self._room):
            return False
        self._room -= size
        return True


def folded_size(node: onnx_ir.Node) -> int:
    """Bytes of the largest result of a node on constants, or more."""
    given = [None if value is None else value.const_value for value in node.inputs]
    shape = () if not given or given[0] is None else tuple(int(str(d)) for d in given[0].shape)

    def numbers(index: int) -> list[float]:
        tensor = given[index] if index < len(given) else None
        few = tensor is not None and tensor.size <= 64 and tensor.dtype != onnx_ir.DataType.STRING
        return list(tensor.numpy().ravel().tolist()) if tensor is not None and few else []

    counts = [0.0]
    for output in node.outputs:
        sizes = [] if output.shape is None else [d for d in output.shape if isinstance(d, int)]
        if output.shape is not None and len(sizes) == len(output.shape):
            counts.append(math.prod(sizes))
    if node.op_type in ESTIMATES:
        counts.append(ESTIMATES[node.op_type](shape, numbers))
    count = max(counts)
    return (math.ceil(count) if math.isfinite(count) else 1 << 62) * max(map(_item_size, node.outputs), default=8)


def _item_size(value: onnx_ir.Value) -> int:
    try:
        return 8 if value.dtype is None else max(1, math.ceil(value.dtype.itemsize))
    except TypeError:  # text
        return 8


def _expand(shape: tuple[int, ...], numbers: Numbers) -> float:
    pairs = zip_longest(reversed(shape), reversed(numbers(1)), fillvalue=1)
    return math.prod(max(pair) for pair in pairs)


def _range(_: tuple[int, ...], numbers: Numbers) -> float:
    start, limit, delta = (numbers(k) for k in range(3))
    return (limit[0] - start[0]) / delta[0] + 1 if start and limit and delta and delta[0] else 0


def _pad(shape: tuple[int, ...], numbers: Numbers) -> float:
    pads, rank = numbers(1), len(shape)
    if len(pads) == 2 * rank:
        return math.prod(size + pads[k] + pads[k + rank] for k, size in enumerate(shape))
    return math.prod(size + sum(abs(pad) for pad in pads) for size in shape)  # some axes only


def _resize(shape: tuple[int, ...], numbers: Numbers) -> float:
    scales, sizes = numbers(2), numbers(3)
    return max(math.prod(shape) * math.prod(scales) if scales else 0, math.prod(sizes) if sizes else 0)


ESTIMATES: dict[str, Callable[[tuple[int, ...], Numbers], float]] = {
    "ConstantOfShape": lambda _, numbers: math.prod(numbers(0)),
    "Expand": _expand,
    "Tile": lambda shape, numbers: math.prod(shape) * math.prod(numbers(1)),
    "Range": _range,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": lambda shape, numbers: math.prod(shape) * math.prod(numbers(1)),
    "OneHot": lambda shape, numbers: math.prod(shape) * max([1, *numbers(1)]),
}
"""Elements of the result, from the shape of the first input and the values of small ones, as inference may not say."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what libraries say about single operators: the importer names what is still there afterwards."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
