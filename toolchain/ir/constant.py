"""Immutable arrays that an operator holds as fields: weights, biases, tables."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Constant:
    """An array that never changes. Two constants are equal when type, shape and every element are.

    Integers are held as int64 (or Python integers where they do not fit), real values as float64.
    """

    __slots__ = ("__dict__", "array")

    def __init__(self, values: npt.ArrayLike) -> None:
        array = np.array(values)
        if array.dtype.kind in "iub":
            array = array.astype(np.int64, copy=False)
        elif array.dtype.kind == "f":
            array = array.astype(np.float64, copy=False)
        array.flags.writeable = False
        self.array: Array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def is_integer(self) -> bool:
        return self.array.dtype.kind != "f"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of type, shape and contents."""
        head = f"{self.array.dtype.str}{self.array.shape}".encode()
        body = repr(self.array.tolist()).encode() if self.array.dtype == object else self.array.tobytes()
        return hashlib.sha256(head + body).hexdigest()

    def rearranged(self, arrange: Callable[[Array], Array]) -> Constant:
        """The constant with its elements in another order or shape; the last axis stays as it is."""
        return Constant(arrange(self.array))

    def scaled(self, factors: Array) -> Constant:
        """The real constant times one factor for each entry of the last axis."""
        return Constant(self.array * factors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Constant({self.array.dtype}{list(self.shape)})"


class Levels(Constant):
    """Weights that somebody quantized: integers times a real scale, one for each entry of the last axis.

    `array` holds the products, so that a real operator works with them; `integers` what hardware shall keep.
    """

    __slots__ = ("integers", "scales")

    def __init__(self, integers: Array, scales: Array) -> None:
        """`integers` (..., C) of any integer type, `scales` (C,) above 0."""
        self.integers: Array = np.asarray(integers, dtype=np.int64)
        self.scales: Array = np.asarray(scales, dtype=np.float64)
        super().__init__(self.integers * self.scales)

    def rearranged(self, arrange: Callable[[Array], Array]) -> Levels:
        return Levels(arrange(self.integers), self.scales)

    def scaled(self, factors: Array) -> Levels:
        """Signs go into the integers, which stay what they are but for them; a factor 0 leaves zeros."""
        nothing = factors == 0
        return Levels(
            self.integers * np.sign(factors).astype(np.int64),
            np.where(nothing, self.scales, self.scales * np.abs(factors)),
        )


def bordered(values: Array, before: Sequence[int], after: Sequence[int], fill: float) -> Array:
    """The array with `before[i]` and `after[i]` elements of `fill` on both sides of axis i.

    Python integers get a Python integer around them: `numpy.pad` would put an int64 there, whose sums wrap.
    """
    shape = tuple(b + size + a for b, size, a in zip(before, values.shape, after, strict=True))
    result = np.empty(shape, dtype=values.dtype)
    result.fill(fill if values.dtype.kind == "f" else int(fill))
    result[tuple(slice(b, b + size) for b, size in zip(before, values.shape, strict=True))] = values
    return result
