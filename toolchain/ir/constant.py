"""Immutable arrays that an operator holds as fields: weights, biases, tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Constant({self.array.dtype}{list(self.shape)})"


def bordered(values: Array, before: Sequence[int], after: Sequence[int], fill: float) -> Array:
    """The array with `before[i]` and `after[i]` elements of `fill` on both sides of axis i.

    Python integers get a Python integer around them: `numpy.pad` would put an int64 there, whose sums wrap.
    """
    shape = tuple(b + size + a for b, size, a in zip(before, values.shape, after, strict=True))
    result = np.empty(shape, dtype=values.dtype)
    result.fill(fill if values.dtype.kind == "f" else int(fill))
    result[tuple(slice(b, b + size) for b, size in zip(before, values.shape, strict=True))] = values
    return result
