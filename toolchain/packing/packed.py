"""Weights that remember how they are coded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from toolchain.errors import PassError
from toolchain.ir.constant import Array, Constant
from toolchain.ir.rounding import Rounding, round_shift
from toolchain.packing.basis import Transform

UNTRANSFORMED = Transform()
LARGEST = 1 << 17
"""Magnitude of levels and centres, at most: with the largest shifts and bases, sums then keep below 2**63."""


@dataclass(frozen=True)
class Clusters:
    """Common parts: block b of output m has centre `indices[b, m]` of `centres` (K, coefficients of a block).

    Both are `Constant`s of integers, in steps of the coefficients' own frequency (CNNpack, eq. 5 and 6).
    """

    centres: Constant
    indices: Constant


@dataclass(frozen=True)
class Coding:
    """A packed kernel: quantized values and the exact integer combination that they stand for.

    `levels` (taps, channels, outputs) counts steps; the step of frequency f is 2**shifts[f] (of the finest, shift 0).
    With clusters, levels are private residuals. `rounded` bits are rounded away (half up) from the inverse transform:
    above 0 the weights are `reconstructed` and no longer the exact combination.
    """

    levels: Constant
    transform: Transform = UNTRANSFORMED
    shifts: tuple[int, ...] = (0,)
    clusters: Clusters | None = None
    rounded: int = 0

    def __post_init__(self) -> None:
        _check(self.levels, 3, "levels")
        taps, channels, outputs = self.levels.shape
        blocks = taps * channels // self.transform.size
        if not self.transform.fits(taps, channels):
            raise PassError(f"{self.transform} does not divide {taps} taps and {channels} channels")
        if len(self.shifts) != self.transform.size or not all(0 <= s <= 32 for s in self.shifts):
            raise PassError(f"there must be {self.transform.size} shifts of 0 to 32, got {self.shifts}")
        if not 0 <= self.rounded <= 32:
            raise PassError(f"{self.rounded} bits cannot be rounded away")
        if self.clusters:
            centres, indices = self.clusters.centres, self.clusters.indices
            _check(centres, 2, "centres")
            _check(indices, 2, "indices", len(centres.array) - 1)
            if centres.shape[1] != self.transform.size or not len(centres.array):
                raise PassError(f"centres of shape {centres.shape} do not fit blocks of {self.transform.size}")
            if indices.shape != (blocks, outputs):
                raise PassError(f"indices of shape {indices.shape} do not fit {blocks} blocks of {outputs} outputs")
            if indices.array.min(initial=0) < 0:
                raise PassError("an index names no centre")

    @property
    def is_frequency(self) -> bool:
        """Are the levels coefficients of basis kernels?"""
        return self.transform.kind != "none"

    @cached_property
    def coefficients(self) -> Array:
        """(taps, channels, outputs) int64 in steps, centres included."""
        levels = self.levels.array
        if self.clusters is None:
            return levels
        common = self.clusters.centres.array[self.clusters.indices.array].transpose(2, 0, 1)
        return np.asarray(levels + self.transform.joined(common, levels.shape[0]))

    @cached_property
    def assignments(self) -> Array:
        """(centres that are not zero, blocks, outputs) of zeros and ones: which block adds which centre's response."""
        if self.clusters is None:
            taps, channels, outputs = self.levels.shape
            return np.zeros((0, taps * channels // self.transform.size, outputs), np.int64)
        used = np.flatnonzero(self.clusters.centres.array.any(1))
        return np.asarray(self.clusters.indices.array == used[:, None, None], dtype=np.int64)

    @cached_property
    def scaled(self) -> Array:
        """The coefficients in units of the finest step: what Z is multiplied by."""
        taps, channels, _ = self.levels.shape
        shifts = np.array(self.shifts)[self.transform.frequency(taps, channels)]
        return np.asarray(self.coefficients << shifts[:, :, None])

    def weights(self) -> Array:
        """(taps, channels, outputs): the spatial kernel, exact unless `rounded`."""
        exact = self.transform.inverse(self.scaled) if self.is_frequency else self.scaled
        return round_shift(exact, self.rounded, Rounding.RND) if self.rounded else exact


def _check(part: Constant, rank: int, name: str, largest: int = LARGEST) -> None:
    """Raises PassError unless these are int64 of so many dimensions and at most this magnitude."""
    array = part.array
    if array.dtype != np.int64 or array.ndim != rank:
        raise PassError(f"{name} must be 64-bit integers of {rank} dimensions, not {part}")
    if max(-int(array.min(initial=0)), int(array.max(initial=0))) > largest:
        raise PassError(f"{name} may be {largest} at most")


class Packed(Constant):
    """Integer weights with their `coding`. Everything that computes with weights sees the spatial ones, `array`."""

    coding: Coding

    def __init__(self, coding: Coding, shape: tuple[int, ...]) -> None:
        super().__init__(coding.weights().reshape(shape))
        self.coding = coding

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the coding and the shape."""
        c = self.coding
        clusters = (c.clusters.centres.digest, c.clusters.indices.digest) if c.clusters else ()
        text = repr((self.shape, c.levels.digest, c.transform, c.shifts, clusters, c.rounded))
        return hashlib.sha256(text.encode()).hexdigest()
