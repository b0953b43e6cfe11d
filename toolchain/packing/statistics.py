"""Second-order statistics of a layer: what an error in its weights does to its outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolchain.ir.constant import Array
from toolchain.packing.basis import Transform

SINGLE = 1e12
"""The largest number whose squares single precision may add up."""
FLAT = 1e3
"""Inputs whose squared mean is so many times their variance lose it in single precision."""
CHUNK = 1 << 22
"""Elements of a matrix product's operand that are held at once."""


@dataclass(frozen=True)
class Statistics:
    """Means over calibration, inputs and outputs without their own mean (which the bias takes up).

    With x the layer's integer-program inputs (K of them for each of G groups), y the real layer's outputs and W its
    real weights: `gram` (G, K, K) = E[x x'], `cross` (G, K, M) = E[x (y - W'x)'], `residual` (G, M) = E[(y - W'x)^2],
    `energy` (G, M) = E[y^2]. M outputs belong to a group.
    """

    gram: Array
    cross: Array
    residual: Array
    energy: Array

    def error(self, change: Array) -> float:
        """Mean squared error, summed over the outputs, when (G, K, M) is added to the weights.

        E|y - (W + D)'x|^2 = sum over outputs of d'H d - 2 d'c + r (Hassibi and Stork, Optimal Brain Surgeon, 1992,
        eq. 1, with its first-order term).
        """
        quadratic = np.einsum("gkm,gkm->", change, self.gram @ change - 2 * self.cross)
        return max(float(quadratic + self.residual.sum()), 0.0)

    def transformed(self, transform: Transform, taps: int) -> Statistics:
        """The statistics of Z, the inputs behind the basis stage."""
        if transform.kind == "none":
            return self
        half = transform.along(self.gram, taps).swapaxes(1, 2)
        cross = transform.along(self.cross.swapaxes(1, 2), taps).swapaxes(1, 2)
        return Statistics(transform.along(half, taps), cross, self.residual, self.energy)


@dataclass(frozen=True)
class Moments:
    """Sums over `count` samples, from which statistics are made: of x x', x y', x, y and y^2."""

    count: int
    xx: Array
    xy: Array
    x: Array
    y: Array
    yy: Array

    @classmethod
    def of(cls, x: Array, y: Array) -> Moments:
        """The moments of samples x (rows, G, K) and y (rows, G, M)."""
        _, groups, inputs = x.shape
        outputs = y.shape[2]
        xx, xy = np.zeros((groups, inputs, inputs)), np.zeros((groups, inputs, outputs))
        step = max(1, CHUNK // (groups * max(inputs, outputs)))
        # Single precision within a chunk where its squares are in range, double over the chunks.
        sizes = [float(np.abs(values).max(initial=0)) for values in (x, y)]
        is_single = all(size == 0 or 1 / SINGLE < size < SINGLE for size in sizes)
        is_single &= not (len(x) and (np.square(x.mean(0)) > FLAT * x.var(0)).any())
        kind = np.dtype(np.float32 if is_single else np.float64)
        for start in range(0, len(x), step):
            part: Array = x[start : start + step].astype(kind).transpose(1, 0, 2)
            wanted: Array = y[start : start + step].astype(kind).transpose(1, 0, 2)
            xx += part.swapaxes(1, 2) @ part
            xy += part.swapaxes(1, 2) @ wanted
        sums = (x.sum(0, dtype=np.float64), y.sum(0, dtype=np.float64))
        return cls(len(x), xx, xy, *sums, np.square(y, dtype=np.float64).sum(0))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count,
            self.xx + other.xx,
            self.xy + other.xy,
            self.x + other.x,
            self.y + other.y,
            self.yy + other.yy,
        )

    def statistics(self, weights: Array) -> Statistics:
        """The statistics for real weights (G, K, M)."""
        count = max(self.count, 1)
        mean_x, mean_y = self.x / count, self.y / count
        gram = self.xx / count - mean_x[:, :, None] * mean_x[:, None, :]
        gram = (gram + gram.swapaxes(1, 2)) / 2
        cross = self.xy / count - mean_x[:, :, None] * mean_y[:, None, :]
        energy = np.maximum(self.yy / count - np.square(mean_y), 0)
        product = gram @ weights
        residual = energy - np.einsum("gkm,gkm->gm", weights, 2 * cross - product)
        return Statistics(gram, cross - product, np.maximum(residual, 0), energy)
