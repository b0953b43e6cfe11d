"""Layers with inputs and outputs, for the tests of statistics, compensation and search."""

from dataclasses import dataclass

import numpy as np

from toolchain.packing.filters import Filters
from toolchain.packing.search import Problem
from toolchain.packing.statistics import Moments, Statistics


@dataclass(frozen=True)
class Samples:
    """Inputs (rows, G, K) as the hardware sees them, real outputs (rows, G, M), and the layer between them."""

    filters: Filters
    x: np.ndarray
    y: np.ndarray

    @property
    def weights(self):
        """(G, K, M)."""
        return self.filters.grouped(self.filters.weights)

    def statistics(self, rows=slice(None)) -> Statistics:
        return Moments.of(self.x[rows], self.y[rows]).statistics(self.weights)

    def problem(self, bits=8, pixels=0) -> Problem:
        return Problem(self.filters, self.statistics(), bits, pixels)

    def error(self, change):
        """Mean squared error of the outputs, each with its best bias, by running the layer."""
        got = np.einsum("ngk,gkm->ngm", self.x, self.weights + change)
        difference = self.y - got
        return float(np.square(difference - difference.mean(0)).mean(0).sum())


def samples(seed=0, rows=600, taps=(3, 3), channels=4, outputs=6, groups=1, correlation=0.9, noise=0.05) -> Samples:
    """Correlated inputs with a mean; outputs that the layer's inputs explain but for noise of the inputs."""
    rng = np.random.default_rng(seed)
    count = taps[0] * taps[1] * channels
    distance = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    mixing = np.linalg.cholesky(correlation**distance + 1e-9 * np.eye(count)) if correlation else np.eye(count)
    x = rng.normal(size=(rows, groups, count)) @ mixing.T + rng.uniform(-1, 1, (groups, count))
    weights = rng.normal(size=(taps[0] * taps[1], channels, outputs)) / np.sqrt(count)
    filters = Filters(weights, *taps, groups)
    y = np.einsum("ngk,gkm->ngm", x, filters.grouped(weights)) + 0.3
    return Samples(filters, x + noise * rng.normal(size=x.shape), y)
