"""Integer arrays that never wrap: int64 where everything fits, Python integers where not."""

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

IntegerArray: TypeAlias = npt.NDArray[Any]
"""int64, or object holding Python integers as soon as one element does not fit int64."""

INT64_LOW, INT64_HIGH = -(2**63), 2**63 - 1
_EXACT_FLOAT = 2**53  # every integer up to here is a float64


def elementwise(function: Callable[..., int], *arrays: npt.NDArray[Any]) -> IntegerArray:
    """Applies a function of Python numbers; slow, for what does not fit int64."""
    ufunc = np.frompyfunc(function, len(arrays), 1)
    return smallest(np.asarray(ufunc(*arrays), dtype=np.object_))


def smallest(exact: npt.NDArray[np.object_]) -> IntegerArray:
    """int64 when every Python integer fits."""
    if exact.size and (exact.min() < INT64_LOW or exact.max() > INT64_HIGH):
        return exact
    return exact.astype(np.int64)


def integers(raw: npt.ArrayLike) -> IntegerArray:
    """int64, or object with Python integers when one does not fit."""
    array = np.asarray(raw)
    if array.dtype == np.int64:
        return array
    if array.dtype in (np.object_, np.uint64):
        # A NumPy integer left inside an object array would wrap silently later.
        return elementwise(operator.index, array)
    if array.size == 0 or array.dtype.kind in "iub":
        return array.astype(np.int64)
    raise TypeError(f"expected integers, got elements of type {array.dtype}")


def as_float(integers: IntegerArray) -> tuple[npt.NDArray[np.float64], bool]:
    """The nearest float64 numbers, and whether all of them are equal to the integers."""
    if integers.size == 0:
        return integers.astype(np.float64), True
    if max(-int(integers.min()), int(integers.max())) <= _EXACT_FLOAT:
        return integers.astype(np.float64), True
    try:
        mantissa = integers.astype(np.float64)
    except OverflowError:
        return np.zeros(integers.shape), False
    exact = integers.astype(np.object_) == elementwise(int, mantissa)
    return mantissa, bool(np.all(exact))
