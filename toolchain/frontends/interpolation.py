"""ONNX's Resize along one axis, as a matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from toolchain.errors import UnsupportedOperator
from toolchain.ir import Array

CROP = "tf_crop_and_resize"
LENGTH_TOLERANCE = 1e-4
BEFORE_11 = "simple"
"""The nearest_mode that opset 10 implies: down where a picture grows, up where it shrinks."""
NEAREST = (BEFORE_11, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True)
class Interpolation:
    """Mode and details of a Resize, under ONNX's names. Raises UnsupportedOperator for those that it does not know."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude_outside: bool
    antialias: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("nearest", "linear", "cubic"):
            raise UnsupportedOperator(f"has the mode {self.mode!r}")
        if self.nearest not in NEAREST:
            raise UnsupportedOperator(f"has the nearest_mode {self.nearest!r}")

    def matrix(self, length: int, size: int, scale: float, region: tuple[float, float] = (0.0, 1.0)) -> Array:
        """(size, length): each output as a combination of inputs, of none where it lies outside a cropped `region`."""
        result = np.zeros((size, length))
        narrow = min(scale, 1.0) if self.antialias else 1.0
        reach = math.floor((1 if self.mode == "linear" else 2) / narrow)
        for row in range(size):
            at = self._source(row, length, size, scale, region)
            if self.coordinates == CROP and not 0 <= at <= length - 1:
                continue
            if self.mode == "nearest":
                result[row, min(max(self._rounded(at, scale), 0), length - 1)] = 1
                continue
            start = math.floor(at)
            places = range(start - reach, start + reach + 2)
            weights = np.array([self._weight(abs(place - at) * narrow) for place in places])
            if self.antialias:
                weights /= weights.sum()
            if self.exclude_outside:
                weights *= [0 <= place < length for place in places]
                weights /= weights.sum()
            for place, weight in zip(places, weights, strict=True):
                result[row, min(max(place, 0), length - 1)] += weight
        return result

    def _source(self, row: int, length: int, size: int, scale: float, region: tuple[float, float]) -> float:
        """The place in the input."""
        first, last = region
        match self.coordinates:
            case "half_pixel":
                return (row + 0.5) / scale - 0.5
            case "half_pixel_symmetric":
                adjustment = size / (scale * length)
                return length / 2 * (1 - adjustment) + (row + 0.5) / scale - 0.5
            case "pytorch_half_pixel":
                return (row + 0.5) / scale - 0.5 if size > 1 else 0.0
            case "align_corners":
                if abs(scale * length - size) > LENGTH_TOLERANCE:
                    raise UnsupportedOperator(
                        f"aligns corners at a length of {scale * length:g}, where evaluators of ONNX disagree"
                    )
                return row * (length - 1) / (size - 1) if size > 1 else 0.0
            case "tf_crop_and_resize":
                if size == 1:
                    return (first + last) / 2 * (length - 1)
                return (first + row * (last - first) / (size - 1)) * (length - 1)
            case "asymmetric":
                return row / scale
        raise UnsupportedOperator(f"has the coordinate_transformation_mode {self.coordinates!r}")

    def _rounded(self, at: float, scale: float) -> int:
        if self.nearest == BEFORE_11:
            return math.floor(at) if scale >= 1 else math.ceil(at)
        match self.nearest:
            case "round_prefer_floor":
                return math.ceil(at - 0.5)
            case "round_prefer_ceil":
                return math.floor(at + 0.5)
            case "floor":
                return math.floor(at)
        return math.ceil(at)

    def _weight(self, distance: float) -> float:
        if self.mode == "linear":
            return max(0.0, 1 - distance)
        a = self.cubic
        if distance <= 1:
            return ((a + 2) * distance - (a + 3)) * distance * distance + 1
        return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a if distance < 2 else 0.0
