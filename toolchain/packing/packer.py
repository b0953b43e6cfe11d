"""What stands between the lowering of a network and the coding of its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

import numpy as np

from toolchain.ir.constant import Array
from toolchain.packing.basis import Transform
from toolchain.packing.filters import Filters
from toolchain.packing.search import (
    Candidate,
    Domain,
    Problem,
    choose,
    choose_damping,
    code,
    reconstructed,
    transforms,
    with_clusters,
)
from toolchain.packing.statistics import Moments

VECTORS = 1 << 15
"""Input vectors that statistics are made from, or 8 times their length where that is more."""
PIECE = 1 << 13
HOLD = 4
"""Every so many-th row of the calibration data is held out."""
PREDICTED_DAMPING = 0.1
FEWEST_ROWS = 8
"""With fewer rows nothing is compensated: there is no telling what is chance."""

Unit = Literal["bits", "multiplications"]


@dataclass(frozen=True)
class Layer:
    """A layer on its way through the lowering: its real weights, the domain to code them in, and its samples.

    A step below 2**finest could not be seen in the outputs. `vectors(chosen)` gives the inputs that hardware sees, in
    real units, (len(chosen), G, K), and the real outputs (len(chosen), G, M) of the chosen ones of `rows` x `pixels`
    output pixels.
    """

    name: str
    filters: Filters
    domain: Domain
    rows: int
    pixels: int
    finest: int
    vectors: Callable[[Array], tuple[Array, Array]]

    def moments(self, rows: Array) -> Moments | None:
        """Moments of evenly spread output pixels of these rows."""
        taps, channels, _ = self.filters.weights.shape
        total = len(rows) * self.pixels
        wanted = max(VECTORS * len(rows) // max(self.rows, 1), 8 * taps * channels)
        chosen = np.arange(min(total, wanted)) * total // max(min(total, wanted), 1)
        chosen = rows[chosen // self.pixels] * self.pixels + chosen % self.pixels
        found: Moments | None = None
        for start in range(0, len(chosen), PIECE):
            piece = Moments.of(*self.vectors(chosen[start : start + PIECE]))
            found = found + piece if found else piece
        return found


def is_held(rows: int) -> Array:
    """Which rows of the calibration data are held out, to test what was fitted to the others."""
    return np.asarray(np.arange(rows) % HOLD == HOLD - 1)


class Packer:
    """Decides about the weights of each layer that the lowering comes to; None leaves them to plain quantization."""

    def code(self, layer: Layer) -> Candidate | None:
        raise NotImplementedError


@dataclass
class Survey(Packer):
    """Leaves everything as it is, and remembers each layer's problem."""

    bits: int
    unit: Unit = "bits"
    problems: dict[str, tuple[Problem, Transform]] = field(default_factory=dict)
    """Each layer's problem, and the transform that a prediction takes."""

    def code(self, layer: Layer) -> Candidate | None:
        if layer.domain != "none":
            moments = layer.moments(np.arange(layer.rows))
            assert moments is not None
            statistics = moments.statistics(layer.filters.grouped(layer.filters.weights))
            pixels = layer.pixels if self.unit == "multiplications" else 0
            first = next(transforms(layer.filters, layer.domain))
            self.problems[layer.name] = Problem(layer.filters, statistics, self.bits, pixels, layer.finest), first
        return None

    def predict(self, price: float, importance: Mapping[str, float]) -> tuple[float, float]:
        """Rate of all layers at a price, and their summed relative squared error at the network's outputs."""
        rate = error = 0.0
        for name, (problem, transform) in self.problems.items():
            energy = float(problem.statistics.energy.sum())
            found = code(problem, transform, price * energy / importance[name], PREDICTED_DAMPING, 2, 1, polish=False)
            rate += found.rate
            error += importance[name] * found.error / energy if energy else 0.0
        return rate, error


@dataclass
class Plan(Packer):
    """Codes every layer at one price: relative squared error of the network's outputs for a unit of rate."""

    price: float
    importance: Mapping[str, float]
    bits: int
    unit: Unit = "bits"
    dampings: dict[str, float] = field(default_factory=dict)
    """By layer; what is missing is chosen and kept, for the next plan of a search."""
    chosen: dict[str, list[Candidate]] = field(default_factory=dict)
    """All candidates of each layer, the one taken first."""
    prices: dict[str, float] = field(default_factory=dict)
    """Squared output error for a unit of rate, by layer."""
    errors: dict[str, float] = field(default_factory=dict)
    """Squared relative error of the network's outputs for one of a layer's outputs, by layer."""
    layer_prices: Mapping[str, float] = field(default_factory=dict)
    """In place of `price`, for some layers."""
    executable: bool = False
    """Only codings whose levels are what the sparse unit multiplies: no clusters, nothing rounded away."""

    def code(self, layer: Layer) -> Candidate | None:
        if layer.domain == "none":
            return None
        weights = layer.filters.grouped(layer.filters.weights)
        held = is_held(layer.rows)
        hold, fit = layer.moments(np.flatnonzero(held)), layer.moments(np.flatnonzero(~held))
        both = fit + hold if fit and hold else fit or hold
        assert both is not None
        statistics = both.statistics(weights)
        energy = float(statistics.energy.sum())
        price = self.layer_prices.get(layer.name, self.price) * energy / self.importance[layer.name]
        self.prices[layer.name] = price
        self.errors[layer.name] = self.importance[layer.name] / energy if energy else 0.0
        pixels = layer.pixels if self.unit == "multiplications" else 0
        problem = Problem(layer.filters, statistics, self.bits, pixels, layer.finest)
        choices = list(transforms(layer.filters, layer.domain))
        counts = self.executable or self.unit == "multiplications"
        if counts and layer.filters.is_depthwise:  # never executed in frequency
            choices = [Transform()]
        if layer.name not in self.dampings:
            damping = inf
            if fit and hold and layer.rows >= FEWEST_ROWS:
                half = replace(problem, statistics=fit.statistics(weights))
                damping = choose_damping(half, hold.statistics(weights), choices[0], price)
            self.dampings[layer.name] = damping
        found = choose(problem, choices, price, self.dampings[layer.name])
        if layer.domain != "spatial" and not self.executable:
            found = with_clusters(problem, found, price)
        # Rounding fills a kernel's zeros, which is no way to save multiplications.
        if layer.domain == "auto" and self.unit == "bits" and not self.executable:
            found[0] = reconstructed(problem, found[0])
        self.chosen[layer.name] = found
        return found[0]

    def rate(self, name: str) -> float:
        return self.chosen[name][0].rate

    def error(self, name: str) -> float:
        """What a layer's coding adds to the squared relative error of the network's outputs."""
        return self.errors[name] * self.chosen[name][0].error


def mixture(keep: Plan, other: Plan, room: float, limited: Literal["rate", "error"]) -> dict[str, float]:
    """The other plan's price for the layers where it pays most, as far as what is `limited` may grow by `room`.

    Sizes stand still between two powers of two of the steps, and jump there: two plans on either side of a limit leave
    room between them, which this fills (the greedy solution of a knapsack). Empty where there is nothing to take.
    """
    found: dict[str, float] = {}
    worth: list[tuple[float, float, str]] = []
    for name in keep.chosen:
        rate, error = other.rate(name) - keep.rate(name), other.error(name) - keep.error(name)
        cost, gain = (rate, -error) if limited == "rate" else (error, -rate)
        if gain > 0:
            worth.append((gain / max(cost, 1e-300), cost, name))
    for _, cost, name in sorted(worth, reverse=True):
        if cost <= room:
            found[name] = other.layer_prices.get(name, other.price)
            room -= cost
    return found
